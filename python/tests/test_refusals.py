"""Bad input: every one of these is an exception with a sentence that names what is wrong; nothing crashes."""

import re

import numpy as np
import pytest

from halfinverse import KrylovSpace, SettingError, ShapeError, Simulator, StepError, _core, train, update

J, G = np.arange(6.0).reshape(2, 3), np.ones(2)
NAN = np.array([[1.0, np.nan, 0.0], [0.0, 1.0, 0.0]])


class Cuda:
    """An array on another device, as PyTorch has them."""

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")


class Elsewhere:
    """An array on another device, as DLPack tells it."""

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **_):
        raise BufferError("Cannot export an array on device 2")


UPDATE = [
    ("a vector for J", (np.ones(3), G), {}, ShapeError, "two dimensions"),
    ("three dimensions", (np.ones((2, 2, 2)), G), {}, ShapeError, "two dimensions"),
    ("a number for J", (3.0, G), {}, ShapeError, "two dimensions"),
    ("no rows", (np.zeros((0, 3)), []), {}, ShapeError, "empty"),
    ("no columns", (np.zeros((2, 0)), G), {}, ShapeError, "empty"),
    ("a long g", (J, np.ones(3)), {}, ShapeError, "expected 2 numbers.*found 3"),
    ("J transposed", (J.T, G), {}, ShapeError, "expected 3 numbers"),
    ("rows of different lengths", ([[1.0, 2.0], [3.0]], G), {}, ShapeError, "Jacobian"),
    ("complex numbers", (J + 1j, G), {}, TypeError, "complex"),
    ("a complex g", (J, G * 1j), {}, TypeError, "gradient.*complex"),
    ("objects", (np.array([[object()] * 3] * 2), G), {}, TypeError, "object"),
    ("strings", (np.array([["1", "2", "3"]] * 2), G), {}, TypeError, "<U1"),
    ("dates", (np.array([["2020-01-01"] * 3] * 2, "M8[D]"), G), {}, TypeError, "datetime64"),
    ("None", (None, G), {}, TypeError, "Jacobian"),
    ("a device array", (Cuda(), G), {}, TypeError, "cpu"),
    ("a device capsule", (Elsewhere(), G), {}, BufferError, "device"),
    ("NaN in J", (NAN, G), {}, StepError, "NaN"),
    ("infinity in J", (np.where(np.isnan(NAN), np.inf, NAN), G), {}, StepError, "inf"),
    ("NaN in g", (J, [1.0, np.nan]), {}, StepError, "entry 1 of g is NaN"),
    ("an update out of range", ([[1e-300]], [1e300]), {"kappa": 1}, StepError, "update"),
    ("kappa too large", (J, G), {"kappa": 1.5}, SettingError, "`kappa` is 1.5"),
    ("kappa NaN", (J, G), {"kappa": np.nan}, SettingError, "kappa"),
    ("kappa a word", (J, G), {"kappa": "half"}, SettingError, "kappa.*number"),
    ("kappa a vector", (J, G), {"kappa": [1, 2]}, SettingError, "kappa"),
    ("truncation of one", (J, G), {"truncation": 1.0}, SettingError, "truncation"),
    ("negative truncation", (J, G), {"truncation": -1e-9}, SettingError, "truncation"),
    ("negative damping", (J, G), {"damping": -1.0}, SettingError, "lambda|damping"),
    ("damping NaN", (J, G), {"damping": np.nan}, SettingError, "lambda|damping"),
    ("an unknown solver", (J, G), {"solver": "qr"}, SettingError, "svd, gram"),
    ("a solver near one", (J, G), {"solver": "krilov:8"}, SettingError, "krylov:8"),
    ("no vectors", (J, G), {"solver": "krylov:0"}, SettingError, "krylov"),
    ("a solver that is no string", (J, G), {"solver": 3}, SettingError, "string"),
    ("no threads", (J, G), {"threads": 0}, SettingError, "threads"),
    ("half a thread", (J, G), {"threads": 0.5}, SettingError, "whole number"),
    ("a million threads", (J, G), {"threads": 10**6}, SettingError, "threads"),
]


@pytest.mark.parametrize(("arguments", "settings", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in UPDATE])
def test_update(arguments, settings, error, words):
    with pytest.raises(error, match=re.compile(words, re.I)):
        update(*arguments, **settings)


class Fickle:
    """A function that changes its mind after some calls."""

    def __init__(self, function, then, calls=2):
        self.function, self.then, self.calls = function, then, calls

    def __call__(self, *arrays):
        self.calls -= 1
        return self.function(*arrays) if self.calls >= 0 else self.then(*arrays)


def raises(*_):
    raise ZeroDivisionError("of the user's own")


def jvp(v):
    return J @ v


def vjp(u):
    return J.T @ u


KRYLOV = [
    ("no function", ("jvp", vjp, G), {}, TypeError, "function"),
    ("jvp raises", (raises, vjp, G), {}, ZeroDivisionError, "own"),
    ("vjp raises", (jvp, raises, G), {}, ZeroDivisionError, "own"),
    ("vjp raises later", (jvp, Fickle(vjp, raises), G), {}, ZeroDivisionError, "own"),
    ("jvp of another length", (lambda v: v, vjp, G), {}, ShapeError, "jvp.*2"),
    ("vjp changes its length", (jvp, Fickle(vjp, lambda u: u), G), {}, ShapeError, "vjp.*3"),
    ("jvp returns nothing", (lambda v: None, vjp, G), {}, TypeError, "jvp"),
    ("jvp returns complex numbers", (lambda v: jvp(v) * 1j, vjp, G), {}, TypeError, "complex"),
    ("jvp returns NaN", (lambda v: jvp(v) * np.nan, vjp, G), {}, StepError, "NaN"),
    ("vjp returns infinity", (jvp, lambda u: vjp(u) * np.inf, G), {}, StepError, "inf|NaN"),
    ("jvp takes two arguments", (lambda v, w: v, vjp, G), {}, TypeError, "argument"),
    ("an empty gradient", (jvp, vjp, []), {}, ShapeError, "empty"),
    ("no vectors", (jvp, vjp, G), {"vectors": 0}, SettingError, "vectors"),
    ("half a vector", (jvp, vjp, G), {"vectors": 1.5}, SettingError, "vectors"),
    ("no parameters", (jvp, vjp, G), {"parameters": 0}, SettingError, "parameters"),
]


@pytest.mark.parametrize(("arguments", "settings", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in KRYLOV])
def test_krylov_space(arguments, settings, error, words):
    with pytest.raises(error, match=re.compile(words, re.I)):
        KrylovSpace(*arguments, **settings)


@pytest.mark.parametrize("step", [(1, 2), 5, (0.5, -1, 1), (2, 0, 1), (0.5, 0, "far"), None])
def test_steps_of_a_space(step):
    with pytest.raises(SettingError):
        KrylovSpace(jvp, vjp, G).steps([step])


def square(**more):
    return Simulator(**{"forward": lambda z: z**2, "vjp": lambda z, u: 2 * z * u, "controls": 1, "outcomes": 1, **more})


ONE = np.ones((20, 1))
SIMULATOR = [
    ("no function", {"forward": 3}, TypeError, "forward"),
    ("a derivative that is none", {"vjp": "auto"}, TypeError, "vjp"),
    ("no derivative", {"vjp": None, "library": "numpy"}, SettingError, "vjp.*jvp.*block"),
    ("an unknown library", {"library": "cupy"}, SettingError, "numpy, jax, torch"),
    ("no controls", {"controls": 0}, SettingError, "controls"),
    ("outcomes that are no number", {"outcomes": "two"}, SettingError, "outcomes"),
    ("negative initial states", {"initials": -1}, SettingError, "initials"),
]


@pytest.mark.parametrize(("settings", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in SIMULATOR])
def test_simulator(settings, error, words):
    with pytest.raises(error, match=words):
        square(**settings)


DATA = [
    ("no data", {}, SettingError, "inputs"),
    ("no targets", {"inputs": ONE}, SettingError, "targets"),
    ("fewer targets", {"inputs": ONE, "targets": ONE[:5]}, ShapeError, "expected 20 rows.*found 5"),
    ("wide targets", {"inputs": ONE, "targets": np.ones((20, 2))}, ShapeError, "expected 1 columns"),
    ("a vector", {"inputs": ONE[:, 0], "targets": ONE}, ShapeError, "two dimensions"),
    ("no samples", {"inputs": ONE[:0], "targets": ONE[:0]}, ShapeError, "empty"),
    ("one sample", {"inputs": ONE[:1], "targets": ONE[:1]}, ShapeError, "too few"),
    ("NaN", {"inputs": ONE * np.nan, "targets": ONE}, StepError, r"inputs: entry \(0, 0\) is nan"),
    ("initial states that nobody needs", {"inputs": ONE, "targets": ONE, "initial": ONE}, ShapeError, "initial"),
    ("a test share of one", {"inputs": ONE, "targets": ONE, "test": 1.0}, SettingError, "test"),
    ("test data alone", {"inputs": ONE, "targets": ONE, "test": (ONE,)}, SettingError, "test"),
    ("other test data", {"inputs": ONE, "targets": ONE, "test": (np.ones((4, 3)), ONE[:4])}, ShapeError, "columns"),
]


@pytest.mark.parametrize(("data", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in DATA])
def test_data_of_a_simulator(data, error, words):
    with pytest.raises(error, match=words):
        train(square(), steps=1, **data)


def test_points_of_a_check():
    with pytest.raises(ShapeError, match="columns"):
        square().check(np.ones((3, 2)))
    with pytest.raises(ShapeError, match="missing"):
        square(initials=2).check(np.ones((3, 1)))
    with pytest.raises(ZeroDivisionError):
        square(forward=raises).check(np.ones((3, 1)))


class Problem:
    """½|θ − x|² of each row, as a problem of functions."""

    def loss(self, theta, rows):
        return float(0.5 * ((theta - rows) ** 2).sum(1).mean())

    def gradient(self, theta, rows):
        return self.loss(theta, rows), (theta - rows).mean(0)

    def linearize(self, theta, rows):
        b, p = rows.shape
        j = np.tile(np.eye(p), (b, 1))
        return self.loss(theta, rows), (theta - rows) / b, 1 / b, lambda v: j @ v, lambda u: j.T @ u


ROWS = np.random.default_rng(0).normal(size=(8, 3))


def stepper(problem=None, optimizer="hig", settings=None, **more):
    sizes = {"parameters": 3, "outcomes": 3, "judges": ROWS[:4], "batch": 8, "samples": 8, **more}
    return _core.Stepper(problem or Problem(), optimizer, settings or {}, **sizes)


def changed(**methods):
    return type("Changed", (Problem,), methods)()


STEPPER = [
    ("loss raises", {"gradient": raises}, "adam", ZeroDivisionError, "own"),
    ("linearize raises", {"linearize": raises}, "hig", ZeroDivisionError, "own"),
    ("a gradient of another length", {"gradient": lambda s, t, r: (1.0, np.ones(2))}, "adam", ShapeError, "3"),
    ("a gradient alone", {"gradient": lambda s, t, r: np.ones(3)}, "adam", TypeError, "loss, gradient"),
    ("no tuple", {"linearize": lambda s, t, r: 3.0}, "hig", TypeError, "tuple"),
    ("a loss that is no number", {"gradient": lambda s, t, r: ("low", np.ones(3))}, "adam", TypeError, "number"),
    ("a loss of NaN", {"gradient": lambda s, t, r: (np.nan, np.ones(3))}, "adam", StepError, "NaN"),
    ("a gradient of NaN", {"gradient": lambda s, t, r: (1.0, t * np.nan)}, "adam", StepError, "gradient"),
    (
        "negative curvature",
        {"linearize": lambda s, t, r: (1.0, r, -1.0, raises, raises)},
        "hig",
        StepError,
        "curvature",
    ),
    ("jvp raises", {"linearize": lambda s, t, r: (1.0, r, 1.0, raises, raises)}, "hig", ZeroDivisionError, "own"),
    ("no functions", {"linearize": lambda s, t, r: (1.0, r, 1.0, 1, 2)}, "hig", TypeError, "callable"),
    ("no layers", {}, "hig-kron", StepError, "hig-kron needs"),
]


@pytest.mark.parametrize(("methods", "optimizer", "error", "words"), [pytest.param(*c[1:], id=c[0]) for c in STEPPER])
def test_problem_of_functions(methods, optimizer, error, words):
    theta = np.ones(3)
    with pytest.raises(error, match=words):
        stepper(changed(**methods), optimizer).step(theta, ROWS)
    assert (theta == 1).all()


def test_optimizers_of_functions():
    with pytest.raises(SettingError, match="hig"):
        stepper(optimizer="hog")
    with pytest.raises(SettingError, match="did you mean `kappa`"):
        stepper(settings={"kapa": 1})
    with pytest.raises(SettingError, match="kappa"):
        stepper(settings={"kappa": 3})
    with pytest.raises(SettingError, match="learning_rate"):
        stepper(settings={"learning_rate": "fast"})
    with pytest.raises(SettingError, match="type"):
        stepper(settings={"learning_rate": object()})
    with pytest.raises(SettingError, match="judge"):
        stepper(optimizer="hig-auto", judges=ROWS[:0])
    with pytest.raises(AttributeError, match="loss"):
        stepper(problem=object())
    with pytest.raises(SettingError, match="state"):
        stepper(optimizer="adam").restore(b"nonsense")
    with pytest.raises(ShapeError, match="parameters"):
        stepper().step(np.ones(4), ROWS)


def test_a_step_within_a_step_is_refused():
    def linearize(self, theta, rows):
        return again.step(theta, rows)

    again = stepper(changed(linearize=linearize))
    with pytest.raises(StepError, match="in the middle of a step"):
        again.step(np.ones(3), ROWS)


def test_theta_stays_and_the_optimizer_goes_on_after_an_exception():
    problem = Problem()
    mine = stepper(problem, "adam")
    theta, _ = mine.step(np.ones(3), ROWS)
    problem.gradient = raises
    functions = stepper(problem, "adam")
    with pytest.raises(ZeroDivisionError):
        functions.step(theta, ROWS)
    onward, report = mine.step(theta, ROWS)
    assert not np.array_equal(onward, theta) and report["loss"] > 0
