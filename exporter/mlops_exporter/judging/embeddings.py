"""Drift of features that are vectors: how windows of an embedding compare with the profile."""

import numpy as np
from scipy.special import ndtri

from mlops_exporter.arrays import Floats
from mlops_exporter.profile.fitted import EmbeddingReference
from mlops_exporter.statistics import multivariate

_LEAST_VARIATION = 1e-3
"""Variation of vectors' lengths, as a share of their mean, below which they are normalised but for rounding."""

_LARGEST_STRAY = 0.1
"""Squared length of chance in the reference's mean vector, as a share of its own, above which it has no direction."""


class EmbeddingDrift:
    """Compares windows of one embedding with the profile."""

    def __init__(self, reference: EmbeddingReference, false_alarm_rate: float, min_effect: float, samples: int) -> None:
        self._reference = reference
        means = np.array(reference.means)
        self._maps = np.array(reference.fourier.mean)
        self._min_effect = np.array([min_effect, 0.0, 0.0])
        self._min_samples = samples
        self._mmd = multivariate.mmd_coefficient(np.array(reference.fourier.eigenvalues), false_alarm_rate)
        across = multivariate.mmd_coefficient(np.array(reference.across_eigenvalues), false_alarm_rate)
        length = float(np.square(means).sum())
        strays = sum(reference.across_eigenvalues) / reference.fourier.rows
        directed = strays < _LARGEST_STRAY * length
        self._direction = means if directed else np.full_like(means, np.nan)
        self._cosine = across / (2 * length) if directed else np.nan
        varies = reference.norm_deviation > _LEAST_VARIATION * reference.norm_mean
        self._norm_deviation = reference.norm_deviation if varies else np.nan
        self._norm = -float(ndtri(false_alarm_rate / 2)) if varies else np.nan

    def compare(self, cells: Floats) -> tuple[Floats, Floats]:
        """Return values and thresholds, (W, statistics), from sums of the section, (W, cells); NaN for too few.

        cosine: 1 − cosine of the angle between the mean vectors. Without drift the mean strays across its direction by
        δ, so that it is about |δ|² / 2 |mean|², a sum of χ²; NaN where the mean may be 0. norm: change of the mean
        length in reference standard deviations; NaN of normalised vectors, whose lengths differ by rounding alone.
        """
        reference, n = self._reference, cells[:, 0]
        count = np.where(n >= self._min_samples, n, np.nan)
        noise = 1 / count + 1 / reference.fourier.rows
        maps = len(self._maps)
        values = [
            multivariate.mmd(count, cells[:, 2 : 2 + maps], self._maps),
            multivariate.cosine_distance(cells[:, 2 + maps :] / count[:, np.newaxis], self._direction),
            np.abs(cells[:, 1] / count - reference.norm_mean) / self._norm_deviation,
        ]
        limits = [
            multivariate.mmd_threshold(self._mmd, count, reference.fourier.rows),
            self._cosine * noise,
            self._norm * np.sqrt(noise),
        ]
        return np.stack(values, -1), np.maximum(np.stack(limits, -1), self._min_effect)
