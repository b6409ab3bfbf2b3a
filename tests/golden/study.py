"""Golden values of tests/program/study/statistics.rs: Student's t, a paired interval and an exact sign-flip test, from scipy."""

import itertools

import numpy as np
from scipy import stats

for freedom in [1, 2, 3, 4, 5, 9, 30]:
    within = 2 * stats.t.cdf(1.7, freedom) - 1
    print(f"        ({freedom}, {within:.15}, {stats.t.ppf(0.975, freedom):.15}),")

differences = np.array([0.031, 0.012, 0.047, -0.004, 0.026])
low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
flips = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
print(f"interval {low:.15} {high:.15}, sign-flip p {flips.pvalue}")
