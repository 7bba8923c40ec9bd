"""The Poisson task's training steps in JAX, float64: the peer that `hig bench poisson` is measured against.

Batch 64, 8 × 8 cells, zero outside. Adam is one jitted call; half-inverse gradients are given at their least: the 8
products with J and 8 with its transpose that a Krylov space of 8 vectors needs, jitted as one call, without
orthogonalization, SVD or update. The data are drawn beforehand. Prints one JSON object: milliseconds, medians.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

from jax_oscillators import median_ms

jax.config.update("jax_enable_x64", True)

WIDTHS = (64, 64, 128, 64, 64)
SIDE, BATCH, VECTORS = 8, 64, 8


def outcome(theta, x):
    offset = 0
    for i, (n_in, n_out) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        w = theta[offset : offset + n_in * n_out].reshape(n_in, n_out)
        b = theta[offset + n_in * n_out : offset + (n_in + 1) * n_out]
        offset += (n_in + 1) * n_out
        x = x @ w + b
        if i + 2 < len(WIDTHS):
            x = jnp.tanh(x)
    field = jnp.pad(x.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    inner = field[:, 1:-1, 1:-1]
    around = field[:, :-2, 1:-1] + field[:, 2:, 1:-1] + field[:, 1:-1, :-2] + field[:, 1:-1, 2:]
    return (around - 4 * inner).reshape(-1)


@jax.jit
def adam_step(theta, m, v, t, x):
    value, g = jax.value_and_grad(lambda p: 0.5 * jnp.sum((outcome(p, x) - x.reshape(-1)) ** 2))(theta)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    step = 3e-4 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-7)
    return theta - step, m, v, value


@jax.jit
def products(theta, x):
    y, forward = jax.linearize(lambda p: outcome(p, x), theta)
    backward = jax.linear_transpose(forward, theta)

    def pair(u, _):
        (v,) = backward(u)
        u = forward(v / jnp.linalg.norm(v))
        return u / jnp.linalg.norm(u), None

    return jax.lax.scan(pair, y - x.reshape(-1), None, length=VECTORS)[0]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=300)
    repeats = arguments.parse_args().repeats
    rng = np.random.default_rng(1)
    parts = []
    for n_in, n_out in zip(WIDTHS, WIDTHS[1:]):
        limit = np.sqrt(6 / (n_in + n_out))
        parts += [rng.uniform(-limit, limit, n_in * n_out), np.zeros(n_out)]
    theta = jnp.asarray(np.concatenate(parts))
    x = jnp.asarray(rng.normal(size=(BATCH, SIDE * SIDE)))
    zeros = jnp.zeros_like(theta)
    print(
        json.dumps(
            {
                "adam_b64": median_ms(lambda: adam_step(theta, zeros, zeros, 1.0, x), repeats),
                "products_8": median_ms(lambda: products(theta, x), repeats // 5),
                "jax": jax.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
