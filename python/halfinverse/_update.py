"""The spectral core."""
from __future__ import annotations

from typing import Any

from . import _core
from ._arrays import Floats, matrix, vector
from .errors import ShapeError


def update(
    jacobian: Any,
    gradient: Any,
    kappa: float = 0.5,
    truncation: float = 1e-6,
    damping: float = 0.0,
    solver: str = "auto",
    *,
    threads: int = 1,
) -> tuple[Floats, dict[str, Any]]:
    j, g = matrix("the Jacobian", jacobian), vector("the gradient", gradient)
    if j.shape[0] != g.size:
        raise ShapeError(f"the gradient: expected {j.shape[0]} numbers, one for each row of the Jacobian, found {g.size}")
    return _core.update(j, g, kappa, truncation, damping, solver, threads)
