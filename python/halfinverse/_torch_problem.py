"""A PyTorch model as an optimizer sees it: loss, gradient, and J by its products or by its rows.

y(θ) (b × m) is the outcome, L(y) the loss, g = ∂L/∂y. J comes in one of three ways:

* `block`: network and simulator are apart, and each sample's block B = ∂y/∂z (m × q) is made by m sweeps together; J v
  is B·(∂z/∂θ v), and no product touches the simulator;
* `rows`: J itself (b·m × P), by m sweeps over single samples together (`torch.func.vmap` of `jacrev`), where there is
  room for it. PyTorch takes as long to start an operation as to do it on small arrays, so that all rows together cost
  little more than one product;
* `products`: `torch.func.jvp` and `vjp` of the outcome, a simulation each.

The curvature of the loss is found as in `halfinverse._jax_problem`. θ holds one parameter after the other, each with
more than one axis as a matrix (first axis × the others) column after column, as the library has weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, jacrev, jvp, vjp, vmap
from torch.utils import _pytree as pytree

from ._arrays import Floats
from ._rows import Kept, Rows
from ._torch_layers import Backward, Layers
from .errors import ShapeError

# A block, or J by its rows, is made where it takes at most so many sweeps and numbers.
MOST_SWEEPS = 32
MOST_NUMBERS = 1 << 26
# How many times their relative round-off numbers that should be the same may differ.
ALIKE = 100.0
# How far controls are shifted to see whether other samples notice.
SHIFT = 0.1


def part(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter's part of θ."""
    matrix = parameter.reshape(parameter.shape[0], -1) if parameter.ndim > 1 else parameter.reshape(1, -1)
    return matrix.T.reshape(-1)


def parameter(part: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The parameter of a part of θ."""
    return part.reshape(-1, shape[0]).T.reshape(shape) if len(shape) > 1 else part.reshape(shape)


class Parts(torch.nn.Module):  # type: ignore[misc]
    """The model within a module whose calls are the user's functions, so that its parameters can be exchanged."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of the user's on the model."""
        return function(self.model, *arguments)


class Batches:
    """Mini-batches of one structure as rows (b × d)."""

    def __init__(self, batch: Any, device: torch.device) -> None:
        self.device = device
        leaves, self.spec = pytree.tree_flatten(batch)
        self.names = ["batch" if len(leaves) == 1 else f"batch (tensor {i})" for i in range(len(leaves))]
        self._rows = Rows(self.names, self._tensors(leaves))

    def _tensors(self, leaves: list[Any]) -> list[torch.Tensor]:
        tensors = []
        for name, leaf in zip(self.names, leaves, strict=True):
            try:
                tensor = torch.as_tensor(leaf).detach()
            except (TypeError, ValueError, RuntimeError) as error:
                raise TypeError(f"{name} cannot be made a tensor: {error}") from error
            if tensor.is_complex():
                raise TypeError(f"{name} holds complex numbers, but must hold real numbers")
            tensors.append(tensor.to(self.device))
        return tensors

    def tree(self, batch: Any) -> Any:
        """The mini-batch as tensors on the model's device; refuses another structure than the first one's."""
        leaves, spec = pytree.tree_flatten(batch)
        if spec != self.spec:
            raise ShapeError(f"batch has the structure {spec}, but had {self.spec} before")
        tensors = self._tensors(leaves)
        self._rows.length(tensors)
        return pytree.tree_unflatten(tensors, self.spec)

    def rows(self, tree: Any) -> Floats:
        """The mini-batch as rows of float64."""
        return self._rows.pack([_numpy(leaf) for leaf in pytree.tree_leaves(tree)])

    def of_rows(self, rows: Floats) -> Any:
        """The mini-batch of these rows."""
        arrays = zip(self._rows.unpack(rows), self._rows.types, strict=True)
        return pytree.tree_unflatten([torch.from_numpy(a).to(self.device, t) for a, t in arrays], self.spec)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def length(batch: Any) -> int:
    """b."""
    return int(pytree.tree_leaves(batch)[0].shape[0])


class Outputs:
    """What a function makes of each sample as a matrix (b × m)."""

    def __init__(self, what: str, tree: Any, samples: int) -> None:
        leaves, self.spec = pytree.tree_flatten(tree)
        self.what, self.shapes = what, []
        for leaf in leaves:
            if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
                found = f"values of type {leaf.dtype}" if isinstance(leaf, torch.Tensor) else f"{type(leaf)}"
                raise TypeError(f"{what} returned {found}, but must return floating-point tensors")
            if leaf.ndim == 0 or leaf.shape[0] != samples:
                mend = f"must return one entry for each of {samples} samples"
                raise ShapeError(f"{what} returned the shape {tuple(leaf.shape)}, but {mend}")
            self.shapes.append(tuple(leaf.shape[1:]))
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.size = sum(self.sizes)
        if self.size == 0:
            raise ShapeError(f"{what} returned nothing for a sample")

    def flatten(self, tree: Any, samples: int) -> torch.Tensor:
        """A result as a matrix; refuses another shape than before."""
        leaves, spec = pytree.tree_flatten(tree)
        shapes = [(samples, *shape) for shape in self.shapes]
        found = [tuple(getattr(leaf, "shape", ())) for leaf in leaves]
        if spec != self.spec or found != shapes:
            raise ShapeError(f"{self.what} returned {found} for {samples} samples, but must return {shapes}")
        return torch.cat([leaf.reshape(samples, -1) for leaf in leaves], dim=1)

    def tree(self, matrix: torch.Tensor) -> Any:
        """The result of a matrix."""
        parts = matrix.split(self.sizes, dim=1)
        shaped = [part.reshape(matrix.shape[0], *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return pytree.tree_unflatten(shaped, self.spec)


class Model:
    """The user's functions on the trained parameters of a module."""

    def __init__(self, model: torch.nn.Module, functions: dict[str, Any], batches: Batches) -> None:
        self.module, self.batches = Parts(model), batches
        named = {f"model.{name}": p for name, p in model.named_parameters() if p.requires_grad}
        self.like = {name: (p.shape, p.dtype) for name, p in named.items()}
        self.sizes = [p.numel() for p in named.values()]
        self.dtype = _float(p.dtype for p in named.values())
        self.device = batches.device
        self.outcome, self.loss = functions["outcome"], functions["loss"]
        self.network, self.simulator = functions["network"], functions["simulator"]
        self.z: Outputs | None = None
        self.way = "products"

    def prepare(self, theta: torch.Tensor, batch: Any, block: bool | None) -> None:
        """Learns the shapes of z and y from a mini-batch, and chooses how J is made."""
        samples, most = length(batch), MOST_NUMBERS
        with torch.no_grad():
            if self.network is None:
                self.y = Outputs("outcome", self._call(theta, self.outcome, batch), samples)
            else:
                z = self._call(theta, self.network, batch)
                self.z = Outputs("network", z, samples)
                self.y = Outputs("simulator", self.simulator(z, batch), samples)
            self.loss_at(theta, batch)
        m = self.y.size
        if self.z is not None:
            if block or (block is None and m <= MOST_SWEEPS and samples * m * self.z.size <= most):
                self.way = "block"
                self._check_block(theta, batch)
        elif (
            block is None and m <= MOST_SWEEPS and samples * m * theta.numel() <= most and self._has_rows(theta, batch)
        ):
            self.way = "rows"

    def _call(self, theta: torch.Tensor, function: Any, *arguments: Any) -> Any:
        parts = zip(self.like.items(), theta.split(self.sizes), strict=True)
        params = {name: parameter(part, shape).to(dtype) for (name, (shape, dtype)), part in parts}
        return functional_call(self.module, params, (function, *arguments))

    def controls(self, theta: torch.Tensor, batch: Any) -> torch.Tensor:
        """z (b × q)."""
        assert self.z is not None
        return self.z.flatten(self._call(theta, self.network, batch), length(batch))

    def simulated(self, z: torch.Tensor, batch: Any) -> torch.Tensor:
        """y (b × m) of controls."""
        assert self.z is not None
        return self.y.flatten(self.simulator(self.z.tree(z), batch), length(batch))

    def outcomes(self, theta: torch.Tensor, batch: Any) -> torch.Tensor:
        """y (b × m)."""
        if self.network is not None:
            return self.simulated(self.controls(theta, batch), batch)
        return self.y.flatten(self._call(theta, self.outcome, batch), length(batch))

    def loss_of(self, y: torch.Tensor, batch: Any) -> torch.Tensor:
        """L of outcomes."""
        loss = self.loss(self.y.tree(y), batch)
        if not isinstance(loss, torch.Tensor) or loss.ndim != 0 or not loss.is_floating_point():
            found = (
                f"the shape {tuple(loss.shape)} of {loss.dtype}" if isinstance(loss, torch.Tensor) else f"{type(loss)}"
            )
            mend = "take the mean over samples"
            raise ShapeError(f"loss returned {found}, but must return one floating-point number: {mend}")
        return loss

    def loss_at(self, theta: torch.Tensor, batch: Any) -> torch.Tensor:
        """L of parameters."""
        return self.loss_of(self.outcomes(theta, batch), batch)

    def _check_block(self, theta: torch.Tensor, batch: Any) -> None:
        """Refuses a simulator whose outcome of a sample depends on another sample's control."""
        with torch.no_grad():
            z = self.controls(theta, batch)
            shifted = z.clone()
            shifted[1::2] += SHIFT * (1 + z[1::2].abs())
            y, other = self.simulated(z, batch), self.simulated(shifted, batch)
        if not _alike(y[::2], other[::2]):
            mend = "give outcome in place of network and simulator, or block=False"
            raise ShapeError(f"simulator mixes samples: what it makes of one depends on the control of another; {mend}")

    def _single(self, theta: torch.Tensor, sample: Any) -> torch.Tensor:
        return self.outcomes(theta, pytree.tree_map(lambda leaf: leaf[None], sample))[0]

    def _has_rows(self, theta: torch.Tensor, batch: Any) -> bool:
        """Whether samples can be taken one by one, all at once."""
        try:
            with torch.no_grad():
                ones = vmap(self._single, in_dims=(None, 0))(theta, batch)
                return _alike(ones, self.outcomes(theta, batch))
        except Exception:  # functions need not allow it, and the other way needs none of it
            return False

    def jacobian(self, theta: torch.Tensor, batch: Any) -> torch.Tensor:
        """J (b × m × P)."""
        return vmap(jacrev(self._single), in_dims=(None, 0))(theta, batch).detach()

    def blocks(self, z: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """y, and B of each sample (m × b × q)."""
        y, pull = vjp(lambda z: self.simulated(z, batch), z)
        units = torch.eye(y.shape[1], dtype=y.dtype, device=y.device)[:, None, :].expand(-1, y.shape[0], -1)
        try:
            blocks = vmap(lambda unit: pull(unit)[0])(units)
        except RuntimeError:  # an operation that cannot be vectorized
            blocks = torch.stack([pull(unit)[0] for unit in units])
        return y.detach(), blocks.detach()


def _float(types: Any) -> torch.dtype:
    found = torch.float32
    for dtype in types:
        found = torch.promote_types(found, dtype)
    return found


def _alike(y: torch.Tensor, other: torch.Tensor) -> bool:
    most = y.abs().max() if y.numel() else 0.0
    return y.shape == other.shape and bool((y - other).abs().max() <= ALIKE * torch.finfo(y.dtype).eps * most)


def curved(loss_of: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor) -> tuple[Any, Any, Any, Any]:
    """L, g/w, h and w (b × m); see `halfinverse._jax_problem`."""
    y = y.detach().requires_grad_()
    with torch.enable_grad():
        loss = loss_of(y)
        (g,) = torch.autograd.grad(loss, y, create_graph=True)

    def hessian(v: torch.Tensor) -> torch.Tensor:
        if not g.requires_grad:
            return torch.zeros_like(y)
        (product,) = torch.autograd.grad(g, y, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(y) if product is None else product

    choice = np.random.default_rng(0).choice([-1.0, 1.0], tuple(y.shape))
    signs = torch.as_tensor(choice, dtype=y.dtype, device=y.device)
    diagonal, again = hessian(torch.ones_like(y)), signs * hessian(signs)
    most, slope = diagonal.abs().max(), g.detach()
    alike = (diagonal - again).abs().max() <= ALIKE * torch.finfo(y.dtype).eps * most
    if alike and most > 0 and bool(((diagonal > 0) | ((diagonal == 0) & (slope == 0))).all()):
        h = diagonal.mean()
        w = (diagonal / h).sqrt()
        return loss.detach(), torch.where(w > 0, slope / torch.where(w > 0, w, 1.0), 0.0), h, w
    square = (slope * slope).sum()
    along, below = (slope * hessian(slope)).sum() / square, square / (2 * loss.detach().abs())
    h = along if along > 0 else below
    if not (h > 0 and torch.isfinite(h)):
        h = torch.ones_like(h)
    return loss.detach(), slope, h, torch.ones_like(slope)


class Problem:
    """A model on mini-batches, in the words of `halfinverse._core.Stepper`."""

    def __init__(self, model: Model, found: tuple[Layers, list[Any]] | None = None) -> None:
        """With the layers that have Kronecker factors, and these, where they are wanted."""
        self.model = model
        self.kept = Kept()
        self._in_turn = False
        self._layers: Layers | None
        self.factors: list[Any] | None
        self._layers, self.factors = found or (None, None)
        self._at: Backward | None = None

    def drop(self) -> None:
        """Lets go of what the last gradient left for `cotangents` and `difference`."""
        self._at = None

    def _batch(self, rows: Floats) -> Any:
        return self.kept.get(rows, self.model.batches.of_rows)

    def _theta(self, theta: Floats) -> torch.Tensor:
        return torch.tensor(theta, dtype=self.model.dtype, device=self.model.device)

    def loss(self, theta: Floats, rows: Floats) -> float:
        """L."""
        with torch.no_grad():
            return float(self.model.loss_at(self._theta(theta), self._batch(rows)))

    def gradient(self, theta: Floats, rows: Floats) -> tuple[Any, ...]:
        """L and ∂L/∂θ; where there are factors h, too."""
        model, batch = self.model, self._batch(rows)
        if self._layers is not None:
            self._at = at = Backward(model, self._layers, self._theta(theta), batch)
            loss, g, h, at.weights = curved(lambda y: model.loss_of(y, batch), at.y)
            return float(loss), _numpy(at.gradient(at.weights * g)), float(h)
        place = self._theta(theta).requires_grad_()
        with torch.enable_grad():
            loss = model.loss_at(place, batch)
            (gradient,) = torch.autograd.grad(loss, place)
        return float(loss.detach()), _numpy(gradient)

    def cotangents(self, outcome: Floats) -> Any:
        """(factor, δ, a) of each layer, last to first, at the θ of the last gradient."""
        assert self._at is not None
        y = torch.tensor(outcome, dtype=self.model.dtype, device=self.model.device)
        for i, delta, a in self._at.cotangents(y):
            yield i, _numpy(delta), _numpy(a)

    def difference(self, v: Floats) -> Any:
        """J v (n) at the θ of the last gradient, by a difference quotient: one simulation."""
        assert self._at is not None
        return _numpy(self._at.difference(self._theta(v))).reshape(-1)

    def losses(self, thetas: Floats, rows: Floats) -> Any:
        """L of each row."""
        model, batch = self.model, self._batch(rows)
        at = self._theta(thetas)
        with torch.no_grad():
            if not self._in_turn:
                try:
                    return _numpy(vmap(lambda theta: model.loss_at(theta, batch))(at))
                except Exception:
                    # What cannot be evaluated at several θ together is evaluated at one after the other; what cannot
                    # be at all fails there again, and says why.
                    self._in_turn = True
            return np.array([float(model.loss_at(theta, batch)) for theta in at])

    def linearize(self, theta: Floats, rows: Floats) -> tuple[float, Any, float, Any, Any]:
        """L, g, h, and the products with J at θ."""
        model, batch, at = self.model, self._batch(rows), self._theta(theta)
        if model.way == "block":
            z, pull = vjp(lambda theta: model.controls(theta, batch), at)
            y, blocks = model.blocks(z.detach(), batch)
            loss, g, h, w = curved(lambda y: model.loss_of(y, batch), y)
            through = _Through(
                lambda theta: model.controls(theta, batch), at, pull, z, (blocks * w.T[:, :, None], None)
            )
        elif model.way == "rows":
            j = model.jacobian(at, batch)
            with torch.no_grad():
                y = model.outcomes(at, batch)
            loss, g, h, w = curved(lambda y: model.loss_of(y, batch), y)
            j = (j * w[:, :, None]).reshape(-1, at.numel()).double().cpu().numpy()
            return float(loss), _numpy(g), float(h), lambda v: j @ v, lambda u: u @ j
        else:
            y, pull = vjp(lambda theta: model.outcomes(theta, batch), at)
            loss, g, h, w = curved(lambda y: model.loss_of(y, batch), y)
            through = _Through(lambda theta: model.outcomes(theta, batch), at, pull, y, (None, w))
        return float(loss), _numpy(g), float(h), through.jvp, through.vjp


class _Through:
    """Products with J: of a function's linear map at θ, and blocks or weights behind it."""

    def __init__(self, function: Any, theta: torch.Tensor, pull: Any, out: torch.Tensor, behind: Any) -> None:
        self.function, self.theta, self.pull, self.out = function, theta, pull, out.detach()
        self.blocks, self.weights = behind
        self.forward = True

    def _push(self, v: torch.Tensor) -> torch.Tensor:
        if self.forward:
            try:
                return jvp(self.function, (self.theta,), (v,))[1]
            except (NotImplementedError, RuntimeError):
                # An operation without a derivative forward has one backward, twice.
                self.forward = False
        return vjp(lambda u: self.pull(u)[0], torch.zeros_like(self.out))[1](v)[0]

    def jvp(self, v: Floats) -> Any:
        """J v (n)."""
        out = self._push(torch.tensor(v, dtype=self.theta.dtype, device=self.theta.device)).detach()
        y = self.weights * out if self.blocks is None else torch.einsum("mbq,bq->bm", self.blocks, out)
        return _numpy(y).reshape(-1)

    def vjp(self, u: Floats) -> Any:
        """Jᵀu (P)."""
        size = -1, self.out.shape[1] if self.blocks is None else self.blocks.shape[0]
        y = torch.tensor(u, dtype=self.out.dtype, device=self.out.device).reshape(size)
        out = self.weights * y if self.blocks is None else torch.einsum("mbq,bm->bq", self.blocks, y)
        return _numpy(self.pull(out)[0])
