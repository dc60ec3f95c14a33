"""From ledgers and windows to samples: what the models, their data and the intake look like to Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from exporter import catalogue
from exporter.catalogue import Metric
from exporter.config import Benchmark
from exporter.drift import Comparison
from exporter.durations import format_duration
from exporter.events import REASONS
from exporter.intake import Intake
from exporter.journal import Faults, Journal
from exporter.ledger import CALIBRATION_BINS
from exporter.loading import Loading
from exporter.model import Model, Version
from exporter.performance import Sums, class_metrics_of, metrics_of
from exporter.profile.bins import CategoricalVariable, NumericVariable
from exporter.profile.profile import Profile
from exporter.samples import Rows, Samples
from exporter.sources.base import Health, Source
from exporter.sources.kserve import KServe
from exporter.statistics import regression
from exporter.statistics.discovery import discoveries, weighted_mean

Floats = NDArray[np.float64]


class Family:
    """Label sets of metrics, rendered at first use and kept. All begin with `leading`, then with one of `versions`."""

    def __init__(self, *leading: str, versions: Sequence[str] | None = None) -> None:
        self._leading = [leading] if versions is None else [(*leading, version) for version in versions]
        self._rows: dict[str, Rows] = {}

    def __call__(
        self, metric: Metric, values: Iterable[float] | Floats | np.float64, *labels: Iterable[str]
    ) -> Samples:
        """Return samples for every combination of `labels`, the last of which varies fastest."""
        rows = self._rows.get(metric.name)
        if rows is None:
            rows = Rows(metric, [(*leading, *row) for leading, row in product(self._leading, [*product(*labels)])])
            self._rows[metric.name] = rows
        array = values if isinstance(values, np.ndarray | np.float64) else np.array(list(values), np.float64)
        return Samples(rows, np.ravel(array))

    def zipped(self, metric: Metric, values: Floats, rows: Callable[[], Iterable[Sequence[str]]]) -> Samples:
        """Return samples for the label sets that `rows` gives at first use."""
        kept = self._rows.get(metric.name)
        if kept is None:
            kept = Rows(metric, [(*leading, *row) for leading, row in product(self._leading, [*rows()])])
            self._rows[metric.name] = kept
        return Samples(kept, np.ravel(values))


def _histogram(cells: Floats) -> Floats:
    """Turn histograms of ledgers, (..., [bucket counts, sum]), into cumulative buckets, sum, count."""
    cumulative = np.cumsum(cells[..., :-1], axis=-1)
    return np.concatenate([cumulative, cells[..., -1:], cumulative[..., -1:]], axis=-1)


class ModelCollector:
    """Performance, its sample sizes and sufficient statistics, for every model and version."""

    name = "model"

    def __init__(self, models: Sequence[Model]) -> None:
        self._views = [_ModelView(model) for model in models]

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for view in self._views:
            yield from view.collect(now)


class _Versions:
    """The versions of a model, whose metrics are worked out together: one more costs little beside the first."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._names: list[str] = []
        self.family = Family(model.name)

    def __iter__(self) -> Iterator[Version]:
        return iter(self._model.versions.values())

    def update(self) -> int:
        """Let `family` be that of all versions there are; returns how many these are."""
        if (names := list(self._model.versions)) != self._names:
            self._names = names
            self.family = Family(self._model.name, versions=names)
        return len(names)

    def lifetimes(self) -> Floats:
        """Return the ledgers of all time, (V, cells)."""
        return np.stack([version.lifetime for version in self])

    def totals(self, now: float) -> Floats:
        """Return the sums of all windows of all versions, (V * W, cells)."""
        return np.concatenate([version.totals(now) for version in self])


class _ModelView:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._family = Family(model.name)
        self._versions = _Versions(model)
        self._windows = [format_duration(length) for length in model.settings.windows]
        self._metrics = metrics_of(model.layout)
        self._class_metrics = class_metrics_of(model.layout)
        minima = {name: limit[0] for name, limit in benchmark_bounds(model).items() if limit[0] is not None}
        maxima = {name: limit[1] for name, limit in benchmark_bounds(model).items() if limit[1] is not None}
        self._benchmarks = [
            self._family(catalogue.BENCHMARK_MIN, minima.values(), minima),
            self._family(catalogue.BENCHMARK_MAX, maxima.values(), maxima),
        ]

    def collect(self, now: float) -> Iterator[Samples]:
        yield from self._benchmarks
        model = self._model
        yield self._family(catalogue.LABELS_UNMATCHED, [model.labels_unmatched])
        yield self._family(catalogue.LABELS_DUPLICATE, [model.labels_duplicate])
        yield self._family(catalogue.LABELS_CORRECTED, [model.labels_corrected])
        yield self._family(catalogue.PREDICTIONS_DUPLICATE, [model.predictions_duplicate])
        yield self._family(catalogue.PENDING_LABELS, [model.join.waiting_labels])
        if count := self._versions.update():
            yield from self._lifetimes(count)
            coverage = [version.label_coverage(now, model.settings.label_delay) for version in self._versions]
            yield self._versions.family(catalogue.LABEL_COVERAGE, np.array(coverage), self._windows)
            yield from self._rolling(count, self._versions.totals(now))

    def _lifetimes(self, count: int) -> Iterator[Samples]:
        versions, layout, profile = self._versions, self._model.layout, self._model.profile
        family, provenance = versions.family, profile.provenance
        always = np.ones(count)
        yield family(catalogue.MODEL_INFO, always, [profile.task], [self._model.digest], [provenance.model_version])
        yield family(catalogue.PROFILE_TIMESTAMP, always * _timestamp(provenance.created))
        if profile.task == "binary":
            yield family(catalogue.POSITIVE_CLASS, always, [profile.positive])
        ledgers = versions.lifetimes()
        yield family(catalogue.PREDICTIONS, ledgers[:, layout.predictions])
        yield family(catalogue.PREDICTION_FAILURES, ledgers[:, layout.failures])
        yield family(catalogue.PREDICTION_LATENCY, _histogram(ledgers[:, layout.latency]))
        yield family(catalogue.LAST_PREDICTION, [_or_absent(version.last_prediction) for version in versions])
        yield family(catalogue.LAST_LABEL, [_or_absent(version.last_label) for version in versions])
        yield family(catalogue.LABELS, ledgers[:, layout.labels])
        yield family(catalogue.PREDICTIONS_UNLABELLED, [version.unlabelled for version in versions])
        pending = [self._model.waiting_predictions(version.name) for version in versions]
        yield family(catalogue.PENDING_PREDICTIONS, pending)
        yield family(catalogue.LABEL_DELAY, _histogram(ledgers[:, layout.label_delay]))
        reference = profile.performance
        yield family(catalogue.PERFORMANCE_REFERENCE, [*reference.values()] * count, reference)
        if profile.task == "regression":
            yield from self._errors(ledgers[:, layout.moments])
        else:
            yield family(catalogue.CONFUSION, ledgers[:, layout.confusion], profile.classes, profile.classes)
        if layout.score_columns:
            bins = [f"{edge / CALIBRATION_BINS:g}" for edge in range(1, CALIBRATION_BINS + 1)]
            counts, positives, scores = np.split(ledgers[:, layout.calibration], 3, axis=1)
            yield family(catalogue.CALIBRATION_PREDICTIONS, counts, bins)
            yield family(catalogue.CALIBRATION_POSITIVES, positives, bins)
            yield family(catalogue.CALIBRATION_SCORE_SUM, scores, bins)

    def _errors(self, moments: Floats) -> Iterator[Samples]:
        family, kept = self._versions.family, regression.split(moments)
        yield family(catalogue.ABSOLUTE_ERROR_SUM, kept.absolute)
        yield family(catalogue.SQUARED_ERROR_SUM, kept.error2)
        yield family(catalogue.OVERPREDICTION_SUM, regression.overprediction_sum(moments))
        yield family(catalogue.UNDERPREDICTION_SUM, regression.underprediction_sum(moments))

    def _rolling(self, count: int, totals: Floats) -> Iterator[Samples]:
        family, layout, windows = self._versions.family, self._model.layout, self._windows
        sums = Sums(layout, totals)
        yield family(catalogue.WINDOW_SECONDS, self._model.settings.windows * count, windows)
        yield family(catalogue.WINDOW_PREDICTIONS, totals[:, layout.predictions], windows)
        yield family(catalogue.WINDOW_LABELS, sums.labels, windows)
        enough = sums.labels >= self._model.settings.min_samples.performance
        with np.errstate(divide="ignore", invalid="ignore"):
            estimates = [metric(sums) for metric in self._metrics.values()]
            by_class = [metric(sums).value for metric in self._class_metrics.values()]
        for metric, parts in zip(
            (catalogue.PERFORMANCE, catalogue.PERFORMANCE_LOWER, catalogue.PERFORMANCE_UPPER),
            zip(*estimates, strict=True),
            strict=True,
        ):
            values = np.where(enough[:, None], np.stack(parts, axis=-1), np.nan)
            yield family(metric, values, windows, self._metrics)
        if by_class:
            values = np.where(enough[:, None, None], np.stack(by_class, axis=-1), np.nan)
            yield family(catalogue.CLASS_PERFORMANCE, values, windows, self._model.profile.classes, self._class_metrics)


class DataCollector:
    """Distributions, drift and quality of features, predictions and labels, for every model and version.

    `known` are comparisons made before, by model: their thresholds took some work.
    """

    name = "data"

    def __init__(self, models: Sequence[Model], known: Mapping[str, Comparison] = MappingProxyType({})) -> None:
        self._views = [_DataView(model, known.get(model.name)) for model in models]
        self.comparisons = {model.name: view.comparison for model, view in zip(models, self._views, strict=True)}

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for view in self._views:
            yield from view.collect(now)


class _DataView:
    def __init__(self, model: Model, known: Comparison | None) -> None:
        self._model = model
        settings, layout, profile = model.settings, model.layout, model.profile
        self.comparison = known or Comparison(layout, settings.drift, settings.min_samples.drift)
        self._windows = [format_duration(length) for length in settings.windows]
        self._versions = _Versions(model)
        variables = {name: profile.features[name] for name in layout.feature_names}
        cells, kept, self._bin_labels = _exported_bins(layout.features, variables)
        self._cells, self._kept = np.array(cells, np.intp), np.array(kept, np.intp)
        self._reference = _reference_ratios(profile, layout.feature_names)
        self._reference_values = [float(sum(profile.features[name].counts)) for name in layout.feature_names]
        self._sections = np.array([[s.start, s.stop] for s in layout.features.values()], np.intp).reshape(-1, 2)
        self._numeric = len(layout.numeric)
        importances = profile.importances
        self._importances = (
            np.array([importances.get(name, 0.0) for name in layout.feature_names]) if importances else None
        )

    def collect(self, now: float) -> Iterator[Samples]:
        if count := self._versions.update():
            yield from self._counters(count, self._versions.lifetimes())
            yield from self._rolling(self._versions.family, self._versions.totals(now))

    def _counters(self, count: int, ledgers: Floats) -> Iterator[Samples]:
        layout, family = self._model.layout, self._versions.family
        yield family(catalogue.MODEL_FEATURES, [len(layout.feature_names)] * count)
        if not layout.feature_names:
            return
        values = np.add.reduceat(ledgers, self._cells, axis=1)[:, self._kept]
        yield family.zipped(catalogue.FEATURE_VALUES, values, lambda: self._bin_labels)
        yield family.zipped(catalogue.FEATURE_REFERENCE, np.tile(self._reference, count), lambda: self._bin_labels)
        yield family(catalogue.FEATURE_REFERENCE_VALUES, self._reference_values * count, layout.feature_names)
        if self._importances is not None:
            yield family(catalogue.FEATURE_IMPORTANCE, np.tile(self._importances, count), layout.feature_names)
        starts, stops = self._sections[: self._numeric].T
        yield family(catalogue.FEATURE_OUT_OF_RANGE, ledgers[:, starts] + ledgers[:, stops - 3], layout.numeric)

    def _rolling(self, family: Family, totals: Floats) -> Iterator[Samples]:
        windows, names, count = self._windows, self._model.layout.feature_names, self.comparison.features
        with np.errstate(divide="ignore", invalid="ignore"):
            drift = self.comparison.compare(totals)
            yield from self._quality(family, totals)
        statistics = list(drift.values)
        values, thresholds = (np.stack(list(part.values()), axis=-1) for part in (drift.values, drift.thresholds))
        if names:
            yield family(catalogue.FEATURE_DRIFT, values[:, :count], windows, names, statistics)
            yield family(catalogue.FEATURE_DRIFT_THRESHOLD, thresholds[:, :count], windows, names, statistics)
            comparable = ~np.isnan(values[:, :count]).all(axis=(1, 2))
            drifted = (values[:, :count] > thresholds[:, :count]).any(axis=2)
            yield family(catalogue.DRIFTED_FEATURES, np.where(comparable, drifted.sum(axis=1), np.nan), windows)
            rate = self._model.settings.drift.false_alarm_rate
            controlled = (drifted & discoveries(drift.p_values[:, :count], rate)).sum(axis=1)
            yield family(catalogue.DRIFTED_FEATURES_CONTROLLED, np.where(comparable, controlled, np.nan), windows)
            if self._importances is not None:
                weighted = weighted_mean(np.moveaxis(values[:, :count], 1, -1), self._importances)
                yield family(catalogue.WEIGHTED_DRIFT, weighted, windows, statistics)
        for outcome, (metric, threshold) in {
            "prediction": (catalogue.PREDICTION_DRIFT, catalogue.PREDICTION_DRIFT_THRESHOLD),
            "label": (catalogue.LABEL_DRIFT, catalogue.LABEL_DRIFT_THRESHOLD),
        }.items():
            if outcome in self.comparison.outcomes:
                index = self.comparison.outcomes[outcome]
                yield family(metric, values[:, index], windows, statistics)
                yield family(threshold, thresholds[:, index], windows, statistics)

    def _quality(self, family: Family, totals: Floats) -> Iterator[Samples]:
        layout, windows = self._model.layout, self._windows
        if not layout.feature_names:
            return
        starts, stops = self._sections.T
        running = np.concatenate([np.zeros((len(totals), 1)), np.cumsum(totals, axis=1)], axis=1)
        n = running[:, stops] - running[:, starts]
        n = np.where(n >= self._model.settings.min_samples.performance, n, np.nan)
        missing, invalid = totals[:, stops - 1], totals[:, stops - 2]
        yield family(catalogue.FEATURE_MISSING, missing / n, windows, layout.feature_names)
        yield family(catalogue.FEATURE_INVALID, invalid / n, windows, layout.feature_names)
        valid = n - missing - invalid
        other = totals[:, stops - 3]
        split = self._numeric
        outside = (totals[:, starts] + other)[:, :split] / valid[:, :split]
        yield family(catalogue.FEATURE_OUT_OF_RANGE_RATIO, outside, windows, layout.numeric)
        yield family(catalogue.FEATURE_UNSEEN, other[:, split:] / valid[:, split:], windows, layout.categorical)


def _exported_bins(
    sections: dict[str, slice], variables: dict[str, NumericVariable | CategoricalVariable]
) -> tuple[list[int], list[int], list[tuple[str, str, str]]]:
    """Return the first cell of each exported bin for one summation, which sums are bins, and their labels."""
    cells: list[int] = []
    labels: list[tuple[str, str, str]] = []
    for name, section in sections.items():
        variable = variables[name]
        cells += (section.start + begin for begin in variable.exported_starts)
        cells += (section.stop - 2, section.stop - 1)
        labels += ((name, *pair) for pair in variable.exported_labels)
    kept = list(range(len(cells)))
    if sections:
        cells.append(section.stop)
    return cells, kept, labels


def _reference_ratios(profile: Profile, names: Sequence[str]) -> Floats:
    ratios: list[float] = []
    for name in names:
        variable = profile.features[name]
        begins = [*variable.exported_starts, variable.cells - 2, variable.cells - 1]
        counts = np.add.reduceat(variable.counts, begins)
        ratios += (counts / max(counts.sum(), 1)).tolist()
    return np.array(ratios)


def benchmark_bounds(model: Model) -> dict[str, tuple[float | None, float | None]]:
    """Return the lowest and the highest agreed value of each metric with a benchmark."""
    reference = model.profile.performance
    return {name: _bounds(benchmark, reference.get(name)) for name, benchmark in model.settings.benchmarks.items()}


def _bounds(benchmark: Benchmark, reference: float | None) -> tuple[float | None, float | None]:
    low, high = benchmark.min, benchmark.max
    if benchmark.max_drop is not None and reference is not None:
        low = reference - benchmark.max_drop
    if benchmark.max_increase is not None and reference is not None:
        high = reference + benchmark.max_increase
    return low, high


def _timestamp(created: str) -> float:
    """Unix seconds of an ISO 8601 time; NaN where it is none."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return np.nan


def _or_absent(value: float | None) -> float:
    return np.nan if value is None else value


class CloudEventCollector:
    """What became of the CloudEvents of KServe's inference logger."""

    name = "cloudevents"

    def __init__(self, source: str, kserve: KServe) -> None:
        self._kserve = kserve
        self._family = Family(source)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        counts = self._kserve.counts
        yield self._family(catalogue.CLOUD_EVENTS, counts.values(), counts)
        yield self._family(catalogue.CLOUD_EVENTS_WAITING, [self._kserve.waiting])


class IntakeCollector:
    """What came in, from where, and what was refused."""

    name = "intake"

    def __init__(self, intake: Intake, pulling: Mapping[str, Source], loading: Callable[[], Loading]) -> None:
        self._intake = intake
        self._pulling = pulling
        self._loading = loading
        self._family = Family()

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        family, sources = self._family, self._intake.sources
        counts = sources.values()
        yield family(catalogue.EVENTS, [count.accepted for count in counts], sources)
        rejected = [number for count in counts for number in count.rejected.values()]
        yield family(catalogue.EVENTS_REJECTED, rejected, sources, REASONS)
        yield family(catalogue.EVENTS_LATE, [count.late for count in counts], sources)
        health = [self._pulling[name].health if name in self._pulling else Health(True) for name in sources]
        yield family(catalogue.SOURCE_UP, [float(source.up) for source in health], sources)
        yield family(catalogue.SOURCE_LAG, [_or_absent(source.lag_events) for source in health], sources)
        yield family(catalogue.SOURCE_LAST_EVENT, [_or_absent(count.last_event) for count in counts], sources)
        yield family(catalogue.QUEUE_EVENTS, [self._intake.waiting])
        yield family(catalogue.QUEUE_CAPACITY, [self._intake.capacity])
        loading = self._loading()
        yield family(catalogue.CONFIG_RELOAD_SUCCESSFUL, [float(loading.error is None)])
        yield family(catalogue.CONFIG_RELOAD_TIMESTAMP, [loading.loaded])


class StateCollector:
    """Checkpoints, and what went wrong with the state."""

    name = "state"

    def __init__(self, faults: Faults, journal: Callable[[], Journal | None]) -> None:
        self._faults = faults
        self._journal = journal
        self._family = Family()

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        faults, journal = self._faults.counts, self._journal()
        yield self._family(catalogue.STATE_ERRORS, faults.values(), faults)
        if journal is not None:
            yield self._family(catalogue.CHECKPOINT_LAST_SUCCESS, [_or_absent(journal.last_checkpoint)])
            yield self._family(catalogue.CHECKPOINT_DURATION, [_or_absent(journal.checkpoint_seconds)])
