"""Medians and ratios from alternating lines of `hig bench oscillators --json` and `jax_oscillators.py`."""

import json
import statistics
import sys

# Shapes of the task: network 4-20-20-20-96, 4 outcomes, 96 Runge-Kutta steps.
P, HIDDEN, WIDTHS, STEPS = 2956, 60, 156, 96
# Per sample and time step, counted in oscillators.rs for two masses: four stages of force, stage and sum.
FORWARD, REVERSE = 125, 101


def sweeps(batch, cotangents):
    """Operations of one simulation with so many reverse sweeps."""
    return batch * STEPS * (FORWARD + cotangents * REVERSE)


def krylov(k, batch=128):
    n = 4 * batch
    rows = 2 * n * (P - 5 * 20)
    products = 2 * k * (2 * batch * P + 2 * n * WIDTHS)
    return 2 * batch * P + sweeps(batch, 4) + rows + products + 2 * k * k * (n + P)


def gram(batch=128):
    n = 4 * batch
    rows = 2 * n * (P - 5 * 20)
    matrix = n * n * (WIDTHS + 4)
    # Tridiagonal reduction, eigenvectors of the tridiagonal matrix, and the products with one vector.
    eigen = 4 * n**3 // 3 + 4 * n**3 // 3
    return 2 * batch * P + sweeps(batch, 4) + rows + matrix + eigen


def adam(batch=512):
    return 6 * batch * P + sweeps(batch, 1) + 12 * P


def main():
    lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    ours, theirs = lines[0::2], lines[1::2]
    gflops = statistics.median(run["dense_gflops"] for run in ours)
    print(f"JAX {theirs[0]['jax']}, one core, medians of {len(ours)} rounds; dense product {gflops:.0f} GFLOP/s\n")
    print("| step | hig, ms | JAX, ms | ratio | MFLOP | share of the floor |")
    print("|---|---|---|---|---|---|")
    for name, peer, operations in [
        ("hig gram", "hig_exact_b128", gram()),
        ("hig krylov:16", "hig_exact_b128", krylov(16)),
        ("hig krylov:32", "hig_exact_b128", krylov(32)),
        ("adam", "adam_b512", adam()),
    ]:
        ms = statistics.median(run[name]["ms"]["a whole step"] for run in ours)
        jax = statistics.median(run[peer] for run in theirs)
        ratio = statistics.median(
            run[name]["ms"]["a whole step"] / other[peer] for run, other in zip(ours, theirs)
        )
        floor = operations / (1e6 * gflops)
        print(f"| {name} | {ms:.2f} | {jax:.2f} ({peer}) | {ratio:.3f} | {operations / 1e6:.1f} | {floor / ms:.0%} |")


if __name__ == "__main__":
    main()
