"""Calibration: how far probabilities are from frequencies, and a map that brings them nearer."""

import numpy as np
from scipy.special import gammaln, xlogy

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics.intervals import Estimate


def expected_error_if_calibrated(count: Floats, score_sum: Floats) -> Floats:
    """Mean of the expected calibration error that a perfectly calibrated model shows by chance, (...), in [0, 1].

    `count` and `score_sum` are (..., bins). In a bin of n predictions with mean score p the positives are binomial, and
    the mean of |positives − n p| is 2 (m + 1) C(n, m + 1) p^(m+1) (1 − p)^(n−m) with m = ⌊n p⌋ (de Moivre 1730;
    Diaconis and Zabell 1991, Stat. Sci. 6(3)). That p varies a little within a bin makes the truth a trifle smaller.
    """
    n = count.sum(-1)
    mean = np.clip(score_sum / np.where(count > 0, count, 1.0), 0.0, 1.0)
    m = np.minimum(np.floor(count * mean), np.maximum(count - 1, 0))
    ways = gammaln(count + 1) - gammaln(m + 2) - gammaln(np.maximum(count - m, 1.0))
    deviation = 2 * (m + 1) * np.exp(ways + xlogy(m + 1, mean) + xlogy(count - m, 1 - mean))
    floor: Floats = np.where(count > 0, deviation, 0.0).sum(-1) / np.where(n > 0, n, np.nan)
    return floor


def without_bias(error: Estimate, if_calibrated: Floats) -> Estimate:
    """Take off what chance alone adds to the expected calibration error of a calibrated model, not below 0.

    Right for a calibrated model; for a badly calibrated one, whose error chance hardly inflates, too low by at most
    `if_calibrated`: it errs on the side of silence. The interval, which is one for the truth, stays.
    """
    return error._replace(value=np.clip(error.value - if_calibrated, error.lower, error.upper))


def top_class_error(count: Floats, correct: Floats, confidence_sum: Floats) -> Floats:
    """Mean squared error of the top class's probability, (...), from the bins: its calibration's interval needs it."""
    n = np.where(count > 0, count, np.nan)
    mean, share = confidence_sum / n, correct / n
    squares = np.where(count > 0, count * ((mean - share) ** 2 + share * (1 - share)), 0.0).sum(-1)
    total = count.sum(-1)
    error: Floats = squares / np.where(total > 0, total, np.nan)
    return error


def isotonic(positives: Floats, count: Floats, scores: Floats) -> Floats:
    """Frequencies that ascend with the score, (bins,), nearest to the observed ones in least squares.

    Pool adjacent violators (Barlow et al. 1972, Statistical Inference under Order Restrictions). `scores`, (bins,), are
    each bin's mean score; a bin without count takes a value between its neighbours', in proportion to the score.
    """
    seen = np.flatnonzero(count > 0)
    values: list[float] = []
    weights: list[float] = []
    lengths: list[int] = []
    for bin_ in seen.tolist():
        values.append(float(positives[bin_] / count[bin_]))
        weights.append(float(count[bin_]))
        lengths.append(1)
        while len(values) > 1 and values[-2] >= values[-1]:
            weight = weights[-2] + weights[-1]
            value = (values[-2] * weights[-2] + values[-1] * weights[-1]) / weight
            length = lengths[-2] + lengths[-1]
            del values[-1], weights[-1], lengths[-1]
            values[-1], weights[-1], lengths[-1] = value, weight, length
    fitted: Floats = np.interp(scores, scores[seen], np.repeat(values, lengths))
    return fitted


def binned_error(positives: Floats, count: Floats, probability: Floats, bins: int = 10) -> float:
    """Return the expected calibration error over `bins` equal widths, from fine bins with a probability each."""
    coarse = np.minimum((probability * bins).astype(np.intp), bins - 1)
    gap = np.bincount(coarse, positives - count * probability, bins)
    return float(np.abs(gap).sum() / count.sum())


def calibrate(folds: Floats, scores: Floats) -> Floats | None:
    """Return calibrated probabilities by bin, (bins,), or None where the scores themselves are calibrated better.

    `folds` are counts (K, bins, 2) of negatives and positives in K random parts of the reference. The isotonic map is
    taken if, fitted on the other parts, it lowers the expected calibration error of the part held out, on average.
    """
    total = folds.sum(0)
    before, after = [], []
    for fold in folds:
        if not fold.sum():
            continue
        rest = total - fold
        count = fold.sum(-1)
        fitted = isotonic(rest[:, 1], rest.sum(-1), scores)
        before.append(binned_error(fold[:, 1], count, scores))
        after.append(binned_error(fold[:, 1], count, fitted))
    if not before or np.mean(after) >= np.mean(before):
        return None
    return isotonic(total[:, 1], total.sum(-1), scores)
