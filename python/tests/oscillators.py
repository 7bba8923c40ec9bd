"""The task's oscillators (two masses, cubic coupling, RK4) for NumPy, with a hand-written adjoint, and for JAX."""

import numpy as np

DT, STEPS, GAIN = 0.125, 96, 3.0


def rate(x, u, stack):
    x1, x2, v1, v2 = x
    pull = (x2 - x1) ** 3
    return stack([v1, v2, pull - x1, GAIN * u - pull - x2])


def rk4(x, u, stack):
    k1 = rate(x, u, stack)
    k2 = rate(x + DT / 2 * k1, u, stack)
    k3 = rate(x + DT / 2 * k2, u, stack)
    k4 = rate(x + DT * k3, u, stack)
    return x + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def simulate(z, y0):
    """Outcomes (b, 4) of controls (b, 96) and initial states (b, 4)."""
    x = np.array(y0.T)
    for t in range(STEPS):
        x = rk4(x, z[:, t], np.stack)
    return x.T


def rate_adjoint(x, k_bar):
    """What a cotangent of the rate makes of state and control."""
    x1, x2, _, _ = x
    slope = 3 * (x2 - x1) ** 2
    a1, a2, b1, b2 = k_bar
    difference = slope * (b1 - b2)
    return np.stack([-difference - b1, difference - b2, a1, a2]), GAIN * b2


def adjoint(z, y0, cotangent):
    """z̄ (b, 96) of ȳ (b, 4), by hand: the states are simulated again, and gone through backwards."""
    states = [np.array(y0.T)]
    for t in range(STEPS):
        states.append(rk4(states[-1], z[:, t], np.stack))
    x_bar, out = np.array(cotangent.T), np.zeros(z.shape)
    for t in reversed(range(STEPS)):
        x, u = states[t], z[:, t]
        k1 = rate(x, u, np.stack)
        at2 = x + DT / 2 * k1
        k2 = rate(at2, u, np.stack)
        at3 = x + DT / 2 * k2
        at4 = x + DT * rate(at3, u, np.stack)
        s4, u4 = rate_adjoint(at4, DT / 6 * x_bar)
        s3, u3 = rate_adjoint(at3, DT / 3 * x_bar + DT * s4)
        s2, u2 = rate_adjoint(at2, DT / 3 * x_bar + DT / 2 * s3)
        s1, u1 = rate_adjoint(x, DT / 6 * x_bar + DT / 2 * s2)
        x_bar = x_bar + s1 + s2 + s3 + s4
        out[:, t] = u1 + u2 + u3 + u4
    return out


def simulate_in_jax(z, y0):
    import jax
    import jax.numpy as jnp

    def step(x, u):
        return rk4(x, u, jnp.stack), None

    return jax.lax.scan(step, y0.T, z.T)[0].T
