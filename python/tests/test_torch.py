"""halfinverse.torch: the same steps whatever form the functions come in, on modules as PyTorch has them."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import halfinverse  # noqa: E402
from halfinverse import HalfInverseError, SettingError, ShapeError, StepError  # noqa: E402
from halfinverse.torch import HalfInverse  # noqa: E402

# Threads that wait for each other cost more than these models do.
torch.set_num_threads(1)

B, STEPS = 24, 6


def net(dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, STEPS)
    return torch.nn.Sequential(*layers).to(dtype)


def network(model, batch):
    return model(batch["x"])


def simulator(z, batch):
    """A pendulum that the controls push, from rest at x[0]: angle and velocity at the end."""
    angle, velocity = batch["x"][:, 0], torch.zeros_like(batch["x"][:, 0])
    for push in z.unbind(1):
        velocity = velocity + 0.3 * (push - torch.sin(angle))
        angle = angle + 0.3 * velocity
    return {"angle": angle, "velocity": velocity[:, None]}


def outcome(model, batch):
    return simulator(network(model, batch), batch)


def loss(y, batch):
    return ((y["angle"] - batch["goal"]) ** 2 + y["velocity"][:, 0] ** 2).mean()


def batch(seed=0, b=B, dtype=torch.float64):
    x = torch.as_tensor(np.random.default_rng(seed).uniform(-1, 1, (b, 2)), dtype=dtype)
    return {"x": x, "goal": 0.5 * x[:, 1]}


def apart(model, **settings):
    return HalfInverse(model, loss, network=network, simulator=simulator, **settings)


def opaque(model, **settings):
    return HalfInverse(model, loss, outcome=outcome, **settings)


def flat(model):
    return torch.cat([p.detach().reshape(-1).double() for p in model.parameters()]).numpy()


def trained(form, steps, **settings):
    model = net()
    optimizer = form(model, **settings)
    for i in range(steps):
        optimizer.step(batch(i))
    return flat(model)


def value(model):
    with torch.no_grad():
        return float(loss(outcome(model, batch(99)), batch(99)))


FORMS = [(apart, None), (apart, False), (opaque, None), (opaque, False)]


@pytest.mark.parametrize(("form", "block"), FORMS)
def test_a_step_is_the_filtered_update_of_the_jacobian(form, block):
    model, of = net(), batch()
    names, params = zip(*model.named_parameters(), strict=False)

    def rows(*params):
        y = simulator(torch.func.functional_call(model, dict(zip(names, params, strict=False)), (of["x"],)), of)
        return torch.stack([y["angle"], y["velocity"][:, 0]], 1).reshape(-1)

    blocks = torch.autograd.functional.jacobian(rows, tuple(p.detach() for p in params))
    j = torch.cat([block.reshape(2 * B, -1) for block in blocks], 1).numpy()
    y = rows(*params).detach().numpy().reshape(B, 2)
    g = 2 / B * (y - np.stack([of["goal"].numpy(), np.zeros(B)], 1)).reshape(-1)
    delta, _ = halfinverse.update(j, g, 0.5, 1e-3, solver="svd")
    before = flat(model)
    form(model, block=block, method="hig", solver="svd", truncation=1e-3).step(of)
    assert np.abs(flat(model) - (before - delta)).max() < 1e-9 * np.abs(delta).max()


@pytest.mark.parametrize(("form", "block"), FORMS[1:])
@pytest.mark.parametrize("settings", [{"method": "hig", "solver": "krylov:8"}, {}])
def test_every_form_takes_the_same_steps(form, block, settings):
    expected = trained(apart, 6, held_out=batch(98), **settings)
    assert np.abs(trained(form, 6, block=block, held_out=batch(98), **settings) - expected).max() < 1e-7


def test_gradients_are_those_of_autograd():
    model, of = net(), batch()
    loss(outcome(model, of), of).backward()
    gradient = np.concatenate([p.grad.reshape(-1).numpy() for p in model.parameters()])
    before = flat(model)
    report = apart(model, method="sgd", learning_rate=1.0).step(of)
    assert np.abs(before - flat(model) - gradient).max() < 1e-12
    assert report["loss"] == pytest.approx(float(loss(outcome(net(), of), of)), rel=1e-13)


@pytest.mark.parametrize("method", ["auto", "hig", "gn", "lm", "adam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_method_lowers_the_loss(method, dtype):
    settings = {"learning_rate": 0.01} if method == "adam" else {}
    model = net(dtype)
    optimizer = apart(model, method=method, **settings)
    first = float(loss(outcome(model, batch(99, dtype=dtype)), batch(99, dtype=dtype)))
    for i in range(25):
        optimizer.step(batch(i, dtype=dtype))
    last = float(loss(outcome(model, batch(99, dtype=dtype)), batch(99, dtype=dtype)))
    assert last < 0.5 * first
    assert all(p.dtype == dtype for p in model.parameters())


@pytest.mark.parametrize("method", ["auto", "hig", "adam"])
def test_a_loaded_state_takes_the_same_steps_bit_for_bit(method, tmp_path):
    model = net()
    one = apart(model, method=method)
    for i in range(4):
        one.step(batch(i))
    torch.save({"model": model.state_dict(), "optimizer": one.state_dict()}, tmp_path / "run.pt")
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    again = net(seed=5)
    again.load_state_dict(saved["model"])
    other = apart(again, method=method)
    other.load_state_dict(saved["optimizer"])
    for i in range(4, 8):
        one.step(batch(i))
        other.step(batch(i))
    assert np.array_equal(flat(model), flat(again))


def test_a_state_of_other_settings_is_refused():
    model = net()
    one = apart(model, method="hig")
    one.step(batch())
    other = apart(model, method="hig", kappa=0.25)
    other.load_state_dict(one.state_dict())
    with pytest.raises(SettingError, match="the state is of hig"):
        other.step(batch())
    adam = torch.optim.Adam(model.parameters())
    loss(outcome(model, batch()), batch()).backward()
    adam.step()
    with pytest.raises(SettingError, match="another optimizer"):
        one.load_state_dict(adam.state_dict())


def test_parameters_that_need_no_gradient_stay():
    model = net()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model)
    apart(model, method="hig").step(batch())
    assert torch.equal(model[0].weight, before[0].weight)
    assert not torch.equal(model[2].weight, before[2].weight)


def test_the_default_outcome_is_the_model_itself():
    xs = torch.linspace(-1, 1, 64, dtype=torch.float64)[:, None]
    batch = xs.expand(-1, 2), torch.sin(3 * xs)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, batch):
            return self.inner(batch[0])[:, :1]

    model = Net()
    optimizer = HalfInverse(model, lambda y, batch: ((y - batch[1]) ** 2).mean(), samples=64)
    losses = [optimizer.step(batch)["loss"] for _ in range(30)]
    assert losses[-1] < 1e-3 * losses[0]
    assert isinstance(optimizer, torch.optim.Optimizer)


def test_convolutions_and_operations_without_a_forward_derivative_train():
    class Twice(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    of = torch.randn(16, 1, 4, 4), torch.randn(16, 2)
    results = []
    for twice in (Twice.apply, lambda x: 2 * x):
        copied = copy.deepcopy(model)
        optimizer = HalfInverse(
            copied,
            lambda y, of: ((y - of[1]) ** 2).mean(),
            outcome=lambda model, of, twice=twice: twice(model(of[0])),
            block=False,
            method="hig",
            solver="krylov:8",
        )
        for _ in range(3):
            optimizer.step(of)
        results.append(flat(copied))
    assert np.abs(results[0] - results[1]).max() < 1e-4


def test_weighted_squares_have_their_own_curvature():
    scales = torch.tensor([3.0, 0.1], dtype=torch.float64)

    def both(model, batch):
        y = outcome(model, batch)
        return torch.stack([y["angle"], y["velocity"][:, 0]], 1)

    def weighted(y, batch):
        return ((scales * (y - batch["goal"][:, None])) ** 2).sum(1).mean()

    def squares(y, batch):
        return ((y - scales * batch["goal"][:, None]) ** 2).sum(1).mean()

    moved = []
    for of, by in ((both, weighted), (lambda model, batch: scales * both(model, batch), squares)):
        model = net()
        HalfInverse(model, by, outcome=of, method="gn", solver="svd", truncation=1e-8).step(batch())
        moved.append(flat(model) - flat(net()))
    mean = float((scales**2).mean())
    assert np.abs(moved[0] - mean * moved[1]).max() < 1e-6 * np.abs(moved[0]).max()


def raises(*_):
    raise KeyError("a bug of the user's")


NAN = {"x": batch()["x"] * np.nan, "goal": batch()["goal"]}
# Functions by keyword.
ROWS = {
    "an exception in outcome": ({"outcome": raises}, KeyError, "a bug of the user's"),
    "an exception in network": ({"network": raises, "simulator": simulator}, KeyError, "a bug of the user's"),
    "an exception in simulator": ({"simulator": raises, "network": network}, KeyError, "a bug of the user's"),
    "an exception in loss": ({"loss": raises}, KeyError, "a bug of the user's"),
    "fewer outcomes than samples": ({"outcome": lambda m, b: m(b["x"])[1:]}, ShapeError, "each of 24 samples"),
    "an outcome that is no tensor": ({"outcome": lambda m, b: 3.0}, TypeError, "tensors"),
    "outcomes of integers": ({"outcome": lambda m, b: m(b["x"]).int()}, TypeError, "floating-point"),
    "no outcome": ({"outcome": lambda m, b: m(b["x"])[:, :0]}, ShapeError, "nothing for a sample"),
    "a loss for each sample": ({"loss": lambda y, b: y["angle"] ** 2}, ShapeError, "take the mean"),
    "a loss that is no tensor": ({"loss": lambda y, b: 1.0}, ShapeError, "one floating-point number"),
    "a loss that is NaN": ({"loss": lambda y, b: y["angle"].mean() * np.nan}, StepError, "NaN"),
    "NaN in the mini-batch": ({"of": NAN}, StepError, "NaN"),
    "NaN in the held-out samples": ({"method": "auto", "held_out": NAN}, StepError, "sample"),
    "another length": ({"of": {"x": batch()["x"], "goal": torch.ones(5)}}, ShapeError, "samples"),
    "a tensor without samples": ({"of": {"x": batch()["x"], "goal": torch.tensor(1.0)}}, ShapeError, "no axis"),
    "words in the mini-batch": ({"of": {"x": batch()["x"], "goal": ["a"] * B}}, TypeError, "cannot be made a tensor"),
    "an empty mini-batch": ({"of": {"x": torch.ones(0, 2), "goal": torch.ones(0)}}, ShapeError, "no sample"),
    "a closure": ({"of": lambda: 0.0}, TypeError, "closure"),
    "held-out samples of another kind": ({"method": "auto", "held_out": torch.ones(3)}, ShapeError, "structure"),
    "a simulator that mixes samples": (
        {
            "network": lambda m, b: m(b["x"]),
            "simulator": lambda z, b: {"angle": z[:, 0] - z[:, 0].mean(), "velocity": z},
        },
        ShapeError,
        "mixes samples",
    ),
    "a setting that there is not": ({"rate": 1.0}, SettingError, "rate"),
    "a method that there is not": ({"method": "newton"}, SettingError, "newton"),
    "a method for layers on a model with others": (
        {"method": "hig-kron", "model": torch.nn.Sequential(torch.nn.LayerNorm(2), *net()).double()},
        HalfInverseError,
        "layers",
    ),
    "a block of one function": ({"block": True}, SettingError, "apart"),
    "too many functions": ({"outcome": outcome, "network": network}, TypeError, "either outcome"),
    "a model that is none": ({"model": [1.0]}, TypeError, "torch.nn.Module"),
    "a model without parameters": ({"model": torch.nn.Tanh()}, ShapeError, "nothing to train"),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_is_refused_in_a_sentence(name):
    given, error, sentence = ROWS[name]
    given = dict(given)
    model, of, by = given.pop("model", None), given.pop("of", None), given.pop("loss", loss)
    functions = {key: given.pop(key) for key in ("outcome", "network", "simulator") if key in given}
    model = net() if model is None else model
    before = flat(model) if isinstance(model, torch.nn.Sequential) else None
    settings = {**(functions or {"outcome": outcome}), "method": "hig", **given}
    with pytest.raises(error, match=sentence):
        HalfInverse(model, by, **settings).step(batch() if of is None else of)
    if before is not None:
        assert np.array_equal(before, flat(model))


def test_groups_of_parameters_are_refused():
    optimizer = apart(net())
    with pytest.raises(SettingError, match="make a new one"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
