"""Runs on tasks: from names and settings to a folder with everything in it."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import Floats, matrix, number
from ._simulator import Simulator, initial_states
from .errors import SettingError, ShapeError, StepError

# Settings with options of their own on the command line.
OPTIONS = {
    "optimizer": "--optimizer",
    "steps": "--steps",
    "epochs": "--epochs",
    "target_loss": "--target-loss",
    "patience": "--patience",
    "batch": "--batch",
    "learning_rate": "--lr",
    "kappa": "--kappa",
    "truncation": "--truncation",
    "solver": "--solver",
    "seed": "--seed",
    "threads": "--threads",
    "on_fault": "--on-fault",
    "memory_limit": "--memory-limit",
}


def train(
    task: str | os.PathLike[str] | Simulator,
    *,
    time: str | float | None = None,
    inputs: Any = None,
    targets: Any = None,
    initial: Any = None,
    test: float | tuple[Any, ...] = 0.1,
    start: str | os.PathLike[str] | Run | None = None,
    out: str | os.PathLike[str] | None = None,
    quiet: bool | None = None,
    **settings: Any,
) -> Run:
    """One training run, with its files and its report.

    Parameters
    ----------
    task : str, path or Simulator
        The name of a task (``hig tasks`` lists them), a task file, or a simulator of one's own, which needs data.
    time : str or float, optional
        Training time after which the run ends, such as ``"5s"`` or ``"2min"``; a number is in seconds.
    inputs, targets, initial : arrays (N, d), (N, m), (N, i)
        Data for a simulator of one's own: what the network sees, what the outcomes should be, and the simulator's
        initial states where it has some.
    test : float or tuple of arrays
        The part of the samples, the last ones, that is kept for testing; or (inputs, targets) or
        (inputs, targets, initial) of other samples.
    start : path or Run, optional
        A checkpoint or run whose parameters are the first ones, in place of freshly drawn ones.
    out : path, optional
        The run's folder. Without it files are temporary, and go with the run that is returned.
    quiet : bool, optional
        No progress and no closing words. By default these are shown in terminals and notebooks only.
    **settings
        ``optimizer``, ``steps``, ``epochs``, ``target_loss``, ``patience``, ``batch``, ``learning_rate``, ``kappa``,
        ``truncation``, ``solver``, ``seed``, ``threads``, ``on_fault``, ``memory_limit`` as on the command line, and
        any other setting by its dotted name or in a dict: ``simulator={"masses": 3}`` or ``**{"simulator.masses": 3}``.

    Returns
    -------
    Run
        Also where Ctrl-C ended the run; ``stop_reason`` tells.

    Raises
    ------
    SettingError
        For a task or setting that is refused.
    ShapeError
        When data do not fit the simulator.
    StepError
        When the run diverged.
    OSError
        When a file cannot be written.

    Notes
    -----
    What a function of a simulator raises comes through as it is; the run's files are written before.

    Examples
    --------
    >>> import halfinverse
    >>> run = halfinverse.train("toy", optimizer="hig", steps=50, threads=1)
    >>> bool(run.metrics["test_loss"][-1] < run.metrics["test_loss"][0])
    True
    """
    words: dict[str, Any] = {OPTIONS[key]: settings.pop(key) for key in OPTIONS if settings.get(key) is not None}
    if time is not None:
        words["--time"] = time if isinstance(time, str) else f"{number('time', time)!r}s"
    if start is not None:
        words["--from"] = os.fspath(start.folder if isinstance(start, Run) else start)
    parts: tuple[Any, Any] = (None, None)
    temporary = tempfile.TemporaryDirectory(prefix="halfinverse-")
    scratch = Path(temporary.name)
    if isinstance(task, Simulator):
        data = _data(task, inputs, targets, initial, test)
        parts = (task._core, data)
        named = scratch / "task.toml"
        ends = {"--time", "--steps", "--epochs", "--target-loss", "--patience"} & set(words)
        endless = not ends and not any(key.split(".")[0] == "stop" for key in settings)
        text = _task_file(data) + ("[stop]\ntime = 20.0\n" if endless else "")
        named.write_text(text, encoding="utf-8")
        words.setdefault("--threads", 1)
    elif inputs is not None or targets is not None or initial is not None:
        raise SettingError("`inputs`, `targets` and `initial` belong to a Simulator; this task has data of its own")
    else:
        named = Path(os.fspath(task))
    folder = Path(out) if out is not None else scratch / "run"
    words["--out"] = os.fspath(folder)
    line = ["train", os.fspath(named), *(f"{option}={value}" for option, value in words.items())]
    line += [f"--set={key}={_toml(key, value)}" for key, value in _flat("", settings)]
    _run(line, quiet, parts)
    return Run(folder, _parts=parts, _files=temporary)


class Run:
    """A run's folder, and what is in it.

    Attributes
    ----------
    folder : Path
    report_path : Path
        The report, for a browser.
    metrics : Metrics
        A dict of arrays with an entry for each evaluation: ``step``, ``wall_s``, ``train_loss``, ``test_loss``, …
    summary : dict
        How the run ended: ``steps``, ``test_loss``, ``best_test_loss``, ``ms_per_step``, ``stop_reason``, …
    parameters : dict of arrays
        Those with the lowest test loss, by name: ``layers.0.weight`` (out, in), ``layers.0.bias``, …
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, _parts: tuple[Any, Any] = (None, None), _files: Any = None
    ) -> None:
        self.folder = Path(folder)
        self._parts = _parts
        self._files = _files
        self._made: _core.Model | None = None
        try:
            self.summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingError(f"{self.folder} is no folder of a finished run: it has no summary.json") from None

    @property
    def report_path(self) -> Path:
        return self.folder / "report.html"

    @property
    def stop_reason(self) -> str:
        """Why the run ended."""
        return str(self.summary["stop_reason"])

    @property
    def metrics(self) -> Metrics:
        with open(self.folder / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return Metrics({name: _column([row[name] for row in rows]) for name in rows[0]} if rows else {})

    @property
    def parameters(self) -> dict[str, Floats]:
        # A safetensors file: the header's length, the header as JSON, and the numbers row after row.
        content = (self.folder / "best.safetensors").read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        found = {}
        for name, _, _ in self._model().tensors:
            entry = json.loads(content[8:start])[name]
            first, last = (start + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(content[first:last], "<f8").reshape(entry["shape"]).astype(np.float64)
        return found

    @property
    def theta(self) -> Floats:
        """The parameters with the lowest test loss as one vector (P)."""
        return self._model().read(os.fspath(self.folder / "best.safetensors"))

    @property
    def data(self) -> dict[str, dict[str, Floats]]:
        """Arrays ``inputs``, ``initial`` and ``targets`` of the data for ``train`` and ``test``."""
        names = ("inputs", "initial", "targets")
        train, test = (dict(zip(names, arrays, strict=True)) for arrays in self._model().data())
        return {"train": train, "test": test}

    def _model(self) -> _core.Model:
        if self._made is None:
            text = (self.folder / "config.toml").read_text(encoding="utf-8")
            self._made = _core.Model(text, *self._parts)
        return self._made

    def predict(self, inputs: Any) -> Floats:
        """Controls z (N, q) that the trained network gives for inputs (N, d); where the data are of a file, targets in
        the units of its columns."""
        return self._model().predict(self.theta, matrix("the inputs", inputs))

    def outcome(self, inputs: Any, initial: Any = None) -> Floats:
        """Outcomes y (N, m) of the simulator under the trained network."""
        x = matrix("the inputs", inputs)
        states = np.zeros((len(x), 0)) if initial is None else matrix("the initial states", initial)
        return self._model().outcome(self.theta, x, states)

    def resume(
        self,
        *,
        time: str | float | None = None,
        steps: int | None = None,
        epochs: int | None = None,
        quiet: bool | None = None,
    ) -> Run:
        """Goes on where the run ended, to a later end; returns the run as it is then."""
        line = ["resume", os.fspath(self.folder)]
        if time is not None:
            line.append(f"--time={time if isinstance(time, str) else repr(number('time', time)) + 's'}")
        line += [f"--{key}={value}" for key, value in (("steps", steps), ("epochs", epochs)) if value is not None]
        _run(line, quiet, self._parts)
        return Run(self.folder, _parts=self._parts, _files=self._files)

    def plot(self, axes: Any = None) -> Any:
        """Draws the losses over training time with matplotlib, on `axes` where they are given; returns the axes."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("pictures need matplotlib: pip install 'halfinverse[plot]'") from error
        axes = axes if axes is not None else plt.subplots()[1]
        metrics = self.metrics
        axes.semilogy(metrics["wall_s"], metrics["test_loss"], marker=".", label="test")
        axes.semilogy(metrics["wall_s"], metrics["train_loss"], alpha=0.6, label="training")
        axes.set_xlabel("training time, s")
        axes.set_ylabel("loss")
        axes.set_title(f"{self.summary['task']}, {self.summary['optimizer']}")
        axes.legend()
        return axes

    def __repr__(self) -> str:
        test, steps = self.summary["test_loss"], self.summary["steps"]
        return (
            f"Run({str(self.folder)!r}: {steps} steps, test loss {test:.3e}, stopped by {self.stop_reason})"
            if (test is not None)
            else f"Run({str(self.folder)!r}: {steps} steps, {self.stop_reason})"
        )


class Metrics(dict[str, NDArray[Any]]):
    """Columns of a run's metrics by name."""

    def to_pandas(self) -> Any:
        """As a DataFrame of pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("DataFrames need pandas: pip install pandas") from error
        return pd.DataFrame(dict(self))


def _column(texts: list[str]) -> NDArray[Any]:
    try:
        return np.array([float(text) if text else math.nan for text in texts])
    except ValueError:
        return np.array(texts)


def _flat(section: str, settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings by their dotted names."""
    flat = []
    for name, value in settings.items():
        if not isinstance(name, str):
            raise SettingError(f"`{name!r}` is the name of a setting, but must be a string")
        key = f"{section}.{name}" if section else name
        flat += _flat(key, value) if isinstance(value, Mapping) else [(key, value)]
    return flat


def _toml(key: str, value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(key, item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(str(name))} = {_toml(key, item)}' for name, item in value.items())}}}"
    kind = type(value).__name__
    raise SettingError(f"`{key}` is of type {kind}, but must be a number, a string, True or False, a list or a dict")


def _data(
    simulator: Simulator, inputs: Any, targets: Any, initial: Any, test: float | tuple[Any, ...]
) -> tuple[Any, Any]:
    """Training and test data."""
    if inputs is None or targets is None:
        raise SettingError("`inputs` and `targets` are absent, but a simulator of one's own needs data")
    x, t, y0 = _samples("the", simulator, inputs, targets, initial)
    if isinstance(test, tuple):
        if len(test) not in (2, 3):
            raise SettingError(
                f"`test` has {len(test)} arrays, but must have inputs, targets and, maybe, initial states"
            )
        other = _samples("the test", simulator, test[0], test[1], test[2] if len(test) == 3 else None)
        return _core.Data(x, y0, t, None), _core.Data(other[0], other[2], other[1], None)
    share = number("test", test)
    if not 0.0 < share < 1.0:
        raise SettingError(f"`test` is {share}, but must be above 0 and below 1, or arrays")
    count = max(1, round(share * len(x)))
    if count >= len(x):
        raise ShapeError(f"{len(x)} sample is too few: at least one each is needed for training and test")
    first = len(x) - count
    rows = np.ascontiguousarray
    train = _core.Data(rows(x[:first]), rows(y0[:first]), rows(t[:first]), None)
    return train, _core.Data(rows(x[first:]), rows(y0[first:]), rows(t[first:]), None)


def _samples(
    which: str, simulator: Simulator, inputs: Any, targets: Any, initial: Any
) -> tuple[Floats, Floats, Floats]:
    x, t = matrix(f"{which} inputs", inputs), matrix(f"{which} targets", targets)
    y0 = initial_states(initial, len(x), simulator.initials)
    if len(x) == 0 or x.shape[1] == 0:
        raise ShapeError(f"{which} inputs are empty: {x.shape}")
    if len(t) != len(x):
        raise ShapeError(f"{which} targets: expected {len(x)} rows, one for each sample, found {len(t)}")
    if t.shape[1] != simulator.outcomes:
        raise ShapeError(
            f"{which} targets: expected {simulator.outcomes} columns, one for each outcome, found {t.shape[1]}"
        )
    for what, array in (("inputs", x), ("targets", t), ("initial states", y0)):
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise StepError(f"{which} {what}: entry ({row}, {column}) is {array[row, column]}")
    return x, t, y0


def _task_file(data: tuple[Any, Any]) -> str:
    """The task of a simulator of one's own, with settings that suit any."""
    train, test = len(data[0]), len(data[1])
    return f"""\
task = "python"
[simulator]
kind = "python"
[network]
hidden = [20, 20, 20]
activation = "tanh"
init = "glorot-uniform"
[objective]
kind = "squared-error"
factor = 1.0
[data]
kind = "arrays"
train = {train}
test = {test}
[optimizer]
name = "hig-auto"
[training]
batch = {min(128, train)}
shuffle = true
"""


def _run(line: list[str], quiet: bool | None, parts: tuple[Any, Any]) -> None:
    """Runs the program within this one, and raises what it refuses."""
    notebook = "ipykernel" in sys.modules
    if quiet is None:
        quiet = not notebook and not sys.stderr.isatty()
    shows = notebook and not quiet

    def poll(done: float, words: str) -> bool:
        if shows and words:
            print(f"\r{100 * done:3.0f} %  {words:100.100}", end="", flush=True)
        return False

    words = ["hig", *line, "--quiet"] if quiet or notebook else ["hig", *line]
    code, sentence, _ = _core.run(words, poll, *parts)
    if shows:
        print()
    if sentence is not None:
        raise (OSError if code == 1 else SettingError)(sentence.removeprefix("error: ").strip())
    if code == 3:
        folder = line[1] if line[0] == "resume" else next(word[6:] for word in line if word.startswith("--out="))
        reason = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))["stop_reason"]
        raise StepError(f"the run {reason}; its files are in {folder}")
