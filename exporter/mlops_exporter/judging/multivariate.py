"""Drift of the joint distribution of features: how windows of summed vectors compare with the profile."""

from collections.abc import Sequence

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.multivariate import STATISTICS, VectorCounts, VectorSums
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import Window
from mlops_exporter.judging.dependence import Dependence, Measure
from mlops_exporter.judging.hours import Clock, HourlyShares, Traffic
from mlops_exporter.profile.fitted import VectorReference
from mlops_exporter.profile.hours import HourlyReference, HourlyVectors
from mlops_exporter.statistics import dependence, multivariate
from mlops_exporter.statistics.dependence import PaneSums


class VectorDrift:
    """Compares windows with the profile. `min_effect` by statistic: what no threshold falls below."""

    def __init__(
        self,
        reference: VectorReference,
        false_alarm_rate: float,
        min_effect: dict[str, float],
        min_samples: int,
        hours: HourlyReference | None = None,
    ) -> None:
        self._reference = reference
        self._alpha = false_alarm_rate
        self._min_effect = np.array([min_effect.get(statistic, 0.0) for statistic in STATISTICS])
        self._min_samples = min_samples
        self._mean = np.array(reference.fourier.mean)
        self._coefficient = multivariate.mmd_coefficient(np.array(reference.fourier.eigenvalues), false_alarm_rate)
        features = len(reference.features)
        moments = np.zeros((features, features))
        moments[np.triu_indices(features)] = reference.second_moments
        moments = np.triu(moments) + np.triu(moments, 1).T
        self._components = multivariate.principal_components(moments, reference.explained)
        left_out = reference.error_mean / (np.trace(moments) or 1.0)
        self._dependence: Dependence | None = None
        self._clock: Clock | None = None
        if hours is not None and isinstance(hours.vectors, HourlyVectors):
            self._clock = Clock(hours)
            n = np.array(hours.vectors.rows, np.float64)[:, np.newaxis]
            n = np.where(n > 0, n, reference.fourier.rows)
            self._hourly = [
                HourlyShares(np.array(means).reshape(len(n), -1), n, np.zeros(1, np.intp))
                for means in (hours.vectors.means, hours.vectors.errors)
            ]
        self._error_mean = reference.error_mean if left_out > multivariate.LEAST_LEFT_OUT / 2 else np.nan

    def traffic(self, version: Version, now: float, counts: VectorCounts, cells: slice) -> Traffic:
        """Return how the events of a version's windows came, effects (W, statistics); `cells` are the section's."""
        if self._dependence is None:
            self._dependence = Dependence(
                Measure(cells, lambda panes: self._of_panes(counts.sums(panes)), self._evened)
            )
        effects = self._dependence.effects(version, now)
        first = slice(cells.start, cells.start + 1)  # the number of vectors
        return Traffic(effects, None if self._clock is None else self._clock.of_windows(version, now, first))

    def _evened(self, panes: Sequence[PaneSums], window: Window, now: float) -> Sequence[PaneSums]:
        if self._clock is None or not window.by_clock:
            return panes
        weights = self._clock.of_panes(window, now)
        return [hourly.evened(part, weights) for hourly, part in zip(self._hourly, panes, strict=True)]

    def _of_panes(self, sums: VectorSums) -> list[PaneSums]:
        error = multivariate.reconstruction_error(np.maximum(sums.n, 1.0), sums.outer, self._components) * sums.n
        return [
            dependence.vector(sums.n, sums.maps, np.maximum(self._reference.fourier.eigenvalues, 0.0)),
            dependence.means(sums.n, error[:, np.newaxis], np.array([self._reference.error_variance])),
        ]

    def compare(self, sums: VectorSums, traffic: Traffic | None = None) -> tuple[Floats, Floats]:
        """Return values and thresholds, (W, statistics); NaN below the least sample size.

        Thresholds are those of as many independent vectors as a window is worth by its `traffic`.
        """
        reference, n = self._reference, sums.n
        of_maps, of_errors = (n, n) if traffic is None else (n / traffic.effects.T)
        mean, error_mean, rows = self._mean, np.asarray(self._error_mean), np.asarray(float(reference.fourier.rows))
        if traffic is not None and traffic.hours is not None:
            maps, errors = (hourly.mixed(traffic.hours) for hourly in self._hourly)
            mean, rows = maps.shares, maps.n[:, 0]
            error_mean = np.where(np.isnan(error_mean), np.nan, errors.shares[:, 0])
        enough = (n >= self._min_samples)[:, np.newaxis]
        error = multivariate.reconstruction_error(n, sums.outer, self._components)
        values = [multivariate.mmd(n, sums.maps, mean), np.abs(error / error_mean - 1)]
        limits = [
            multivariate.mmd_threshold(self._coefficient, of_maps, rows),
            multivariate.mean_threshold(
                of_errors, error_mean, reference.error_variance, reference.error_skewness, rows, self._alpha
            ),
        ]
        return (
            np.where(enough, np.stack(values, -1), np.nan),
            np.where(enough, np.maximum(np.stack(limits, -1), self._min_effect), np.nan),
        )


def vector_drift(reference: Reference) -> VectorDrift | None:
    """Return what compares windows with a reference, None where its profile does not know the joint distribution."""
    settings, vectors = reference.settings, reference.profile.vectors
    if vectors is None or reference.vectors is None:
        return None
    effects = {str(name): effect for name, effect in settings.multivariate.min_effect.items()}
    hours = reference.profile.hours or None
    return VectorDrift(vectors, settings.drift.false_alarm_rate, effects, settings.min_samples.drift, hours)
