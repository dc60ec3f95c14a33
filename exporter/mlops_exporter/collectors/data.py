"""Distributions, drift and quality of features, predictions and labels, for every model and version."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.collectors.family import Family, Versions
from mlops_exporter.counting.model import Model
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.drift import Comparison
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics.discovery import discoveries, weighted_mean

Floats = NDArray[np.float64]


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
        self._versions = Versions(model)
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
