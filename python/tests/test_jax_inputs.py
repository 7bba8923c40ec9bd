"""What goes wrong in models of JAX comes out as an exception with a sentence, and leaves all as it was."""

import gc

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

from halfinverse import HalfInverseError, SettingError, ShapeError, StepError  # noqa: E402
from halfinverse.jax import HalfInverse  # noqa: E402

jax.config.update("jax_enable_x64", True)

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
BATCH = {"x": np.linspace(0, 1, 8).reshape(4, 2), "goal": np.ones((4, 3))}


def network(params, batch):
    return jnp.tanh(batch["x"] @ params["w"] + params["b"])


def simulator(z, batch):
    return z + jnp.sin(z)


def outcome(params, batch):
    return simulator(network(params, batch), batch)


def loss(y, batch):
    return jnp.mean((y - batch["goal"]) ** 2)


def raises(*_):
    raise KeyError("a bug of the user's")


def mixes(z, batch):
    return z - jnp.mean(z, axis=0)


def short(params, batch):
    return outcome(params, batch)[:-1]


def fickle(params, batch):
    """Another number of outcomes for mini-batches of another length."""
    return outcome(params, batch)[:, : 3 if batch["x"].shape[0] == 4 else 2]


def whole(params, batch):
    return jnp.round(outcome(params, batch)).astype(int)


def complex_outcome(params, batch):
    return outcome(params, batch) + 1j


def step(params=PARAMS, batch=BATCH, outcome=outcome, loss=loss, **settings):
    return HalfInverse(outcome, loss, **{"method": "hig", **settings}).step(params, batch)


def parts(**settings):
    given = {"network": network, "simulator": simulator, "loss": loss, "method": "hig", **settings}
    return HalfInverse(**given).step(PARAMS, BATCH)


def changed(name, value, of=BATCH):
    return {**of, name: value}


NAN = changed("x", np.where(np.eye(4, 2) > 0, np.nan, BATCH["x"]))

ROWS = {
    "an exception in outcome": (lambda: step(outcome=raises), KeyError, "a bug of the user's"),
    "an exception in loss": (lambda: step(loss=raises), KeyError, "a bug of the user's"),
    "an exception in network": (lambda: parts(network=raises), KeyError, "a bug of the user's"),
    "an exception in simulator": (lambda: parts(simulator=raises), KeyError, "a bug of the user's"),
    "fewer outcomes than samples": (lambda: step(outcome=short), ShapeError, "one entry for each of 4 samples"),
    "an outcome without samples": (lambda: step(outcome=lambda p, b: jnp.sum(p["w"])), ShapeError, r"the shape \(\)"),
    "outcomes of integers": (lambda: step(outcome=whole), TypeError, "floating-point"),
    "complex outcomes": (lambda: step(outcome=complex_outcome), TypeError, "floating-point"),
    "no outcome": (lambda: step(outcome=lambda p, b: outcome(p, b)[:, :0]), ShapeError, "nothing for a sample"),
    "a loss for each sample": (lambda: step(loss=lambda y, b: jnp.sum(y**2, 1)), ShapeError, "take its mean"),
    "a loss of an integer": (lambda: step(loss=lambda y, b: jnp.sum(y).astype(int)), TypeError, "a float"),
    "a loss that is NaN": (lambda: step(loss=lambda y, b: jnp.mean(y) * jnp.nan), StepError, "NaN"),
    "a loss that is infinite": (lambda: step(loss=lambda y, b: jnp.sum(y) / 0), StepError, "inf"),
    "NaN in the mini-batch": (lambda: step(batch=NAN), StepError, "NaN"),
    "NaN in the held-out samples": (lambda: step(method="auto", held_out=NAN), StepError, "sample"),
    "NaN in params": (lambda: step(params=changed("b", jnp.full(3, jnp.nan), PARAMS)), StepError, "NaN"),
    "params of integers": (lambda: step(params=changed("b", jnp.zeros(3, int), PARAMS)), TypeError, r"params\['b'\]"),
    "params of complex numbers": (lambda: step(params=changed("b", jnp.zeros(3) * 1j, PARAMS)), TypeError, "complex"),
    "params of Python's numbers": (lambda: step(params=changed("b", 1.0, PARAMS)), TypeError, "make it an array"),
    "no params": (lambda: step(params={}), ShapeError, "nothing to train"),
    "leaves of different lengths": (
        lambda: step(batch=changed("goal", np.ones((5, 3)))),
        ShapeError,
        "has 4 samples, but",
    ),
    "a leaf without samples": (lambda: step(batch=changed("goal", 1.0)), ShapeError, "no axis of samples"),
    "an empty mini-batch": (
        lambda: step(batch={"x": np.ones((0, 2)), "goal": np.ones((0, 3))}),
        ShapeError,
        "no sample",
    ),
    "no mini-batch": (lambda: step(batch={}), ShapeError, "no array"),
    "words in the mini-batch": (lambda: step(batch=changed("goal", np.array(["a"] * 4))), TypeError, "real numbers"),
    "random keys in the mini-batch": (
        lambda: step(batch=changed("key", jax.random.split(jax.random.key(0), 4))),
        TypeError,
        "real numbers",
    ),
    "integers that float64 has not": (
        lambda: step(batch=changed("n", np.full(4, 2**60)), method="auto"),
        ShapeError,
        "above 2\\^53",
    ),
    "held-out samples of another kind": (
        lambda: step(method="auto", held_out={"x": BATCH["x"]}),
        ShapeError,
        "the structure",
    ),
    "a simulator that mixes samples": (lambda: parts(simulator=mixes), ShapeError, "mixes samples"),
    "a setting that there is not": (lambda: step(rate=0.1), SettingError, "rate"),
    "a setting out of range": (lambda: step(truncation=2.0), SettingError, "truncation"),
    "a setting of another type": (lambda: step(kappa=[0.5]), SettingError, "kappa"),
    "a method that there is not": (lambda: step(method="newton"), SettingError, "newton"),
    "a method that is no name": (lambda: step(method=3), SettingError, "the name of an optimizer"),
    "a method for our layers alone": (lambda: step(method="hig-kron"), HalfInverseError, "layers"),
    "a number of samples below 1": (lambda: step(samples=0), SettingError, "samples"),
    "half a thread": (lambda: step(threads=0.5), SettingError, "threads"),
    "a precision that there is not": (lambda: step(precision="float16"), SettingError, "precision"),
    "a block of one function": (lambda: step(block=True), SettingError, "apart"),
    "no loss": (lambda: HalfInverse(outcome), TypeError, "loss is missing"),
    "a network alone": (lambda: HalfInverse(network=network, loss=loss), TypeError, "either outcome"),
    "too many functions": (lambda: HalfInverse(outcome, loss, network=network), TypeError, "either outcome"),
    "a loss that is no function": (lambda: HalfInverse(outcome, 3.0), TypeError, "must be a function"),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_is_refused_in_a_sentence(name):
    call, error, sentence = ROWS[name]
    with pytest.raises(error, match=sentence):
        call()


def test_arrays_of_other_shapes_are_refused_after_the_first_step():
    optimizer = HalfInverse(outcome, loss, method="hig")
    params, _ = optimizer.step(PARAMS, BATCH)
    for bad, sentence in [
        (changed("w", jnp.ones((2, 2)), PARAMS), r"params\['w'\] has the shape"),
        ({"w": PARAMS["w"]}, "params has the structure"),
    ]:
        with pytest.raises(ShapeError, match=sentence):
            optimizer.step(bad, BATCH)
    for bad, sentence in [
        (changed("x", np.ones((4, 3))), r"a sample of batch\['x'\]"),
        ({"x": BATCH["x"]}, "batch has the structure"),
    ]:
        with pytest.raises(ShapeError, match=sentence):
            optimizer.step(params, bad)
    with pytest.raises(TypeError, match="init"):
        optimizer.step(params, BATCH, state={})
    # None of it has changed what comes next.
    optimizer.step(params, BATCH)


def test_an_outcome_that_changes_its_mind_is_refused():
    optimizer = HalfInverse(fickle, loss, method="hig")
    params, _ = optimizer.step(PARAMS, BATCH)
    with pytest.raises(ShapeError, match="outcome returned"):
        optimizer.step(params, {"x": np.ones((6, 2)), "goal": np.ones((6, 3))})


def test_an_error_leaves_the_next_step_as_it_was():
    one, other = (HalfInverse(outcome, loss, held_out=BATCH) for _ in range(2))
    params, same = PARAMS, PARAMS
    for i in range(4):
        params, _ = one.step(params, BATCH)
        same, _ = other.step(same, BATCH)
        if i == 1:
            with pytest.raises(ShapeError):
                other.step(same, changed("x", np.ones((3, 2))))
    assert all(np.array_equal(params[name], same[name]) for name in params)


def test_layouts_that_numpy_arrays_come_in_change_nothing():
    expected, _ = step()
    fortran = jax.tree.map(np.asfortranarray, BATCH)
    strided = {name: np.repeat(leaf, 2, axis=0)[::2] for name, leaf in BATCH.items()}
    fixed = jax.tree.map(np.array, BATCH)
    for leaf in fixed.values():
        leaf.flags.writeable = False
    swapped = jax.tree.map(lambda leaf: leaf.astype(">f8").astype("<f8"), BATCH)
    for batch in (fortran, strided, fixed, swapped, jax.tree.map(jnp.asarray, BATCH)):
        after, _ = step(batch=batch)
        assert all(np.array_equal(expected[name], after[name]) for name in after)
    numpy = {name: np.asfortranarray(leaf) for name, leaf in PARAMS.items()}
    after, _ = step(params=numpy)
    assert all(isinstance(leaf, np.ndarray) and np.array_equal(expected[name], leaf) for name, leaf in after.items())


def test_many_steps_and_errors_leave_nothing_behind():
    optimizer = HalfInverse(outcome, loss, method="sgd", learning_rate=1e-6)
    params, _ = optimizer.step(PARAMS, BATCH)

    def both(times):
        for _ in range(times):
            optimizer.step(params, BATCH)
            with pytest.raises(StepError):
                optimizer.step(params, NAN)
        gc.collect()
        return len(gc.get_objects())

    before = both(20)
    assert both(200) < before + 200
