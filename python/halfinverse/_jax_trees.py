"""Pytrees as vectors and rows: parameters as θ (P), mini-batches as rows (b × d), outcomes as matrices (b × m)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._arrays import Floats
from ._rows import Rows
from .errors import ShapeError

# Leaves that a model may hold besides its parameters: activations of equinox modules, flags.
FIXED = (str, bool, bytes, type(None))


def _named(root: str, path: Any) -> str:
    return f"{root}{jax.tree_util.keystr(path)}"


def is_float(dtype: Any) -> bool:
    """Whether it is a real floating-point type, bfloat16 included."""
    return bool(jnp.issubdtype(dtype, jnp.floating))


class Parameters:
    """The arrays of floats of a pytree, one after the other as θ; its functions, strings and bools stay as they are."""

    def __init__(self, tree: Any) -> None:
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(tree)
        self.names: list[str] = []
        self.fixed: list[Any] = []
        self.like: list[Any] = []
        for path, leaf in paths:
            name = _named("params", path)
            learns = self._trained(name, leaf)
            self.names.append(name)
            self.fixed.append(None if learns else leaf)
            self.like.append(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if learns else None)
        trained = [like for like in self.like if like is not None]
        self.size = sum(like.size for like in trained)
        if self.size == 0:
            raise ShapeError("params holds no array of floating-point numbers, so that there is nothing to train")
        types = [np.float32, *(like.dtype for like in trained)]
        self.dtype = np.dtype(jnp.result_type(*types))

    @staticmethod
    def _trained(name: str, leaf: Any) -> bool:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not hasattr(leaf, "shape"):
            if callable(leaf) or isinstance(leaf, FIXED):
                return False
            mend = "make it an array to train it, or keep it out of params"
            raise TypeError(f"{name} is of {type(leaf)}, but must be an array of floating-point numbers: {mend}")
        if not is_float(dtype):
            mend = "make it an array of floating-point numbers to train it, or keep it out of params"
            raise TypeError(f"{name} holds values of type {dtype}, which cannot be trained: {mend}")
        return True

    def key(self) -> Any:
        """What compiled functions depend on."""
        fixed = tuple(repr(leaf) if isinstance(leaf, FIXED) else id(leaf) for leaf in self.fixed)
        return self.treedef, tuple(map(str, self.like)), fixed

    def check(self, tree: Any) -> None:
        """Refuses a pytree of another structure or other shapes."""
        leaves, treedef = jax.tree.flatten(tree)
        if treedef != self.treedef:
            raise ShapeError(f"params has the structure {treedef}, but had {self.treedef} before")
        for name, like, leaf in zip(self.names, self.like, leaves, strict=True):
            found = getattr(leaf, "shape", None)
            if like is not None and found != like.shape:
                raise ShapeError(f"{name} has the shape {found}, but had {like.shape} before")

    def flatten(self, tree: Any) -> Floats:
        """θ in float64."""
        leaves = jax.tree.leaves(tree)
        parts = [np.asarray(leaf) for leaf, like in zip(leaves, self.like, strict=True) if like is not None]
        return np.concatenate([part.reshape(-1).astype(np.float64) for part in parts])

    def rounded(self, theta: Floats, tree: Any) -> list[Any]:
        """Arrays of θ in the types of the pytree's leaves; None for a leaf that is fixed."""
        arrays: list[Any] = []
        offset = 0
        for leaf, like in zip(jax.tree.leaves(tree), self.like, strict=True):
            if like is None:
                arrays.append(None)
                continue
            part = theta[offset : offset + like.size].reshape(like.shape)
            arrays.append(part.astype(leaf.dtype))
            offset += like.size
        return arrays

    def rebuilt(self, arrays: list[Any], tree: Any, keep: bool = True) -> Any:
        """The pytree with these arrays in place of its own, of the same library. Fixed leaves stay, or become None."""
        leaves = jax.tree.leaves(tree)
        ours = [i for i, (new, old) in enumerate(zip(arrays, leaves, strict=True)) if new is not None]
        theirs = [i for i in ours if not isinstance(leaves[i], np.ndarray)]
        for i in ours:
            leaves[i] = arrays[i]
        # Together: one at a time they take longer than the rest of a small step.
        for i, leaf in zip(theirs, jax.device_put([arrays[i] for i in theirs]), strict=True):
            leaves[i] = leaf
        if not keep:
            leaves = [None if new is None else leaf for new, leaf in zip(arrays, leaves, strict=True)]
        return jax.tree.unflatten(self.treedef, leaves)

    def traced(self, theta: Any, dtype: Any = None) -> Any:
        """The pytree of a traced θ; its arrays of their own types, or all of `dtype`."""
        offset, leaves = 0, []
        for fixed, like in zip(self.fixed, self.like, strict=True):
            if like is None:
                leaves.append(fixed)
                continue
            part = theta[offset : offset + like.size].reshape(like.shape)
            leaves.append(part.astype(like.dtype if dtype is None else dtype))
            offset += like.size
        return jax.tree.unflatten(self.treedef, leaves)


class Batches:
    """Mini-batches of one structure, whose leaves have one entry per sample, as rows (b × d)."""

    def __init__(self, tree: Any) -> None:
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(tree)
        self.names = [_named("batch", path) for path, _ in paths]
        self._rows = Rows(self.names, self._arrays([leaf for _, leaf in paths]))

    def _arrays(self, leaves: list[Any]) -> list[Any]:
        arrays = [leaf if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else np.asarray(leaf) for leaf in leaves]
        for name, array in zip(self.names, arrays, strict=True):
            if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
                raise TypeError(f"{name} holds values of type {array.dtype}, but must hold real numbers")
        return arrays

    def key(self) -> Any:
        """What compiled functions depend on."""
        return self.treedef, tuple(self._rows.shapes), tuple(map(str, self._rows.types))

    def length(self, tree: Any) -> int:
        """b of a mini-batch, which must have this structure."""
        leaves, treedef = jax.tree.flatten(tree)
        if treedef != self.treedef:
            raise ShapeError(f"batch has the structure {treedef}, but had {self.treedef} before")
        return self._rows.length(self._arrays(leaves))

    def rows(self, tree: Any) -> Floats:
        """The mini-batch as rows of float64."""
        return self._rows.pack([np.asarray(leaf) for leaf in jax.tree.leaves(tree)])

    def tree(self, rows: Floats) -> Any:
        """The mini-batch of these rows, on JAX's device."""
        arrays = zip(self._rows.unpack(rows), self._rows.types, strict=True)
        return jax.tree.unflatten(self.treedef, [jnp.asarray(array.astype(dtype)) for array, dtype in arrays])


class Outputs:
    """What a function makes of each sample, a pytree of arrays, as a matrix (b × m)."""

    def __init__(self, what: str, tree: Any, samples: int) -> None:
        """Of the shapes that the function returns for so many samples."""
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(tree)
        self.what, self.shapes = what, []
        for path, leaf in paths:
            name = f"{what} returned" + (f" at {jax.tree_util.keystr(path)}" if path else "")
            if not is_float(leaf.dtype):
                raise TypeError(f"{name} values of type {leaf.dtype}, but must return floating-point numbers")
            if leaf.ndim == 0 or leaf.shape[0] != samples:
                raise ShapeError(
                    f"{name} the shape {leaf.shape}, but must return one entry for each of {samples} samples"
                )
            self.shapes.append(leaf.shape[1:])
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.size = sum(self.sizes)
        if self.size == 0:
            raise ShapeError(f"{what} returned nothing for a sample")

    def flatten(self, tree: Any, samples: int) -> Any:
        """A traced result as a matrix; refuses another shape than before."""
        leaves, treedef = jax.tree.flatten(tree)
        shapes = [(samples, *shape) for shape in self.shapes]
        found = [jnp.shape(leaf) for leaf in leaves]
        if treedef != self.treedef or found != shapes:
            raise ShapeError(f"{self.what} returned {found} for {samples} samples, but must return {shapes}")
        return jnp.concatenate([leaf.reshape(samples, -1) for leaf in leaves], axis=1)

    def tree(self, matrix: Any) -> Any:
        """The result of a traced matrix."""
        offset, leaves = 0, []
        for shape, size in zip(self.shapes, self.sizes, strict=True):
            leaves.append(matrix[:, offset : offset + size].reshape(matrix.shape[0], *shape))
            offset += size
        return jax.tree.unflatten(self.treedef, leaves)
