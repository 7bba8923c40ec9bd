"""Medians and ratios from rounds of `hig bench TASK --json` lines, each round closed by a line of `jax_TASK.py`."""

import json
import statistics
import sys


class Oscillators:
    # Shapes of the task: network 4-20-20-20-96, 4 outcomes, 96 Runge-Kutta steps.
    P, WIDTHS, STEPS = 2956, 156, 96
    # Per sample and time step, counted in oscillators.rs for two masses: four stages of force, stage and sum.
    FORWARD, REVERSE = 125, 101

    def sweeps(self, batch, cotangents):
        """Operations of one simulation with so many reverse sweeps."""
        return batch * self.STEPS * (self.FORWARD + cotangents * self.REVERSE)

    def rows(self, batch):
        """Of all Dₗ, the network's forward sweep and the simulator's blocks."""
        return 2 * batch * self.P + self.sweeps(batch, 4) + 2 * 4 * batch * (self.P - 5 * 20)

    def krylov(self, k, batch=128):
        n = 4 * batch
        products = 2 * k * (2 * batch * self.P + 2 * n * self.WIDTHS)
        return self.rows(batch) + products + 2 * k * k * (n + self.P)

    def gram(self, batch=128):
        n = 4 * batch
        # Tridiagonal reduction, eigenvectors of the tridiagonal matrix, and the products with one vector.
        eigen = 4 * n**3 // 3 + 4 * n**3 // 3
        return self.rows(batch) + n * n * (self.WIDTHS + 4) + eigen

    def adam(self, batch=512):
        return 6 * batch * self.P + self.sweeps(batch, 1) + 12 * self.P

    def steps(self):
        return [
            ("hig gram", "hig_exact_b128", self.gram()),
            ("hig krylov:16", "hig_exact_b128", self.krylov(16)),
            ("hig krylov:32", "hig_exact_b128", self.krylov(32)),
            ("adam", "adam_b512", self.adam()),
        ]


class Poisson:
    # Shapes of the task: network 64-64-128-64-64, 64 outcomes of five neighbours each.
    P, B, N = 24896, 64, 4096

    def steps(self):
        k = 8
        products = 2 * k * (4 * self.B * self.P + 2 * 5 * self.N)
        krylov = 2 * self.B * self.P + products + 2 * k * k * (self.N + self.P)
        return [("hig krylov:8", "products_8", krylov), ("adam", "adam_b64", 6 * self.B * self.P + 12 * self.P)]


def rounds(path):
    """(ours, theirs) of each round."""
    ours = {}
    for line in open(path, encoding="utf-8"):
        found = json.loads(line)
        if "jax" in found:
            yield ours, found
            ours = {}
        else:
            ours |= found


def main():
    task = {"oscillators": Oscillators, "poisson": Poisson}[sys.argv[1]]()
    pairs = list(rounds(sys.argv[2]))
    gflops = statistics.median(ours["dense_gflops"] for ours, _ in pairs)
    print(f"JAX {pairs[0][1]['jax']}, one core, medians of {len(pairs)} rounds; dense product {gflops:.0f} GFLOP/s\n")
    print("| step | hig, ms | JAX, ms | ratio | MFLOP | share of the floor |")
    print("|---|---|---|---|---|---|")
    for name, peer, operations in task.steps():
        times = [(ours[name]["ms"]["a whole step"], theirs[peer]) for ours, theirs in pairs]
        ms, jax = (statistics.median(side) for side in zip(*times))
        ratio = statistics.median(ours / theirs for ours, theirs in times)
        floor = operations / (1e6 * gflops)
        print(f"| {name} | {ms:.2f} | {jax:.2f} ({peer}) | {ratio:.3f} | {operations / 1e6:.1f} | {floor / ms:.0%} |")


if __name__ == "__main__":
    main()
