"""Half-inverse gradients: train neural networks through differentiable simulators."""

from ._core import __version__
from ._update import update
from .errors import HalfInverseError, SettingError, ShapeError, StepError

__all__ = ["HalfInverseError", "SettingError", "ShapeError", "StepError", "__version__", "update"]
