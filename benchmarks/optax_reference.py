"""Writes crates/halfinverse/tests/data/optax.safetensors: twenty steps of optax's optimizers on a fixed problem.

    pip install -r benchmarks/requirements.txt optax==0.2.8 safetensors
    python benchmarks/optax_reference.py

The problem: network 1-3-2 tanh, 16 points, L = mean of ½|(z₁, λz₂) − (sin 6x, cos 9x)|² with λ = 0.5, all samples in
every step, float64. θ is ordered as in the crate: layer by layer, weights with the input index slowest, then biases.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import save_file

jax.config.update("jax_enable_x64", True)

STEPS = 20
x = np.linspace(-0.95, 0.95, 16)[:, None]
target = np.concatenate([np.sin(6 * x), np.cos(9 * x)], axis=1)
theta = 0.8 * np.random.default_rng(7).standard_normal(3 + 3 + 6 + 2)


def loss(theta):
    hidden = jnp.tanh(x @ theta[0:3].reshape(1, 3) + theta[3:6])
    z = hidden @ theta[6:12].reshape(3, 2) + theta[12:14]
    y = z * jnp.array([1.0, 0.5])
    return jnp.mean(jnp.sum(0.5 * (y - target) ** 2, axis=1))


RULES = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adagrad": optax.adagrad(0.1, initial_accumulator_value=0.1, eps=1e-7),
    "rmsprop": optax.rmsprop(0.01, decay=0.9, eps=1e-8),
    "adadelta": optax.adadelta(1.0, rho=0.9, eps=1e-6),
    "adam": optax.adam(0.03, b1=0.9, b2=0.999, eps=1e-7),
    "adamw": optax.adamw(0.03, b1=0.9, b2=0.999, eps=1e-7, weight_decay=1e-2),
}


def main():
    arrays = {"x": x, "target": target, "theta": theta}
    gradient = jax.grad(loss)
    for name, rule in RULES.items():
        state, p = rule.init(theta), jnp.asarray(theta)
        for _ in range(STEPS):
            update, state = rule.update(gradient(p), state, p)
            p = optax.apply_updates(p, update)
        arrays[name] = np.asarray(p)
    path = Path(__file__).parent.parent / "crates/halfinverse/tests/data/optax.safetensors"
    save_file({k: np.ascontiguousarray(v, dtype=np.float64) for k, v in arrays.items()}, path)


if __name__ == "__main__":
    main()
