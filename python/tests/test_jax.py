"""halfinverse.jax: the same steps whatever form the functions come in, and nothing compiled twice."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

import halfinverse  # noqa: E402
from halfinverse.jax import HalfInverse  # noqa: E402

jax.config.update("jax_enable_x64", True)

B, STEPS = 24, 12


def network(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["in"]["w"] + params["in"]["b"])
    return hidden @ params["out"]["w"] + params["out"]["b"]


def simulator(z, batch):
    """A pendulum that the controls push, from rest at x[0]: angle and velocity at the end."""

    def step(state, push):
        angle, velocity = state
        velocity = velocity + 0.2 * (push - jnp.sin(angle))
        return (angle + 0.2 * velocity, velocity), None

    start = batch["x"][:, 0]
    (angle, velocity), _ = jax.lax.scan(step, (start, jnp.zeros_like(start)), z.T)
    return {"angle": angle, "velocity": velocity[:, None]}


def outcome(params, batch):
    return simulator(network(params, batch), batch)


def loss(y, batch):
    return jnp.mean((y["angle"] - batch["goal"]) ** 2 + y["velocity"][:, 0] ** 2)


def start(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "in": {"w": rng.normal(size=(2, 8)), "b": np.zeros(8)},
        "out": {"w": 0.3 * rng.normal(size=(8, STEPS)), "b": np.zeros(STEPS)},
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)


def batch(seed=0, b=B, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (b, 2))
    return {"x": x.astype(dtype), "goal": (0.5 * x[:, 1]).astype(dtype)}


def apart(**settings):
    return HalfInverse(network=network, simulator=simulator, loss=loss, **settings)


def opaque(**settings):
    return HalfInverse(outcome, loss, **settings)


def flat(params):
    return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(params)])


def trained(optimizer, steps, params=None, first=0):
    params = start() if params is None else params
    for i in range(steps):
        params, _ = optimizer.step(params, batch(first + i))
    return params


def value(params, of=None):
    of = batch(99) if of is None else of
    return float(loss(outcome(params, of), of))


def jacobian_and_gradient(params, of):
    """J and g row by row as the paper has them, from JAX itself."""
    leaves, treedef = jax.tree.flatten(params)
    shapes = [leaf.shape for leaf in leaves]
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def rows(theta):
        parts = [part.reshape(shape) for part, shape in zip(jnp.split(theta, ends), shapes, strict=False)]
        y = outcome(jax.tree.unflatten(treedef, parts), of)
        return jnp.stack([y["angle"], y["velocity"][:, 0]], axis=1).reshape(-1)

    def of_rows(rows):
        return loss({"angle": rows[::2], "velocity": rows[1::2][:, None]}, of)

    theta = jnp.asarray(flat(params))
    return np.asarray(jax.jacobian(rows)(theta)), np.asarray(jax.grad(of_rows)(rows(theta)))


@pytest.mark.parametrize("form", [apart, opaque])
@pytest.mark.parametrize(("method", "kappa", "rate"), [("hig", 0.5, 1.0), ("hig", 0.25, 0.3), ("gn", 1.0, 0.5)])
def test_a_step_is_the_filtered_update_of_the_jacobian(form, method, kappa, rate):
    params, of = start(), batch()
    settings = {"kappa": kappa} if method == "hig" else {}
    after, _ = form(method=method, learning_rate=rate, truncation=1e-3, solver="svd", **settings).step(params, of)
    delta, _ = halfinverse.update(*jacobian_and_gradient(params, of), kappa, 1e-3, solver="svd")
    # The largest update is that of gn, which divides by 1e-3 of the largest singular value.
    assert np.abs(flat(after) - (flat(params) - rate * delta)).max() < 1e-9 * np.abs(delta).max()


@pytest.mark.parametrize("form", [apart, opaque])
def test_gradients_agree_with_finite_differences(form):
    params, of = start(), batch()
    after, report = form(method="sgd", learning_rate=1.0).step(params, of)
    gradient = flat(params) - flat(after)
    direction = np.random.default_rng(1).normal(size=gradient.size)
    leaves, treedef = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def at(theta):
        parts = [part.reshape(leaf.shape) for part, leaf in zip(np.split(theta, ends), leaves, strict=False)]
        return value(jax.tree.unflatten(treedef, parts), of)

    h = 1e-5
    slope = (at(flat(params) + h * direction) - at(flat(params) - h * direction)) / (2 * h)
    assert slope == pytest.approx(gradient @ direction, rel=1e-8)
    assert report["loss"] == pytest.approx(value(params, of), rel=1e-14)


@pytest.mark.parametrize("block", [None, True, False])
@pytest.mark.parametrize("solver", ["krylov:8", "svd"])
def test_two_and_three_functions_take_the_same_steps(block, solver):
    one = trained(opaque(method="hig", solver=solver, truncation=1e-3), 4)
    other = trained(apart(method="hig", solver=solver, truncation=1e-3, block=block), 4)
    assert np.abs(flat(one) - flat(other)).max() < 1e-8


def test_a_block_of_more_outcomes_than_controls_goes_by_columns():
    def few(params, batch):
        return network(params, batch)[:, :2]

    def many(z, batch):
        return jnp.sin(z @ jnp.arange(10.0).reshape(2, 5) + batch["x"][:, :1])

    def squares(y, batch):
        return jnp.mean((y - batch["goal"][:, None]) ** 2)

    two = HalfInverse(lambda p, b: many(few(p, b), b), squares, method="hig", solver="krylov:6")
    three = HalfInverse(network=few, simulator=many, loss=squares, method="hig", solver="krylov:6")
    assert np.abs(flat(trained(two, 3)) - flat(trained(three, 3))).max() < 1e-9
    assert three.state.problem.model.block == "columns"


@pytest.mark.parametrize("method", ["auto", "hig", "gn", "lm", "l-bfgs", "adam"])
def test_every_method_lowers_the_loss(method):
    settings = {"learning_rate": 0.01} if method == "adam" else {}
    params = trained(apart(method=method, **settings), 30)
    assert value(params) < 0.5 * value(start())


def test_auto_is_the_default_and_judges_by_held_out_samples():
    optimizer = apart(held_out=batch(98, b=50), samples=1000)
    params = trained(optimizer, 40)
    assert optimizer.state.report["way"] is not None
    assert value(params) < 1e-3 * value(start())


def test_update_drops_into_a_loop_of_optax():
    optax = pytest.importorskip("optax")
    one, other = apart(held_out=batch(98)), apart(held_out=batch(98))
    params, state = start(), one.init(start())
    for i in range(10):
        updates, state = one.update(batch(i), state, params)
        params = optax.apply_updates(params, updates)
    # Updates are rounded once more than steps.
    assert np.abs(flat(params) - flat(trained(other, 10))).max() < 1e-9


@pytest.mark.parametrize("method", ["auto", "hig", "adam"])
def test_a_restored_state_takes_the_same_steps_bit_for_bit(method):
    one = apart(method=method)
    params = trained(one, 5)
    saved = one.state.save()
    goes_on = trained(one, 5, params, first=5)
    other = apart(method=method)
    other.state = other.restore(saved, params, batch(0))
    assert np.array_equal(flat(trained(other, 5, params, first=5)), flat(goes_on))


def test_a_state_of_other_settings_is_refused():
    one = apart(method="hig")
    params = trained(one, 1)
    with pytest.raises(halfinverse.SettingError, match="the state is of hig"):
        apart(method="hig", kappa=0.25).restore(one.state.save(), params, batch())
    with pytest.raises(halfinverse.SettingError, match="cannot be read"):
        one.restore(one.state.save()[:100], params, batch())
    with pytest.raises(halfinverse.SettingError, match="nothing to save"):
        one.init(params).save()


def test_functions_are_traced_once_per_shape_whatever_the_steps():
    calls = {"network": 0, "simulator": 0}

    def counted(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    optimizer = HalfInverse(
        network=counted("network", network), simulator=counted("simulator", simulator), loss=loss, held_out=batch(98)
    )
    params = trained(optimizer, 20)
    first = dict(calls)
    trained(optimizer, 20, params, first=20)
    # Another run of the same shapes compiles nothing either.
    optimizer.state = None
    trained(optimizer, 20)
    assert calls == first


def test_parameters_changed_between_steps_are_where_the_next_one_starts():
    optimizer = apart(method="sgd", learning_rate=1e-3)
    params = trained(optimizer, 3)
    moved = jax.tree.map(lambda leaf: leaf + 1.0, params)
    after, _ = optimizer.step(moved, batch())
    assert np.abs(flat(after) - flat(moved)).max() < 0.1


def test_float32_parameters_stay_float32_and_train():
    optimizer = apart(held_out=batch(98, dtype=np.float32))
    params = start(np.float32)
    for i in range(30):
        params, _ = optimizer.step(params, batch(i, dtype=np.float32))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(params))
    assert value(params) < 1e-2 * value(start())


def test_what_rounding_hides_is_not_lost_between_steps():
    optimizer = apart(method="sgd", learning_rate=1e-9)
    params = start(np.float32)
    after, _ = optimizer.step(params, batch())
    for _ in range(300):
        after, _ = optimizer.step(after, batch())
    # Each step alone is far below half a unit in the last place of a weight.
    moved = flat(params) - flat(after)
    assert np.any(moved != 0)


def test_one_precision_serves_the_other():
    with jax.enable_x64(False):
        optimizer = apart(method="hig", solver="svd", truncation=1e-3, precision="float64")
        params = start(np.float32)
        after, report = optimizer.step(params, batch(dtype=np.float32))
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(after))
    exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, np.float64), start(np.float32))
    of = batch(dtype=np.float32)
    assert report["loss"] == pytest.approx(value(exact, jax.tree.map(np.float64, of)), rel=1e-13)


def test_a_float64_model_is_told_that_jax_computes_in_float32():
    params = jax.tree.map(np.asarray, start())
    with jax.enable_x64(False), pytest.warns(UserWarning, match="jax_enable_x64"):
        apart().init(params)


def test_weighted_squares_step_as_scaled_outcomes_do():
    scales = jnp.array([3.0, 0.1])

    def plain(params, batch):
        y = outcome(params, batch)
        return jnp.stack([y["angle"], y["velocity"][:, 0]], axis=1)

    def weighted(y, batch):
        return jnp.mean(jnp.sum((scales * (y - batch["goal"][:, None])) ** 2, axis=1))

    def squares(y, batch):
        return jnp.mean(jnp.sum((y - scales * batch["goal"][:, None]) ** 2, axis=1))

    # hig of Jᵀg with rows of J times wᵢ is that of outcomes times wᵢ, up to the mean curvature.
    settings = {"method": "gn", "solver": "svd", "truncation": 1e-8}
    one = HalfInverse(plain, weighted, **settings)
    other = HalfInverse(lambda params, batch: scales * plain(params, batch), squares, **settings)
    a, b = one.step(start(), batch())[0], other.step(start(), batch())[0]
    mean = float(jnp.mean(scales**2))
    moved, expected = flat(a) - flat(start()), flat(b) - flat(start())
    # The pseudo-inverse of J·w/√mean with g/w·√mean is mean times that of the outcomes scaled by hand.
    assert np.abs(moved - mean * expected).max() < 1e-6 * np.abs(moved).max()


def test_a_loss_that_couples_outcomes_trains():
    def classes(params, batch):
        return network(params, batch)[:, :3]

    def cross_entropy(y, batch):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(y), batch["label"][:, None], axis=1))

    def labelled(i):
        x = np.random.default_rng(i).uniform(-1, 1, (B, 2))
        return {"x": x, "label": np.digitize(x[:, 0] + x[:, 1], [-0.5, 0.5])}

    optimizer, params = HalfInverse(classes, cross_entropy, held_out=labelled(98)), start()
    first = float(cross_entropy(classes(params, labelled(99)), labelled(99)))
    for i in range(40):
        params, _ = optimizer.step(params, labelled(i))
    assert float(cross_entropy(classes(params, labelled(99)), labelled(99))) < 0.3 * first


def test_functions_with_a_derivative_in_reverse_alone_take_the_same_steps():
    @jax.custom_vjp
    def reversed_only(z, x):
        return simulator(z, {"x": x})

    def forward(z, x):
        y, pull = jax.vjp(lambda z, x: simulator(z, {"x": x}), z, x)
        return y, pull

    reversed_only.defvjp(forward, lambda pull, cotangent: pull(cotangent))
    simulate = lambda z, batch: reversed_only(z, batch["x"])  # noqa: E731
    settings = {"method": "hig", "solver": "krylov:8"}
    expected = flat(trained(opaque(**settings), 3))
    two = HalfInverse(lambda params, batch: simulate(network(params, batch), batch), loss, **settings)
    three = HalfInverse(network=network, simulator=simulate, loss=loss, **settings)
    for optimizer in (two, three):
        assert np.abs(flat(trained(optimizer, 3)) - expected).max() < 1e-9


def test_what_cannot_be_vectorized_over_parameters_is_evaluated_in_turn():
    def host(x):
        return np.sin(np.asarray(x))

    @jax.custom_jvp
    def sine(x):
        # Refuses to be vectorized.
        return jax.pure_callback(host, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    @sine.defjvp
    def _(primals, tangents):
        return sine(primals[0]), jnp.cos(primals[0]) * tangents[0]

    def simulate(params, batch):
        return sine(network(params, batch)[:, :2])

    def squares(y, batch):
        return jnp.mean((y - batch["goal"][:, None]) ** 2)

    optimizer = HalfInverse(simulate, squares, held_out=batch(98))
    params, first = start(), None
    for i in range(8):
        params, report = optimizer.step(params, batch(i))
        first = report["loss"] if first is None else first
    assert report["loss"] < 0.5 * first


def test_modules_of_equinox_and_flax_are_pytrees_like_others():
    eqx, nnx = pytest.importorskip("equinox"), pytest.importorskip("flax.nnx")
    linen = pytest.importorskip("flax.linen")
    of, xs = batch(), {}

    def controls(model, batch):
        return jax.vmap(model)(batch["x"])

    xs["equinox"] = eqx.nn.MLP(2, STEPS, 8, 1, activation=jax.nn.tanh, key=jax.random.key(0)), controls
    mlp = linen.Sequential(
        [linen.Dense(8, param_dtype=np.float64), jnp.tanh, linen.Dense(STEPS, param_dtype=np.float64)]
    )
    xs["linen"] = mlp.init(jax.random.key(0), of["x"]), lambda params, batch: mlp.apply(params, batch["x"])

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 8, rngs=rngs, param_dtype=np.float64)
            self.out = nnx.Linear(8, STEPS, rngs=rngs, param_dtype=np.float64)

        def __call__(self, x):
            return self.out(jnp.tanh(self.hidden(x)))

    graph, weights = nnx.split(Net(nnx.Rngs(0)))
    xs["nnx"] = weights, lambda weights, batch: nnx.merge(graph, weights)(batch["x"])
    for name, (params, of_net) in xs.items():
        optimizer = HalfInverse(network=of_net, simulator=simulator, loss=loss, held_out=batch(98))
        first = None
        for i in range(15):
            params, report = optimizer.step(params, batch(i))
            first = report["loss"] if first is None else first
        assert report["loss"] < 0.05 * first, name
        assert jax.tree.structure(params) == jax.tree.structure(xs[name][0])
    params, of_net = xs["equinox"]
    optimizer = HalfInverse(network=of_net, simulator=simulator, loss=loss, method="sgd", learning_rate=0.1)
    updates, _ = optimizer.update(batch(), optimizer.init(params), params)
    moved, (stepped, _) = eqx.apply_updates(params, updates), optimizer.step(params, batch())
    assert all(
        np.allclose(a, b)
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(stepped), strict=False)
        if eqx.is_array(a)
    )


def test_threads_change_nothing():
    """Neither the optimizer's own, nor those of Python that train at once."""
    expected = flat(trained(apart(method="hig", solver="krylov:4", precision="float64"), 4))
    of_pool = flat(trained(apart(method="hig", solver="krylov:4", precision="float64", threads=2), 4))
    assert np.abs(of_pool - expected).max() < 1e-12
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(trained, apart(method="hig", solver="krylov:4", precision="float64"), 4) for _ in range(2)]
        assert all(np.array_equal(flat(run.result()), expected) for run in runs)
