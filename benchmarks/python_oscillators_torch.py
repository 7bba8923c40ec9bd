"""The oscillators as a user writes them in PyTorch: HalfInverse without a setting against torch.optim.Adam.

    taskset -c 1 python benchmarks/python_oscillators_torch.py --seconds 30

Prints what benchmarks/python_oscillators.py prints for JAX; see there. One JSON object a line.
"""

import argparse
import json
import time
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from halfinverse.torch import HalfInverse

WIDTHS = (4, 20, 20, 20, 96)
DT, GAIN = 0.125, 3.0
SAMPLES = 4096
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
BATCHES = (128, 512)


def network(seed):
    torch.manual_seed(seed)
    layers = []
    for n_in, n_out in pairwise(WIDTHS):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
        torch.nn.init.xavier_uniform_(layers[-2].weight)
        torch.nn.init.zeros_(layers[-2].bias)
    return torch.nn.Sequential(*layers[:-1])


def slope(state, u):
    x1, x2, v1, v2 = state.unbind(-1)
    cubic = (x2 - x1) ** 3
    return torch.stack([v1, v2, -x1 + cubic, -x2 - cubic + GAIN * u], dim=-1)


def simulator(controls, x):
    s = x
    for u in controls.unbind(1):
        k1 = slope(s, u)
        k2 = slope(s + DT / 2 * k1, u)
        k3 = slope(s + DT / 2 * k2, u)
        k4 = slope(s + DT * k3, u)
        s = s + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return s


def outcome(model, x):
    return simulator(model(x), x)


def loss(y, x):
    return ((y - x) ** 2).sum(-1).mean()


class Adam:
    def __init__(self, rate, model):
        self.model, self.of = model, torch.optim.Adam(model.parameters(), lr=rate)

    def step(self, x):
        self.of.zero_grad()
        loss(outcome(self.model, x), x).backward()
        self.of.step()


def race(make, batch, seconds, seed, dtype):
    """Test loss after so much training, and steps taken."""
    rng = np.random.default_rng(seed)
    train, test = (torch.as_tensor(rng.uniform(size=(SAMPLES, 4)), dtype=dtype) for _ in range(2))
    model = network(seed).to(dtype)
    optimizer, spent, steps = make(model), 0.0, 0
    while spent < seconds:
        first = steps * batch % SAMPLES
        if first == 0:
            order = torch.as_tensor(rng.permutation(SAMPLES))
        x = train[order[first : first + batch]]
        start = time.process_time()
        optimizer.step(x)
        spent += time.process_time() - start
        steps += 1
    with torch.no_grad():
        return float(loss(outcome(model, test), test)), steps


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=30.0)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--float64", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    dtype = torch.float64 if given.float64 else torch.float32
    forms = {
        "apart": lambda model: HalfInverse(model, loss, simulator=simulator),
        "opaque": lambda model: HalfInverse(model, loss, outcome=outcome),
    }
    for form, make in forms.items():
        test, steps = race(make, 128, given.seconds, given.seed, dtype)
        print(json.dumps({"optimizer": f"HalfInverse, {form}", "test_loss": test, "steps": steps}), flush=True)
    for batch in BATCHES:
        for rate in RATES:
            test, steps = race(partial(Adam, rate), batch, given.seconds, given.seed, dtype)
            run = {"optimizer": "adam", "rate": rate, "batch": batch, "test_loss": test, "steps": steps}
            print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
