"""Performance of a model over any sums of its ledger: each metric's name, and the statistic behind it."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import CALIBRATION_BINS, Layout
from mlops_exporter.profile.lists import LONGEST
from mlops_exporter.profile.profile import Profile, Task
from mlops_exporter.settings.models import CostSettings
from mlops_exporter.statistics import (
    calibration,
    classification,
    cost,
    forecast,
    multilabel,
    ranking,
    ratings,
    regression,
)
from mlops_exporter.statistics.intervals import Estimate, Spread

PerformanceMetric = Callable[["PerformanceSums"], Estimate]


class PerformanceSums:
    """The parts of ledgers that performance is made of; `totals` is (..., cells)."""

    def __init__(self, layout: Layout, totals: Floats) -> None:
        k = len(layout.profile.classes)
        leading = totals.shape[:-1]
        self.labels = totals[..., layout.labels.start]
        self.moments = totals[..., layout.moments]
        if layout.horizons:
            kept = totals[..., layout.forecasts].reshape(*leading, layout.horizons, -1)
            self.by_horizon = forecast.split(kept, layout.levels)
            self.forecasts = forecast.split(kept.sum(-2), layout.levels)
            told = layout.profile.forecast
            self.naive_absolute = (told and told.naive_absolute) or 0.0
            self.naive_squared = (told and told.naive_squared) or 0.0
        self.of_sets = layout.profile.task == "multilabel"
        self._ranked = layout.ranked
        self._measures = totals[..., layout.measures].reshape(*leading, len(layout.ranked), ratings.CELLS)
        if self.of_sets:
            self.decisions = multilabel.split(totals[..., layout.decisions], k)
        else:
            self.confusion = totals[..., layout.confusion].reshape(*leading, k, k)
        self.columns = layout.score_columns
        if self.columns:
            self.scores = totals[..., layout.score_by_class].reshape(*leading, layout.score_columns, -1, 2)
            of_each = (k,) if self.of_sets else ()
            calibrated = totals[..., layout.calibration].reshape(*leading, *of_each, 3, CALIBRATION_BINS)
            self.calibration, self.calibration_positives, self.calibration_scores = np.moveaxis(calibrated, -2, 0)
        if self.columns and not self.of_sets:
            self.scored = self.calibration.sum(-1)
            self.tied = layout.profile.tied
            self._probabilities = layout.profile.score_middles
            self.loss, self.loss_squares, self.brier, self.brier_squares = np.moveaxis(
                totals[..., layout.probability_losses], -1, 0
            )

    @cached_property
    def confusions(self) -> Floats:
        """The confusion, (..., K, K), of sets that of each class, (..., K, 2, 2)."""
        return multilabel.confusion(self.decisions) if self.of_sets else self.confusion

    @cached_property
    def expected_losses(self) -> tuple[Spread, Spread]:
        """How log_loss and brier_score vary by the model's own account."""
        return classification.expected_losses(self.scores, self._probabilities)

    def of_lists(self, metric: str) -> Estimate:
        """Return the mean of a metric of lists, with its interval."""
        return ranking.mean(metric, self._measures[..., self._ranked.index(metric), :])


def _of_lists(metric: str) -> PerformanceMetric:
    return lambda s: s.of_lists(metric)


def _calibration_error(sums: PerformanceSums) -> Estimate:
    """Return the expected calibration error of the positive class, of more classes that of the top one.

    Of sets of classes it is each class's own, (..., K).
    """
    counts = sums.calibration, sums.calibration_positives, sums.calibration_scores
    if sums.columns == 1:
        return classification.expected_calibration_error(*counts, sums.brier / sums.scored)
    return classification.expected_calibration_error(*counts, calibration.top_class_error(*counts))


def _if_calibrated(sums: PerformanceSums) -> Estimate:
    value = calibration.expected_error_if_calibrated(sums.calibration, sums.calibration_scores)
    return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))


_PROBABILITY: dict[str, PerformanceMetric] = {
    "log_loss": lambda s: classification.log_loss(s.scored, s.loss, s.loss_squares, s.expected_losses[0]),
    "brier_score": lambda s: classification.brier_score(s.scored, s.brier, s.brier_squares, s.expected_losses[1]),
    "expected_calibration_error": _calibration_error,
    "expected_calibration_error_by_chance": _if_calibrated,
    "expected_calibration_error_corrected": lambda s: calibration.without_bias(
        _calibration_error(s), _if_calibrated(s).value
    ),
}


_OF_QUANTILES: dict[str, PerformanceMetric] = {
    "pinball_loss": lambda s: forecast.pinball_loss(s.forecasts),
    "coverage": lambda s: forecast.coverage(s.forecasts),
}

_OF_NUMBERS: dict[str, PerformanceMetric] = {
    "mae": lambda s: regression.mae(s.moments),
    "rmse": lambda s: regression.rmse(s.moments),
    "mape": lambda s: regression.mape(s.moments),
    "r2": lambda s: regression.r2(s.moments),
    "bias": lambda s: regression.bias(s.moments),
}


def _macro(of_classes: PerformanceMetric) -> PerformanceMetric:
    """Return the mean over the classes, as if what they are off by were the same chance: so it covers 95 % or more."""
    return lambda s: Estimate(*(part.mean(-1) for part in of_classes(s)))


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
        "average_precision": lambda s: classification.average_precision(s.scores[..., 0, :, :], s.tied),
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
    "multilabel": {
        "subset_accuracy": lambda s: multilabel.subset_accuracy(s.decisions),
        "hamming_loss": lambda s: multilabel.hamming_loss(s.decisions),
        "precision": lambda s: multilabel.macro_precision(s.decisions),
        "recall": lambda s: multilabel.macro_recall(s.decisions),
        "f1": lambda s: multilabel.macro_f1(s.decisions),
        "micro_precision": lambda s: multilabel.micro_precision(s.decisions),
        "micro_recall": lambda s: multilabel.micro_recall(s.decisions),
        "micro_f1": lambda s: multilabel.micro_f1(s.decisions),
        "roc_auc": lambda s: classification.macro_roc_auc(s.scores),
        **{name: _macro(_PROBABILITY[name]) for name in _PROBABILITY if name.startswith("expected_calibration_error")},
    },
    "regression": {**_OF_NUMBERS, **_OF_QUANTILES},
    "forecast": {
        **_OF_NUMBERS,
        "wape": lambda s: forecast.wape(s.forecasts),
        "mase": lambda s: forecast.mase(s.forecasts, s.naive_absolute),
        "rmsse": lambda s: forecast.rmsse(s.forecasts, s.naive_squared),
        "skill": lambda s: forecast.skill(s.forecasts),
        **_OF_QUANTILES,
    },
    "ranking": {name: _of_lists(name) for name in ranking.names(range(1, LONGEST + 1))},
    "outcomes": {},
}
"""The metrics of each task by name, in the order of their exposition."""

_BINARY: dict[str, Callable[[Floats], Estimate]] = {
    "precision": classification.precision,
    "recall": classification.recall,
    "f1": classification.f1,
}


def _of_class(metric: Callable[[Floats], Estimate]) -> PerformanceMetric:
    return lambda s: metric(multilabel.confusion(s.decisions) if s.of_sets else classification.one_vs_rest(s.confusion))


CLASS_METRICS: dict[Task, dict[str, PerformanceMetric]] = {
    "multiclass": {
        **{name: _of_class(metric) for name, metric in _BINARY.items()},
        "specificity": _of_class(classification.specificity),
        "roc_auc": lambda s: classification.roc_auc(s.scores),
    },
    "multilabel": {
        **{name: _of_class(metric) for name, metric in _BINARY.items()},
        "roc_auc": lambda s: classification.roc_auc(s.scores),
        "expected_calibration_error": _calibration_error,
    },
}
"""One class by itself, against all others: (..., K)."""

HORIZON_METRICS: dict[str, PerformanceMetric] = {
    "mae": lambda s: forecast.mae(s.by_horizon),
    "rmse": lambda s: forecast.rmse(s.by_horizon),
    "bias": lambda s: forecast.bias(s.by_horizon),
    "wape": lambda s: forecast.wape(s.by_horizon),
    "mase": lambda s: forecast.mase(s.by_horizon, s.naive_absolute),
    "rmsse": lambda s: forecast.rmsse(s.by_horizon, s.naive_squared),
    "skill": lambda s: forecast.skill(s.by_horizon),
    "pinball_loss": lambda s: forecast.pinball_loss(s.by_horizon),
    "coverage": lambda s: forecast.coverage(s.by_horizon),
}
"""One horizon by itself: (..., H)."""

QUANTILE_METRICS: dict[str, PerformanceMetric] = {
    "pinball_loss": lambda s: forecast.pinball_losses(s.forecasts),
    "share_below": lambda s: forecast.shares_below(s.forecasts),
    "share_strictly_below": lambda s: forecast.shares_strictly_below(s.forecasts),
}
"""One announced quantile by itself, over all horizons: (..., Q)."""

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1"), (0.0, 1.0)),
    **dict.fromkeys(("roc_auc", "average_precision", "subset_accuracy", "hamming_loss"), (0.0, 1.0)),
    **dict.fromkeys(("micro_precision", "micro_recall", "micro_f1"), (0.0, 1.0)),
    **dict.fromkeys((name for name in _PROBABILITY if name.startswith("expected_calibration_error")), (0.0, 1.0)),
    "coverage": (0.0, 1.0),
    **dict.fromkeys(ranking.names(range(1, LONGEST + 1)), (0.0, 1.0)),
    "brier_score": (0.0, 2.0),
    "mcc": (-1.0, 1.0),
}
"""Smallest and largest possible value of the metrics that have both."""

_ERRORS = frozenset({"hamming_loss", "mae", "rmse", "mape", "wape", "mase", "rmsse", "pinball_loss"})

COST = "cost"
"""The metric of every task whose errors have a price in the configuration."""

BETTER: dict[str, Literal["higher", "lower"]] = {
    COST: "lower",
    **{
        name: "lower" if name in _PROBABILITY or name in _ERRORS or name == ranking.EMPTY else "higher"
        for metrics in METRICS.values()
        for name in metrics
        if name not in ("bias", "coverage")
    },
}
"""Which way each metric is better; bias is best at 0, coverage at the interval's level."""

_OF_SCORES = frozenset({*_PROBABILITY, "roc_auc", "average_precision"})

_OF_FORECASTS = frozenset({"wape", "mase", "rmsse", "skill", *_OF_QUANTILES})
"""Metrics of what is counted by horizon, which is not counted of each group."""


def estimates(
    metrics: Mapping[str, PerformanceMetric], layout: Layout, totals: Floats, effects: Floats
) -> dict[str, Estimate]:
    """Return metrics of ledgers, (..., cells), with intervals of as many labels as they are worth.

    `effects`, (...), are design effects: so many labels say as much as one that is independent.
    """
    sums = PerformanceSums(layout, totals)
    found = {name: metric(sums) for name, metric in metrics.items()}
    if (effects == 1).all():
        return found
    worth = PerformanceSums(layout, totals / effects[..., np.newaxis])
    return {name: _with_limits_of(metrics[name](worth), estimate.value) for name, estimate in found.items()}


def _with_limits_of(estimate: Estimate, value: Floats) -> Estimate:
    return Estimate(value, np.minimum(estimate.lower, value), np.maximum(estimate.upper, value))


def needs_scores(metric: str) -> bool:
    """Tell whether a metric is made of probabilities, which not every model's events carry."""
    return metric in _OF_SCORES


def lacking(metric: str, profile: Profile) -> str | None:
    """Return what a profile lacks without which a metric is never known, and what to do; None where it has all."""
    told = profile.forecast
    levels = told.quantiles if told else []
    if needs_scores(metric) and not profile.has_scores:
        return "scores; build it with --score or --scores, or agree on a metric of predictions"
    if metric == "pinball_loss" and not levels:
        return "quantiles; build it with --quantiles"
    if metric == "coverage" and not forecast.intervals(levels):
        return "interval; build it with --quantiles of two levels that add up to 1"
    if metric in ("mase", "rmsse") and not (told and told.naive_absolute):
        return "errors of a naive forecast; build it with --naive"
    return None


def metrics_of(layout: Layout, costs: CostSettings | None = None) -> dict[str, PerformanceMetric]:
    """Return the metrics that a model can have: no cost without `costs`, none of scores without scores."""
    possible = _possible(METRICS[layout.profile.task], layout)
    if not layout.horizons:
        possible = {name: metric for name, metric in possible.items() if name not in _OF_FORECASTS}
    if layout.ranked:  # up to the positions that the reference looks at
        possible = {name: possible[name] for name in layout.ranked}
    return possible if costs is None else {**possible, COST: _cost(costs, layout.profile.classes)}


def _cost(costs: CostSettings, classes: list[str]) -> PerformanceMetric:
    if not classes:
        return lambda s: cost.of_errors(s.moments, costs.over, costs.under)
    rows = [costs.matrix.get(predicted, {}) for predicted in classes]
    matrix = np.array([[row.get(actual, 0.0) for actual in classes] for row in rows])
    return lambda s: cost.of_classes(s.confusion, matrix)


def class_metrics_of(layout: Layout) -> dict[str, PerformanceMetric]:
    """Return the per-class metrics that a model can have."""
    return _possible(CLASS_METRICS.get(layout.profile.task, {}), layout)


def horizon_metrics_of(layout: Layout) -> dict[str, PerformanceMetric]:
    """Return the metrics that each horizon of a forecast can have."""
    return _possible(HORIZON_METRICS, layout) if layout.profile.task == "forecast" else {}


def quantile_metrics_of(layout: Layout) -> dict[str, PerformanceMetric]:
    """Return the metrics that each announced quantile can have."""
    return QUANTILE_METRICS if layout.levels else {}


def _possible(metrics: dict[str, PerformanceMetric], layout: Layout) -> dict[str, PerformanceMetric]:
    return {name: metric for name, metric in metrics.items() if lacking(name, layout.profile) is None}
