"""Metrics of forecasts and of announced quantiles from power sums, which add up over batches, windows and replicas.

With error e = prediction − label y, and d = naive − y of a forecast that costs nothing, as yesterday's value. A
quantile forecast f of level q loses max(q (y − f), (q − 1) (y − f)), the pinball loss (Koenker and Bassett 1978,
Econometrica 46(1)). Quantiles whose levels q and 1 − q are both announced are the ends of an interval of level 1 − 2 q.

f is a quantile of level q where P(y < f) ≤ q ≤ P(y ≤ f). Of counts the two differ, as many labels equal a quantile, so
both are kept: between true quantiles lies at least the interval's level with its ends, and at most that without them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.statistics.intervals import (
    Estimate,
    Spread,
    log_normal,
    mean_and_variance,
    mean_from_sums,
    mean_of_losses,
    normal,
    wilson,
)


class Sums(NamedTuple):
    """The sums that are kept of each horizon, in the order of their cells; the last six have a cell each by level."""

    n: Floats  # pairs of forecast and label
    absolute: Floats  # Σ |e|
    error: Floats  # Σ e
    error2: Floats  # Σ e²
    error4: Floats  # Σ e⁴
    label: Floats  # Σ |y|
    label2: Floats  # Σ y²
    absolute_label: Floats  # Σ |e y|
    naive_n: Floats  # pairs that have a naive forecast, too; of these alone:
    naive_absolute: Floats  # Σ |e|
    naive_error2: Floats  # Σ e²
    naive: Floats  # Σ |d|
    naive2: Floats  # Σ d²
    naive_crossed: Floats  # Σ |e d|
    quantile_n: Floats  # labels with announced quantiles
    loss: Floats  # Σ mean pinball loss of an event's quantiles
    loss2: Floats  # Σ (mean pinball loss)²
    losses: Floats  # Σ pinball loss, (..., Q)
    losses2: Floats  # Σ pinball loss², (..., Q)
    below: Floats  # labels at or below the quantile, (..., Q)
    strictly_below: Floats  # labels below the quantile, (..., Q)
    covered: Floats  # labels inside the interval, ends included, (..., I)
    strictly_covered: Floats  # labels inside the interval, ends left out, (..., I)


_NOTHING_EXPECTED = Spread(np.zeros(()), np.zeros(()))

_SINGLE = len(Sums._fields) - 6


def intervals(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Return the places of the two ends of each announced interval among ascending levels, the widest first."""
    found = []
    for low, level in enumerate(levels):
        ends = [high for high in range(low + 1, len(levels)) if abs(level + levels[high] - 1) < 1e-9]
        found += [(low, high) for high in ends]
    return found


def nominal(levels: Sequence[float]) -> list[float]:
    """Return the share of labels that each announced interval should cover, the largest first."""
    return [round(levels[high] - levels[low], 12) for low, high in intervals(levels)]


def cells(levels: Sequence[float]) -> int:
    """Return how many cells a horizon has."""
    return _SINGLE + 4 * len(levels) + 2 * len(intervals(levels))


def sums(
    prediction: Floats,
    label: Floats,
    naive: Floats,
    quantiles: Floats,
    levels: Sequence[float],
    codes: Ints,
    count: int,
) -> Floats:
    """Add up a batch, (count, cells), from predictions and labels, (n,), by the code of their horizon.

    `naive` is (n,) and `quantiles` (n, Q), NaN where there are none: a row has all quantiles, or none.
    """
    error, distance = np.abs(prediction - label), np.abs(naive - label)
    known = ~np.isnan(distance)
    told: Flags = np.asarray(~np.isnan(quantiles).any(axis=1) & (len(levels) > 0))
    distance, of_known = np.where(known, distance, 0.0), np.where(known, error, 0.0)
    above = np.where(told[:, np.newaxis], label[:, np.newaxis] - quantiles, 0.0)
    shares = np.array(levels)
    losses = np.maximum(shares * above, (shares - 1) * above)
    mean = losses.mean(axis=1) if len(levels) else np.zeros(len(label))
    below = (above <= 0) & told[:, np.newaxis]
    strictly_below = (above < 0) & told[:, np.newaxis]
    inside = [below[:, high] & (above[:, low] >= 0) for low, high in intervals(levels)]
    between = [strictly_below[:, high] & (above[:, low] > 0) for low, high in intervals(levels)]
    size = np.abs(label)
    single = [
        *(np.ones(len(label)), error, prediction - label, error**2, error**4, size, size**2, error * size),
        *(known, of_known, of_known**2, distance, distance**2, of_known * distance),
        *(told, mean, mean**2),
    ]
    rows = np.column_stack([*single, losses, losses**2, below, strictly_below, *inside, *between]).astype(np.float64)
    width = rows.shape[1]
    places = codes[:, np.newaxis] * width + np.arange(width)
    added = np.bincount(places.ravel(), rows.ravel(), minlength=count * width)
    return np.asarray(added.reshape(count, width), np.float64)


def split(kept: Floats, levels: Sequence[float]) -> Sums:
    """Name the last axis of sums, (..., cells)."""
    q = len(levels)
    widths = [_SINGLE, q, q, q, q, len(intervals(levels))]
    parts = np.split(kept, np.cumsum(widths), axis=-1)
    return Sums(*np.moveaxis(parts[0], -1, 0), *parts[1:])


def mae(s: Sums) -> Estimate:
    """Mean absolute error, in the label's unit, with the central limit theorem's interval."""
    return mean_from_sums(s.n, s.absolute, s.error2, low=0.0)


def rmse(s: Sums) -> Estimate:
    """Root mean squared error, in the label's unit, with the interval of the mean squared error on the log scale."""
    return Estimate(*map(np.sqrt, log_normal(*mean_and_variance(s.n, s.error2, s.error4))))


def bias(s: Sums) -> Estimate:
    """Mean error, prediction − label, in the label's unit: positive when too much is forecast."""
    return mean_from_sums(s.n, s.error, s.error2)


def wape(s: Sums) -> Estimate:
    """Weighted absolute percentage error Σ|e| / Σ|y|, as a ratio. NaN where all labels are 0."""
    return _ratio(s.n, s.absolute, s.label, s.error2, s.label2, s.absolute_label)


def skill(s: Sums) -> Estimate:
    """Return 1 − Σ|e| / Σ|d| over what has a naive forecast: 0 is no better than that, 1 is without error.

    The complement of the relative mean absolute error (Hyndman and Koehler 2006, Int. J. Forecast. 22(4)).
    """
    value, lower, upper = _ratio(s.naive_n, s.naive_absolute, s.naive, s.naive_error2, s.naive2, s.naive_crossed)
    return Estimate(1 - value, 1 - upper, 1 - lower)


def skill_after_a_miss(s: Sums, size: float, least: float) -> Estimate:
    """Return skill as it is held against `least`, also beside a naive forecast that has made no error.

    There skill would be −∞ whatever the errors are. In its place stands the difference of the errors,
    Σ((1 − `least`) |d| − |e|), as a share of Σ|e| and above `least`, by the central limit theorem. That n labels had no
    naive error does not tell that none is to come: one label more has one of a label's size, Σy² / Σ|y|, or of `size`,
    that of the reference's naive errors, where it is larger. NaN where neither is known.
    """
    exact = (s.naive == 0) & (s.naive_absolute > 0)
    missed = np.fmax(s.label2 / np.where(s.label > 0, s.label, np.nan), size if size > 0 else np.nan)
    n, scale = s.naive_n + 1, np.where(exact, s.naive_absolute, np.nan)
    gain = (1 - least) * missed
    mean, variance = mean_and_variance(n, gain - s.naive_absolute, s.naive_error2 + gain**2)
    beside = normal(least + mean * n / scale, variance * (n / scale) ** 2)
    return Estimate(*(np.where(exact, one, other) for one, other in zip(beside, skill(s), strict=True)))


def naive_errors(s: Sums) -> tuple[Floats, Floats]:
    """Return the mean absolute and the mean squared error of the naive forecast, by which mase and rmsse scale."""
    n = np.where(s.naive_n > 0, s.naive_n, np.nan)
    return s.naive / n, s.naive2 / n


def mase(s: Sums, absolute: float) -> Estimate:
    """Mean absolute scaled error: mae by the mean `absolute` error of the reference's naive forecast.

    Hyndman and Koehler 2006, Int. J. Forecast. 22(4). NaN where that is 0 or unknown.
    """
    return _scaled(mae(s), absolute)


def rmsse(s: Sums, squared: float) -> Estimate:
    """Root mean squared scaled error: the root of the mean squared error by the reference's naive one, `squared`.

    Makridakis, Spiliotis and Assimakopoulos 2022, Int. J. Forecast. 38(4). NaN where that is 0 or unknown.
    """
    return _scaled(rmse(s), float(np.sqrt(squared)))


def pinball_loss(s: Sums) -> Estimate:
    """Mean over events and quantiles of the pinball loss, in the label's unit; a few losses are large."""
    return mean_of_losses(s.quantile_n, s.loss, s.loss2, _NOTHING_EXPECTED)


def pinball_losses(s: Sums) -> Estimate:
    """Mean pinball loss of each quantile, (..., Q)."""
    return mean_of_losses(s.quantile_n[..., np.newaxis], s.losses, s.losses2, _NOTHING_EXPECTED)


def shares_below(s: Sums) -> Estimate:
    """Share of labels at or below each quantile, (..., Q): at least its level; Wilson's interval."""
    return wilson(s.below, s.quantile_n[..., np.newaxis])


def shares_strictly_below(s: Sums) -> Estimate:
    """Share of labels below each quantile, (..., Q): at most its level; Wilson's interval."""
    return wilson(s.strictly_below, s.quantile_n[..., np.newaxis])


def coverages(s: Sums) -> Estimate:
    """Share of labels inside each interval, ends included, (..., I): at least its level; Wilson's interval."""
    return wilson(s.covered, s.quantile_n[..., np.newaxis])


def coverage(s: Sums) -> Estimate:
    """Share of labels inside the widest interval, ends included."""
    return wilson(s.covered[..., 0], s.quantile_n)


def strict_coverage(s: Sums) -> Estimate:
    """Share of labels inside the widest interval, ends left out: at most its level; Wilson's interval."""
    return wilson(s.strictly_covered[..., 0], s.quantile_n)


def _scaled(estimate: Estimate, scale: float) -> Estimate:
    scale = scale if scale > 0 else np.nan
    return Estimate(*(part / scale for part in estimate))


def _ratio(n: Floats, top: Floats, bottom: Floats, top2: Floats, bottom2: Floats, crossed: Floats) -> Estimate:
    """Σa / Σb of numbers ≥ 0 with the delta method's interval on the log scale (Cochran 1977, Sampling Techniques)."""
    n = np.where(n > 0, n, np.nan)
    known = np.where(bottom > 0, bottom, np.nan)
    ratio = top / known
    squares = np.maximum(top2 - 2 * ratio * crossed + ratio**2 * bottom2, 0.0)
    # Where a is a multiple of b, rounding leaves of the squares what is no variance.
    squares = np.where(squares > 1e-12 * top2, squares, 0.0)
    variance = squares / n / np.where(n > 1, n - 1, np.nan) / (known / n) ** 2
    return log_normal(ratio, variance)
