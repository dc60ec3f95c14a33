"""Whether announced intervals hold what they say, and whether a forecast is any better than a naive one."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.judging import judge
from mlops_exporter.judging.dependence import effects_of
from mlops_exporter.judging.judge import COVERAGE_GAP, LEAST_SKILL, limit
from mlops_exporter.judging.performance import PerformanceMetric, PerformanceSums, estimates, lacking
from mlops_exporter.statistics import forecast
from mlops_exporter.statistics.intervals import Estimate

COVERAGE, SKILL = "coverage", "skill"


class Held(NamedTuple):
    """What windows say of a metric that is held against `minimum` and `maximum`, (W,) each part of the estimate.

    `missed` is the window that is surely beyond a bound, None for none; `judged` whether there is one to judge by.
    """

    estimate: Estimate
    minimum: float | None
    maximum: float | None
    missed: int | None
    judged: bool


class _Bound(NamedTuple):
    metric: PerformanceMetric
    minimum: float | None
    maximum: float | None


class Forecasts:
    """Holds the versions of one reference against what needs no agreement.

    The widest announced interval should cover its nominal share, and the errors should be smaller than those of the
    naive forecast. Labels at an end of the interval, of counts many, count as inside where it may be too narrow and as
    outside where it may be too wide. Where a benchmark is agreed on coverage or skill, it alone counts.
    """

    def __init__(self, reference: Reference) -> None:
        settings, layout, profile = reference.settings, reference.layout, reference.profile
        self._reference, self._layout = reference, layout
        self.levels = forecast.nominal(layout.levels)
        """Shares that the announced intervals should cover, the largest first."""
        bounds: dict[str, list[_Bound]] = {}
        if self.levels:
            bounds[COVERAGE] = [
                _Bound(lambda s: forecast.coverage(s.forecasts), self.levels[0] - COVERAGE_GAP, None),
                _Bound(lambda s: forecast.strict_coverage(s.forecasts), None, self.levels[0] + COVERAGE_GAP),
            ]
        if profile.task == "forecast":
            bounds[SKILL] = [_Bound(_skill, LEAST_SKILL, None)]
        self._bounds = {
            name: each
            for name, each in bounds.items()
            if name not in settings.benchmarks and lacking(name, profile) is None
        }
        self._metrics = {
            f"{name} {place}": each.metric for name, of in self._bounds.items() for place, each in enumerate(of)
        }
        self._shown = settings.min_samples.performance
        self._least = max(self._shown, limit("min_labels"))
        self._caution = judge.caution(np.array(settings.windows))

    def hold(self, version: Version, now: float) -> dict[str, Held]:
        """Return what a version's windows say of each metric."""
        totals, filled = version.totals(now), version.filled(now)
        effects = effects_of(self._reference, version, now).labels
        kept = forecast.split(
            totals[:, self._layout.forecasts].reshape(len(totals), self._layout.horizons, -1).sum(1),
            self._layout.levels,
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            found = estimates(self._metrics, self._layout, totals, effects)
        sizes = {COVERAGE: kept.quantile_n, SKILL: kept.naive_n}
        return {
            name: min(
                (self._held(found[f"{name} {place}"], each, sizes[name], filled) for place, each in enumerate(of)),
                key=lambda held: np.inf if held.missed is None else held.missed,
            )
            for name, of in self._bounds.items()
        }

    def _held(self, estimate: Estimate, bound: _Bound, labels: Floats, filled: Floats) -> Held:
        estimate = Estimate(*(np.where(labels >= self._shown, part, np.nan) for part in estimate))
        _, minimum, maximum = bound
        full = judge.of_full(labels, filled)
        missed = judge.missed(estimate, minimum, maximum, full, limit("min_labels"), self._caution)
        return Held(estimate, minimum, maximum, missed, judge.judged(estimate, labels, self._least))


def _skill(s: PerformanceSums) -> Estimate:
    size = s.naive_squared / s.naive_absolute if s.naive_absolute else 0.0
    return forecast.skill_after_a_miss(s.forecasts, size, LEAST_SKILL)


_KNOWN: WeakKeyDictionary[Reference, Forecasts] = WeakKeyDictionary()


def forecasts_of(reference: Reference) -> Forecasts | None:
    """Return who judges the forecasts of a reference, None where it has no horizons and no quantiles."""
    if not reference.layout.horizons:
        return None
    known = _KNOWN.get(reference)
    if known is None:
        known = _KNOWN[reference] = Forecasts(reference)
    return known
