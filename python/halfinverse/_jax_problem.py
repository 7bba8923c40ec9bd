"""A model of JAX functions as an optimizer sees it: loss, gradient, J by its products, each compiled once per shape.

y(θ) (b × m) is the outcome, L(y) the loss, g = ∂L/∂y. A linearization keeps what products need: the network's (or the
whole outcome's) linear map, and where network and simulator are apart the simulator's block B = ∂y/∂z of each sample
(m × q), made by min(m, q) sweeps together. J v is then B·(∂z/∂θ v), and no product touches the simulator.

Curvature. For a loss whose Hessian H in y is diagonal, found by two products with it, hᵢ = Hᵢᵢ; rows of J are
multiplied by wᵢ = √(hᵢ/h), g is divided by them, h is their mean. For any other loss h = gᵀHg/|g|², the curvature along
g, or |g|²/(2L) where that is not positive. Both are exact for squared errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._arrays import Floats
from ._jax_trees import Batches, Outputs, Parameters, is_float
from ._rows import Kept
from .errors import ShapeError

# The simulator's block is made where it takes at most so many sweeps, twice the Krylov vectors of hig-auto's first
# step, and so many numbers.
MOST_SWEEPS = 32
MOST_NUMBERS = 1 << 26
# How many times their relative round-off numbers that should be the same may differ.
ALIKE = 100.0
# How far controls are shifted to see whether other samples notice.
SHIFT = 0.1


class Model:
    """The user's functions on parameters and mini-batches of fixed structure, compiled."""

    def __init__(self, functions: dict[str, Any], parameters: Parameters, batches: Batches, double: bool) -> None:
        self.parameters, self.batches = parameters, batches
        self.outcome, self.loss = functions["outcome"], functions["loss"]
        self.network, self.simulator = functions["network"], functions["simulator"]
        self.cast = jnp.float64 if double else None
        self.double = double
        self.z: Outputs | None = None
        self.y: Outputs
        # Whether J v is made from Jᵀu: functions that have a derivative in reverse alone.
        self.reverse = False
        # What the linear map of a linearization returns for a sample: how many numbers, of which type.
        self.rows: int
        self.of_rows: Any
        self.block = ""
        self.linearize = jax.jit(self._linearize)
        self.gradient = jax.jit(jax.value_and_grad(self._loss))
        self.value = jax.jit(self._loss)
        self.values = jax.jit(jax.vmap(self._loss, in_axes=(0, None)))
        self.values_in_turn = jax.jit(lambda thetas, batch: jax.lax.map(lambda theta: self._loss(theta, batch), thetas))
        self.jvp = jax.jit(self._jvp)
        self.vjp = jax.jit(self._vjp)
        self.mixed = jax.jit(self._mixed)

    def precision(self) -> Any:
        """The context that JAX's calls are made in."""
        if not self.double:
            return contextlib.nullcontext()
        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(True)
        from jax.experimental import enable_x64  # before JAX 0.8

        return enable_x64()

    def prepare(self, tree: Any, block: bool | None) -> None:
        """Learns the shapes of z and y and how to differentiate, from a mini-batch."""
        samples = self.batches.length(tree)
        tree = self._cast(tree)
        theta = jax.ShapeDtypeStruct((self.parameters.size,), jax.dtypes.canonicalize_dtype(np.float64))
        if self.network is None:
            y = jax.eval_shape(lambda theta: self.outcome(self._params(theta), tree), theta)
            self.y = Outputs("outcome", y, samples)
        else:
            z = jax.eval_shape(lambda theta: self.network(self._params(theta), tree), theta)
            self.z = Outputs("network", z, samples)
            self.y = Outputs("simulator", jax.eval_shape(self.simulator, z, tree), samples)
            self._choose_block(block, samples)
        jax.eval_shape(self._loss, theta, tree)
        inner = jax.eval_shape(self._controls if self.block else self._outcome, theta, tree)
        self.rows, self.of_rows = inner.shape[1], inner.dtype
        product = lambda theta, tree: self._jvp(self._linearize(theta, tree)[3], theta)  # noqa: E731
        # What stands for a derivative forward that a custom_vjp function has not: an error, but only when it is
        # compiled.
        if "custom_lin" in str(jax.make_jaxpr(product)(theta, tree)):
            self.reverse = True
            self.block = "rows" if self.block else ""

    def _choose_block(self, block: bool | None, samples: int) -> None:
        m, q = self.y.size, self.z.size if self.z else 0
        if block is None:
            block = min(m, q) <= MOST_SWEEPS and samples * m * q <= MOST_NUMBERS
        if block:
            self.block = "rows" if m <= q else "columns"

    @property
    def dtype(self) -> Any:
        """The type that JAX computes θ in."""
        return jnp.float64 if self.double else jax.dtypes.canonicalize_dtype(self.parameters.dtype)

    @property
    def sweeps(self) -> int:
        """Simulations that a linearization costs besides the one forward."""
        if self.block and self.z:
            return min(self.y.size, self.z.size)
        return 1

    def _params(self, theta: Any) -> Any:
        return self.parameters.traced(theta, self.cast)

    def _cast(self, batch: Any) -> Any:
        if self.cast is None:
            return batch
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, self.cast) if is_float(leaf.dtype) else leaf, batch)

    # What follows is traced: b is the length of the batch's leaves.

    def _controls(self, theta: Any, batch: Any) -> Any:
        assert self.z is not None
        return self.z.flatten(self.network(self._params(theta), self._cast(batch)), _length(batch))

    def _simulated(self, batch: Any, z: Any) -> Any:
        assert self.z is not None
        return self.y.flatten(self.simulator(self.z.tree(z), self._cast(batch)), _length(batch))

    def _outcome(self, theta: Any, batch: Any) -> Any:
        if self.network is not None:
            return self._simulated(batch, self._controls(theta, batch))
        return self.y.flatten(self.outcome(self._params(theta), self._cast(batch)), _length(batch))

    def _loss_of(self, batch: Any, y: Any) -> Any:
        loss = self.loss(self.y.tree(y), self._cast(batch))
        if jnp.shape(loss) != ():
            mend = "take its mean over samples"
            raise ShapeError(f"loss returned the shape {jnp.shape(loss)}, but must return one number: {mend}")
        if not is_float(jnp.result_type(loss)):
            raise TypeError(f"loss returned a value of type {jnp.result_type(loss)}, but must return a float")
        return loss

    def _loss(self, theta: Any, batch: Any) -> Any:
        return self._loss_of(batch, self._outcome(theta, batch))

    def _linearize(self, theta: Any, batch: Any) -> Any:
        """L, g (n), h, and what the products need."""
        inner = self._controls if self.block else self._outcome
        through = partial(lambda batch, theta: inner(theta, batch), batch)
        out, push = jax.vjp(through, theta) if self.reverse else jax.linearize(through, theta)
        y = self._simulated(batch, out) if self.block else out
        loss, g, h, w = _curved(partial(self._loss_of, batch), y)
        blocks = self._blocks(batch, out) * _beside(self.block, w) if self.block else w
        return loss, g.reshape(-1), h, (push, blocks)

    def _blocks(self, batch: Any, z: Any) -> Any:
        """B as m × b × q; columns as q × b × m."""
        simulated = partial(self._simulated, batch)
        if self.block == "rows":
            y, pull = jax.vjp(simulated, z)
            return jax.vmap(lambda unit: pull(unit)[0])(_units(y))
        return jax.vmap(jax.linearize(simulated, z)[1])(_units(z))

    def _jvp(self, kept: Any, v: Any) -> Any:
        push, blocks = kept
        if self.reverse:
            samples = blocks.shape[1 if self.block else 0]
            rows = jax.ShapeDtypeStruct((samples, self.rows), self.of_rows)
            out = jax.linear_transpose(lambda u: push(u)[0], rows)(v)[0]
        else:
            out = push(v)
        return (_through(self.block, blocks, out) if self.block else blocks * out).reshape(-1)

    def _vjp(self, kept: Any, u: Any) -> Any:
        push, blocks = kept
        u = u.reshape(-1, self.y.size)
        cotangent = (_back(self.block, blocks, u) if self.block else blocks * u).astype(self.of_rows)
        if self.reverse:
            return push(cotangent)[0]
        theta = jax.ShapeDtypeStruct((self.parameters.size,), jax.dtypes.canonicalize_dtype(np.float64))
        return jax.linear_transpose(push, theta)(cotangent)[0]

    def _mixed(self, theta: Any, batch: Any) -> Any:
        """Whether the outcomes of even samples change with the controls of odd ones."""
        z = self._controls(theta, batch)
        odd = (jnp.arange(z.shape[0]) % 2 == 1)[:, None]
        shifted = jnp.where(odd, z + SHIFT * (1 + jnp.abs(z)), z)
        y, other = jax.lax.map(partial(self._simulated, batch), jnp.stack([z, shifted]))
        apart = jnp.max(jnp.abs(y - other)[::2])
        return apart > ALIKE * jnp.finfo(y.dtype).eps * jnp.max(jnp.abs(y))

    def check_block(self, theta: Floats, tree: Any) -> None:
        """Refuses a simulator whose outcome of a sample depends on another sample's control."""
        if not self.block:
            return
        with self.precision():
            mixed = bool(self.mixed(theta, tree))
        if mixed:
            mend = "give outcome in place of network and simulator, or block=False"
            raise ShapeError(f"simulator mixes samples: what it makes of one depends on the control of another; {mend}")


def _length(batch: Any) -> int:
    return int(jax.tree.leaves(batch)[0].shape[0])


def _beside(block: str, w: Any) -> Any:
    """w (b × m) as a factor of the blocks."""
    return w.T[:, :, None] if block == "rows" else w[None, :, :]


def _units(matrix: Any) -> Any:
    """A unit vector for each column, the same for every sample."""
    samples, size = matrix.shape
    return jnp.broadcast_to(jnp.eye(size, dtype=matrix.dtype)[:, None, :], (size, samples, size))


def _through(block: str, blocks: Any, z: Any) -> Any:
    """B ż of each sample."""
    return jnp.einsum("mbq,bq->bm" if block == "rows" else "qbm,bq->bm", blocks, z)


def _back(block: str, blocks: Any, y: Any) -> Any:
    """Bᵀȳ of each sample."""
    return jnp.einsum("mbq,bm->bq" if block == "rows" else "qbm,bm->bq", blocks, y)


def _signs(y: Any) -> Any:
    """1 and −1 in an order without pattern, the same at every call."""
    return jnp.asarray(np.random.default_rng(0).choice([-1.0, 1.0], y.shape), y.dtype)


def _curved(loss_of: Callable[[Any], Any], y: Any) -> tuple[Any, Any, Any, Any]:
    """L, g/w, h and w (b × m); see the module."""
    # In reverse twice: losses with a derivative in reverse alone have a Hessian too.
    g, pull, loss = jax.vjp(lambda y: jax.value_and_grad(loss_of)(y)[::-1], y, has_aux=True)
    signs = _signs(y)
    diagonal, again = pull(jnp.ones_like(y))[0], signs * pull(signs)[0]
    most = jnp.max(jnp.abs(diagonal))
    alike = jnp.max(jnp.abs(diagonal - again)) <= ALIKE * jnp.finfo(y.dtype).eps * most
    curved = jnp.all((diagonal > 0) | ((diagonal == 0) & (g == 0)))
    separable = alike & curved & (most > 0)
    square = jnp.sum(g * g)
    along, below = jnp.sum(g * pull(g)[0]) / square, square / (2 * jnp.abs(loss))
    h = jnp.where(separable, jnp.mean(diagonal), jnp.where(along > 0, along, below))
    h = jnp.where((h > 0) & jnp.isfinite(h), h, 1.0)
    w = jnp.where(separable, jnp.sqrt(jnp.where(separable, diagonal, 1.0) / h), 1.0)
    return loss, jnp.where(w > 0, g / jnp.where(w > 0, w, 1.0), 0.0), h, w


class Problem:
    """A model on mini-batches, in the words of `halfinverse._core.Stepper`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.kept = Kept()
        self._in_turn = False

    def _batch(self, rows: Floats) -> Any:
        return self.kept.get(rows, self.model.batches.tree)

    def loss(self, theta: Floats, rows: Floats) -> float:
        """L."""
        with self.model.precision():
            return float(self.model.value(theta, self._batch(rows)))

    def gradient(self, theta: Floats, rows: Floats) -> tuple[float, Any]:
        """L and ∂L/∂θ."""
        with self.model.precision():
            loss, gradient = self.model.gradient(theta, self._batch(rows))
            return float(loss), np.asarray(gradient)

    def losses(self, thetas: Floats, rows: Floats) -> Any:
        """L of each row."""
        with self.model.precision():
            batch = self._batch(rows)
            if not self._in_turn:
                try:
                    return np.asarray(self.model.values(thetas, batch))
                except Exception:
                    # What cannot be evaluated at several θ together is evaluated at one after the other; what cannot
                    # be at all fails there again, and says why.
                    self._in_turn = True
            return np.asarray(self.model.values_in_turn(thetas, batch))

    def linearize(self, theta: Floats, rows: Floats) -> tuple[float, Any, float, Any, Any]:
        """L, g, h, and the products with J at θ."""
        model = self.model
        with model.precision():
            loss, g, h, kept = model.linearize(theta, self._batch(rows))
            return float(loss), np.asarray(g), float(h), self._product(model.jvp, kept), self._product(model.vjp, kept)

    def _product(self, product: Any, kept: Any) -> Callable[[Floats], Any]:
        model = self.model
        if not model.double:
            return lambda vector: np.asarray(product(kept, vector))

        def doubled(vector: Floats) -> Any:
            with model.precision():
                return np.asarray(product(kept, vector))

        return doubled
