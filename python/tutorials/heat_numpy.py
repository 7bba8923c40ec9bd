"""A rod heated at both ends: a simulator in plain NumPy, with an adjoint written by hand.

    python heat_numpy.py [--seconds 10] [--picture heat_numpy.png]

A rod, cold at first, loses heat along its length as the cube of its temperature, and conducts it:
∂u/∂t = D ∂²u/∂x² − r u³. Two heaters at its ends follow a plan of 20 powers each, which a network chooses so that the
temperature at 8 points is a given profile in the end. All quantities are scaled to be without units.
"""

import argparse

import matplotlib
import numpy as np

import halfinverse

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

POINTS, PLAN, EACH = 8, 20, 3
DT, DIFFUSION, LOSS, GAIN = 0.1, 2.0, 0.2, 1.5

# 1. The simulator, over whole mini-batches: explicit Euler steps, each power held for EACH of them.


def conduction(u):
    """D ∂²u/∂x² on points of distance 1, with insulated ends. The matrix is symmetric."""
    padded = np.pad(u, ((0, 0), (1, 1)), mode="edge")
    return DIFFUSION * (padded[:, :-2] - 2 * u + padded[:, 2:])


def temperatures(powers):
    """u before each step, and at the end: a list of arrays (b, 8), for powers (b, 40): left heater, right heater."""
    u = np.zeros((len(powers), POINTS))
    path = [u]
    for t in range(PLAN * EACH):
        heat = np.zeros_like(u)
        heat[:, 0], heat[:, -1] = powers[:, t // EACH], powers[:, PLAN + t // EACH]
        u = u + DT * (conduction(u) - LOSS * u**3 + GAIN * heat)
        path.append(u)
    return path


def forward(powers):
    return temperatures(powers)[-1]


# 2. Its adjoint: what a cotangent of the outcome (b, 8) makes of the powers (b, 40). Step by step backward, each step's
#    Jacobian transposed: 1 + dt (D ∂²/∂x² − 3 r u²) is symmetric, and power enters at the ends alone.


def adjoint(powers, cotangent):
    path = temperatures(powers)
    of_powers, of_u = np.zeros_like(powers), cotangent
    for t in reversed(range(PLAN * EACH)):
        of_powers[:, t // EACH] += DT * GAIN * of_u[:, 0]
        of_powers[:, PLAN + t // EACH] += DT * GAIN * of_u[:, -1]
        of_u = of_u + DT * (conduction(of_u) - 3 * LOSS * path[t] ** 2 * of_u)
    return of_powers


# 3. Data: profiles that some plan reaches. The network sees a profile and chooses a plan; the loss compares what comes
#    of it with the profile.


def profiles(rng, samples):
    smooth = np.cumsum(rng.normal(size=(samples, 2, PLAN)), axis=2) / np.sqrt(PLAN)
    return forward(smooth.reshape(samples, 2 * PLAN))


def picture(run, goals, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    run.plot(left)
    reached = run.outcome(goals)
    for i, (goal, outcome) in enumerate(zip(goals, reached, strict=False)):
        right.plot(goal, ":", color=f"C{i}", label="goal" if i == 0 else None)
        right.plot(outcome, color=f"C{i}", label="reached" if i == 0 else None)
    right.set(xlabel="point of the rod", ylabel="temperature at the end", title="Goals that were not trained on")
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(seconds=10.0, path="heat_numpy.png", samples=1024):
    rng = np.random.default_rng(0)
    simulator = halfinverse.Simulator(forward, vjp=adjoint, controls=2 * PLAN, outcomes=POINTS)
    # Derivatives first: an adjoint with a mistake trains badly, and says nothing.
    errors = simulator.check(rng.normal(size=(4, 2 * PLAN)))
    assert max(errors.values()) < 1e-6, errors
    goals = profiles(rng, samples)
    run = halfinverse.train(simulator, optimizer="hig-auto", inputs=goals, targets=goals, time=seconds, batch=64)
    test = run.metrics["test_loss"]
    print(f"test loss {test[0]:.1e} → {test[-1]:.1e} after {run.summary['steps']} steps")
    picture(run, profiles(np.random.default_rng(9), 3), path)
    return test


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--picture", default="heat_numpy.png")
    given = arguments.parse_args()
    main(given.seconds, given.picture)
