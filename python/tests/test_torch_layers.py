"""Kronecker factors of PyTorch's layers: rows that make the gradient, and hig-kron's steps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from halfinverse import HalfInverseError  # noqa: E402
from halfinverse._torch_layers import find  # noqa: E402
from halfinverse._torch_problem import Batches, Model, Problem, part  # noqa: E402
from halfinverse.torch import HalfInverse  # noqa: E402

nn = torch.nn
torch.set_num_threads(1)
B = 6


class Twice(nn.Module):
    """Calls a layer of its own twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class Split(nn.Module):
    """A layer on each half of the input: two rows a sample."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3, bias=False)

    def forward(self, x):
        return self.layer(x.reshape(-1, 2, 2)).reshape(-1, 6)


def frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    return model


IMAGE = 2, 5, 6
FACTORED = {
    "linear": ((4,), lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))),
    "in-place activation": ((4,), lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))),
    "several rows a sample": ((4,), Split),
    "convolutions": (
        IMAGE,
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
            nn.Tanh(),
            nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular", dilation=1),
            nn.Flatten(),
            nn.Linear(60, 2),
        ),
    ),
    "convolution on a line": (
        (2, 9),
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(15, 2)),
    ),
}
UNFACTORED = {
    "a layer that is called twice": ((4,), Twice),
    "a layer of another kind": ((4,), lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))),
    "groups of channels": (IMAGE, lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten())),
    "weights that are not trained": ((4,), frozen),
    "layers that are not reached": (
        (4,),
        lambda: nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2)}),
    ),
}


def prepared(shape, make, dtype=torch.float64):
    torch.manual_seed(0)
    model, x = make().to(dtype), torch.randn(B, *shape, dtype=dtype)
    functions = {
        "outcome": lambda model, x: (model["a"] if isinstance(model, nn.ModuleDict) else model)(x),
        "loss": lambda y, x: (y**2).mean(),
        "network": None,
        "simulator": None,
    }
    of = Model(model, functions, Batches(x, x.device))
    theta = torch.cat([part(p.detach()) for p in model.parameters() if p.requires_grad])
    of.prepare(theta, x, None)
    return of, theta, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FACTORED)
def test_rows_make_the_gradient(name, dtype):
    of, theta, x = prepared(*FACTORED[name], dtype)
    _, factors = find(of, theta, x, B)
    assert sum(outputs * (inputs + bias) for outputs, inputs, bias, _, _ in factors) == theta.numel()


@pytest.mark.parametrize("name", FACTORED)
def test_rows_and_differences_are_those_of_the_jacobian(name):
    of, theta, x = prepared(*FACTORED[name])
    # Weights differ between outcomes.
    of.loss = lambda y, x: (torch.arange(1.0, y.shape[1] + 1, dtype=y.dtype) * y**2).mean()
    problem, rows = Problem(of, find(of, theta, x, B)), of.batches.rows(x)
    *_, h, jvp, vjp = problem.linearize(theta.numpy(), rows)
    *_, curvature = problem.gradient(theta.numpy(), rows)
    assert curvature == pytest.approx(h, rel=1e-12)
    rng = np.random.default_rng(0)
    v, u = rng.normal(size=theta.numel()), rng.normal(size=(B, of.y.size))
    assert np.abs(problem.difference(v) - jvp(v)).max() < 1e-4 * np.abs(jvp(v)).max()
    made = np.zeros(theta.numel())
    for factor, delta, a in problem.cotangents(u):
        outputs, inputs, bias, positions, start = problem.factors[factor]
        assert (delta.shape, a.shape) == ((B * positions, outputs), (B * positions, inputs))
        columns = np.hstack([a, np.ones((len(a), 1))]) if bias else a
        made[start : start + outputs * columns.shape[1]] += (columns.T @ delta).reshape(-1)
    assert np.abs(made - vjp(u.reshape(-1))).max() < 1e-12 * np.abs(made).max()


@pytest.mark.parametrize("name", UNFACTORED)
def test_what_has_no_factors_is_seen_and_trains(name):
    shape, make = UNFACTORED[name]
    of, theta, x = prepared(shape, make)
    assert find(of, theta, x, B) is None
    model = of.module.model

    def optimizer(method):
        return HalfInverse(model, of.loss, outcome=of.outcome, method=method)

    with pytest.raises(HalfInverseError, match="layers"):
        optimizer("hig-kron").step(x)
    auto = optimizer("auto")
    losses = [auto.step(x)["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", ["hig-kron", "soap", "muon"])
@pytest.mark.parametrize("name", FACTORED)
def test_optimizers_of_matrices_lower_the_loss(name, method):
    of, _, x = prepared(*FACTORED[name])
    optimizer = HalfInverse(of.module.model, of.loss, outcome=of.outcome, method=method)
    losses = [optimizer.step(x)["loss"] for _ in range(200)]
    assert losses[-1] < 0.8 * losses[0]
