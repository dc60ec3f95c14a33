"""Drift of the joint distribution of features: how windows of summed vectors compare with the profile."""

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.multivariate import STATISTICS, VectorCounts, VectorSums
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.version import Version
from mlops_exporter.judging.dependence import Dependence, Measure
from mlops_exporter.profile.fitted import VectorReference
from mlops_exporter.statistics import dependence, multivariate
from mlops_exporter.statistics.dependence import PaneSums


class VectorDrift:
    """Compares windows with the profile. `min_effect` by statistic: what no threshold falls below."""

    def __init__(
        self, reference: VectorReference, false_alarm_rate: float, min_effect: dict[str, float], min_samples: int
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
        self._error_mean = reference.error_mean if left_out > multivariate.LEAST_LEFT_OUT / 2 else np.nan

    def effects(self, version: Version, now: float, counts: VectorCounts, cells: slice) -> Floats:
        """Return the design effects of a version's windows, (W, statistics); `cells` are the section's."""
        if self._dependence is None:
            self._dependence = Dependence(Measure(cells, lambda panes: self._of_panes(counts.sums(panes))))
        return self._dependence.effects(version, now)

    def _of_panes(self, sums: VectorSums) -> list[PaneSums]:
        error = multivariate.reconstruction_error(np.maximum(sums.n, 1.0), sums.outer, self._components) * sums.n
        return [
            dependence.vector(sums.n, sums.maps, np.maximum(self._reference.fourier.eigenvalues, 0.0)),
            dependence.means(sums.n, error[:, np.newaxis], np.array([self._reference.error_variance])),
        ]

    def compare(self, sums: VectorSums, effects: Floats | None = None) -> tuple[Floats, Floats]:
        """Return values and thresholds, (W, statistics); NaN below the least sample size.

        With design `effects`, (W, statistics), thresholds are those of as many vectors as a window is worth.
        """
        reference, n = self._reference, sums.n
        of_maps, of_errors = (n, n) if effects is None else (n / effects.T)
        enough = (n >= self._min_samples)[:, np.newaxis]
        error = multivariate.reconstruction_error(n, sums.outer, self._components)
        values = [multivariate.mmd(n, sums.maps, self._mean), np.abs(error / self._error_mean - 1)]
        limits = [
            multivariate.mmd_threshold(self._coefficient, of_maps, reference.fourier.rows),
            multivariate.mean_threshold(
                of_errors,
                self._error_mean,
                reference.error_variance,
                reference.error_skewness,
                reference.fourier.rows,
                self._alpha,
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
    return VectorDrift(vectors, settings.drift.false_alarm_rate, effects, settings.min_samples.drift)
