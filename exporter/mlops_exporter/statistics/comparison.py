"""Two models on the same events: paired differences, from sums.

Of each event the two models have values a and b (1 for a right class, or a loss). The sums are n and, by the last axis
of `sums`, Σ a, Σ b, Σ a², Σ b², Σ a b. Pairing takes out what is easy or hard for both: the variance is that of b − a.
"""

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics import classification
from mlops_exporter.statistics.intervals import Estimate, degrees_of_freedom, normal

CELLS = 5


def sums(a: Floats, b: Floats) -> Floats:
    """Return the sums of a batch, (..., CELLS), over the last axis of a and b."""
    return np.stack([a.sum(-1), b.sum(-1), np.square(a).sum(-1), np.square(b).sum(-1), (a * b).sum(-1)], axis=-1)


def mean_difference(n: Floats, sums: Floats) -> Estimate:
    """Mean of b less mean of a, with the central limit theorem's interval; NaN for less than 2 events."""
    a, b, _, _, n = _means(n, sums)
    return normal(b - a, _variance(n, sums, 1.0, 1.0))


def rate_difference(n: Floats, sums: Floats) -> Estimate:
    """Difference of two rates, a and b being 0 or 1, in [−1, 1].

    The interval is Wald's after adding half an event to each of the four outcomes (Agresti and Min 2005, Stat. Med.
    24(5)), so that it does not vanish where the models agree on every event.
    """
    a, b, _, _, _ = _means(n, sums)
    smoothed = sums + np.array([1.0, 1.0, 1.0, 1.0, 0.5])
    centre_a, centre_b, _, _, more = _means(n + 2, smoothed)
    variance = _variance(more, smoothed, 1.0, 1.0) * (more - 1) / more
    around = normal(centre_b - centre_a, variance, -1.0, 1.0)
    value = b - a
    return Estimate(value, np.minimum(around.lower, value), np.maximum(around.upper, value))


def root_difference(n: Floats, sums: Floats) -> Estimate:
    """√(mean b) − √(mean a), as of the squared errors for rmse, by the delta method."""
    a, b, _, _, n = _means(n, sums)
    root_a, root_b = np.sqrt(np.maximum(a, 0.0)), np.sqrt(np.maximum(b, 0.0))
    by_a, by_b = (0.5 / np.where(root > 0, root, np.nan) for root in (root_a, root_b))
    return normal(root_b - root_a, _variance(n, sums, by_a, by_b))


def roc_auc_difference(a: Floats, b: Floats, together: Floats) -> Estimate:
    """Area under the ROC curve of b less that of a, on the same events; NaN with one class only.

    `a` and `b` are histograms of either model's scores, (..., bins, 2), the last axis actual negatives and positives.
    `together`, (..., C, C, 2), counts the events by both scores, in C wider bins of bins / C neighbours each. Variance
    by DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44(3)): those of both areas from the bins, less twice the
    covariance of the events' ranks, averaged in the wider bins. What varies together within these is left out, so that
    the interval is rather too wide, by little unless the two models hardly differ. Where DeLong's variance is 0 or
    undefined, the areas' own intervals are combined as if they were independent (Newcombe 1998, Stat. Med. 17(8)).
    """
    ranks_a, ranks_b = classification.ranks(a), classification.ranks(b)
    one, other = classification.roc_auc(a), classification.roc_auc(b)
    variances = []
    for actual, n in enumerate((ranks_a.negatives, ranks_a.positives)):
        strays = [
            _stray(scores[..., actual], found.above if actual else found.below, found.area, together.shape[-2])
            for scores, found in ((a, ranks_a), (b, ranks_b))
        ]
        both = np.einsum("...i,...ij,...j->...", strays[0], together[..., actual], strays[1])
        alone = [classification.roc_auc_variances(*model)[actual] for model in ((a, ranks_a), (b, ranks_b))]
        with np.errstate(divide="ignore", invalid="ignore"):
            variances.append(alone[0] + alone[1] - 2 * both / (n - 1) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = degrees_of_freedom(variances[0], variances[1], ranks_a.negatives, ranks_a.positives)
    variance = variances[0] + variances[1]
    value = other.value - one.value
    usable = np.isfinite(variance) & (variance > 0)
    around = normal(value, np.where(usable, variance, 0.0), -1.0, 1.0, degrees)
    below = np.hypot(other.value - other.lower, one.upper - one.value)
    above = np.hypot(other.upper - other.value, one.value - one.lower)
    return Estimate(
        value,
        np.where(usable, around.lower, np.maximum(value - below, -1.0)),
        np.where(usable, around.upper, np.minimum(value + above, 1.0)),
    )


def _stray(counts: Floats, ranks: Floats, area: Floats, wider: int) -> Floats:
    """Return how far the ranks of each wider bin's events lie from the area on average, (..., wider)."""
    shape = (*counts.shape[:-1], wider, -1)
    n = counts.reshape(shape).sum(-1)
    total = (counts * (ranks - area[..., np.newaxis])).reshape(shape).sum(-1)
    stray: Floats = total / np.where(n > 0, n, 1.0)
    return stray


def _means(n: Floats, sums: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    n = np.where(n > 1, n, np.nan)
    a, b, aa, bb, _ = np.moveaxis(sums, -1, 0)
    return a / n, b / n, aa / n, bb / n, n


def _variance(n: Floats, sums: Floats, by_a: Floats | float, by_b: Floats | float) -> Floats:
    """Variance of the mean of by_b · b − by_a · a."""
    a, b, aa, bb, _ = _means(n, sums)
    crossed = sums[..., 4] / n - a * b
    spread: Floats = by_a**2 * (aa - a**2) + by_b**2 * (bb - b**2) - 2 * by_a * by_b * crossed
    return np.maximum(spread, 0.0) / (n - 1)
