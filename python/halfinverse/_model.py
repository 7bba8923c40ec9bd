"""What models of any library share: an optimizer's memory, and parameters that may be rounded between steps.

The optimizer works on θ in float64. What the caller holds may be rounded: float32 parameters, or `params + updates` of
a loop. A step goes on from the θ that the last one left where the caller gives back what it was shown of it, and from
the caller's parameters where these were changed meanwhile.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from . import _core
from ._arrays import Floats
from .errors import SettingError, ShapeError

AUTO = "hig-auto"
FORMAT = "halfinverse model 1"
# Where the number of training samples is not known: it bounds what hig-auto gathers of small mini-batches.
MANY = 1 << 40


def method_name(method: Any) -> str:
    """The optimizer's name in the library; "auto" is short for "hig-auto"."""
    if not isinstance(method, str):
        raise SettingError(f'method is of {type(method)}, but must be the name of an optimizer, such as "hig"')
    name = AUTO if method == "auto" else method
    if name not in _core.optimizers():
        raise SettingError(f"method: unknown optimizer `{method}`; there are auto, {', '.join(_core.optimizers())}")
    return name


def count(name: str, value: Any) -> int:
    """A number of things, 1 or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise SettingError(f"{name} is {value!r}, but must be a whole number above 0")
    return int(value.__index__())


def functions(outcome: Any, network: Any, simulator: Any, loss: Any) -> None:
    """Refuses functions that are missing, too many, or none."""
    given = {"outcome": outcome, "network": network, "simulator": simulator, "loss": loss}
    for name, function in given.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} is of {type(function)}, but must be a function")
    if loss is None:
        raise TypeError("loss is missing: a function of outcome and batch that returns one number")
    if (outcome is None) == (network is None) or (network is None) != (simulator is None):
        raise TypeError("give either outcome, or network and simulator")


class Engine:
    """An optimizer at work on a problem (see `halfinverse._core.Stepper`), and the θ that it left."""

    def __init__(self, problem: Any, method: str, settings: dict[str, Any], **sizes: Any) -> None:
        self._stepper = _core.Stepper(problem, method, settings, **sizes)
        self._name = f"{method} {json.dumps(settings, sort_keys=True, default=repr)}"
        self._parameters: int = sizes["parameters"]
        self.judges: Floats = sizes["judges"]
        self._left: Floats | None = None
        self._shown: Floats | None = None

    def step(self, given: Floats, rows: Floats) -> tuple[Floats, dict[str, Any]]:
        """The next θ from the caller's (P) on a mini-batch, and the report; see `show`."""
        theta = given
        if self._left is not None and self._shown is not None and np.array_equal(given, self._shown):
            theta = self._left
        after, report = self._stepper.step(theta, rows)
        self._left, self._shown = after, None
        return after, report

    def show(self, theta: Floats) -> None:
        """What the caller was given of the θ that the last step left."""
        self._shown = theta

    def save(self) -> bytes:
        """All that the next step depends on, mini-batch and functions left out."""
        none = np.empty(0)
        file = io.BytesIO()
        np.savez(
            file,
            format=np.array(FORMAT),
            method=np.array(self._name),
            optimizer=np.frombuffer(self._stepper.save(), dtype=np.uint8),
            judges=self.judges,
            left=none if self._left is None else self._left,
            shown=none if self._shown is None else self._shown,
        )
        return file.getvalue()

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes back what `save` returned, read by `read`."""
        if saved["method"].item() != self._name:
            raise SettingError(f"the state is of {saved['method'].item()}, but the optimizer is {self._name}")
        for name in ("left", "shown"):
            if saved[name].size not in (0, self._parameters):
                raise ShapeError(f"the state is of {saved[name].size} parameters, but there are {self._parameters}")
        self._stepper.restore(saved["optimizer"].tobytes())
        self._left, self._shown = (saved[name] if saved[name].size else None for name in ("left", "shown"))


def read(saved: Any) -> dict[str, Any]:
    """The parts of what `Engine.save` returned."""
    if not isinstance(saved, (bytes, bytearray, memoryview)):
        raise TypeError(f"the state is of {type(saved)}, but must be the bytes that save() returned")
    try:
        with np.load(io.BytesIO(bytes(saved)), allow_pickle=False) as file:
            parts = dict(file.items())
        known = parts["format"].item() == FORMAT and {"method", "optimizer", "judges", "left", "shown"} <= set(parts)
    except Exception as error:  # whatever a damaged archive makes NumPy and zipfile raise
        raise SettingError(f"the state cannot be read: {error}") from error
    if not known:
        raise SettingError("the state is of another version of this package")
    return parts


class State:
    """What an optimizer has learnt so far. A step changes it in place.

    `report` is a dict of what the last step says of itself: `loss` on its mini-batch before the step, `update_norm`,
    `gradient_norm`, `way`, `rejected`, `notice`, …; None before the first step.
    """

    def __init__(self) -> None:
        self.report: dict[str, Any] | None = None
        self.engine: Engine | None = None
        self.parameters: Any = None
        self.problem: Any = None

    def save(self) -> bytes:
        """All that the next step depends on besides the parameters, as bytes; see `HalfInverse.restore`.

        Raises SettingError before the first step, when there is nothing to save.
        """
        if self.engine is None:
            raise SettingError("there is nothing to save before the first step")
        return self.engine.save()

    def __repr__(self) -> str:
        return f"State(report={self.report})"
