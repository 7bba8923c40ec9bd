"""Simulators of Python functions under the library's networks."""

import numpy as np
import pytest

import halfinverse
import oscillators
from halfinverse import Simulator, StepError, train

SIZES = {"controls": 96, "outcomes": 4, "initials": 4}


def in_numpy():
    return Simulator(oscillators.simulate, vjp=oscillators.adjoint, **SIZES)


def in_jax():
    pytest.importorskip("jax")
    return Simulator(oscillators.simulate_in_jax, **SIZES)


SETTINGS = {"batch": 64, "steps": 20, "seed": 3, "threads": 1, "training": {"evaluate_every": 1}}


@pytest.fixture(scope="module")
def built_in():
    """Twenty steps of the task as it comes, by optimizer."""
    data = {"train": 512, "test": 64}
    return {name: train("oscillators", optimizer=name, data=data, **SETTINGS) for name in ("hig", "adam")}


@pytest.mark.parametrize("make", [in_numpy, in_jax])
def test_derivatives_pass_the_check(make):
    simulator = make()
    rng = np.random.default_rng(0)
    errors = simulator.check(rng.normal(size=(5, 96)), rng.uniform(size=(5, 4)))
    assert errors and max(errors.values()) < 1e-6


def test_a_wrong_derivative_is_seen():
    wrong = Simulator(lambda z: z**2, vjp=lambda z, u: 2.1 * z * u, controls=3, outcomes=3)
    assert max(wrong.check(np.random.default_rng(0).normal(size=(4, 3))).values()) > 1e-3


@pytest.mark.parametrize("make", [in_numpy, in_jax])
@pytest.mark.parametrize(("optimizer", "rate"), [("hig", 1.0), ("adam", 3e-4)])
def test_the_same_losses_as_with_the_built_in_simulator(make, optimizer, rate, built_in):
    data = built_in[optimizer].data
    run = train(
        make(),
        **data["train"],
        test=tuple(data["test"][name] for name in ("inputs", "targets", "initial")),
        optimizer=optimizer,
        learning_rate=rate,
        network={"activation": "relu"},
        **{**SETTINGS, "training": {"evaluate_every": 1, "shuffle": False}},
    )
    losses, expected = run.metrics["test_loss"], built_in[optimizer].metrics["test_loss"]
    assert len(losses) == 21
    assert np.allclose(losses, expected, rtol=1e-6, atol=0)
    assert losses[-1] < 0.9 * losses[0]


def square(**more):
    given = {"vjp": lambda z, u: 2 * z * u, **more}
    return Simulator(lambda z: z**2, controls=2, outcomes=2, **given)


def samples(count=64, width=2):
    rng = np.random.default_rng(2)
    return {"inputs": rng.uniform(1, 2, (count, width)), "targets": rng.uniform(1, 2, (count, width))}


@pytest.mark.parametrize("vectors", [2, 8])
def test_functions_are_called_once_for_a_mini_batch_and_blocks_cost_no_products(vectors):
    calls = []

    def forward(z):
        calls.append(("forward", len(z)))
        return z**2

    def vjp(z, u):
        calls.append(("vjp", len(z)))
        return 2 * z * u

    def counted(steps):
        calls.clear()
        simulator = Simulator(forward, vjp=vjp, controls=2, outcomes=2)
        settings = {
            "batch": 256,
            "optimizer": "hig",
            "solver": f"krylov:{vectors}",
            "training": {"evaluate_every": 100},
        }
        train(simulator, **samples(512), test=0.5, steps=steps, **settings)
        assert set(calls) == {("forward", 256), ("vjp", 256)}
        return np.array([calls.count(("forward", 256)), calls.count(("vjp", 256))])

    # A simulation for each step, and two products for the block of its two outcomes, whatever the Krylov space.
    assert (counted(5) - counted(2)).tolist() == [3, 6]


def test_every_kind_of_derivative_trains_alike():
    def block(z):
        return 2 * z[:, :, None] * np.eye(2)

    def jvp(z, v):
        return 2 * z * v

    kinds = [{}, {"jvp": jvp}, {"jvp": jvp, "vjp": None}, {"block": block, "vjp": None}, {"block": block, "jvp": jvp}]
    runs = [train(square(**kind), **samples(), optimizer="hig", steps=5) for kind in kinds]
    for run in runs[1:]:
        assert np.allclose(run.metrics["test_loss"], runs[0].metrics["test_loss"], rtol=1e-12)
    assert runs[0].metrics["test_loss"][-1] < runs[0].metrics["test_loss"][0]


def test_hig_auto_trains_through_python_and_leaves_all_files(tmp_path):
    run = train(square(), **samples(), steps=30, out=tmp_path / "run")
    assert run.summary["optimizer"] == "hig-auto" and run.summary["best_test_loss"] < 0.2
    for name in (
        "config.toml",
        "metrics.csv",
        "summary.json",
        "checkpoint.safetensors",
        "best.safetensors",
        "report.html",
    ):
        assert (tmp_path / "run" / name).is_file()
    x = samples()["inputs"][:3]
    assert np.allclose(run.outcome(x), run.predict(x) ** 2)
    longer = run.resume(steps=40)
    assert longer.summary["steps"] == 40


class Mine(Exception):
    pass


@pytest.mark.parametrize("name", ["forward", "vjp"])
def test_an_exception_comes_through_with_its_traceback(name, tmp_path):
    calls = []

    def fails(*arrays):
        calls.append(1)
        if len(calls) > 4:
            raise Mine("in the user's own words")
        return arrays[0] ** 2 if name == "forward" else 2 * arrays[0] * arrays[1]

    given = {"forward": lambda z: z**2, "vjp": lambda z, u: 2 * z * u, name: fails}
    simulator = Simulator(**given, controls=2, outcomes=2)
    with pytest.raises(Mine, match="own words") as caught:
        train(simulator, **samples(), steps=50, optimizer="adam", out=tmp_path / "run")
    assert any(entry.name == "fails" for entry in caught.traceback)
    assert (tmp_path / "run" / "metrics.csv").is_file()


@pytest.mark.parametrize("returned", [np.zeros((3, 2)), np.zeros(1), None, "text", np.zeros((64, 2), complex)])
def test_a_function_that_returns_something_else_is_refused_in_a_sentence(returned):
    with pytest.raises((halfinverse.ShapeError, TypeError), match="forward"):
        train(Simulator(lambda z: returned, vjp=lambda z, u: u, controls=2, outcomes=2), **samples(), steps=2)


def test_nan_from_a_simulator_ends_the_run_with_its_place(tmp_path):
    broken = Simulator(lambda z: z * np.nan, vjp=lambda z, u: u, controls=2, outcomes=2)
    with pytest.raises(StepError, match=r"outcome.*nan|NaN"):
        train(broken, **samples(), steps=2, optimizer="adam", out=tmp_path / "run")


def test_a_stepper_of_exponax_under_our_network():
    exponax = pytest.importorskip("exponax")
    import jax

    with jax.enable_x64(True):
        burgers = exponax.stepper.Burgers(1, 1.0, 16, 0.05, diffusivity=0.02)

    def forward(z):
        """Two steps of Burgers' equation from an initial velocity, which is controlled."""
        return jax.vmap(lambda u: burgers(burgers(u[None]))[0])(z)

    simulator = Simulator(forward, controls=16, outcomes=16)
    grid = np.arange(16) / 16
    phases = np.random.default_rng(0).uniform(0, 6, (48, 1))
    targets = np.sin(2 * np.pi * grid + phases)
    # One size of mini-batch, so that everything is compiled once.
    settings = {"steps": 10, "optimizer": "hig", "solver": "krylov:16", "batch": 24, "test": 0.5}
    run = train(simulator, inputs=targets, targets=targets, **settings)
    assert run.metrics["test_loss"][-1] < 0.5 * run.metrics["test_loss"][0]


def test_a_solve_of_diffrax_under_our_network():
    diffrax = pytest.importorskip("diffrax")
    import jax
    import jax.numpy as jnp

    def one(u, state):
        """A pendulum under a torque u₁ cos t + u₂."""
        term = diffrax.ODETerm(lambda t, x, u: jnp.stack([x[1], -jnp.sin(x[0]) + u[0] * jnp.cos(t) + u[1]]))
        adjoint = diffrax.RecursiveCheckpointAdjoint()
        solution = diffrax.diffeqsolve(
            term, diffrax.Heun(), 0.0, 1.0, 0.1, state, args=u, adjoint=adjoint, max_steps=16
        )
        return solution.ys[-1]

    simulator = Simulator(lambda z, y0: jax.vmap(one)(z, y0), controls=2, outcomes=2, initials=2, library="jax")
    states = np.random.default_rng(0).uniform(-1, 1, (48, 2))
    settings = {"steps": 15, "optimizer": "hig", "batch": 24, "test": 0.5}
    run = train(simulator, inputs=states, targets=0 * states, initial=states, **settings)
    assert run.metrics["test_loss"][-1] < 0.2 * run.metrics["test_loss"][0]


TESSERACT = """
import numpy as np
from pydantic import BaseModel
from tesseract_core.runtime import Array, Differentiable, Float64


class InputSchema(BaseModel):
    control: Differentiable[Array[(None, 2), Float64]]
    gain: float


class OutputSchema(BaseModel):
    outcome: Differentiable[Array[(None, 2), Float64]]


def apply(inputs: InputSchema) -> OutputSchema:
    return OutputSchema(outcome=inputs.gain * np.asarray(inputs.control) ** 2)


def vector_jacobian_product(inputs, vjp_inputs, vjp_outputs, cotangent_vector):
    return {"control": 2 * inputs.gain * np.asarray(inputs.control) * np.asarray(cotangent_vector["outcome"])}


def jacobian_vector_product(inputs, jvp_inputs, jvp_outputs, tangent_vector):
    return {"outcome": 2 * inputs.gain * np.asarray(inputs.control) * np.asarray(tangent_vector["control"])}


def abstract_eval(abstract_inputs):
    return {"outcome": {"shape": abstract_inputs.control.shape, "dtype": "float64"}}
"""


def test_a_tesseract_under_our_network(tmp_path):
    tesseract_core = pytest.importorskip("tesseract_core")
    pytest.importorskip("tesseract_core.runtime")
    api = tmp_path / "tesseract_api.py"
    api.write_text(TESSERACT)
    tesseract = tesseract_core.Tesseract.from_tesseract_api(api)
    names = {"control": "control", "outcome": "outcome", "controls": 2, "outcomes": 2, "inputs": {"gain": 3.0}}
    simulator = Simulator.from_tesseract(tesseract, **names)
    points = np.random.default_rng(0).uniform(1, 2, (3, 2))
    assert max(simulator.check(points).values()) < 1e-6
    run = train(simulator, **samples(), optimizer="hig", steps=5, batch=32)
    same = Simulator(lambda z: 3 * z**2, vjp=lambda z, u: 6 * z * u, controls=2, outcomes=2)
    expected = train(same, **samples(), optimizer="hig", steps=5, batch=32)
    assert np.allclose(run.metrics["test_loss"], expected.metrics["test_loss"], rtol=1e-10)


def test_functions_of_tensors_have_derivatives():
    torch = pytest.importorskip("torch")
    simulator = Simulator(lambda z, y0: torch.sin(z) * y0, controls=2, outcomes=2, initials=2, library="torch")
    rng = np.random.default_rng(0)
    assert max(simulator.check(rng.normal(size=(3, 2)), rng.uniform(1, 2, (3, 2))).values()) < 1e-6
    x = rng.uniform(0.1, 0.5, (64, 2))
    run = train(simulator, inputs=x, targets=x, initial=np.ones((64, 2)), optimizer="hig", steps=10)
    assert run.metrics["test_loss"][-1] < 0.5 * run.metrics["test_loss"][0]
