"""Simulators that are Python functions, under the library's networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._arrays import Floats, matrix, whole
from .errors import SettingError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

LIBRARIES = ("numpy", "jax", "torch")


class Simulator:
    """A simulator y = S(z; y₀) of functions over whole mini-batches.

    A network of the library is trained through it by :func:`halfinverse.train`. The functions are called once for a
    mini-batch; samples must not influence each other.

    Parameters
    ----------
    forward : callable
        (z, y₀) ↦ y, from controls (b, q) and initial states (b, i) to outcomes (b, m). Without initial states it is
        called with z alone, here and below.
    controls, outcomes, initials : int
        q, m and i.
    vjp : callable, optional
        (z, y₀, ȳ) ↦ z̄ = (∂y/∂z)ᵀȳ, (b, q).
    jvp : callable, optional
        (z, y₀, ż) ↦ ẏ = (∂y/∂z)ż, (b, m).
    block : callable, optional
        (z, y₀) ↦ ∂y/∂z, (b, m, q).
    library : {"numpy", "jax", "torch"}, optional
        Whose arrays the functions take. NumPy's where a derivative is given, else JAX's.

        With ``"jax"`` the functions are compiled once for each size of mini-batch, in float64; with ``"jax"`` and
        ``"torch"`` the derivatives that are not given follow from ``forward``.

    Raises
    ------
    TypeError
        When something that must be a function is none.
    SettingError
        When no derivative is given and none can be made, or a number is out of range.
    ImportError
        When the library is not installed.

    Notes
    -----
    A derivative in one direction is enough. Blocks are made of min(m, q) products where there is none of one's own:
    then every product with the Jacobian costs no simulation. What each function must return is checked; exceptions
    come through :func:`halfinverse.train` with their traceback. Arrays are float64, and the functions' own: they may be
    changed.

    Examples
    --------
    >>> import numpy as np, halfinverse
    >>> square = halfinverse.Simulator(lambda z: z**2, vjp=lambda z, u: 2 * z * u, controls=2, outcomes=2)
    >>> all(error < 1e-6 for error in square.check(np.ones((3, 2))).values())
    True
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        *,
        controls: int,
        outcomes: int,
        initials: int = 0,
        vjp: Callable[..., Any] | None = None,
        jvp: Callable[..., Any] | None = None,
        block: Callable[..., Any] | None = None,
        library: str | None = None,
    ) -> None:
        given = {"forward": forward, "vjp": vjp, "jvp": jvp, "block": block}
        for name, function in given.items():
            if not callable(function) and (function is not None or name == "forward"):
                raise TypeError(f"{name} is of type {type(function).__name__}, but must be a function")
        derivatives: dict[str, Callable[..., Any]] = {
            name: function for name, function in given.items() if function is not None and name != "forward"
        }
        library = library or ("numpy" if derivatives else "jax")
        self.controls = whole("controls", controls, 1, 1 << 24)
        self.outcomes = whole("outcomes", outcomes, 1, 1 << 24)
        self.initials = whole("initials", initials, 0, 1 << 24)
        if library not in LIBRARIES:
            raise SettingError(f"`library` is {library!r}, but must be one of {', '.join(LIBRARIES)}")
        if library == "jax":
            made: dict[str, Any] = _of_jax(forward, derivatives, self.outcomes, self.controls)
        elif library == "torch":
            made = _of_torch(forward, derivatives)
        elif derivatives:
            made = {"forward": forward, **derivatives}
        else:
            raise SettingError("`vjp`, `jvp` or `block` must be given for functions of NumPy arrays")
        made |= {"controls": self.controls, "outcomes": self.outcomes, "initials": self.initials}
        self._core = _core.Simulator(**made)

    def check(self, controls: Any, initial: Any = None, *, seed: int = 1) -> dict[str, float]:
        """How far each derivative is from finite differences at these points (b, q) and (b, i), by its name.

        Errors are relative; below 1e-6 or so a derivative is right.
        """
        z = matrix("the controls", controls)
        y0 = initial_states(initial, len(z), self.initials)
        _columns("the controls", z, self.controls)
        return dict(self._core.check(z, y0, whole("seed", seed, 0, 1 << 63)))

    @classmethod
    def from_tesseract(
        cls,
        tesseract: Any,
        *,
        control: str,
        outcome: str,
        controls: int,
        outcomes: int,
        initial: str | None = None,
        initials: int = 0,
        inputs: Mapping[str, Any] | None = None,
    ) -> Simulator:
        """A simulator behind the verbs of a Tesseract (tesseract-core): ``apply`` and, where it has them,
        ``vector_jacobian_product`` and ``jacobian_vector_product``.

        ``control``, ``initial`` and ``outcome`` name its inputs and output, which must have a row for each sample.
        ``inputs`` are its other inputs.
        """
        fixed = dict(inputs or {})

        def all_inputs(z: Floats, state: Sequence[Floats]) -> dict[str, Any]:
            return {**fixed, control: z, **({initial: state[0]} if initial is not None else {})}

        def forward(z: Floats, *state: Floats) -> Any:
            return tesseract.apply(all_inputs(z, state))[outcome]

        def vjp(z: Floats, *rest: Floats) -> Any:
            product = tesseract.vector_jacobian_product(
                all_inputs(z, rest[:-1]), [control], [outcome], {outcome: rest[-1]}
            )
            return product[control]

        def jvp(z: Floats, *rest: Floats) -> Any:
            product = tesseract.jacobian_vector_product(
                all_inputs(z, rest[:-1]), [control], [outcome], {control: rest[-1]}
            )
            return product[outcome]

        verbs = getattr(tesseract, "available_endpoints", ("vector_jacobian_product", "jacobian_vector_product"))
        derivatives: dict[str, Any] = {}
        if "vector_jacobian_product" in verbs:
            derivatives["vjp"] = vjp
        if "jacobian_vector_product" in verbs:
            derivatives["jvp"] = jvp
        if (initial is None) != (initials == 0):
            raise SettingError(
                "`initial` and `initials` belong together: the name of the initial states, and their width"
            )
        return cls(forward, controls=controls, outcomes=outcomes, initials=initials, library="numpy", **derivatives)


def initial_states(initial: Any, samples: int, width: int) -> Floats:
    """Initial states of so many samples; none where the simulator has none."""
    if initial is None:
        if width > 0:
            raise ShapeError(f"the initial states are missing: the simulator needs {width} numbers of each sample")
        return np.zeros((samples, 0))
    found = matrix("the initial states", initial)
    if len(found) != samples:
        raise ShapeError(f"the initial states: expected {samples} rows, one for each sample, found {len(found)}")
    _columns("the initial states", found, width)
    return found


def _columns(what: str, found: Floats, width: int) -> None:
    if found.shape[1] != width:
        raise ShapeError(f"{what}: expected {width} columns, found {found.shape[1]}")


def _of_jax(
    forward: Callable[..., Any], given: dict[str, Any], outcomes: int, controls: int
) -> dict[str, Callable[..., Any]]:
    """Compiled functions of NumPy arrays."""
    try:
        import jax
    except ImportError as error:
        raise ImportError(
            "derivatives of `forward` need JAX: pip install 'halfinverse[jax]', or give vjp, jvp or block"
        ) from error
    import jax.numpy as jnp

    def vjp(z: Any, *rest: Any) -> Any:
        return jax.vjp(lambda z: forward(z, *rest[:-1]), z)[1](rest[-1])[0]

    def jvp(z: Any, *rest: Any) -> Any:
        return jax.jvp(lambda z: forward(z, *rest[:-1]), (z,), (rest[-1],))[1]

    def block(z: Any, *state: Any) -> Any:
        rows = z.shape[0]

        def along(product: Callable[..., Any], unit: Any) -> Any:
            return product(z, *state, jnp.broadcast_to(unit, (rows, unit.shape[0])))

        by_rows = outcomes <= controls
        product, width = (vjp, outcomes) if by_rows else (jvp, controls)
        found = jax.vmap(lambda unit: along(product, unit))(jnp.eye(width, dtype=z.dtype))
        return jnp.transpose(found, (1, 0, 2) if by_rows else (1, 2, 0))

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        # The arrays that come are column-major: they go in as their transposes, which are not copied.
        jitted = jax.jit(lambda *transposed: function(*(array.T for array in transposed)))

        def call(*arrays: Floats) -> Any:
            with jax.enable_x64(True):
                return np.asarray(jitted(*(array.T for array in arrays)))

        return call

    functions = {"forward": forward, "vjp": vjp, "jvp": jvp, "block": block, **given}
    return {name: compiled(function) for name, function in functions.items()}


def _of_torch(forward: Callable[..., Any], given: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """Functions of NumPy arrays around functions of tensors."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("functions of tensors need PyTorch: pip install 'halfinverse[torch]'") from error

    def vjp(z: Any, *rest: Any) -> Any:
        return torch.func.vjp(lambda z: forward(z, *rest[:-1]), z)[1](rest[-1])[0]

    def jvp(z: Any, *rest: Any) -> Any:
        return torch.func.jvp(lambda z: forward(z, *rest[:-1]), (z,), (rest[-1],))[1]

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arrays: Floats) -> Any:
            tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
            return function(*tensors).detach().cpu().numpy()

        return call

    functions = {"forward": forward, "vjp": vjp, "jvp": jvp, **given}
    return {name: around(function) for name, function in functions.items()}
