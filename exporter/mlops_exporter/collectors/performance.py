"""Performance, its sample sizes and the sums behind it, for every model and version."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Self

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.collectors.family import Family, Versions, Views, or_absent
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.ledger import CALIBRATION_BINS
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging import judge
from mlops_exporter.judging.benchmarks import benchmark_bounds
from mlops_exporter.judging.cadence import deadline, longest_pause
from mlops_exporter.judging.classes import classes_of
from mlops_exporter.judging.dependence import Effects, effects_of
from mlops_exporter.judging.judge import limit
from mlops_exporter.judging.performance import PerformanceSums, class_metrics_of, estimates, metrics_of
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics import multilabel, ratings, regression
from mlops_exporter.statistics.intervals import Estimate


class ModelCollector:
    """Performance, its sample sizes and sufficient statistics, for every model and version."""

    name = "model"
    about = "performance against its benchmarks, sample sizes and sufficient statistics"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._families = [(model, Family(model.name)) for model in models]
        self._owners = [_owner(model, family) for model, family in self._families]
        self._views = Views(models, _ReferenceView)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for owner in self._owners:
            yield from owner
        for model, family in self._families:
            yield family(catalogue.LABELS_UNMATCHED, [model.labels_unmatched])
            yield family(catalogue.LABELS_DUPLICATE, [model.labels_duplicate])
            yield family(catalogue.LABELS_CORRECTED, [model.labels_corrected])
            yield family(catalogue.PREDICTIONS_DUPLICATE, [model.predictions_duplicate])
            if gone := model.given_up:
                yield Family(model.name, versions=list(gone))(catalogue.PREDICTIONS_UNLABELLED, [*gone.values()])
            yield family(catalogue.PENDING_LABELS, [model.waiting_labels])
            yield family(catalogue.CADENCE, [longest_pause(model.settings)])
            yield family(catalogue.BATCH_DEADLINE, [_deadline(model)])
        for view in self._views:
            yield from view.collect(now)


def _owner(model: Model, family: Family) -> list[Samples]:
    """Return whose the model is, nothing where the configuration does not say."""
    settings = model.settings
    owned = [settings.owner or "", settings.team or "", settings.environment or ""]
    return [family(catalogue.MODEL_OWNER, [1.0], *([one] for one in owned))] if any(owned) else []


def _kind(reference: Reference) -> str:
    """Return whose profile it is: a version's own, shared, or none."""
    if reference.version is not None:
        return "own"
    return "shared" if reference.profile.rows else "none"


def _deadline(model: Model) -> float:
    """Return when the next batch is late; NaN before the first one, and for a model without a rhythm."""
    times = [version.last_prediction for version in model.versions.values()]
    last = max((time for time in times if time is not None), default=None)
    return np.nan if last is None or model.settings.cadence == "continuous" else deadline(model.settings, last)


class _ReferenceView:
    def __init__(self, model: Model, reference: Reference) -> None:
        self._model = model
        self._reference = reference
        self._versions = Versions(model, reference)
        self._windows = [format_duration(length) for length in model.settings.windows]
        self._metrics = metrics_of(reference.layout, model.settings.costs)
        self._class_metrics = class_metrics_of(reference.layout)
        self._classes = classes_of(reference)
        bounds = benchmark_bounds(reference)
        self._minima = {name: low for name, (low, _) in bounds.items() if low is not None}
        self._maxima = {name: high for name, (_, high) in bounds.items() if high is not None}

    def collect(self, now: float) -> Iterator[Samples]:
        model = self._model
        if count := self._versions.update():
            yield from self._lifetimes(count)
            coverage = [version.label_coverage(now, model.settings.label_delay) for version in self._versions]
            yield self._versions.family(catalogue.LABEL_COVERAGE, np.array(coverage), self._windows)
            yield from self._rolling(count, now, self._versions.totals(now), self._effects(now))

    def _lifetimes(self, count: int) -> Iterator[Samples]:
        versions, layout, profile = self._versions, self._reference.layout, self._reference.profile
        family, provenance = versions.family, profile.provenance
        always = np.ones(count)
        yield family(catalogue.MODEL_INFO, always, [profile.task], [self._reference.digest], [provenance.model_version])
        if self._model.settings.has_profile:
            yield family(catalogue.VERSION_PROFILE, always, [_kind(self._reference)])
        yield family(catalogue.PROFILE_TIMESTAMP, always * _timestamp(provenance.created))
        if profile.task == "binary":
            yield family(catalogue.POSITIVE_CLASS, always, [profile.positive])
        yield family(catalogue.BENCHMARK_MIN, [*self._minima.values()] * count, self._minima)
        yield family(catalogue.BENCHMARK_MAX, [*self._maxima.values()] * count, self._maxima)
        ledgers = versions.lifetimes()
        yield family(catalogue.PREDICTIONS, ledgers[:, layout.predictions])
        yield family(catalogue.PREDICTION_FAILURES, ledgers[:, layout.failures])
        yield family(catalogue.PREDICTION_LATENCY, _histogram(ledgers[:, layout.latency]))
        yield family(catalogue.LAST_PREDICTION, [or_absent(version.last_prediction) for version in versions])
        yield family(catalogue.LAST_LABEL, [or_absent(version.last_label) for version in versions])
        yield family(catalogue.LABELS, ledgers[:, layout.labels])
        yield family(catalogue.PREDICTIONS_UNLABELLED, [version.unlabelled for version in versions])
        pending = [self._model.waiting_predictions(version.name) for version in versions]
        yield family(catalogue.PENDING_PREDICTIONS, pending)
        yield family(catalogue.LABEL_DELAY, _histogram(ledgers[:, layout.label_delay]))
        reference = profile.performance
        yield family(catalogue.PERFORMANCE_REFERENCE, [*reference.values()] * count, reference)
        of_classes = [profile.class_performance.get(name, {}) for name in profile.classes]
        if any(of_classes):
            values = [[found.get(metric, np.nan) for metric in self._class_metrics] for found in of_classes]
            tiled = np.tile(np.ravel(values), count)
            yield family(catalogue.CLASS_REFERENCE, tiled, profile.classes, self._class_metrics)
        if profile.of_numbers:
            yield from self._errors(ledgers[:, layout.moments])
            yield family(catalogue.ZERO_LABELS, regression.split(ledgers[:, layout.moments]).zeros)
        elif profile.task == "multilabel":
            decisions = multilabel.split(ledgers[:, layout.decisions], len(profile.classes))
            yield family(catalogue.EXACT_SETS, decisions.exact)
            confusion = multilabel.confusion(decisions)
            yield family(catalogue.CLASS_CONFUSION, confusion, profile.classes, ["0", "1"], ["0", "1"])
        elif layout.ranked:
            yield from self._lists(ledgers)
        else:
            yield family(catalogue.CONFUSION, ledgers[:, layout.confusion], profile.classes, profile.classes)
        if layout.score_columns:
            bins = [f"{edge / CALIBRATION_BINS:g}" for edge in range(1, CALIBRATION_BINS + 1)]
            kept = ledgers[:, layout.calibration].reshape(count, -1, 3, CALIBRATION_BINS).sum(axis=1)
            counts, positives, scores = np.moveaxis(kept, 1, 0)
            yield family(catalogue.CALIBRATION_PREDICTIONS, counts, bins)
            yield family(catalogue.CALIBRATION_POSITIVES, positives, bins)
            yield family(catalogue.CALIBRATION_SCORE_SUM, scores, bins)

    def _lists(self, ledgers: Floats) -> Iterator[Samples]:
        family, layout = self._versions.family, self._reference.layout
        sums = ledgers[:, layout.measures].reshape(len(ledgers), -1, ratings.CELLS)
        yield family(catalogue.RANKING_SUM, sums[..., 1], layout.ranked)
        positions = [f"{position:02}" for position in range(1, layout.shown_at.stop - layout.shown_at.start + 1)]
        yield family(catalogue.RANKING_SHOWN, ledgers[:, layout.shown_at], positions)
        yield family(catalogue.RANKING_RELEVANT, ledgers[:, layout.relevant_at], positions)

    def _errors(self, moments: Floats) -> Iterator[Samples]:
        family, kept = self._versions.family, regression.split(moments)
        yield family(catalogue.ABSOLUTE_ERROR_SUM, kept.absolute)
        yield family(catalogue.SQUARED_ERROR_SUM, kept.error2)
        yield family(catalogue.OVERPREDICTION_SUM, regression.overprediction_sum(moments))
        yield family(catalogue.UNDERPREDICTION_SUM, regression.underprediction_sum(moments))

    def _effects(self, now: float) -> Effects:
        found = [effects_of(self._reference, version, now) for version in self._versions]
        return Effects(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _rolling(self, count: int, now: float, totals: Floats, effects: Effects) -> Iterator[Samples]:
        family, layout, windows = self._versions.family, self._reference.layout, self._windows
        predictions, labels = totals[:, layout.predictions.start], totals[:, layout.labels.start]
        yield family(catalogue.WINDOW_SECONDS, self._model.settings.windows * count, windows)
        yield family(catalogue.WINDOW_PREDICTIONS, predictions, windows)
        yield family(catalogue.WINDOW_LABELS, labels, windows)
        yield family(catalogue.WINDOW_FILLED, np.array([version.filled(now) for version in self._versions]), windows)
        yield family(catalogue.EFFECTIVE_PREDICTIONS, predictions / effects.outputs, windows)
        yield family(catalogue.EFFECTIVE_LABELS, labels / effects.labels, windows)
        enough = labels >= self._model.settings.min_samples.performance
        with np.errstate(divide="ignore", invalid="ignore"):
            found = estimates(self._metrics, layout, totals, effects.labels)
            sums = PerformanceSums(layout, totals)
            by_class = [metric(sums).value for metric in self._class_metrics.values()]
        if found:  # a model of outcomes has no performance
            for metric, parts in zip(
                (catalogue.PERFORMANCE, catalogue.PERFORMANCE_LOWER, catalogue.PERFORMANCE_UPPER),
                zip(*found.values(), strict=True),
                strict=True,
            ):
                values = np.where(enough[:, None], np.stack(parts, axis=-1), np.nan)
                yield family(metric, values, windows, self._metrics)
        yield from self._judged(count, labels, found)
        if by_class:
            values = np.where(enough[:, None, None], np.stack(by_class, axis=-1), np.nan)
            classes = self._reference.profile.classes
            yield family(catalogue.CLASS_PERFORMANCE, values, windows, classes, self._class_metrics)
        if self._classes is not None:
            worse = self._classes.worse(totals, effects).astype(np.float64)
            yield family(catalogue.CLASS_WORSE, worse, windows, self._classes.names, self._classes.metrics)

    def _judged(self, count: int, labels: Floats, found: dict[str, Estimate]) -> Iterator[Samples]:
        """Tell of every version which of its benchmarks a window can be held against."""
        agreed = [name for name in self._model.settings.benchmarks if name in found]
        least = max(self._model.settings.min_samples.performance, limit("min_labels"))
        windows = len(self._windows)
        judged = [
            judge.judged(Estimate(*(part[rows] for part in found[name])), labels[rows], least)
            for rows in (slice(version * windows, (version + 1) * windows) for version in range(count))
            for name in agreed
        ]
        if agreed:
            yield self._versions.family(catalogue.BENCHMARK_JUDGED, judged, agreed)


def _histogram(cells: Floats) -> Floats:
    """Turn histograms of ledgers, (..., [bucket counts, sum]), into cumulative buckets, sum, count."""
    cumulative = np.cumsum(cells[..., :-1], axis=-1)
    return np.concatenate([cumulative, cells[..., -1:], cumulative[..., -1:]], axis=-1)


def _timestamp(created: str) -> float:
    """Unix seconds of an ISO 8601 time; NaN where it is none."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return np.nan
