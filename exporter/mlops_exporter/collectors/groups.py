"""Groups of people to samples: sizes, selection, performance and fairness of every attribute."""

from collections.abc import Iterator, Sequence
from typing import Self

from mlops_exporter.arrays import Floats
from mlops_exporter.collectors.family import Family, Views
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.groups import GroupCounts
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging import judge
from mlops_exporter.judging.dependence import Effects, effects_of
from mlops_exporter.judging.fairness import evaluate, favourable_code, metrics_of
from mlops_exporter.judging.judge import limit
from mlops_exporter.judging.performance import metrics_of as performance_metrics_of
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.settings.models import FairnessSettings
from mlops_exporter.statistics import regression
from mlops_exporter.statistics.intervals import Estimate


class GroupCollector:
    """Fairness of every model for which attributes are configured."""

    name = "groups"
    about = "fairness between groups"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        fair = [model for model in models if model.settings.fairness is not None]
        self._benchmarks = [sample for model in fair for sample in _benchmarks(model)]
        self._references = Views(fair, _ReferenceView)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        yield from self._benchmarks
        for view in self._references:
            yield from view.collect(now)


class _ReferenceView:
    def __init__(self, _model: Model, reference: Reference) -> None:
        self._reference = reference
        self._views: dict[str, list[_AttributeView]] = {}

    def collect(self, now: float) -> Iterator[Samples]:
        reference, counts = self._reference, self._reference.group_counts
        if counts is None:
            return
        cells = reference.layout.cells_of(counts)
        for version in reference.versions.values():
            if version.name not in self._views:
                self._views[version.name] = _views(reference, counts, version)
            lifetime, totals = version.lifetime[cells], version.totals(now)
            predictions = totals[:, reference.layout.predictions.start]
            for view in self._views[version.name]:
                yield from view.counters(lifetime)
                yield from view.rolling(totals[:, cells], predictions, effects_of(reference, version, now))


def _benchmarks(model: Model) -> Iterator[Samples]:
    assert model.settings.fairness is not None
    benchmarks, family = model.settings.fairness.benchmarks, Family(model.name)
    minima = {name: benchmark.min for name, benchmark in benchmarks.items() if benchmark.min is not None}
    maxima = {name: benchmark.max for name, benchmark in benchmarks.items() if benchmark.max is not None}
    yield family(catalogue.FAIRNESS_BENCHMARK_MIN, minima.values(), minima)
    yield family(catalogue.FAIRNESS_BENCHMARK_MAX, maxima.values(), maxima)


def _views(reference: Reference, counts: GroupCounts, version: Version) -> "list[_AttributeView]":
    settings = reference.settings
    assert settings.fairness is not None
    windows = [format_duration(length) for length in settings.windows]
    return [
        _AttributeView(counts, index, settings.fairness, Family(settings.name, version.name, name), windows)
        for index, name in enumerate(counts.names)
    ]


class _AttributeView:
    def __init__(
        self, counts: GroupCounts, index: int, settings: FairnessSettings, family: Family, windows: list[str]
    ) -> None:
        self.counts = counts
        self._index = index
        self._family = family
        self._windows = windows
        self._groups = counts.groups[index]
        self._minimum = settings.min_group_size
        self._benchmarks = settings.benchmarks
        profile = counts.layout.profile
        self._favourable = favourable_code(settings.favourable, profile)
        self._classes = profile.classes
        self._performance = performance_metrics_of(counts.layout)
        self._fairness = metrics_of(profile, self._favourable)

    def counters(self, lifetime: Floats) -> Iterator[Samples]:
        family, layout, groups = self._family, self.counts.layout, self._groups
        sums = self.counts.sums(lifetime, self._index)
        if self._classes:
            k = len(self._classes)
            predicted = sums[:, layout.prediction][:, :k]
            yield family(catalogue.GROUP_PREDICTIONS, predicted, groups, self._classes)
            yield family(catalogue.GROUP_CONFUSION, sums[:, layout.confusion], groups, self._classes, self._classes)
            return
        yield family(catalogue.GROUP_PREDICTIONS, sums[:, layout.predictions], groups, [""])
        yield family(catalogue.GROUP_LABELS, sums[:, layout.labels], groups)
        moments = sums[:, layout.moments]
        yield family(catalogue.GROUP_ABSOLUTE_ERROR_SUM, regression.split(moments).absolute, groups)
        yield family(catalogue.GROUP_OVERPREDICTION_SUM, regression.overprediction_sum(moments), groups)
        yield family(catalogue.GROUP_UNDERPREDICTION_SUM, regression.underprediction_sum(moments), groups)

    def rolling(self, totals: Floats, predictions: Floats, effects: Effects) -> Iterator[Samples]:
        family, windows, groups = self._family, self._windows, self._groups
        found = evaluate(self.counts, totals, self._index, self._favourable, self._minimum, effects)
        yield family(catalogue.GROUP_WINDOW_PREDICTIONS, found.predictions, windows, groups)
        yield family(catalogue.GROUP_WINDOW_LABELS, found.labels, windows, groups)
        if self._favourable is not None:
            for metric, values in zip(_SELECTION, found.selection, strict=True):
                yield family(metric, values, windows, groups)
        for metric, values in zip(_PERFORMANCE, found.performance, strict=True):
            yield family(metric, values, windows, groups, self._performance)
        if self._fairness:
            for metric, values in zip(_FAIRNESS, found.fairness, strict=True):
                yield family(metric, values, windows, self._fairness)
            agreed = [name for name in self._fairness if name in self._benchmarks]
            columns = [list(self._fairness).index(name) for name in agreed]
            estimates = [Estimate(*(part[:, column] for part in found.fairness)) for column in columns]
            judged = [judge.judged(estimate, predictions, limit("min_predictions")) for estimate in estimates]
            yield family(catalogue.FAIRNESS_BENCHMARK_JUDGED, judged, agreed)


_SELECTION = (catalogue.GROUP_SELECTION, catalogue.GROUP_SELECTION_LOWER, catalogue.GROUP_SELECTION_UPPER)
_PERFORMANCE = (catalogue.GROUP_PERFORMANCE, catalogue.GROUP_PERFORMANCE_LOWER, catalogue.GROUP_PERFORMANCE_UPPER)
_FAIRNESS = (catalogue.FAIRNESS, catalogue.FAIRNESS_LOWER, catalogue.FAIRNESS_UPPER)
