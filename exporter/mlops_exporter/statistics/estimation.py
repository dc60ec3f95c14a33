"""Performance estimated without labels, each value with the range in which 95 % of realised values fall.

Classes, confidence-based performance estimation (CBPE; Garg et al. 2022, ICLR; Guillory et al. 2021, ICCV): if the
probabilities are calibrated, the label of each prediction is a draw from them. So the expected confusion matrix is the
sum of the probabilities by predicted class: `expected` is (..., K, K), indexed [predicted, actual], `variance` the
same with Σ p (1 − p), the variance of each count. Of two classes the second is the positive one.

Numbers, direct loss estimation (DLE, a name from NannyML's documentation): a small model tells the loss to be expected
of each prediction from its features; the mean over a window is the sum over n.
"""

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.statistics.intervals import Estimate, normal


def inflation(histogram: Floats, probability: Floats, reference: Floats, starts: Ints) -> Floats:
    """Factor, (...), ≥ 1, by which the calibration's own uncertainty raises the variances.

    `histogram` is (..., columns, bins), the window's predictions by bin of their scores; `probability` and `reference`,
    (columns, bins), are the calibrated probability and the reference count of each. The labels of h predictions vary by
    h p (1 − p), the h-fold error of a probability learnt from N labels by h² p (1 − p) / N. Neighbouring bins are
    learnt together, in the runs that begin at `starts` (see `runs`): by themselves most would have no label at all.
    """
    counts = histogram.reshape(*histogram.shape[:-2], -1)
    of_labels = counts * (probability * (1 - probability)).ravel()
    by_run = np.add.reduceat(counts, starts, axis=-1) * np.add.reduceat(of_labels, starts, axis=-1)
    of_calibration = (by_run / np.maximum(np.add.reduceat(reference.ravel(), starts), 0.5)).sum(-1)
    total = of_labels.sum(-1)
    factor: Floats = 1 + of_calibration / np.where(total > 0, total, np.inf)
    return factor


def runs(reference: Floats, most: int = 50) -> Ints:
    """Return where runs of bins begin, each with about a share 1/`most` of its column's reference count.

    `reference` is (columns, bins), and so are the places counted, column by column. A bin with more is alone.
    """
    total = np.maximum(reference.sum(-1, keepdims=True), 1.0)
    number = np.ceil(np.cumsum(reference, axis=-1) / total * most)
    new = np.diff(number, axis=-1, prepend=-1.0) > 0
    return np.flatnonzero(new)


def accuracy(expected: Floats, variance: Floats) -> Estimate:
    """Return the expected share of correct predictions."""
    n = _defined(expected.sum((-2, -1)))
    hits, spread = np.trace(expected, axis1=-2, axis2=-1), np.trace(variance, axis1=-2, axis2=-1)
    return normal(hits / n, spread / n**2, 0.0, 1.0)


def precision(expected: Floats, variance: Floats) -> Estimate:
    """Return the expected precision of each class, (..., K). NaN for a class that was never predicted."""
    n = _defined(expected.sum(-1))
    return normal(_diagonal(expected) / n, _diagonal(variance) / n**2, 0.0, 1.0)


def recall(expected: Floats, variance: Floats) -> Estimate:
    """Return the expected recall of each class, (..., K), by the delta method for hits / (hits + misses)."""
    hits, misses, of_hits, of_misses = _by_class(expected, variance)
    total = _defined(hits + misses)
    spread = (misses**2 * of_hits + hits**2 * of_misses) / total**4
    return normal(hits / total, spread, 0.0, 1.0)


def f1(expected: Floats, variance: Floats) -> Estimate:
    """Return the expected f1 of each class, (..., K), by the delta method for 2 hits / (predicted + hits + misses)."""
    hits, misses, of_hits, of_misses = _by_class(expected, variance)
    total = _defined(expected.sum(-1) + hits + misses)
    by_hits, by_misses = 2 * (total - hits) / total**2, -2 * hits / total**2
    return normal(2 * hits / total, by_hits**2 * of_hits + by_misses**2 * of_misses, 0.0, 1.0)


def mean_loss(n: Floats, total: Floats, total_of_squares: Floats, reference_n: float) -> Estimate:
    """Return the expected mean absolute error from Σ of the expected |error| and of the expected error².

    The range allows for the errors' spread in the window, and in the `reference_n` rows from which they were learnt.
    """
    n = _defined(n)
    mean = total / n
    return normal(mean, (total_of_squares / n - mean**2) * (1 / n + 1 / reference_n), low=0.0)


def root_mean_loss(n: Floats, total_of_squares: Floats, kurtosis: float, reference_n: float) -> Estimate:
    """Return the expected root mean squared error from Σ of the expected error².

    `kurtosis` is that of the reference's errors, E e⁴ / (E e²)².
    """
    n = _defined(n)
    mean = np.maximum(total_of_squares / n, 0.0)
    squared = normal(mean, (kurtosis - 1) * mean**2 * (1 / n + 1 / reference_n), low=0.0)
    return Estimate(*map(np.sqrt, squared))


def gap(realised: Floats, estimated: Estimate, tolerance: Floats) -> Estimate:
    """Realised less estimated performance of the same predictions; 0 is inside unless the labels changed their law.

    The estimate's own range knows of the labels' noise, and of that in the labels of the reference. It does not know
    what a calibration is off by for other reasons, such as scores between two steps of it, or a reference of another
    season. So much, the `tolerance`, is let pass.
    """
    return Estimate(
        realised - estimated.value,
        realised - estimated.upper - tolerance,
        realised - estimated.lower + tolerance,
    )


def macro(by_class: Estimate, averaged: Flags | np.bool_ = np.True_) -> Estimate:
    """Mean over the classes, (..., K), that are to be `averaged` and have a value.

    The range takes them as fully correlated.
    """
    defined = ~np.isnan(by_class.value) & averaged
    classes = _defined(defined.sum(-1).astype(np.float64))
    return Estimate(*(np.where(defined, part, 0.0).sum(-1) / classes for part in by_class))


def _by_class(expected: Floats, variance: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return hits, misses and the variances of both, (..., K)."""
    hits, of_hits = _diagonal(expected), _diagonal(variance)
    return hits, expected.sum(-2) - hits, of_hits, variance.sum(-2) - of_hits


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _defined(n: Floats) -> Floats:
    return np.where(n > 0, n, np.nan)
