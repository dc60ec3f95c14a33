"""Regression metrics from power sums, which add up over batches, windows and replicas.

With error e = prediction − label and w = label − shift, where `shift` is fixed per model (the reference mean of the
label): sums about a point near the mean keep the digits that Σy² − (Σy)²/n loses.
"""

from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics.intervals import Estimate, log_normal, mean_and_variance, mean_from_sums


class Moments(NamedTuple):
    """The sums that are kept, in the order of their cells; their names are the documentation of the ledger."""

    n: Floats  # pairs of prediction and label
    absolute: Floats  # Σ |e|
    error: Floats  # Σ e
    error2: Floats  # Σ e²
    error4: Floats  # Σ e⁴
    relative: Floats  # Σ |e / label| over labels other than 0
    relative2: Floats  # Σ (e / label)² over labels other than 0
    zeros: Floats  # labels equal to 0
    label: Floats  # Σ w
    label2: Floats  # Σ w²
    label3: Floats  # Σ w³
    label4: Floats  # Σ w⁴
    error2_label: Floats  # Σ e² w
    error2_label2: Floats  # Σ e² w²


CELLS = len(Moments._fields)

SMALLEST_LABEL = 1e-50  # smaller ones count as 0, so that the squares of relative errors stay finite


def moments(prediction: Floats, label: Floats, shift: float) -> Floats:
    """Add up one batch, (CELLS,), from predictions and labels of shape (batch,)."""
    error = prediction - label
    squared = error * error
    zero = np.abs(label) < SMALLEST_LABEL
    relative = np.divide(np.abs(error), np.abs(label), out=np.zeros_like(error), where=~zero)
    centred = label - shift
    centred2 = centred * centred
    return np.array(
        Moments(
            n=np.asarray(len(error), dtype=np.float64),
            absolute=np.abs(error).sum(),
            error=error.sum(),
            error2=squared.sum(),
            error4=squared @ squared,
            relative=relative.sum(),
            relative2=relative @ relative,
            zeros=zero.sum(dtype=np.float64),
            label=centred.sum(),
            label2=centred2.sum(),
            label3=centred @ centred2,
            label4=centred2 @ centred2,
            error2_label=squared @ centred,
            error2_label2=squared @ centred2,
        )
    )


def split(sums: Floats) -> Moments:
    """Name the last axis of `sums`, (..., CELLS)."""
    return Moments(*np.moveaxis(sums, -1, 0))


def overprediction_sum(sums: Floats) -> Floats:
    """Σ max(e, 0), in the label's unit."""
    m = split(sums)
    return (m.absolute + m.error) / 2


def underprediction_sum(sums: Floats) -> Floats:
    """Σ max(−e, 0), in the label's unit."""
    m = split(sums)
    return (m.absolute - m.error) / 2


def mae(sums: Floats) -> Estimate:
    """Mean absolute error, in the label's unit, with the central limit theorem's interval."""
    m = split(sums)
    return mean_from_sums(m.n, m.absolute, m.error2, low=0.0)


def bias(sums: Floats) -> Estimate:
    """Mean error, prediction − label, in the label's unit: positive when the model predicts too much."""
    m = split(sums)
    return mean_from_sums(m.n, m.error, m.error2)


def rmse(sums: Floats) -> Estimate:
    """Root mean squared error, in the label's unit: the root of the mean squared error and of its log-scale interval.

    The variance needs the errors' fourth moment: with heavy tails the interval is too short in small windows.
    """
    m = split(sums)
    return Estimate(*map(np.sqrt, log_normal(*mean_and_variance(m.n, m.error2, m.error4))))


def mape(sums: Floats) -> Estimate:
    """Mean absolute percentage error as a ratio, over the labels other than 0. NaN where there is none.

    scikit-learn divides by the machine epsilon at a label of 0 and returns an astronomically large number.
    """
    m = split(sums)
    return mean_from_sums(m.n - m.zeros, m.relative, m.relative2, low=0.0)


def r2(sums: Floats) -> Estimate:
    """Coefficient of determination 1 − Σe² / Σ(y − ȳ)², at most 1. NaN with fewer than 2 labels or constant ones.

    Delta method for the log of a ratio of two means: an event's influence on r = A / V, with A = mean e² and
    V = mean (y − ȳ)², is (e² − r (y − ȳ)²) / V.
    """
    m = split(sums)
    n = np.where(m.n > 1, m.n, np.nan)
    mean = m.label / n
    # Central moments of the label and their products with e², from sums about `shift`.
    variance = m.label2 / n - mean**2
    variance = np.where(variance > 1e-14 * m.label2 / n, variance, np.nan)
    fourth = (m.label4 - 4 * mean * m.label3 + 6 * mean**2 * m.label2) / n - 3 * mean**4
    crossed = (m.error2_label2 - 2 * mean * m.error2_label + mean**2 * m.error2) / n
    ratio = m.error2 / n / variance
    influence = (m.error4 / n - 2 * ratio * crossed + ratio**2 * fourth) / variance**2
    ratio, lower, upper = log_normal(ratio, np.maximum(influence, 0.0) / (n - 1))
    return Estimate(1 - ratio, 1 - upper, 1 - lower)
