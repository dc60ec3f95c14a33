"""The one judge: from which number on something is wrong with a model, and what that is called.

The landing page and `/api/v1/status` call these functions. `prometheus.source` makes the alerts' expressions and the
`ml:threshold:*` series of the same numbers, and `ml:model:state`, which the dashboards show, of the same verdicts. A
test feeds the same situations to all of them. What alerts add is time: they wait, and hold on for a while.

Windows are judged in ascending order of their lengths; all arrays begin with them, (W, ..). NaN judges nothing.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.special import ndtri

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.statistics.intervals import Estimate

Verdict = Literal[
    "failing", "unusable", "erring", "silent", "suspect", "unfair", "drifting", "impaired", "unknown", "good"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""From what needs somebody most to what needs nobody."""

Tone = Literal["bad", "warn", "quiet", "good"]

WORDS: dict[Verdict, tuple[str, Tone]] = {
    "failing": ("Misses its benchmark", "bad"),
    "unusable": ("Gets unusable data", "bad"),
    "erring": ("Predictions fail", "bad"),
    "silent": ("No predictions", "bad"),
    "suspect": ("May be failing", "warn"),
    "unfair": ("Treats groups unlike", "warn"),
    "drifting": ("Drifting", "warn"),
    "impaired": ("Gets poor data", "warn"),
    "unknown": ("Performance unknown", "quiet"),
    "good": ("Good", "good"),
}
"""What each verdict is called wherever it is shown, and how loud it is."""


class Threshold(NamedTuple):
    """A number and what it bounds."""

    value: float
    meaning: str


LIMITS: dict[str, Threshold] = {
    "min_labels": Threshold(100, "Labels in a window below which its performance raises no alert."),
    "min_predictions": Threshold(800, "Predictions in a window below which its data raise no alert."),
    "benchmark_chance": Threshold(
        0.3, "Times a month that windows of one length may, by chance, show a model at its benchmark beyond it."
    ),
    "calibration_error_excess": Threshold(0.03, "Expected calibration error above the reference's own."),
    "drifted_features_ratio": Threshold(0.1, "Share of a model's features that must drift together."),
    "severe_drift_psi": Threshold(0.25, "PSI from which a single drifted feature is worth an alert."),
    "performance_loss": Threshold(
        0.02, "Share by which performance must surely be worse than the reference's to count."
    ),
    "missing_excess": Threshold(0.05, "Share of missing values above the reference's."),
    "invalid_excess": Threshold(0.01, "Share of invalid values above the reference's."),
    "out_of_range": Threshold(0.01, "Share of values outside the reference's range."),
    "unseen_excess": Threshold(0.01, "Share of values in unlisted categories above the reference's."),
    "unusable_excess": Threshold(0.5, "Share of missing or invalid values, above the reference's, that pages."),
    "failures_ratio": Threshold(0.05, "Share of predictions that fail."),
    "busy_events": Threshold(30, "Events yesterday and a week ago at this time from which silence is odd."),
}
"""The numbers that judge a model, by the name of their series `ml:threshold:NAME`."""

LEAST_SKILL = 0.02
"""Share by which a forecast's errors must be smaller than the naive forecast's."""

COVERAGE_GAP = 0.05
"""By how much the share of labels inside announced intervals may differ from the nominal one."""

STANDARD_ERRORS = 4.0
"""By so many the share of poor values must exceed what the reference and the limit allow."""

CALIBRATION_NOISE = 1.3
"""What chance alone makes of the calibration error of n labels is at most about so much by √n."""

MONTH_SECONDS = 30 * 86400.0
ONE_SIDED = 0.025
"""What lies beyond either end of a 95 % interval."""

NORMAL_QUANTILE = 1.96
"""Half the width of a 95 % interval in standard errors."""

CAUTIOUS_STATISTICS = frozenset({"pca_reconstruction"})
"""Multivariate statistics whose noise in short windows exceeds their smallest effect, so that a month of looks counts.
"""


def limit(name: str) -> float:
    """Return one of the numbers; raises KeyError for an unknown one."""
    return LIMITS[name].value


def caution(seconds: Floats) -> Floats:
    """Return how many times its width a 95 % interval of windows of that length must have, (W,).

    So that a model at its benchmark looks worse by chance `benchmark_chance` times in a month of such windows: a short
    one has many chances.
    """
    return np.asarray(-ndtri(chance(seconds)) / NORMAL_QUANTILE, np.float64)


def chance(seconds: Floats) -> Floats:
    """Return how probable a false alarm of one window of that length may be, (W,), by `benchmark_chance` a month."""
    return np.minimum(seconds * limit("benchmark_chance") / MONTH_SECONDS, ONE_SIDED)


def of_full(sizes: Floats, filled: Floats) -> Floats:
    """Return sample sizes, (W,), 0 for windows that are not `filled` yet: they hold some hours of the day alone."""
    return np.where(filled >= 1, sizes, 0.0)


def freshest(sizes: Floats, least: float) -> int | None:
    """Return the shortest window that holds enough, None if none does; `sizes` (W,)."""
    enough = np.flatnonzero(sizes >= least)
    return int(enough[0]) if len(enough) else None


def outside(estimate: Estimate, minimum: float | None, maximum: float | None, widened: Floats | float = 1.0) -> Flags:
    """Tell of which windows the whole interval, `widened` so many times, lies beyond a bound, (W,)."""
    value, lower, upper = estimate
    low = -np.inf if minimum is None else minimum
    high = np.inf if maximum is None else maximum
    return np.asarray((value + (upper - value) * widened < low) | (value + (lower - value) * widened > high))


def judged(estimate: Estimate, sizes: Floats, least: float) -> bool:
    """Tell whether any window can be held against a benchmark; parts of the estimate and `sizes` are (W,)."""
    whole = np.isfinite(estimate.lower) & np.isfinite(estimate.upper) & (sizes >= least)
    return bool(whole.any())


def missed(
    estimate: Estimate, minimum: float | None, maximum: float | None, sizes: Floats, least: float, widened: Floats
) -> int | None:
    """Return the shortest window that is surely beyond a bound, unless the freshest is surely on its right side."""
    found: list[int] = []
    now = freshest(sizes, least)
    for low, high in ((minimum, None), (None, maximum)):
        beyond = np.flatnonzero(outside(estimate, low, high, widened) & (sizes >= least))
        kept = now is not None and bool(
            (low is not None and estimate.lower[now] > low) or (high is not None and estimate.upper[now] < high)
        )
        found += [] if kept else beyond[:1].tolist()
    return min(found, default=None)


def miscalibrated(error: Estimate, labels: Floats, reference: float) -> int | None:
    """Return the shortest window whose calibration error is surely above the reference's by more than is tolerated."""
    noise = CALIBRATION_NOISE / np.sqrt(labels)
    beyond = error.lower - noise - reference > limit("calibration_error_excess")
    found = np.flatnonzero(beyond & (labels >= limit("min_labels")))
    return int(found[0]) if len(found) else None


def excess(ratio: Floats, n: Floats | float, reference: Floats | float = 0.0) -> Floats:
    """Return by how much a share surely exceeds the reference's: less four standard errors."""
    return np.asarray(ratio - STANDARD_ERRORS * np.sqrt(ratio * (1 - ratio) / n) - reference, np.float64)


def many_drift(controlled: float, features: int) -> bool:
    """Tell whether so many features drift together, false discoveries controlled, that something has happened."""
    return controlled > 0 and controlled >= features * limit("drifted_features_ratio")


def far(psi: Floats, thresholds: Floats) -> Flags:
    """Tell which features have moved so far that one alone is worth telling, (F,)."""
    return np.asarray((psi > thresholds) & (psi >= limit("severe_drift_psi")))


def of_threshold(values: Mapping[str, float], thresholds: Mapping[str, float], caution: float) -> dict[str, float]:
    """Return how many times its own threshold each statistic is, where it is above it."""
    ratios = {
        name: value / thresholds[name] / (caution if name in CAUTIOUS_STATISTICS else 1.0)
        for name, value in values.items()
        if thresholds[name] > 0
    }
    return {name: ratio for name, ratio in ratios.items() if ratio > 1}


def failing_share(failures: Floats, predictions: Floats) -> tuple[int, float] | None:
    """Return the freshest busy window and the share of its predictions that fail, where that is too much."""
    row = freshest(predictions, limit("busy_events"))
    if row is None or (share := float(failures[row] / predictions[row])) <= limit("failures_ratio"):
        return None
    return row, share


def silent(predictions: Floats, seconds: Floats) -> tuple[int, float] | None:
    """Return the longest window that is odd to be empty, and how many events it usually has.

    The longest window of all is odd to be empty whatever the model does; a shorter one where the mean rate of the
    longest makes it busy. Alerts, which remember yesterday, know the hours at which a model sleeps; this does not.
    """
    if predictions[-1] == 0:
        return len(predictions) - 1, 0.0
    usual = predictions[-1] * seconds / seconds[-1]
    found = np.flatnonzero((predictions == 0) & (usual >= limit("busy_events")))
    return (int(found[-1]), float(usual[found[-1]])) if len(found) else None
