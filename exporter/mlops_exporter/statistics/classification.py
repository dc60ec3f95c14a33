"""Classification metrics from counts, each with its 95 % interval.

Confusion counts are (..., K, K), indexed [predicted, actual]; of two classes the second is the positive one. Values
equal scikit-learn's; a metric that is 0/0 is NaN where scikit-learn warns and returns 0. Macro averages run over all K
classes for which the class's own metric is defined, which is scikit-learn with `labels` naming all K classes and
`zero_division=nan`: a class that was never predicted has no precision, one that never occurred has no recall, and one
with neither has no f1.

Proportions carry Wilson's interval, means of independent proportions combine those, and so do f1, a function of a
proportion, and macro f1. mcc and macro specificity carry the delta method's for multinomial shares. There the shares in
the variance (never in the value) are smoothed by two observations spread evenly over the cells, as Agresti and Coull
(1998, Am. Stat. 52(2)) do for a single proportion: else a perfect score in a small window would claim no uncertainty.

Score histograms are (..., bins, 2): bins ascending in score, the last axis actual negatives and positives. Scores of
one bin are ties, or in random order where it is said so.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.statistics.intervals import (
    Estimate,
    Spread,
    degrees_of_freedom,
    delta_multinomial,
    logit_normal,
    mean_of_correlated,
    mean_of_independent,
    mean_of_losses,
    normal,
    wilson,
)

_CELLS = (-2, -1)
_SMOOTHING = 2.0  # observations added before a variance is taken


def one_vs_rest(confusion: Floats) -> Floats:
    """Reduce K classes to K binary problems: (..., K, K) to (..., K, 2, 2), the class itself being positive."""
    hit = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, actual = confusion.sum(-1), confusion.sum(-2)
    total = predicted.sum(-1)[..., np.newaxis]
    rest = np.stack([total - predicted - actual + hit, actual - hit], axis=-1)
    return np.stack([rest, np.stack([predicted - hit, hit], axis=-1)], axis=-2)


def accuracy(confusion: Floats) -> Estimate:
    """Share of correct predictions, for any number of classes."""
    return wilson(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(_CELLS))


def precision(confusion: Floats) -> Estimate:
    """Share of the predicted positives that are positive, (..., 2, 2). NaN if none was predicted."""
    return wilson(confusion[..., 1, 1], confusion[..., 1, :].sum(-1))


def recall(confusion: Floats) -> Estimate:
    """Share of the positives that were predicted so, (..., 2, 2). NaN if there is none."""
    return wilson(confusion[..., 1, 1], confusion[..., 1].sum(-1))


def specificity(confusion: Floats) -> Estimate:
    """Share of the negatives that were predicted so, (..., 2, 2). NaN if there is none."""
    return wilson(confusion[..., 0, 0], confusion[..., 0].sum(-1))


def f1(confusion: Floats) -> Estimate:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), (..., 2, 2). NaN without any positive.

    It is 2 j / (1 + j) of the share j = TP / (TP + FP + FN), whose Wilson interval it takes along.
    """
    hits = confusion[..., 1, 1]
    share = wilson(hits, confusion[..., 1, :].sum(-1) + confusion[..., 0, 1])
    return Estimate(*(2 * part / (1 + part) for part in share))


def balanced_accuracy(confusion: Floats) -> Estimate:
    """Mean recall over the classes that occurred, for any K. NaN unless at least two did (scikit-learn: one)."""
    occurred = (confusion.sum(-2) > 0).sum(-1)
    return Estimate(*(np.where(occurred > 1, part, np.nan) for part in macro_recall(confusion)))


def macro_precision(confusion: Floats) -> Estimate:
    """Mean precision over the classes that were predicted, which are independent given how often they were."""
    return mean_of_independent(precision(one_vs_rest(confusion)))


def macro_recall(confusion: Floats) -> Estimate:
    """Mean recall over the classes that occurred, which are independent given how often they did."""
    return mean_of_independent(recall(one_vs_rest(confusion)))


def macro_specificity(confusion: Floats) -> Estimate:
    """Mean one-vs-rest specificity over the classes beside which another occurred."""
    n, smooth = _smooth(confusion)
    return _macro(_specificity(confusion), _specificity_gradient(smooth), smooth, n)


def macro_f1(confusion: Floats) -> Estimate:
    """Mean f1 over the classes that occurred or were predicted, which are correlated by the delta method."""
    _, smooth = _smooth(confusion)
    gradient = _f1_gradient(smooth)
    by_class = gradient.reshape(*gradient.shape[:-2], -1)
    weighted = by_class * smooth.reshape(*smooth.shape[:-2], 1, -1)
    mean = weighted.sum(-1)
    covariance = weighted @ np.swapaxes(by_class, -1, -2) - mean[..., :, np.newaxis] * mean[..., np.newaxis, :]
    deviation = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    correlation = covariance / (deviation[..., :, np.newaxis] * deviation[..., np.newaxis, :])
    return mean_of_correlated(f1(one_vs_rest(confusion)), correlation)


def mcc(confusion: Floats) -> Estimate:
    """Matthews correlation coefficient, for K classes Gorodkin's R_K, in [−1, 1].

    Matthews 1975, Biochim. Biophys. Acta 405(2); Gorodkin 2004, Comput. Biol. Chem. 28(5–6). NaN if all predictions,
    or all labels, are of one class.
    """
    n, smooth = _smooth(confusion)
    classes = np.minimum((confusion.sum(-1) > 0).sum(-1), (confusion.sum(-2) > 0).sum(-1))
    value, *_ = _correlation(confusion / np.where(classes > 1, n, np.nan)[..., np.newaxis, np.newaxis])
    smooth_value, predicted, actual, spread_predicted, spread_actual = _correlation(smooth)
    # Derivatives with respect to the share of cell [i, j] of the covariance and of both variances.
    covariance = np.eye(confusion.shape[-1]) - actual[..., :, np.newaxis] - predicted[..., np.newaxis, :]
    variances = (predicted / spread_predicted)[..., :, np.newaxis] + (actual / spread_actual)[..., np.newaxis, :]
    gradient = covariance / np.sqrt(spread_predicted * spread_actual)[..., np.newaxis]
    gradient += smooth_value[..., np.newaxis, np.newaxis] * variances
    return _delta(value, gradient, smooth, n, low=-1.0)


class Ranks(NamedTuple):
    """Area under the ROC curve, (...,), and what it is a mean of.

    `above`, (..., bins), is the share of negatives that a positive in each bin ranks above, `below` the share of
    positives that a negative ranks below; ties half. `positives` and `negatives` are how many there are, NaN unless
    there are both.
    """

    area: Floats
    above: Floats
    below: Floats
    positives: Floats
    negatives: Floats


def ranks(scores: Floats) -> Ranks:
    """Rank positives among negatives and the other way round; NaN with one class only."""
    negative, positive = scores[..., 0], scores[..., 1]
    negatives, positives = negative.sum(-1), positive.sum(-1)
    both = (negatives > 0) & (positives > 0)
    negatives, positives = np.where(both, negatives, np.nan), np.where(both, positives, np.nan)
    above = (np.cumsum(negative, -1) - negative / 2) / negatives[..., np.newaxis]
    below = 1 - (np.cumsum(positive, -1) - positive / 2) / positives[..., np.newaxis]
    return Ranks((positive * above).sum(-1) / positives, above, below, positives, negatives)


def roc_auc(scores: Floats) -> Estimate:
    """Area under the ROC curve: P(score of a positive > of a negative), ties half. NaN with one class only.

    Interval on the logit scale (Pepe 2003) from DeLong's variance, exact for the binned scores (DeLong,
    DeLong and Clarke-Pearson 1988, Biometrics 44(3)), by Student's t: with few cases of a class it is known but
    roughly, and most often too small, as a case that is ranked badly seldom comes. So a class's variance is drawn
    towards the largest that a mean of numbers in [0, 1] can have, which counts as three cases. DeLong's is 0 for a
    perfect ranking and undefined with a single case of a class: there Wilson's interval for as many trials as the rarer
    class has cases stands in.
    """
    found = ranks(scores)
    largest = found.area * (1 - found.area)
    of_negatives, of_positives = (
        variance + _CASES / (cases + _CASES) * np.maximum(largest / cases - variance, 0.0)
        for variance, cases in zip(roc_auc_variances(scores, found), (found.negatives, found.positives), strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = degrees_of_freedom(of_negatives, of_positives, found.negatives, found.positives)
    rarer = np.minimum(found.positives, found.negatives)
    return logit_normal(found.area, of_negatives + of_positives, rarer, degrees)


_CASES = 3.0  # of a class, which the largest possible variance counts as


def roc_auc_variances(scores: Floats, found: Ranks) -> tuple[Floats, Floats]:
    """DeLong's variance of the area, in parts of negatives and of positives, (...,); not finite of a single case."""
    centre = found.area[..., np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_negatives: Floats = (scores[..., 0] * (found.below - centre) ** 2).sum(-1) / (found.negatives - 1)
        of_positives: Floats = (scores[..., 1] * (found.above - centre) ** 2).sum(-1) / (found.positives - 1)
    return of_negatives / found.negatives, of_positives / found.positives


def macro_roc_auc(scores: Floats) -> Estimate:
    """Mean one-vs-rest ROC AUC over (..., K, bins, 2). NaN unless every class has positives and negatives.

    The counts do not tell how the K areas vary together; the interval takes them as fully correlated, so it covers at
    least 95 %.
    """
    return Estimate(*(part.mean(-1) for part in roc_auc(scores)))


def average_precision(scores: Floats, tied: Flags | np.bool_ = np.True_) -> Estimate:
    """Average precision Σ (Rₖ − Rₖ₋₁) Pₖ over thresholds from high to low. NaN without positives.

    scikit-learn's definition, without interpolation. Where a bin's scores are `tied`, (bins,), it has one threshold;
    in other bins each event has its own, and the value is the mean over all orders of the bin's events.

    Interval by the delta method on the multinomial shares of the bins, on the logit scale, by Student's t with a degree
    of freedom less than positives: they are what varies. With few of them the variance is drawn towards the largest
    that a mean of numbers in [0, 1] can have, which counts as five positives; and as the best positive is itself what
    makes its precision, the lower limit lies about the mean precision of all *others* at each positive.
    """
    n = scores.sum(_CELLS)
    positive, events = scores[..., 1], scores.sum(-1)
    positives = positive.sum(-1)[..., np.newaxis]
    positives = np.where(positives > 0, positives, np.nan)
    hits, at_least = _at_least(positive), _at_least(events)
    flagged = np.maximum(at_least, 1.0)
    precisions = hits / flagged
    in_random_order = _precisions_in_random_order(positive, events, hits - positive, at_least - events)
    value = (positive * np.where(tied, precisions, in_random_order)).sum(-1) / positives[..., 0]
    # Derivatives with respect to the count of one bin: it takes part in all thresholds at or below its own.
    lost = np.cumsum(positive * precisions / flagged, -1)
    gained = np.cumsum(positive / flagged, -1)
    centre = (positive * precisions).sum(-1, keepdims=True) / positives
    gradient = np.stack([-lost, precisions + gained - lost - centre], axis=-1)
    gradient /= positives[..., np.newaxis]
    size = np.where(n > 0, n, np.nan)[..., np.newaxis, np.newaxis]
    variance = delta_multinomial(scores / size, gradient * size, size[..., 0, 0], _CELLS)
    trials = positives[..., 0]
    variance += (
        _LARGEST_VARIANCE / (trials + _LARGEST_VARIANCE) * np.maximum(value * (1 - value) / trials - variance, 0)
    )
    estimate = logit_normal(value, variance, trials, np.maximum(trials - 1, 1.0))
    others = (positive * (hits - 1) / np.maximum(flagged - 1, 1.0)).sum(-1) / trials
    about_others = logit_normal(np.clip(others, 0.0, value), variance, trials, np.maximum(trials - 1, 1.0))
    return estimate._replace(lower=np.minimum(estimate.lower, about_others.lower))


_LARGEST_VARIANCE = 5.0  # positives that the largest possible variance counts as


def _precisions_in_random_order(positive: Floats, events: Floats, hits_above: Floats, above: Floats) -> Floats:
    """Return the mean precision at the positives of each bin, (..., bins), over all orders of its events.

    At place i of t events, k of them positive, a positive has 1 + (i - 1)(k - 1)/(t - 1) of the bin's, in the mean.
    Counts may be fractions, of a window that is worth fewer events than it has; less than one event is one place.
    """
    harmonic = digamma(above + events + 1) - digamma(above + 1)  # Σ 1 / (above + i)
    growth = np.where(events > 1, np.clip((positive - 1) / np.maximum(events - 1, 1e-9), 0.0, 1.0), 0.0)
    found = (hits_above + np.minimum(positive, 1.0)) * harmonic + growth * (events - (above + 1) * harmonic)
    several: Floats = found / np.maximum(events, 1.0)
    return np.where(events > 1, several, (hits_above + positive) / np.maximum(above + events, 1e-9))


def expected_losses(scores: Floats, probability: Floats) -> tuple[Spread, Spread]:
    """Tell how log_loss and brier_score of single events vary if the scores are what they say: probabilities.

    `scores` are (..., columns, bins, 2), `probability`, (bins,), is that which a bin stands for; the column of a binary
    model is the positive class's. With more classes a Brier score is taken for its upper bound, 2 (1 - p)².
    """
    count = scores.sum(-1)
    binary = count.shape[-2] == 1
    n = count[..., 0, :].sum(-1)
    n = np.where(n > 0, n, np.nan)

    def spread(of: Floats, of_other: Floats) -> Spread:
        powers = [probability * of**power + binary * (1 - probability) * of_other**power for power in (1, 2, 3)]
        first, second, third = np.moveaxis((count @ np.stack(powers, axis=-1)).sum(-2), -1, 0) / n
        return Spread(np.maximum(second - first**2, 0.0), third / np.where(second > 0, second, 1.0))

    other = 1 - probability
    return spread(-np.log(probability), -np.log(other)), spread((1 if binary else 2) * other**2, probability**2)


def log_loss(n: Floats, total: Floats, total_of_squares: Floats, expected: Spread) -> Estimate:
    """Mean of −ln(probability given to the actual class), in nats, from its sum and its sum of squares."""
    return mean_of_losses(n, total, total_of_squares, expected)


def brier_score(n: Floats, total: Floats, total_of_squares: Floats, expected: Spread) -> Estimate:
    """Mean squared error of the probabilities (Brier 1950), from its sum and its sum of squares.

    For two classes the error is that of the positive class, in [0, 1]; for more it is summed over classes, up to 2.
    """
    return mean_of_losses(n, total, total_of_squares, expected)


def expected_calibration_error(count: Floats, positives: Floats, score_sum: Floats, brier: Floats) -> Estimate:
    """Σ over bins of |positives − Σ score| / n, in [0, 1], of a binary score (Naeini et al. 2015, AAAI).

    `count`, `positives` and `score_sum` are (..., bins); `brier`, (...), is the window's Brier score. The interval
    holds each bin's sign fixed: variance (Brier − ECE²) / n. Absolute values turn noise into error, so that the value
    is biased upwards, most of all near 0: by at most √(2/π) Σ √(variance of positives) / n, by which the lower limit
    is moved down. That variance is taken at (positives + 1) / (count + 2) of a bin (Agresti and Coull 1998, Am. Stat.
    52(2)): a small bin of positives alone is not free of noise. So the interval is wide, and covers 95 % or more from
    50 labels on.
    """
    n = count.sum(-1)
    n = np.where(n > 0, n, np.nan)
    value = np.abs(positives - score_sum).sum(-1) / n
    share = (positives + 1) / (count + 2)
    noise = np.sqrt(count * share * (1 - share))
    bias = np.sqrt(2 / np.pi) * noise.sum(-1) / n
    estimate = normal(value, (brier - value**2) / n, 0.0, 1.0)
    return estimate._replace(lower=np.maximum(estimate.lower - bias, 0.0))


def _at_least(counts: Floats) -> Floats:
    """Return the counts at or above each bin."""
    return np.flip(np.cumsum(np.flip(counts, -1), -1), -1)


def _smooth(confusion: Floats) -> tuple[Floats, Floats]:
    """Return the number of observations, NaN for none, and the smoothed shares of the cells for variances."""
    n = confusion.sum(_CELLS)
    cells = confusion.shape[-1] ** 2
    return np.where(n > 0, n, np.nan), (confusion + _SMOOTHING / cells) / (n + _SMOOTHING)[..., np.newaxis, np.newaxis]


def _delta(value: Floats, gradient: Floats, smooth: Floats, n: Floats, low: float = 0.0) -> Estimate:
    return normal(value, delta_multinomial(smooth, gradient, n, _CELLS), low, 1.0)


def _macro(values: Floats, gradients: Floats, smooth: Floats, n: Floats) -> Estimate:
    """Mean over the classes with a defined value: `values` (..., K), `gradients` (..., K, K, K) class first."""
    defined = ~np.isnan(values)
    classes = defined.sum(-1)
    classes = np.where(classes > 0, classes, np.nan)
    value = np.where(defined, values, 0.0).sum(-1) / classes
    gradient = (gradients * defined[..., np.newaxis, np.newaxis]).sum(-3) / classes[..., np.newaxis, np.newaxis]
    return _delta(value, gradient, smooth, n)


def _divide(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = part / np.where(whole > 0, whole, np.nan)
    return ratio


def _specificity(cells: Floats) -> Floats:
    binary = one_vs_rest(cells)
    return _divide(binary[..., 0, 0], binary[..., 0].sum(-1))


def _specificity_gradient(shares: Floats) -> Floats:
    """(..., class, predicted, actual): only the other columns matter."""
    other = 1 - np.eye(shares.shape[-1])
    column = other[:, np.newaxis, :]
    hit = other[:, :, np.newaxis] * column
    size = 1 - shares.sum(-2)[..., np.newaxis, np.newaxis]
    gradient: Floats = (hit - _specificity(shares)[..., np.newaxis, np.newaxis] * column) / size
    return gradient


def _f1(cells: Floats) -> Floats:
    return _divide(2 * np.diagonal(cells, axis1=-2, axis2=-1), cells.sum(-1) + cells.sum(-2))


def _f1_gradient(shares: Floats) -> Floats:
    """(..., class, predicted, actual): the class's row and column, its own cell in both."""
    own = np.eye(shares.shape[-1])
    row, column = own[:, :, np.newaxis], own[:, np.newaxis, :]
    size = (shares.sum(-1) + shares.sum(-2))[..., np.newaxis, np.newaxis]
    gradient: Floats = (2 * row * column - _f1(shares)[..., np.newaxis, np.newaxis] * (row + column)) / size
    return gradient


def _correlation(shares: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """R_K, the shares by predicted and by actual class (..., K), and the spreads 1 − Σ share² of both (..., 1)."""
    predicted, actual = shares.sum(-1), shares.sum(-2)
    spread_predicted = 1 - (predicted**2).sum(-1)
    spread_actual = 1 - (actual**2).sum(-1)
    covariance = np.trace(shares, axis1=-2, axis2=-1) - (predicted * actual).sum(-1)
    value = covariance / np.sqrt(spread_predicted * spread_actual)
    return value, predicted, actual, spread_predicted[..., np.newaxis], spread_actual[..., np.newaxis]
