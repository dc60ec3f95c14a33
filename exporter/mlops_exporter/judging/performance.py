"""Performance of a model over any sums of its ledger: each metric's name, and the statistic behind it."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import CALIBRATION_BINS, Layout
from mlops_exporter.profile.profile import Task
from mlops_exporter.statistics import calibration, classification, regression
from mlops_exporter.statistics.intervals import Estimate

PerformanceMetric = Callable[["PerformanceSums"], Estimate]


class PerformanceSums:
    """The parts of ledgers that performance is made of; `totals` is (..., cells)."""

    def __init__(self, layout: Layout, totals: Floats) -> None:
        k = len(layout.profile.classes)
        leading = totals.shape[:-1]
        self.labels = totals[..., layout.labels.start]
        self.moments = totals[..., layout.moments]
        self.confusion = totals[..., layout.confusion].reshape(*leading, k, k)
        self.columns = layout.score_columns
        if self.columns:
            self.scores = totals[..., layout.score_by_class].reshape(*leading, layout.score_columns, -1, 2)
            calibrated = totals[..., layout.calibration].reshape(*leading, 3, CALIBRATION_BINS)
            self.calibration, self.calibration_positives, self.calibration_scores = np.moveaxis(calibrated, -2, 0)
            self.scored = self.calibration.sum(-1)
            self.loss, self.loss_squares, self.brier, self.brier_squares = np.moveaxis(
                totals[..., layout.probability_losses], -1, 0
            )


def _calibration_error(sums: PerformanceSums) -> Estimate:
    """Return the expected calibration error of the positive class, of more classes that of the top one."""
    counts = sums.calibration, sums.calibration_positives, sums.calibration_scores
    if sums.columns == 1:
        return classification.expected_calibration_error(*counts, sums.brier / sums.scored)
    return classification.expected_calibration_error(*counts, calibration.top_class_error(*counts))


def _if_calibrated(sums: PerformanceSums) -> Estimate:
    value = calibration.expected_error_if_calibrated(sums.calibration, sums.calibration_scores)
    return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))


_PROBABILITY: dict[str, PerformanceMetric] = {
    "log_loss": lambda s: classification.log_loss(s.scored, s.loss, s.loss_squares),
    "brier_score": lambda s: classification.brier_score(s.scored, s.brier, s.brier_squares),
    "expected_calibration_error": _calibration_error,
    "expected_calibration_error_by_chance": _if_calibrated,
    "expected_calibration_error_corrected": lambda s: calibration.without_bias(
        _calibration_error(s), _if_calibrated(s).value
    ),
}

METRICS: dict[Task, dict[str, PerformanceMetric]] = {
    "binary": {
        "accuracy": lambda s: classification.accuracy(s.confusion),
        "balanced_accuracy": lambda s: classification.balanced_accuracy(s.confusion),
        "precision": lambda s: classification.precision(s.confusion),
        "recall": lambda s: classification.recall(s.confusion),
        "specificity": lambda s: classification.specificity(s.confusion),
        "f1": lambda s: classification.f1(s.confusion),
        "mcc": lambda s: classification.mcc(s.confusion),
        "roc_auc": lambda s: classification.roc_auc(s.scores[..., 0, :, :]),
        "average_precision": lambda s: classification.average_precision(s.scores[..., 0, :, :]),
        **_PROBABILITY,
    },
    "multiclass": {
        "accuracy": lambda s: classification.accuracy(s.confusion),
        "balanced_accuracy": lambda s: classification.balanced_accuracy(s.confusion),
        "precision": lambda s: classification.macro_precision(s.confusion),
        "recall": lambda s: classification.macro_recall(s.confusion),
        "specificity": lambda s: classification.macro_specificity(s.confusion),
        "f1": lambda s: classification.macro_f1(s.confusion),
        "mcc": lambda s: classification.mcc(s.confusion),
        "roc_auc": lambda s: classification.macro_roc_auc(s.scores),
        **_PROBABILITY,
    },
    "regression": {
        "mae": lambda s: regression.mae(s.moments),
        "rmse": lambda s: regression.rmse(s.moments),
        "mape": lambda s: regression.mape(s.moments),
        "r2": lambda s: regression.r2(s.moments),
        "bias": lambda s: regression.bias(s.moments),
    },
}
"""The metrics of each task by name, in the order of their exposition."""

CLASS_METRICS: dict[str, PerformanceMetric] = {
    "precision": lambda s: classification.precision(classification.one_vs_rest(s.confusion)),
    "recall": lambda s: classification.recall(classification.one_vs_rest(s.confusion)),
    "specificity": lambda s: classification.specificity(classification.one_vs_rest(s.confusion)),
    "f1": lambda s: classification.f1(classification.one_vs_rest(s.confusion)),
    "roc_auc": lambda s: classification.roc_auc(s.scores),
}
"""One class against all others (multiclass), (..., K)."""

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1"), (0.0, 1.0)),
    **dict.fromkeys(("roc_auc", "average_precision"), (0.0, 1.0)),
    **dict.fromkeys((name for name in _PROBABILITY if name.startswith("expected_calibration_error")), (0.0, 1.0)),
    "brier_score": (0.0, 2.0),
    "mcc": (-1.0, 1.0),
}
"""Smallest and largest possible value of the metrics that have both."""

BETTER: dict[str, Literal["higher", "lower"]] = {
    name: "lower" if name in _PROBABILITY or name in ("mae", "rmse", "mape") else "higher"
    for metrics in METRICS.values()
    for name in metrics
    if name != "bias"
}
"""Which way each metric is better; bias is best at 0."""

_OF_SCORES = frozenset({*_PROBABILITY, "roc_auc", "average_precision"})


def needs_scores(metric: str) -> bool:
    """Tell whether a metric is made of probabilities, which not every model's events carry."""
    return metric in _OF_SCORES


def metrics_of(layout: Layout) -> dict[str, PerformanceMetric]:
    """Return the metrics that a model can have: without scores in its profile, none of theirs."""
    return _possible(METRICS[layout.profile.task], layout)


def class_metrics_of(layout: Layout) -> dict[str, PerformanceMetric]:
    """Return the per-class metrics that a model can have."""
    return _possible(CLASS_METRICS, layout) if layout.profile.task == "multiclass" else {}


def _possible(metrics: dict[str, PerformanceMetric], layout: Layout) -> dict[str, PerformanceMetric]:
    return {name: metric for name, metric in metrics.items() if layout.score_columns or name not in _OF_SCORES}
