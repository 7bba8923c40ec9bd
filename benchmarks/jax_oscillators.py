"""The oscillators' training steps in JAX, float64: the peer that `hig bench oscillators` is measured against.

Two steps, each one jitted call: exact half-inverse gradients (J by vmap(jacrev), J Jᵀ, eigh) with batch 128, and
Adam with batch 512. Prints one JSON object: milliseconds per step, median over repeated calls after compilation.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

WIDTHS = (4, 20, 20, 20, 96)
DT, STEPS, GAIN = 0.125, 96, 3.0
KAPPA, TRUNCATION = 0.5, 1e-6


def layer_shapes():
    return [((n_in, n_out), (n_out,)) for n_in, n_out in zip(WIDTHS, WIDTHS[1:])]


def network(theta, x):
    offset = 0
    shapes = layer_shapes()
    for i, (weight, bias) in enumerate(shapes):
        size = weight[0] * weight[1]
        w = theta[offset : offset + size].reshape(weight)
        b = theta[offset + size : offset + size + bias[0]]
        offset += size + bias[0]
        x = x @ w + b
        if i + 1 < len(shapes):
            x = jnp.maximum(x, 0.0)
    return x


def acceleration(x1, x2, u):
    cubic = (x2 - x1) ** 3
    return -x1 + cubic, -x2 - cubic + GAIN * u


def rk4(state, u):
    def slope(s):
        a1, a2 = acceleration(s[..., 0], s[..., 1], u)
        return jnp.stack([s[..., 2], s[..., 3], a1, a2], axis=-1)

    k1 = slope(state)
    k2 = slope(state + DT / 2 * k1)
    k3 = slope(state + DT / 2 * k2)
    k4 = slope(state + DT * k3)
    return state + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def simulate(initial, control):
    steps = jnp.moveaxis(control, -1, 0)
    final, _ = jax.lax.scan(lambda s, u: (rk4(s, u), None), initial, steps)
    return final


def outcome(theta, x):
    return simulate(x, network(theta, x))


@jax.jit
def hig_step(theta, x):
    batch = x.shape[0]
    y = outcome(theta, x)
    g = (2.0 / batch * (y - x)).reshape(-1)
    j = jax.vmap(jax.jacrev(outcome), in_axes=(None, 0))(theta, x).reshape(g.size, theta.size)
    values, vectors = jnp.linalg.eigh(j @ j.T)
    sigma = jnp.sqrt(jnp.maximum(values, 0.0))
    kept = sigma > TRUNCATION * sigma[-1]
    weight = jnp.where(kept, jnp.where(kept, sigma, 1.0) ** (-KAPPA - 1.0), 0.0)
    # w @ j, not j.T @ w: XLA would transpose J in memory and take three times as long for the whole step.
    return theta - (vectors @ (weight * (vectors.T @ g))) @ j


@jax.jit
def adam_step(theta, m, v, t, x):
    def loss(p):
        return jnp.mean(jnp.sum((outcome(p, x) - x) ** 2, axis=-1))

    value, g = jax.value_and_grad(loss)(theta)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    step = 3e-4 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-7)
    return theta - step, m, v, value


def median_ms(call, repeats):
    for _ in range(3):
        jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=30)
    repeats = arguments.parse_args().repeats
    rng = np.random.default_rng(1)
    parts = []
    for weight, bias in layer_shapes():
        limit = np.sqrt(6 / sum(weight))
        parts += [rng.uniform(-limit, limit, weight).ravel(), np.zeros(bias)]
    theta = jnp.asarray(np.concatenate(parts))
    x = jnp.asarray(rng.uniform(size=(512, 4)))
    zeros = jnp.zeros_like(theta)
    print(
        json.dumps(
            {
                "hig_exact_b128": median_ms(lambda: hig_step(theta, x[:128]), repeats),
                "adam_b512": median_ms(lambda: adam_step(theta, zeros, zeros, 1.0, x), 5 * repeats),
                "jax": jax.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
