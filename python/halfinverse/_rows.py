"""Mini-batches of arrays that have one entry per sample, as rows of float64 (b × d), and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import Floats
from .errors import ShapeError

# The largest integer up to which float64 has them all.
EXACT = 1 << 53


class Rows:
    """How arrays, by names that are for errors, lie in rows."""

    def __init__(self, names: list[str], arrays: list[Any]) -> None:
        """As these do, which must have `shape` and `dtype`, NumPy's or what NumPy takes for one."""
        if not names:
            raise ShapeError("batch holds no array")
        self.names = names
        self._check_axes(arrays)
        self.shapes = [tuple(array.shape[1:]) for array in arrays]
        self.types = [array.dtype for array in arrays]
        self.length(arrays)

    def _check_axes(self, arrays: list[Any]) -> None:
        for name, array in zip(self.names, arrays, strict=True):
            if len(array.shape) == 0:
                mend = "an array has one entry per sample; what is the same for all belongs into the functions"
                raise ShapeError(f"{name} has no axis of samples: {mend}")

    def length(self, arrays: list[Any]) -> int:
        """b; refuses arrays of other shapes than the first ones, but for b."""
        self._check_axes(arrays)
        first = arrays[0].shape[0]
        for name, shape, array in zip(self.names, self.shapes, arrays, strict=True):
            if tuple(array.shape[1:]) != shape:
                raise ShapeError(f"a sample of {name} has the shape {tuple(array.shape[1:])}, but had {shape} before")
            if array.shape[0] != first:
                raise ShapeError(f"{name} has {array.shape[0]} samples, but {self.names[0]} has {first}")
        if first == 0:
            raise ShapeError("batch holds no sample")
        return int(first)

    def pack(self, arrays: list[np.ndarray]) -> Floats:
        """Rows of NumPy arrays."""
        parts = []
        for name, array in zip(self.names, arrays, strict=True):
            if array.dtype.kind in "iu" and array.itemsize == 8 and array.size and np.abs(array).max() > EXACT:
                raise ShapeError(f"{name} holds integers above 2^53, which rows of float64 cannot hold")
            parts.append(array.reshape(array.shape[0], -1).astype(np.float64))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def unpack(self, rows: Floats) -> list[Floats]:
        """Arrays of float64 from rows."""
        offset, arrays = 0, []
        for shape in self.shapes:
            size = int(np.prod(shape))
            part = np.ascontiguousarray(rows[:, offset : offset + size])
            arrays.append(part.reshape(rows.shape[0], *shape))
            offset += size
        return arrays


class Kept:
    """The last mini-batches as the model's library has them, by the identity of their rows."""

    # The given one, those of hig-auto's family, probe and judges.
    COUNT = 4

    def __init__(self) -> None:
        self._kept: list[tuple[Floats, Any]] = []

    def put(self, rows: Floats, batch: Any) -> None:
        """Makes a mini-batch known by its rows."""
        self._kept = [(rows, batch), *self._kept[: self.COUNT - 1]]

    def drop(self, rows: Floats) -> None:
        """What will not be asked for again need not stay."""
        self._kept = [kept for kept in self._kept if kept[0] is not rows]

    def get(self, rows: Floats, make: Any) -> Any:
        """The mini-batch of these rows; made where it is not known."""
        for known, batch in self._kept:
            if known is rows:
                return batch
        batch = make(rows)
        self.put(rows, batch)
        return batch
