"""A pendulum steered by a network, in JAX: adam, L-BFGS and hig-auto side by side.

    python pendulum_jax.py [--seconds 10] [--picture pendulum_jax.png]

A pendulum of length 1 m hangs at rest at some angle. A motor may push it for five seconds, by an angular acceleration
that a network chooses beforehand, 50 values, from the angle where the pendulum is and the one where it should stop. The
loss is the squared distance from that angle, and from rest, at the end.
"""

import argparse
import time
from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from halfinverse.jax import HalfInverse

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# The physics needs float64 no more than the loss does, but losses below 1e-7 do.
jax.config.update("jax_enable_x64", True)

STEPS, DT, GRAVITY = 50, 0.1, 9.81
BATCH = 64
# The first steps compile, which is no part of the comparison here.
WARM_UP = 2

# 1. The model: three functions over whole mini-batches. A mini-batch is an array (b × 2): angle at the start, and where
#    to stop (rad).


def initial_params(seed):
    rng = np.random.default_rng(seed)
    widths = (2, 32, 32, STEPS)
    return [{"w": jnp.asarray(rng.normal(size=(n, m)) / np.sqrt(n)), "b": jnp.zeros(m)} for n, m in pairwise(widths)]


def network(params, batch):
    x = batch
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def trajectory(pushes, batch):
    """Angle and velocity after each step (steps × b), by the symplectic Euler method."""

    def step(state, push):
        angle, velocity = state
        velocity = velocity + DT * (push - GRAVITY * jnp.sin(angle))
        angle = angle + DT * velocity
        return (angle, velocity), (angle, velocity)

    start = batch[:, 0]
    return jax.lax.scan(step, (start, jnp.zeros_like(start)), pushes.T)[1]


def simulator(pushes, batch):
    angle, velocity = trajectory(pushes, batch)
    return jnp.stack([angle[-1], velocity[-1]], axis=1)


def loss(outcome, batch):
    return jnp.mean((outcome[:, 0] - batch[:, 1]) ** 2 + outcome[:, 1] ** 2)


# 2. Three optimizers, each a function from parameters and mini-batch to parameters.


def whole(params, batch):
    return loss(simulator(network(params, batch), batch), batch)


def hig_auto(held_out):
    # Network and simulator apart: the simulator's derivative is then computed once a step.
    optimizer = HalfInverse(network=network, simulator=simulator, loss=loss, held_out=held_out)
    return lambda params, batch: optimizer.step(params, batch)[0]


def adam(rate):
    return of_optax(optax.adam(rate))


def l_bfgs():
    return of_optax(optax.lbfgs())


def of_optax(transform):
    state = None

    @jax.jit
    def step(params, state, batch):
        value, gradient = jax.value_and_grad(whole)(params, batch)
        more = {"value": value, "grad": gradient, "value_fn": lambda params: whole(params, batch)}
        updates, state = optax.with_extra_args_support(transform).update(gradient, state, params, **more)
        return optax.apply_updates(params, updates), state

    def call(params, batch):
        nonlocal state
        if state is None:
            state = transform.init(params)
        params, state = jax.block_until_ready(step(params, state, batch))
        return params

    return call


# 3. Training: the same time for each. L-BFGS compares losses from step to step, and so needs the same mini-batch
#    always; its own is eight times as large. The others get fresh samples at each step.


def train(step, seconds, test, fixed=False):
    params, rng = initial_params(0), np.random.default_rng(1)
    measure = jax.jit(whole)
    times, losses = [0.0], [float(measure(params, test))]
    spent, steps = 0.0, 0
    batch = rng.uniform(-1, 1, (8 * BATCH, 2))
    while spent < seconds or steps <= WARM_UP:
        if not fixed:
            batch = rng.uniform(-1, 1, (BATCH, 2))
        start = time.perf_counter()
        params = step(params, batch)
        spent += time.perf_counter() - start if steps >= WARM_UP else 0.0
        steps += 1
        if spent > 1.1 * times[-1] + 0.01:
            times.append(spent)
            losses.append(float(measure(params, test)))
    return params, np.array(times), np.array(losses)


def picture(runs, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, (_, times, losses) in runs.items():
        left.loglog(times[1:], losses[1:], label=name)
    left.set(xlabel="training time (s)", ylabel="test loss", title="Loss")
    left.legend()
    task = np.array([[-0.8, 0.6]])
    t = DT * np.arange(1, STEPS + 1)
    for params, _, _ in runs.values():
        angle, _ = trajectory(network(params, task), task)
        right.plot(t, angle[:, 0])
    right.axhline(task[0, 1], color="grey", linestyle=":", label="goal")
    right.set(xlabel="t (s)", ylabel="angle (rad)", title="From −0.8 rad to rest at 0.6 rad")
    right.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(seconds=10.0, path="pendulum_jax.png"):
    rng = np.random.default_rng(2)
    test, held_out = rng.uniform(-1, 1, (512, 2)), rng.uniform(-1, 1, (256, 2))
    steps = {"adam, 3e-3": adam(3e-3), "L-BFGS": l_bfgs(), "hig-auto": hig_auto(held_out)}
    runs = {name: train(step, seconds, test, fixed=name == "L-BFGS") for name, step in steps.items()}
    for name, (_, times, losses) in runs.items():
        print(f"{name:12} test loss {losses[0]:.1e} → {losses[-1]:.1e} in {times[-1]:.1f} s")
    picture(runs, path)
    return {name: losses for name, (_, _, losses) in runs.items()}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--picture", default="pendulum_jax.png")
    given = arguments.parse_args()
    main(given.seconds, given.picture)
