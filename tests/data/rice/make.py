"""Reference values of the distribution function of Rice, 1 - Q1(a, b), with 40 digits of work: python3 make.py > rice.csv

Needs mpmath (1.3 or later). It integrates x exp(-(x - a)^2/2) I0(a x) exp(-a x) from 0 to b.
"""

import random

import mpmath as mp

mp.mp.dps = 40


def rice(a, b):
    a, b = mp.mpf(a), mp.mpf(b)
    low, high = max(mp.mpf(0), a - 15), min(b, a + 15)
    if high <= low:
        return mp.mpf(0)
    points = mp.linspace(low, high, 17)
    return mp.quad(lambda x: x * mp.exp(-((x - a) ** 2) / 2 - a * x) * mp.besseli(0, a * x), points)


random.seed(1)
print("a,b,p")
pairs = [(a, b) for a in (0, 0.5, 1, 2, 5, 10, 100) for b in (0.01, 0.5, 1, 2, 5, 10, 100)]
pairs += [(a, b) for a in (0, 0.1, 1, 3) for b in (7.3, 7.9, 8, 8.5, 9, 9.5, 11, 14)]
pairs += [(b + off, b) for b in (6.9, 7.0, 7.1, 7.9, 7.999999, 8.0, 8.1, 20, 1000, 5000) for off in (-5, -2, -0.5, 0, 0.5, 2, 5)]
for _ in range(200):
    b = 10 ** random.uniform(-3, 4)
    pairs.append((max(0.0, random.choice([b + random.uniform(-6, 6), random.uniform(0, 12), b * random.random()])), b))
for a, b in pairs:
    a, b = float(a), float(b)
    print(f"{a!r},{b!r},{mp.nstr(rice(a, b), 17)}")
