"""Half-inverse gradients: train neural networks through differentiable simulators.

===================================  =======================================================
:func:`update`, :class:`KrylovSpace`  functions of a Jacobian's singular values, applied to a gradient
:func:`train`, :class:`Run`           tasks, and simulators of one's own under the library's networks
:class:`Simulator`                    a simulator of Python functions
:class:`HalfInverseRegressor`         a network for scikit-learn
:mod:`halfinverse.jax`                the optimizers on any model in JAX
:mod:`halfinverse.torch`              the same in PyTorch
===================================  =======================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._core import __version__
from .errors import HalfInverseError, SettingError, ShapeError, StepError

if TYPE_CHECKING:
    from ._simulator import Simulator
    from ._train import Metrics, Run, train
    from ._update import KrylovSpace, update
    from ._versions import show_versions
    from .sklearn import HalfInverseRegressor

__all__ = [
    "HalfInverseError",
    "HalfInverseRegressor",
    "KrylovSpace",
    "Metrics",
    "Run",
    "SettingError",
    "ShapeError",
    "Simulator",
    "StepError",
    "__version__",
    "show_versions",
    "train",
    "update",
]


# What is imported where it is first used: NumPy alone takes longer than all of the rest, scikit-learn a second.
_HOMES = {
    "HalfInverseRegressor": "sklearn",
    "KrylovSpace": "_update",
    "Metrics": "_train",
    "Run": "_train",
    "Simulator": "_simulator",
    "show_versions": "_versions",
    "train": "_train",
    "update": "_update",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_HOMES[name]}", __name__)
    except ModuleNotFoundError as error:
        if _HOMES[name] != "sklearn":
            raise
        raise ImportError("the regressor needs scikit-learn: pip install 'halfinverse[sklearn]'") from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
