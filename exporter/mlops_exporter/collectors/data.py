"""Distributions, drift and quality of features, predictions and labels, for every model and version."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.collectors.family import Family, Versions, Views
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.drift import Comparison, Comparisons
from mlops_exporter.judging.hours import Traffic
from mlops_exporter.judging.quality import Quality
from mlops_exporter.profile.bins import INVALID, MISSING, CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics.discovery import weighted_mean


class DataCollector:
    """Distributions, drift and quality of features, predictions and labels, for every model and version."""

    name = "data"
    about = "distributions, drift and quality of features, predictions and labels"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model], comparisons: Comparisons | None = None) -> None:
        made = comparisons or Comparisons()

        def view(model: Model, reference: Reference) -> _DataView | None:
            comparison = made.ready(reference)
            return None if comparison is None else _DataView(model, reference, comparison)

        self._views = Views(models, view)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models, parts.comparisons)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for view in self._views:
            yield from view.collect(now)


class _DataView:
    def __init__(self, model: Model, reference: Reference, comparison: Comparison) -> None:
        self._model = model
        self._reference = reference
        settings, layout, profile = model.settings, reference.layout, reference.profile
        self.comparison = comparison
        self._windows = [format_duration(length) for length in settings.windows]
        self._versions = Versions(model, reference)
        variables = {name: profile.features[name] for name in layout.feature_names}
        cells, kept, self._bin_labels = _exported_bins(layout.features, variables)
        self._cells, self._kept = np.array(cells, np.intp), np.array(kept, np.intp)
        self._ratios = _reference_ratios(profile, layout.feature_names)
        self._reference_values = [float(sum(profile.features[name].counts)) for name in layout.feature_names]
        self._quality = Quality(layout, settings.min_samples.performance)
        importances = profile.importances
        self._importances = (
            np.array([importances.get(name, 0.0) for name in layout.feature_names]) if importances else None
        )

    def collect(self, now: float) -> Iterator[Samples]:
        if count := self._versions.update():
            yield from self._counters(count, self._versions.lifetimes())
            yield from self._rolling(self._versions.family, self._versions.totals(now), self._traffic(now))

    def _counters(self, count: int, ledgers: Floats) -> Iterator[Samples]:
        layout, family = self._reference.layout, self._versions.family
        yield family(catalogue.MODEL_FEATURES, [len(layout.feature_names)] * count)
        if not layout.feature_names:
            return
        values = np.add.reduceat(ledgers, self._cells, axis=1)[:, self._kept]
        yield family.zipped(catalogue.FEATURE_VALUES, values, lambda: self._bin_labels)
        yield family.zipped(catalogue.FEATURE_REFERENCE, np.tile(self._ratios, count), lambda: self._bin_labels)
        yield family(catalogue.FEATURE_REFERENCE_VALUES, self._reference_values * count, layout.feature_names)
        if self._importances is not None:
            yield family(catalogue.FEATURE_IMPORTANCE, np.tile(self._importances, count), layout.feature_names)
        yield family(catalogue.FEATURE_OUT_OF_RANGE, self._quality.outside_range(ledgers), layout.numeric)

    def _traffic(self, now: float) -> Traffic:
        return Traffic.joined([self.comparison.traffic(version, now) for version in self._versions])

    def _rolling(self, family: Family, totals: Floats, traffic: Traffic) -> Iterator[Samples]:
        windows, names, count = self._windows, self._reference.layout.feature_names, self.comparison.features
        with np.errstate(divide="ignore", invalid="ignore"):
            drift = self.comparison.compare(totals, traffic)
            yield from self._shares(family, totals)
        statistics = list(drift.values)
        values, thresholds = drift.by_statistic
        if names:
            yield family(catalogue.FEATURE_DRIFT, values[:, :count], windows, names, statistics)
            yield family(catalogue.FEATURE_DRIFT_THRESHOLD, thresholds[:, :count], windows, names, statistics)
            comparable = drift.comparable[:, :count].any(axis=1)
            drifted = drift.beyond[:, :count].sum(axis=1)
            yield family(catalogue.DRIFTED_FEATURES, np.where(comparable, drifted, np.nan), windows)
            significant = self.comparison.significantly_drifted(drift)
            controlled = (significant & drift.beyond[:, :count]).sum(axis=1)
            yield family(catalogue.DRIFTED_FEATURES_CONTROLLED, np.where(comparable, controlled, np.nan), windows)
            any_size = np.where(comparable, significant.sum(axis=1), np.nan)
            yield family(catalogue.DRIFTED_FEATURES_SIGNIFICANT, any_size, windows)
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

        if self.comparison.rated:
            places = list(self.comparison.rated.values())
            yield family(catalogue.OUTCOME_DRIFT, values[:, places], windows, self.comparison.rated, statistics)
            limits = thresholds[:, places]
            yield family(catalogue.OUTCOME_DRIFT_THRESHOLD, limits, windows, self.comparison.rated, statistics)

    def _shares(self, family: Family, totals: Floats) -> Iterator[Samples]:
        layout, windows = self._reference.layout, self._windows
        if not layout.feature_names:
            return
        shares = self._quality.shares(totals)
        yield family(catalogue.FEATURE_MISSING, shares.missing, windows, layout.feature_names)
        yield family(catalogue.FEATURE_INVALID, shares.invalid, windows, layout.feature_names)
        yield family(catalogue.FEATURE_OUT_OF_RANGE_RATIO, shares.out_of_range, windows, layout.numeric)
        yield family(catalogue.FEATURE_UNSEEN, shares.unseen, windows, layout.categorical)


def _exported_bins(
    sections: dict[str, slice], variables: dict[str, NumericVariable | CategoricalVariable]
) -> tuple[list[int], list[int], list[tuple[str, str, str]]]:
    """Return the first cell of each exported bin for one summation, which sums are bins, and their labels."""
    cells: list[int] = []
    labels: list[tuple[str, str, str]] = []
    for name, section in sections.items():
        variable = variables[name]
        cells += (section.start + begin for begin in variable.exported_starts)
        cells += (section.stop + INVALID, section.stop + MISSING)
        labels += ((name, *pair) for pair in variable.exported_labels)
    kept = list(range(len(cells)))
    if sections:
        cells.append(section.stop)
    return cells, kept, labels


def _reference_ratios(profile: Profile, names: Sequence[str]) -> Floats:
    ratios: list[float] = []
    for name in names:
        variable = profile.features[name]
        begins = [*variable.exported_starts, variable.cells + INVALID, variable.cells + MISSING]
        counts = np.add.reduceat(variable.counts, begins)
        ratios += (counts / max(counts.sum(), 1)).tolist()
    return np.array(ratios)
