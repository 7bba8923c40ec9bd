"""Prints hig-auto's test loss over that of whichever other optimizer is lowest, at a few times, for each study in a folder;
of several seeds the geometric means.

    python3 benchmarks/ratios.py runs/scale
"""

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path

TIMES = (0.3, 1, 3, 10, 20, 60)


def losses(metrics):
    """The last test loss before each of the times."""
    with metrics.open() as file:
        rows = [(float(r["wall_s"]), float(r["test_loss"])) for r in csv.DictReader(file) if r["test_loss"]]
    return [[loss for wall, loss in rows if wall <= time][-1] for time in TIMES]


print("| problem |" + "".join(f" {time} s |" for time in TIMES))
print("|---|" + "---|" * len(TIMES))
for study in sorted(Path(sys.argv[1]).iterdir()):
    seeds = defaultdict(list)
    for cell in study.glob("cells/*-seed*"):
        seeds[cell.name.rsplit("-seed", 1)[0]].append(losses(cell / "metrics.csv"))
    runs = {name: [math.prod(at) ** (1 / len(at)) for at in zip(*each)] for name, each in seeds.items()}
    own = runs.pop("hig-auto")
    nearest = [min(runs, key=lambda name: runs[name][i]) for i in range(len(TIMES))]
    ratios = [f" {own[i] / runs[name][i]:.2g} {name} |" for i, name in enumerate(nearest)]
    print(f"| {study.name} |" + "".join(ratios))
