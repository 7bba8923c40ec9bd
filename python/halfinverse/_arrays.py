"""Arrays of anybody's as NumPy arrays of float64; without a copy where they are that already."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import SettingError, ShapeError

Floats = NDArray[np.float64]


def array(what: str, values: Any) -> NDArray[Any]:
    """`values` as a NumPy array of real numbers, whatever library they come from.

    Raises TypeError where they are not numbers, or lie on another device.
    """
    if isinstance(values, np.ndarray):
        found = values
    elif hasattr(values, "__array__") or not hasattr(values, "__dlpack__"):
        try:
            found = np.asarray(values)
        except ValueError as error:  # rows of different lengths
            raise ShapeError(f"{what} cannot be made an array: {error}") from error
    else:
        found = np.from_dlpack(values)
    # Types of other libraries, such as bfloat16, are numbers where they can be made float64 without loss.
    if found.dtype.kind not in "biuf" and not (found.dtype.kind == "V" and np.can_cast(found.dtype, np.float64)):
        kind = "complex numbers" if found.dtype.kind == "c" else f"values of type {found.dtype}"
        raise TypeError(f"{what} holds {kind}, but must hold real numbers")
    return found


def floats(what: str, values: Any) -> Floats:
    """`values` as float64, row after row in memory."""
    return np.require(array(what, values), np.float64, ["C", "A"])


def vector(what: str, values: Any, length: int | None = None) -> Floats:
    """`values`, of any shape, as one row of float64; of this length where one is given."""
    found = floats(what, values).reshape(-1)
    if length is not None and found.size != length:
        raise ShapeError(f"{what}: expected {length} numbers, found {found.size}")
    return found


def matrix(what: str, values: Any) -> Floats:
    """`values` as a matrix of float64 that lies row after row or column after column; copied only if it must be."""
    found = array(what, values)
    if found.ndim != 2:
        raise ShapeError(f"{what} has the shape {found.shape}, but must have two dimensions")
    if found.flags.f_contiguous and found.dtype == np.float64 and found.dtype.isnative and found.flags.aligned:
        return found
    return np.require(found, np.float64, ["C", "A"])


def number(key: str, value: Any) -> float:
    """A setting that must be a number."""
    try:
        if isinstance(value, (str, bytes, bool)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise SettingError(f"`{key}` is {value!r}, but must be a number") from None


def whole(key: str, value: Any, least: int, most: int) -> int:
    """A setting that must be a whole number from `least` to `most`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise SettingError(f"`{key}` is {value!r}, but must be a whole number") from None
    if not least <= found <= most:
        raise SettingError(f"`{key}` is {found}, but must be from {least} to {most}")
    return found
