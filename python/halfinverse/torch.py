"""Half-inverse gradients for any model in PyTorch.

    from halfinverse.torch import HalfInverse

    optimizer = HalfInverse(model, loss, simulator=simulator)
    for batch in batches:
        report = optimizer.step(batch)

**Precision.** A model is computed in the types of its parameters, and the optimizer's own small problem in float64. In
float32, PyTorch's default, J is known to about 1e-7 of its largest singular value σ_max: directions whose singular
values lie below that are noise, a truncation below 1e-6 has no meaning, and steps cannot be told apart whose losses
differ by less than 1e-7 of the loss. `model.double()` has none of these limits.

**Kronecker factors** come from `nn.Linear`, `nn.Conv1d` and `nn.Conv2d`. Where all trained parameters belong to such
layers, each called once in an outcome, hig-auto has all its ways, and hig-kron, soap and muon can be had; else hig-auto
steps by Krylov spaces alone, and the others are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import _model
from ._arrays import Floats
from ._model import State
from ._torch_layers import find
from ._torch_problem import Batches, Model, Problem, length, parameter, part
from .errors import SettingError, ShapeError

__all__ = ["HalfInverse"]

# Optimizers that use the layers' matrices.
LAYERED = ("hig-auto", "hig-kron", "muon", "soap")


def _of_model(model: Any, batch: Any) -> Any:
    return model(batch)


class HalfInverse(torch.optim.Optimizer):  # type: ignore[misc]
    """An optimizer of the library on a module of PyTorch.

    * `outcome(model, batch)` → y, by default `model(batch)`, and `loss(y, batch)` → one number; or
    * `network(model, batch)` → z, by default `model(batch)`, `simulator(z, batch)` → y, and `loss(y, batch)`. Given
      apart, each sample's block ∂y/∂z is computed once a step, and products with J, two for each Krylov vector, do not
      touch the simulator. What the simulator makes of a sample must not depend on another sample.

    The functions are over whole mini-batches. They are called under `torch.func`, with other parameters in the model,
    so they must not keep anything, nor change tensors in place that they are given. `batch` is a tensor with one entry
    per sample, b of them, or a list, tuple or dict of such; NumPy arrays are taken too. y and z are tensors (b × …), or
    lists, tuples or dicts of such. The loss should be a mean over samples; its curvature with respect to y is found by
    itself.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters are trained, but those with `requires_grad=False`.
    loss, outcome, network, simulator : callable
        The functions above.
    method : str
        "auto" (hig-auto: no setting; judges its steps by held-out samples), or the name of another optimizer:
        "hig", "gn", "lm", "l-bfgs", "adam", …; `halfinverse._core.optimizers()` has all with their settings.
    held_out : mini-batch, optional
        A mini-batch, of any length, by whose loss hig-auto judges its steps. Best not trained on. Without it, hig-auto
        takes the first mini-batch.
    samples : int, optional
        How many training samples there are, where the number is small: hig-auto gathers no more of them for a step.
    block : bool, optional
        Whether the simulator's block is made, by default where it takes at most 32 sweeps. Where the outcome is given
        whole, block=False keeps J from being stored, which is otherwise done where it has up to 2²⁶ numbers.
    threads : int
        Threads of the optimizer's own linear algebra. PyTorch has its own.
    **settings
        The method's own, by name: `learning_rate=0.5, kappa=0.5, solver="krylov:16"`, …

    It is an `Optimizer` of PyTorch in that its state is saved and loaded as theirs; there is one group of parameters,
    and no learning rate in it that a scheduler could change.

    Raises
    ------
    SettingError
        For a setting that is refused; where it is the method's own, at the first step.
    TypeError
        For functions that are missing, or are none.

    References
    ----------
    Schnell, Holl, Thuerey, *Half-Inverse Gradients for Physical Deep Learning*, ICLR 2022.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Callable[[Any, Any], Any],
        *,
        outcome: Callable[[Any, Any], Any] | None = None,
        network: Callable[[Any, Any], Any] | None = None,
        simulator: Callable[[Any, Any], Any] | None = None,
        method: str = "auto",
        held_out: Any = None,
        samples: int | None = None,
        block: bool | None = None,
        threads: int = 1,
        **settings: Any,
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"model is of {type(model)}, but must be a torch.nn.Module")
        if outcome is None and network is None:
            outcome, network = (_of_model, None) if simulator is None else (None, _of_model)
        _model.functions(outcome, network, simulator, loss)
        self._functions = {"outcome": outcome, "network": network, "simulator": simulator, "loss": loss}
        self._method = _model.method_name(method)
        self._held_out = held_out
        self._samples = _model.MANY if samples is None else _model.count("samples", samples)
        if block and simulator is None:
            raise SettingError("block=True needs network and simulator apart")
        self._block = block
        self._threads = _model.count("threads", threads)
        self._settings = settings
        self._model = model
        self._learnt = State()
        self._pending: dict[str, Any] | None = None
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        for name, p in trained:
            if not p.is_floating_point():
                raise TypeError(f"{name} holds values of type {p.dtype}, which cannot be trained")
        if len({p.device for _, p in trained}) > 1:
            raise ShapeError("the model's parameters lie on more than one device; move it to one")
        self._trained = [p for _, p in trained]
        if not self._trained:
            raise ShapeError("the model has no parameter that requires a gradient, so that there is nothing to train")
        super().__init__(self._trained, {})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuses a second group: J is one matrix over all parameters, and its step has no part of its own for some."""
        if self.param_groups:
            raise SettingError("parameters cannot be added to HalfInverse: make a new one of the whole model")
        super().add_param_group(param_group)

    @property
    def report(self) -> dict[str, Any] | None:
        """What the last step says of itself, as `step` returned it."""
        return self._learnt.report

    def step(self, batch: Any) -> dict[str, Any]:
        """Makes a step on the mini-batch, in the model; returns what the step says of itself: `loss` before it,
        `update_norm`, `gradient_norm`, `way`, `rejected`, `notice`, …

        A closure that PyTorch's optimizers take knows one mini-batch and its loss alone; this one needs the outcomes,
        of other samples too. Gradients in `.grad` are neither used nor changed.

        Raises `ShapeError` where arrays do not fit, `StepError` where the loss is not finite, and whatever the
        functions raise. The model is then as it was.
        """
        if callable(batch):
            raise TypeError("step takes a mini-batch and not a closure: the optimizer calls the functions that it has")
        if self._learnt.engine is None:
            self._start(batch)
        problem: Problem = self._learnt.problem
        engine = self._learnt.engine
        assert engine is not None
        tree = problem.model.batches.tree(batch)
        auto = self._method == _model.AUTO
        rows = problem.model.batches.rows(tree) if auto else np.empty((length(tree), 0))
        problem.kept.put(rows, tree)
        try:
            after, report = engine.step(self._theta(), rows)
        finally:
            problem.kept.drop(rows)
            problem.drop()
        self._write(after)
        engine.show(self._theta())
        self._learnt.report = report
        return report

    def _theta(self) -> Floats:
        """θ (P) in float64."""
        theta: Floats = torch.cat([part(p.detach()).double() for p in self._trained]).cpu().numpy()
        return theta

    def _write(self, theta: Floats) -> None:
        parts = torch.from_numpy(theta).split([p.numel() for p in self._trained])
        with torch.no_grad():
            for trained, of_theta in zip(self._trained, parts, strict=True):
                trained.copy_(parameter(of_theta, trained.shape))

    def _start(self, batch: Any) -> None:
        """Makes the optimizer, now that a mini-batch says what shapes there are."""
        batches = Batches(batch, self._trained[0].device)
        model = Model(self._model, self._functions, batches)
        tree = batches.tree(batch)
        theta = self._theta()
        model.prepare(torch.tensor(theta, dtype=model.dtype, device=model.device), tree, self._block)
        pending = self._pending
        if pending is not None:
            judges = pending["judges"]
        elif self._method == _model.AUTO:
            judges = batches.rows(tree if self._held_out is None else batches.tree(self._held_out))
        else:
            judges = np.empty((0, 0))
        # Adam and the like have no use for the layers.
        of = torch.tensor(theta, dtype=model.dtype, device=model.device)
        found = find(model, of, tree, length(tree)) if self._method in LAYERED else None
        problem = Problem(model, found)
        engine = _model.Engine(
            problem,
            self._method,
            self._settings,
            parameters=theta.size,
            outcomes=model.y.size,
            judges=judges,
            batch=length(tree),
            samples=self._samples,
            sweeps=1 if model.way == "products" else model.y.size,
            threads=self._threads,
        )
        if pending is not None:
            engine.restore(pending)
        self._learnt.problem, self._learnt.engine, self._pending = problem, engine, None

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: the optimizer's memory as a tensor of bytes, beside the usual entries."""
        state: dict[str, Any] = super().state_dict()
        if self._learnt.engine is not None:
            saved = np.frombuffer(self._learnt.save(), dtype=np.uint8).copy()
            state["state"] = {0: {"halfinverse": torch.from_numpy(saved)}}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned; the model's parameters are loaded by its own method.

        What does not fit the model is refused at the next step, which first knows its shapes.

        Raises `SettingError` where the state is of another optimizer, or damaged.
        """
        entry = dict(state_dict.get("state", {})).get(0, {})
        if not entry:
            self._learnt, self._pending = State(), None
            return
        if "halfinverse" not in entry:
            raise SettingError("the state is of another optimizer than HalfInverse")
        self._pending = _model.read(entry["halfinverse"].cpu().numpy().tobytes())
        self._learnt = State()
