#!/usr/bin/env python3
"""Periods of pendulums: makes pendulums.csv (2000 rows) and new.csv (200 rows), the same bytes each time.

T = 4 sqrt(l/g) K(sin(a/2)), a pendulum of length l that swings out to an angle a, however large. The complete elliptic
integral is K(k) = pi/2 / AGM(1, sqrt(1 - k^2)), AGM the arithmetic-geometric mean.
"""

import math
import random


def period(length, amplitude, gravity):
    a, b = 1.0, math.cos(math.radians(amplitude) / 2)
    while abs(a - b) > 1e-15 * a:
        a, b = (a + b) / 2, math.sqrt(a * b)
    return 2 * math.pi * math.sqrt(length / gravity) / a


def write(path, rows, seed):
    rng = random.Random(seed)
    with open(path, "w") as file:
        file.write("length_m,amplitude_deg,gravity_m_s2,period_s\n")
        for _ in range(rows):
            length, amplitude, gravity = rng.uniform(0.2, 2), rng.uniform(1, 160), rng.uniform(1.6, 25)
            row = [round(length, 4), round(amplitude, 2), round(gravity, 3)]
            file.write(",".join(str(value) for value in row) + f",{period(*row):.8f}\n")


write("pendulums.csv", 2000, 1)
write("new.csv", 200, 2)
