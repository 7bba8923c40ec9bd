"""A regressor with scikit-learn's conventions: a network fitted by half-inverse gradients that need no setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from . import _core
from ._train import _flat, _toml
from .errors import SettingError

__all__ = ["HalfInverseRegressor"]


class HalfInverseRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fully connected network for one target or several, fitted by least squares.

    Inputs and targets are standardised inside. The weights that are kept are those with the lowest loss on the samples
    that are held out.

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers.
    activation : str
        ``"gelu"``, ``"tanh"``, ``"relu"``, …
    optimizer : str
        ``"hig-auto"``, which needs no setting, or any other of ``hig tasks``.
    optimizer_settings : dict, optional
        Settings of the optimizer.
    steps : int
        Steps of the fit.
    time : float, optional
        Seconds after which it ends all the same.
    batch : int
        Samples of a mini-batch; all where there are fewer.
    validation_fraction : float
        Part of the samples that is held out to choose among the weights.
    patience : int, optional
        Evaluations in a row without a new lowest loss on them after which the fit ends.
    random_state : int, RandomState or None
        Seed of the weights, of the mini-batches and of the choice of samples that are held out.
    threads : int
        Threads.

    Attributes
    ----------
    n_features_in_ : int
    coefs_ : list of arrays (in, out)
        Weights of the layers.
    intercepts_ : list of arrays (out,)
    loss_curve_ : array
        Loss of the standardised targets on the samples that are held out, at each evaluation.
    best_loss_ : float
    n_iter_ : int
        Steps made.

    Examples
    --------
    >>> import numpy as np
    >>> from halfinverse import HalfInverseRegressor
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> model = HalfInverseRegressor(steps=200, random_state=0).fit(x, np.sin(3 * x[:, 0]))
    >>> bool(model.score(x, np.sin(3 * x[:, 0])) > 0.99)
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (16, 16, 16),
        activation: str = "gelu",
        *,
        optimizer: str = "hig-auto",
        optimizer_settings: dict[str, Any] | None = None,
        steps: int = 300,
        time: float | None = None,
        batch: int = 32,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        random_state: Any = None,
        threads: int = 1,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.optimizer = optimizer
        self.optimizer_settings = optimizer_settings
        self.steps = steps
        self.time = time
        self.batch = batch
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.threads = threads

    def fit(self, X: Any, y: Any) -> HalfInverseRegressor:
        """Fits the network to samples X (N, d) with targets y (N,) or (N, m)."""
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64)
        self._many = targets.ndim > 1
        targets = targets.reshape(len(X), -1)
        random = check_random_state(self.random_state)
        self._input_scale = _scale(X)
        self._target_scale = _scale(targets)
        x, t = _standard(X, self._input_scale), _standard(targets, self._target_scale)
        if not 0.0 < self.validation_fraction < 1.0:
            raise SettingError(
                f"`validation_fraction` is {self.validation_fraction!r}, but must be above 0 and below 1"
            )
        order = random.permutation(len(x))
        held = round(self.validation_fraction * len(x))
        # Of very few samples all are trained on and judged by.
        train, test = (order[held:], order[:held]) if 0 < held < len(x) else (order, order)
        trained, judged = (_core.Data(x[rows], np.zeros((len(rows), 0)), t[rows], None) for rows in (train, test))
        self._widths = (len(train), len(test), t.shape[1], int(random.randint(1 << 31)))
        model = _core.Model(self._text(*self._widths), None, (trained, judged))
        _, self._theta, self.best_loss_, _, rows = model.train(lambda done, line: False)
        self.loss_curve_ = np.array([row[3] for row in rows])
        self.n_iter_ = int(rows[-1][0])
        by_name = {
            name: self._theta[offset : offset + int(np.prod(shape))].reshape(shape, order="F")
            for name, shape, offset in model.tensors
        }
        self.coefs_ = [values.T for name, values in by_name.items() if name.endswith("weight")]
        self.intercepts_ = [values for name, values in by_name.items() if name.endswith("bias")]
        return self

    def predict(self, X: Any) -> Any:
        """Targets (N,) or (N, m) of samples X (N, d)."""
        check_is_fitted(self, "coefs_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        x = _standard(X, self._input_scale)
        _, _, width, seed = self._widths
        one = _core.Data(np.zeros((1, x.shape[1])), np.zeros((1, 0)), np.zeros((1, width)), None)
        model = _core.Model(self._text(1, 1, width, seed), None, (one, one))
        mean, deviation = self._target_scale
        predicted = np.ascontiguousarray(model.predict(self._theta, np.ascontiguousarray(x)) * deviation + mean)
        return predicted if self._many else predicted[:, 0]

    def _text(self, train: int, test: int, width: int, seed: int) -> str:
        """The fit as a task file."""
        end = {"steps": self.steps, "time": self.time, "patience": self.patience}
        settings = {
            "task": "regressor",
            "simulator": {"kind": "identity", "width": width},
            "network": {"hidden": list(self.hidden), "activation": self.activation, "init": "fan-in-uniform"},
            "objective": {"kind": "squared-error", "factor": 1.0},
            "data": {"kind": "arrays", "train": train, "test": test},
            "optimizer": {"name": self.optimizer, **(self.optimizer_settings or {})},
            "training": {"batch": min(self.batch, train), "shuffle": True, "seed": seed, "threads": self.threads},
            "stop": {name: value for name, value in end.items() if value is not None},
        }
        return "\n".join(f"{key} = {_toml(key, value)}" for key, value in _flat("", settings))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


def _scale(values: Any) -> tuple[Any, Any]:
    """Mean and deviation of each column; 1 where a column is constant."""
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def _standard(values: Any, scale: tuple[Any, Any]) -> Any:
    return np.ascontiguousarray((values - scale[0]) / scale[1])
