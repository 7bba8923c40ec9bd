"""The oscillators as a user writes them in JAX, network and all: HalfInverse without a setting against Adam of optax.

    taskset -c 1 python benchmarks/python_oscillators.py race --seconds 30
    taskset -c 1 python benchmarks/python_oscillators.py step

`race` prints the test loss after so many seconds of training on one core, compilation and everything else included,
evaluation left out: HalfInverse with network and simulator apart and with one opaque outcome, and Adam with each of
five rates and two sizes of mini-batch. Seconds are those of the processor, so that what else runs on the machine does
not count; on a core of one's own they are seconds of the clock. `step` prints milliseconds of a krylov:16 step on a
mini-batch of 128, of the 16 jvp and 16 vjp calls in it alone, and of as many that are written by hand, the least of
many. One JSON object a line.
"""

import argparse
import json
import time
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

from halfinverse.jax import HalfInverse

WIDTHS = (4, 20, 20, 20, 96)
DT, GAIN = 0.125, 3.0
SAMPLES = 4096
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
BATCHES = (128, 512)


def initial_params(rng, dtype):
    params = []
    for n_in, n_out in pairwise(WIDTHS):
        limit = np.sqrt(6 / (n_in + n_out))
        weight = jnp.asarray(rng.uniform(-limit, limit, (n_in, n_out)), dtype)
        params.append({"weight": weight, "bias": jnp.zeros(n_out, dtype)})
    return params


def network(params, x):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["weight"] + layer["bias"])
    return x @ params[-1]["weight"] + params[-1]["bias"]


def slope(state, u):
    x1, x2, v1, v2 = jnp.moveaxis(state, -1, 0)
    cubic = (x2 - x1) ** 3
    return jnp.stack([v1, v2, -x1 + cubic, -x2 - cubic + GAIN * u], axis=-1)


def simulator(controls, x):
    def rk4(s, u):
        k1 = slope(s, u)
        k2 = slope(s + DT / 2 * k1, u)
        k3 = slope(s + DT / 2 * k2, u)
        k4 = slope(s + DT * k3, u)
        return s + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return jax.lax.scan(rk4, x, controls.T)[0]


def outcome(params, x):
    return simulator(network(params, x), x)


def loss(y, x):
    return jnp.mean(jnp.sum((y - x) ** 2, axis=-1))


def half_inverse(form, **settings):
    if form == "apart":
        return HalfInverse(network=network, simulator=simulator, loss=loss, **settings)
    return HalfInverse(outcome, loss, **settings)


def adam(rate):
    transform = optax.adam(rate)

    @jax.jit
    def step(params, state, x):
        value, gradient = jax.value_and_grad(lambda params: loss(outcome(params, x), x))(params)
        updates, state = transform.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    class Adam:
        state = None

        def step(self, params, x):
            if self.state is None:
                self.state = transform.init(params)
            params, self.state, value = jax.block_until_ready(step(params, self.state, x))
            return params, value

    return Adam()


def race(make, batch, seconds, seed, dtype):
    """Test loss after so much training, and steps taken."""
    jax.clear_caches()
    rng = np.random.default_rng(seed)
    params = initial_params(rng, dtype)
    train, test = (rng.uniform(size=(SAMPLES, 4)).astype(dtype) for _ in range(2))
    optimizer, spent, steps = make(), 0.0, 0
    while spent < seconds:
        first = steps * batch % SAMPLES
        if first == 0:
            order = rng.permutation(SAMPLES)
        x = train[order[first : first + batch]]
        start = time.process_time()
        params, _ = optimizer.step(params, x)
        spent += time.process_time() - start
        steps += 1
    return float(jax.jit(lambda params: loss(outcome(params, test), test))(params)), steps


def milliseconds(call, calls=10):
    start = time.process_time()
    for _ in range(calls):
        call()
    return 1e3 * (time.process_time() - start) / calls


def step(form, dtype, repeats=40):
    """Milliseconds of a step, and of its products alone."""
    rng = np.random.default_rng(1)
    params = initial_params(rng, dtype)
    x = rng.uniform(size=(128, 4)).astype(dtype)
    optimizer = half_inverse(form, method="hig", solver="krylov:16")
    optimizer.step(params, x)
    # The functions that the optimizer itself calls.
    problem, theta = optimizer.state.problem, optimizer.state.parameters.flatten(params)
    rows = np.empty((128, 0))
    problem.kept.put(rows, jnp.asarray(x))
    _, g, _, jvp, vjp = problem.linearize(theta, rows)

    def products():
        u = g
        for _ in range(16):
            u = jvp(vjp(u))

    # The same as one writes them by hand, which begin with the outcome each.
    of = jax.jit(lambda params, x, v: jax.jvp(lambda params: outcome(params, x), (params,), (v,))[1])
    back = jax.jit(lambda params, x, u: jax.vjp(lambda params: outcome(params, x), params)[1](u)[0])

    def by_hand():
        u = jnp.asarray(g).reshape(128, 4)
        for _ in range(16):
            u = of(params, x, back(params, x, u))
        u.block_until_ready()

    whole, alone, hand = [], [], []
    by_hand()
    for _ in range(repeats):
        # In turns: what else runs on the machine then comes to all.
        whole.append(milliseconds(lambda: optimizer.step(params, x)))
        alone.append(milliseconds(products))
        hand.append(milliseconds(by_hand))
    return {"form": form, "step_ms": min(whole), "products_ms": min(alone), "products_by_hand_ms": min(hand)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["race", "step"])
    arguments.add_argument("--seconds", type=float, default=30.0)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--float32", action="store_true")
    given = arguments.parse_args()
    jax.config.update("jax_enable_x64", not given.float32)
    dtype = np.float32 if given.float32 else np.float64
    if given.what == "step":
        for form in ("opaque", "apart"):
            print(json.dumps(step(form, dtype)), flush=True)
        return
    for form in ("apart", "opaque"):
        test, steps = race(partial(half_inverse, form), 128, given.seconds, given.seed, dtype)
        print(json.dumps({"optimizer": f"HalfInverse, {form}", "test_loss": test, "steps": steps}), flush=True)
    for batch in BATCHES:
        for rate in RATES:
            test, steps = race(partial(adam, rate), batch, given.seconds, given.seed, dtype)
            run = {"optimizer": "adam", "rate": rate, "batch": batch, "test_loss": test, "steps": steps}
            print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
