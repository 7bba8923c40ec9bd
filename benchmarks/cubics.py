#!/usr/bin/env python3
"""hig fit against adam with the best of five rates on sums of cubics in six variables: benchmarks/cubics.py [HIG].

f(x) = sum_i a_i x_i + b_i x_i^2 + c_i x_i^3, x uniform on [-1, 1]^6, the coefficients standard normal, three draws of
them. 10,000 rows, a network 6-16-16-16-1, GELU, mini-batches of 32, 20 epochs. The losses are those of the test rows,
standardised; adam's rate is chosen by validation. Needs Python 3 and hig alone; a table on stdout.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

HIG = sys.argv[1] if len(sys.argv) > 1 else "target/release/hig"


def write(path, seed):
    rng = random.Random(seed)
    coefficients = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(6)]
    with open(path, "w") as file:
        file.write("x1,x2,x3,x4,x5,x6,y\n")
        for _ in range(10_000):
            x = [round(rng.uniform(-1, 1), 6) for _ in range(6)]
            y = sum(a * x + b * x**2 + c * x**3 for x, (a, b, c) in zip(x, coefficients))
            file.write(",".join(map(str, x)) + f",{y!r}\n")


print("| coefficients | hig-auto | adam, best of 5 rates | ratio |")
print("|---|---|---|---|")
for seed in (1, 2, 3):
    with tempfile.TemporaryDirectory() as home:
        data = pathlib.Path(home) / "cubics.csv"
        write(data, seed)
        command = [HIG, "compare", "fit", "--set", f"data.path={data}", "--optimizers", "hig-auto,adam", "--epochs", "20",
                   "--lr-grid", "x0.1,x0.3,x1,x3,x10", "--seeds", "1", "--threads", "1", "--quiet", "--json",
                   "--out", f"{home}/study"]
        study = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        ours, adams = (variant["test_loss"][0] for variant in study["variants"])
        print(f"| seed {seed} | {ours:.2e} | {adams:.2e} | {ours / adams:.1e} |", flush=True)
