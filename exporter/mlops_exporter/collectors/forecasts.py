"""Forecasts and announced quantiles to samples: every horizon, quantile and interval by itself."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.collectors.family import Versions, Views
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.reference import Reference
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.dependence import effects_of
from mlops_exporter.judging.forecasts import COVERAGE, SKILL, Forecasts, forecasts_of
from mlops_exporter.judging.performance import (
    PerformanceMetric,
    PerformanceSums,
    estimates,
    horizon_metrics_of,
    quantile_metrics_of,
)
from mlops_exporter.profile.forecasts import level_name
from mlops_exporter.settings.durations import format_duration
from mlops_exporter.statistics import forecast
from mlops_exporter.statistics.intervals import Estimate

_OF_HORIZONS = (catalogue.HORIZON_PERFORMANCE, catalogue.HORIZON_PERFORMANCE_LOWER, catalogue.HORIZON_PERFORMANCE_UPPER)
_OF_INTERVALS = (catalogue.INTERVAL_COVERAGE, catalogue.INTERVAL_COVERAGE_LOWER, catalogue.INTERVAL_COVERAGE_UPPER)
_MISSED = {COVERAGE: catalogue.INTERVAL_MISSED, SKILL: catalogue.FORECAST_NO_BETTER}


class ForecastCollector:
    """Horizons of forecasts, announced quantiles and their intervals, for every model that has some."""

    name = "forecasts"
    about = "forecasts by horizon, announced quantiles and the coverage of their intervals"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._views = Views(models, _view)

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for view in self._views:
            yield from view.collect(now)


def _view(model: Model, reference: Reference) -> "_ForecastView | None":
    forecasts = forecasts_of(reference)
    return None if forecasts is None else _ForecastView(model, reference, forecasts)


class _ForecastView:
    def __init__(self, model: Model, reference: Reference, forecasts: Forecasts) -> None:
        self._forecasts = forecasts
        self._reference = reference
        self._layout = reference.layout
        told = reference.profile.forecast
        self._horizons = told.horizons if told else []
        self._quantiles = [level_name(level) for level in self._layout.levels]
        self._levels = [level_name(level) for level in forecasts.levels]
        self._of_horizons = horizon_metrics_of(self._layout)
        self._of_quantiles = quantile_metrics_of(self._layout)
        self._least = model.settings.min_samples.performance
        self._versions = Versions(model, reference)
        self._windows = [format_duration(length) for length in model.settings.windows]

    def collect(self, now: float) -> Iterator[Samples]:
        if not self._versions.update():
            return
        totals = self._versions.totals(now)
        effects = np.concatenate([effects_of(self._reference, version, now).labels for version in self._versions])
        sums = PerformanceSums(self._layout, totals)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self._horizons:
                yield from self._by_horizon(totals, sums.by_horizon.n, effects)
            if self._quantiles:
                yield from self._by_quantile(totals, sums.forecasts.quantile_n, effects)
        held = [self._forecasts.hold(version, now) for version in self._versions]
        for name in held[0]:
            missed = [float(each[name].missed is not None) if each[name].judged else np.nan for each in held]
            yield self._versions.family(_MISSED[name], missed)

    def _by_horizon(self, totals: Floats, labels: Floats, effects: Floats) -> Iterator[Samples]:
        family, horizons, windows = self._versions.family, self._horizons, self._windows
        lifetimes = PerformanceSums(self._layout, self._versions.lifetimes()).by_horizon
        yield family(catalogue.HORIZON_LABELS, lifetimes.n, horizons)
        yield family(catalogue.HORIZON_ABSOLUTE_ERROR, lifetimes.absolute, horizons)
        yield family(catalogue.HORIZON_WINDOW_LABELS, labels, windows, horizons)
        found = _stacked(estimates(self._of_horizons, self._layout, totals, effects[:, np.newaxis]))
        enough = (labels >= self._least)[..., np.newaxis]
        for metric, values in zip(_OF_HORIZONS, found, strict=True):
            yield family(metric, np.where(enough, values, np.nan), windows, horizons, self._of_horizons)

    def _by_quantile(self, totals: Floats, labels: Floats, effects: Floats) -> Iterator[Samples]:
        family, windows = self._versions.family, self._windows
        enough = (labels >= self._least)[:, np.newaxis]
        found = estimates(self._of_quantiles, self._layout, totals, effects[:, np.newaxis])
        values = np.where(enough[..., np.newaxis], _stacked(found).value, np.nan)
        yield family(catalogue.QUANTILE_PERFORMANCE, values, windows, self._quantiles, self._of_quantiles)
        covered = estimates(_COVERAGES, self._layout, totals, effects[:, np.newaxis])[COVERAGE]
        if self._levels:
            for metric, part in zip(_OF_INTERVALS, covered, strict=True):
                yield family(metric, np.where(enough, part, np.nan), windows, self._levels)


_COVERAGES: dict[str, PerformanceMetric] = {COVERAGE: lambda s: forecast.coverages(s.forecasts)}


def _stacked(found: dict[str, Estimate]) -> Estimate:
    """Return the parts of several estimates of one shape side by side, (..., metrics)."""
    return Estimate(*(np.stack(parts, axis=-1) for parts in zip(*found.values(), strict=True)))
