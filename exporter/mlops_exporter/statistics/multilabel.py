"""Metrics of predictions that are sets of classes, from sums over events, each with its 95 % interval.

Of an event and a class three bits are known: whether the class is in both sets (hit), in the predicted one, in the
actual one. Sums of the products of any two of an event's bits are kept, (..., 3K, 3K): on the diagonal how often each
bit is set, beside it how bits go together within an event. So the intervals are of independent *events*, whatever the
classes of one event have to do with each other.

Values equal scikit-learn's. A metric that is 0/0 is NaN; a macro average is the mean over the classes whose own metric
is defined, which is scikit-learn's with `zero_division=nan`.
"""

from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.statistics import classification
from mlops_exporter.statistics.intervals import Estimate, bounded_mean, logit_normal, mean_of_correlated, wilson

_CASES = 3.0  # events with something to find, which the largest possible variance counts as


class Decisions(NamedTuple):
    """Sums over n events, (...,): how many sets are `exact`, (...,), and products of bits, (..., 3K, 3K)."""

    n: Floats
    exact: Floats
    products: Floats


def cells(classes: int) -> int:
    """Return how many numbers are kept: n, exact ones, and the upper triangle of the products."""
    return 2 + 3 * classes * (3 * classes + 1) // 2


def sums(predicted: Flags, actual: Flags) -> Floats:
    """Return what is kept of events, (cells,), from the predicted and the actual sets, (n, K) each."""
    bits = np.concatenate([predicted & actual, predicted, actual], axis=1).astype(np.float64)
    products = bits.T @ bits
    exact = np.count_nonzero((predicted == actual).all(axis=1))
    return np.concatenate([[len(predicted), exact], products[np.triu_indices(len(products))]])


def split(kept: Floats, classes: int) -> Decisions:
    """Take what is kept, (..., cells), apart."""
    rows, columns = np.triu_indices(3 * classes)
    products = np.zeros((*kept.shape[:-1], 3 * classes, 3 * classes))
    products[..., rows, columns] = products[..., columns, rows] = kept[..., 2:]
    return Decisions(kept[..., 0], kept[..., 1], products)


def confusion(decisions: Decisions) -> Floats:
    """Return the confusion counts of each class, (..., K, 2, 2), indexed [predicted, actual], the class being 1."""
    hits, predicted, actual = np.split(np.diagonal(decisions.products, axis1=-2, axis2=-1), 3, axis=-1)
    neither = decisions.n[..., np.newaxis] - predicted - actual + hits
    return np.stack([np.stack([neither, actual - hits], -1), np.stack([predicted - hits, hits], -1)], -2)


def subset_accuracy(decisions: Decisions) -> Estimate:
    """Share of the events whose predicted set is exactly the actual one."""
    return wilson(decisions.exact, decisions.n)


def hamming_loss(decisions: Decisions) -> Estimate:
    """Share of wrong decisions among all of n K, in [0, 1]: a mean over events of the share of each one's classes."""
    classes = decisions.products.shape[-1] // 3
    wrong = np.repeat([-2.0, 1.0, 1.0], classes)
    total = np.diagonal(decisions.products, axis1=-2, axis2=-1) @ wrong
    return bounded_mean(decisions.n, total / classes, _quadratic(decisions, wrong) / classes**2, 0.0, 1.0)


def micro_precision(decisions: Decisions) -> Estimate:
    """Share of the predicted classes of all events that are right. NaN if none was predicted."""
    return _ratio(decisions, (1, 0, 0), (0, 1, 0))


def micro_recall(decisions: Decisions) -> Estimate:
    """Share of the actual classes of all events that were predicted. NaN if there is none."""
    return _ratio(decisions, (1, 0, 0), (0, 0, 1))


def micro_f1(decisions: Decisions) -> Estimate:
    """Twice the hits over predicted and actual classes of all events. NaN without either."""
    return _ratio(decisions, (2, 0, 0), (0, 1, 1))


def macro_precision(decisions: Decisions) -> Estimate:
    """Mean precision over the classes that were predicted."""
    found = classification.precision(confusion(decisions))
    return mean_of_correlated(found, _correlation(decisions, found.value, (1, 0, 0), (0, 1, 0)))


def macro_recall(decisions: Decisions) -> Estimate:
    """Mean recall over the classes that occurred."""
    found = classification.recall(confusion(decisions))
    return mean_of_correlated(found, _correlation(decisions, found.value, (1, 0, 0), (0, 0, 1)))


def macro_f1(decisions: Decisions) -> Estimate:
    """Mean f1 over the classes that occurred or were predicted."""
    found = classification.f1(confusion(decisions))
    return mean_of_correlated(found, _correlation(decisions, found.value, (2, 0, 0), (0, 1, 1)))


def _ratio(decisions: Decisions, part: tuple[int, int, int], whole: tuple[int, int, int]) -> Estimate:
    """Ratio of sums over events in [0, 1], whose parts weigh hits, predicted and actual classes so.

    Delta method on the events' residuals (Cochran 1977, Sampling Techniques, section 6.3), on the logit scale, by
    Student's t. The effective number of events with something in the whole is (Σ w)² / Σ w² (Kish 1965); with few of
    them the variance is drawn towards the largest that a mean of numbers in [0, 1] can have.
    """
    classes = decisions.products.shape[-1] // 3
    of_part, of_whole = (np.repeat(np.array(weights, np.float64), classes) for weights in (part, whole))
    single = np.diagonal(decisions.products, axis1=-2, axis2=-1)
    total = single @ of_whole
    total = np.where(total > 0, total, np.nan)
    value = single @ of_part / total
    residual = of_part - value[..., np.newaxis] * of_whole
    events = total**2 / _quadratic(decisions, of_whole)
    variance = np.maximum(_quadratic(decisions, residual), 0.0) / total**2
    variance += _CASES / (_CASES + events) * np.maximum(value * (1 - value) / events - variance, 0.0)
    return logit_normal(value, variance, events, np.maximum(events - 1, 1.0))


def _correlation(
    decisions: Decisions, values: Floats, part: tuple[int, int, int], whole: tuple[int, int, int]
) -> Floats:
    """Correlation of the classes' own ratios, (..., K, K), by the delta method; none where one of them cannot vary."""
    classes = values.shape[-1]
    each = np.eye(classes)
    of_part, of_whole = (np.concatenate([weight * each for weight in weights], axis=1) for weights in (part, whole))
    residual = of_part - np.nan_to_num(values)[..., np.newaxis] * of_whole
    covariance = residual @ decisions.products @ np.swapaxes(residual, -1, -2)
    deviation = np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0.0))
    scale = deviation[..., :, np.newaxis] * deviation[..., np.newaxis, :]
    found = np.where(scale > 0, covariance / np.where(scale > 0, scale, 1.0), 0.0)
    return np.asarray(np.where(each > 0, 1.0, found), np.float64)


def _quadratic(decisions: Decisions, weights: Floats) -> Floats:
    """Σ over events of the squared weighted sum of its bits; `weights` are (..., 3K)."""
    found: Floats = np.einsum("...i,...ij,...j->...", weights, decisions.products, weights)
    return found
