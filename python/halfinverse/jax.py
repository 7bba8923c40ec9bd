"""Half-inverse gradients for any model in JAX.

    from halfinverse.jax import HalfInverse

    optimizer = HalfInverse(network=network, simulator=simulator, loss=loss)
    for batch in batches:
        params, report = optimizer.step(params, batch)

or, as with optax, whose gradient's place the mini-batch takes:

    state = optimizer.init(params)
    for batch in batches:
        updates, state = optimizer.update(batch, state, params)
        params = optax.apply_updates(params, updates)

**Precision.** A model is computed in the types of its parameters, and the optimizer's own small problem in float64. In
float32, which is what JAX makes of everything unless `jax_enable_x64` is on, J is known to about 1e-7 of its largest
singular value σ_max: directions whose singular values lie below that are noise, a truncation below 1e-6 has no meaning,
and steps cannot be told apart whose losses differ by less than 1e-7 of the loss. `precision="float64"` computes the
model in float64 nevertheless, whatever `jax_enable_x64` says, and rounds parameters only where they are handed back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _model
from ._jax_problem import Model, Problem
from ._jax_trees import Batches, Parameters
from ._model import State
from .errors import SettingError

__all__ = ["HalfInverse", "State"]

TRUNCATED = (
    'params holds float64 numbers of NumPy, but JAX computes in float32: call jax.config.update("jax_enable_x64", True)'
    ' at the start of the program, or give precision="float64"'
)


class HalfInverse:
    """An optimizer of the library on functions in JAX.

    The functions are over whole mini-batches, and traced by `jax.jit`:

    * `outcome(params, batch)` → y, and `loss(y, batch)` → one number; or
    * `network(params, batch)` → z, `simulator(z, batch)` → y, and `loss(y, batch)`. Given apart, each sample's block
      ∂y/∂z is computed once a step, and products with J, two for each Krylov vector, do not touch the simulator. What
      the simulator makes of a sample must not depend on another sample.

    `params` is a pytree of floating-point arrays (a dict, a module of flax or equinox); functions, strings and bools in
    it stay as they are. `batch` is a pytree of arrays with one entry per sample, b of them. y and z are arrays (b × …),
    or pytrees of such. The loss should be a mean over samples; its curvature with respect to y is found by itself.

    Parameters
    ----------
    outcome, network, simulator, loss : callable
        The functions above.
    method : str
        "auto" (hig-auto: no setting; judges its steps by held-out samples), or the name of another optimizer:
        "hig", "gn", "lm", "l-bfgs", "adam", …; `halfinverse._core.optimizers()` has all with their settings.
    held_out : mini-batch, optional
        A mini-batch, of any length, by whose loss hig-auto judges its steps. Best not trained on. Without it, hig-auto
        takes the first mini-batch.
    samples : int, optional
        How many training samples there are, where the number is small: hig-auto gathers no more of them for a step.
    block : bool, optional
        Whether the simulator's block is made. By default where it takes at most 32 sweeps, min(m, q).
    precision : {"float64"}, optional
        "float64" computes in float64 even where parameters are float32 or JAX's x64 mode is off.
    threads : int
        Threads of the optimizer's own linear algebra. JAX has its own.
    **settings
        The method's own, by name: `learning_rate=0.5, kappa=0.5, solver="krylov:16"`, …

    Raises
    ------
    SettingError
        For a setting that is refused; where it is the method's own, at the first step.
    TypeError
        For functions that are missing, or are none.

    Notes
    -----
    A step costs one linearization (a simulation and its derivative) and two products with J for each Krylov vector.
    Functions are compiled at the first step, once for each shape of mini-batch.

    References
    ----------
    Schnell, Holl, Thuerey, *Half-Inverse Gradients for Physical Deep Learning*, ICLR 2022.
    """

    def __init__(
        self,
        outcome: Callable[[Any, Any], Any] | None = None,
        loss: Callable[[Any, Any], Any] | None = None,
        *,
        network: Callable[[Any, Any], Any] | None = None,
        simulator: Callable[[Any, Any], Any] | None = None,
        method: str = "auto",
        held_out: Any = None,
        samples: int | None = None,
        block: bool | None = None,
        precision: str | None = None,
        threads: int = 1,
        **settings: Any,
    ) -> None:
        _model.functions(outcome, network, simulator, loss)
        self._functions = {"outcome": outcome, "network": network, "simulator": simulator, "loss": loss}
        self._method = _model.method_name(method)
        self._held_out = held_out
        self._samples = _model.MANY if samples is None else _model.count("samples", samples)
        if block and network is None:
            raise SettingError("block=True needs network and simulator apart")
        self._block = block
        if precision not in (None, "float64"):
            raise SettingError(f'precision is {precision!r}, but must be "float64", or None for that of the parameters')
        self._double = precision == "float64"
        self._threads = _model.count("threads", threads)
        self._settings = settings
        self._models: dict[Any, Model] = {}
        self.state: State | None = None
        """What `step` has learnt; None before its first call."""

    def init(self, params: Any) -> State:
        """The state before the first step.

        Raises TypeError for a leaf of `params` that cannot be trained, `ShapeError` where there is none that can.
        """
        state = State()
        state.parameters = Parameters(params)
        double = any(isinstance(leaf, np.ndarray) and leaf.dtype == np.float64 for leaf in jax.tree.leaves(params))
        if double and not self._double and not jax.config.jax_enable_x64:
            warnings.warn(TRUNCATED, stacklevel=2)
        return state

    def update(self, batch: Any, state: State, params: Any) -> tuple[Any, State]:
        """What a step on the mini-batch adds to `params`, and the state, which is the same object, changed.

        The updates have None where leaves of `params` are fixed, as `equinox.apply_updates` wants it. `state.report`
        says what the step did.

        Raises `ShapeError` where arrays do not fit, `StepError` where the loss is not finite, and whatever the
        functions raise. Parameters and state can then be used as before.
        """
        arrays = self._advance(params, batch, state)
        olds = jax.tree.leaves(params)
        updates = [None if new is None else new - np.asarray(old) for new, old in zip(arrays, olds, strict=True)]
        # What the caller will have: rounded once more than what the step left.
        _show(state, [None if u is None else np.asarray(old) + u for u, old in zip(updates, olds, strict=True)])
        return state.parameters.rebuilt(updates, params, keep=False), state

    def step(self, params: Any, batch: Any, state: State | None = None) -> tuple[Any, dict[str, Any]]:
        """The parameters after a step on the mini-batch, and what the step says of itself.

        Without a state of yours, the optimizer keeps one (`self.state`), which starts at the first call. As `update`
        otherwise.
        """
        if state is None:
            if self.state is None:
                self.state = self.init(params)
            state = self.state
        arrays = self._advance(params, batch, state)
        _show(state, arrays)
        assert state.report is not None
        return state.parameters.rebuilt(arrays, params), state.report

    def restore(self, saved: bytes, params: Any, batch: Any) -> State:
        """The state that `State.save` put into bytes, for an optimizer with the same functions and settings.

        `params` are those that belong to it, and `batch` any mini-batch like those before: both say what shapes there
        are. With `optimizer.state = optimizer.restore(…)` the next `step` goes on as it would have.

        Raises `SettingError` where the bytes are of another optimizer, or damaged.
        """
        parts = _model.read(saved)
        state = self.init(params)
        self._start(params, batch, state, parts["judges"])
        assert state.engine is not None
        state.engine.restore(parts)
        return state

    def _advance(self, params: Any, batch: Any, state: State) -> list[Any]:
        """A step: the arrays that θ is after it, in the types of the parameters; None for leaves that are fixed."""
        if not isinstance(state, State):
            raise TypeError(f"state is of {type(state)}, but must be what init() returned")
        if state.engine is None:
            self._start(params, batch, state, None)
        parameters: Parameters = state.parameters
        parameters.check(params)
        problem: Problem = state.problem
        engine = state.engine
        assert engine is not None
        model = problem.model
        samples = model.batches.length(batch)
        rows = model.batches.rows(batch) if self._method == _model.AUTO else np.empty((samples, 0))
        with model.precision():
            problem.kept.put(rows, jax.tree.map(jnp.asarray, batch))
        try:
            after, report = engine.step(parameters.flatten(params), rows)
        finally:
            problem.kept.drop(rows)
        state.report = report
        return parameters.rounded(after, params)

    def _start(self, params: Any, batch: Any, state: State, judges: Any) -> None:
        """Makes the optimizer, now that a mini-batch says what shapes there are."""
        parameters, batches = state.parameters, Batches(batch)
        parameters.check(params)
        key = parameters.key(), batches.key()
        model = self._models.get(key)
        if model is None:
            model = Model(self._functions, parameters, batches, self._double)
            with model.precision():
                tree = jax.tree.map(jnp.asarray, batch)
                model.prepare(tree, self._block)
            model.check_block(parameters.flatten(params), tree)
            self._models[key] = model
        samples = batches.length(batch)
        if judges is None:
            judges = np.empty((0, 0))
            if self._method == _model.AUTO:
                judging = batch if self._held_out is None else self._held_out
                batches.length(judging)
                judges = batches.rows(judging)
        state.problem = Problem(model)
        state.engine = _model.Engine(
            state.problem,
            self._method,
            self._settings,
            parameters=parameters.size,
            outcomes=model.y.size,
            judges=judges,
            batch=samples,
            samples=self._samples,
            sweeps=model.sweeps,
            threads=self._threads,
        )


def _show(state: State, arrays: list[Any]) -> None:
    """Remembers what the caller is given of θ."""
    assert state.engine is not None
    state.engine.show(np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays if array is not None]))
