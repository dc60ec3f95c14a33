"""Many tests at once: which of hundreds of features have drifted, and how much those matter.

A drift statistic is judged by its ratio to the critical value for the rate α. That ratio is continued to rarer events
by the law that the statistic has in large samples, so that the p-value is α where the ratio is 1.
"""

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.statistics.drift import Statistic, traits


def p_values(statistic: Statistic, ratio: Floats, bins: Ints, alpha: float) -> Floats:
    """Return p-values, (..., S), of statistics with that `ratio` to their critical value; `bins`, (S,), how many each.

    psi, js² and hellinger² follow a χ² with one degree of freedom less than bins, ks Kolmogorov's law; the tail of tvd
    and wasserstein is taken to be normal.
    """
    return traits(statistic).tail(ratio, bins, alpha)


def combined(p: Floats) -> Floats:
    """Return one p-value for several tests of the same feature, (..., S, tests) to (..., S), by Bonferroni.

    NaN where none was made.
    """
    made = (~np.isnan(p)).sum(-1)
    smallest = np.fmin.reduce(p, axis=-1, initial=1.0)
    return np.where(made > 0, np.minimum(smallest * made, 1.0), np.nan)


def discoveries(p: Floats, rate: Floats | float) -> Flags:
    """Return which of the tests, (..., S), stand out with a false-discovery rate of at most `rate`, one or (..., 1).

    Benjamini and Hochberg (1995, J. R. Stat. Soc. B 57(1)): valid for independent or positively dependent tests. If
    nothing has drifted, the probability that anything stands out is `rate`. NaN takes no part.
    """
    tests = (~np.isnan(p)).sum(-1, keepdims=True)
    ordered = np.sort(p, axis=-1)  # NaN last
    line = rate * np.arange(1, p.shape[-1] + 1) / np.maximum(tests, 1)
    limit = np.fmax.reduce(np.where(ordered <= line, ordered, np.nan), axis=-1, initial=-1.0, keepdims=True)
    return np.asarray(p <= limit)


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean of the values, (..., S), by the features' importances, (S,), among those that have a value; else NaN."""
    known = ~np.isnan(values)
    total = (known * weights).sum(-1)
    mean: Floats = np.where(known, values * weights, 0.0).sum(-1) / np.where(total > 0, total, np.nan)
    return mean
