"""A pendulum steered by a network, in PyTorch: Adam, L-BFGS and hig-auto side by side.

    python pendulum_torch.py [--seconds 20] [--picture pendulum_torch.png]

The same as pendulum_jax.py: a motor may push a pendulum for five seconds by 50 angular accelerations that a network
chooses beforehand, from the angle where the pendulum hangs at rest and the one where it should stop.
"""

import argparse
import time

import matplotlib
import numpy as np
import torch

from halfinverse.torch import HalfInverse

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# For tensors as small as these, threads cost more than they gain.
torch.set_num_threads(1)

STEPS, DT, GRAVITY = 50, 0.1, 9.81
BATCH = 64

# 1. The model: a module, and two functions over whole mini-batches. A mini-batch is a tensor (b × 2): angle at the
#    start, and where to stop (rad).


def network(seed):
    torch.manual_seed(seed)
    layers = [
        torch.nn.Linear(2, 32),
        torch.nn.Tanh(),
        torch.nn.Linear(32, 32),
        torch.nn.Tanh(),
        torch.nn.Linear(32, STEPS),
    ]
    # In float64: losses below 1e-7 need it.
    return torch.nn.Sequential(*layers).double()


def trajectory(pushes, batch):
    """Angle and velocity after each step, by the symplectic Euler method."""
    angle, velocity = batch[:, 0], torch.zeros_like(batch[:, 0])
    path = []
    for push in pushes.unbind(1):
        velocity = velocity + DT * (push - GRAVITY * torch.sin(angle))
        angle = angle + DT * velocity
        path.append((angle, velocity))
    return path


def simulator(pushes, batch):
    return torch.stack(trajectory(pushes, batch)[-1], dim=1)


def loss(outcome, batch):
    return ((outcome[:, 0] - batch[:, 1]) ** 2 + outcome[:, 1] ** 2).mean()


def whole(model, batch):
    return loss(simulator(model(batch), batch), batch)


# 2. Three optimizers, each a function that makes a step on a mini-batch.


def hig_auto(model, held_out):
    # The module's output goes through the simulator, whose derivative is computed once a step.
    optimizer = HalfInverse(model, loss, simulator=simulator, held_out=held_out)
    return optimizer.step


def of_torch(optimizer, model):
    def step(batch):
        def closure():
            optimizer.zero_grad()
            value = whole(model, batch)
            value.backward()
            return value

        optimizer.step(closure)

    return step


def adam(model, _):
    return of_torch(torch.optim.Adam(model.parameters(), lr=3e-3), model)


def l_bfgs(model, _):
    return of_torch(torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe"), model)


# 3. Training: the same time for each. L-BFGS compares losses from step to step, and so needs the same mini-batch
#    always; its own is eight times as large. The others get fresh samples at each step.


def train(make, seconds, test, held_out):
    model, rng = network(0), np.random.default_rng(1)
    step = make(model, held_out)

    def measure():
        with torch.no_grad():
            return float(whole(model, test))

    times, losses = [0.0], [measure()]
    spent, steps = 0.0, 0
    batch = torch.as_tensor(rng.uniform(-1, 1, (8 * BATCH, 2)))
    while spent < seconds or steps < 2:
        if make is not l_bfgs:
            batch = torch.as_tensor(rng.uniform(-1, 1, (BATCH, 2)))
        start = time.perf_counter()
        step(batch)
        spent += time.perf_counter() - start
        steps += 1
        if spent > 1.1 * times[-1] + 0.01:
            times.append(spent)
            losses.append(measure())
    return model, np.array(times), np.array(losses)


def picture(runs, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    task = torch.tensor([[-0.8, 0.6]], dtype=torch.float64)
    for name, (model, times, losses) in runs.items():
        left.loglog(times[1:], losses[1:], label=name)
        with torch.no_grad():
            angles = [float(angle) for angle, _ in trajectory(model(task), task)]
        right.plot(DT * np.arange(1, STEPS + 1), angles)
    left.set(xlabel="training time (s)", ylabel="test loss", title="Loss")
    left.legend()
    right.axhline(float(task[0, 1]), color="grey", linestyle=":", label="goal")
    right.set(xlabel="t (s)", ylabel="angle (rad)", title="From −0.8 rad to rest at 0.6 rad")
    right.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(seconds=20.0, path="pendulum_torch.png"):
    rng = np.random.default_rng(2)
    test, held_out = (torch.as_tensor(rng.uniform(-1, 1, (b, 2))) for b in (512, 256))
    makers = {"Adam, 3e-3": adam, "L-BFGS": l_bfgs, "hig-auto": hig_auto}
    runs = {name: train(make, seconds, test, held_out) for name, make in makers.items()}
    for name, (_, times, losses) in runs.items():
        print(f"{name:12} test loss {losses[0]:.1e} → {losses[-1]:.1e} in {times[-1]:.1f} s")
    picture(runs, path)
    return {name: losses for name, (_, _, losses) in runs.items()}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--picture", default="pendulum_torch.png")
    given = arguments.parse_args()
    main(given.seconds, given.picture)
