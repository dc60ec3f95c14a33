"""Multivariate drift of a model: how features become vectors, what of them is summed, and how windows compare."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.profile.fitted import VectorReference
from exporter.statistics import multivariate

MAX_FEATURES = 64
"""Numeric features that are looked at together, the first ones; the sums grow with their square."""

FREQUENCIES = 64
SEED = 42

_CLIP = 5.0  # standard deviations, so that one outlier does not make a window

STATISTICS = ("mmd", "pca_reconstruction")

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.intp]


class Vectors(NamedTuple):
    """Standardised features (n, F), and their Fourier maps (n, D)."""

    values: Singles
    maps: Singles

    def rows(self, rows: Ints) -> "Vectors":
        """Return some of the rows."""
        return Vectors(self.values[rows], self.maps[rows])


class VectorMap:
    """Makes vectors of features: `chosen` are rows of the feature array. Single precision, for speed."""

    def __init__(
        self, chosen: Sequence[int], means: Sequence[float], scales: Sequence[float], frequencies: Floats
    ) -> None:
        self._chosen = np.array(chosen, np.intp)
        self._means = np.array(means)[:, np.newaxis]
        self._scales = np.array(scales)[:, np.newaxis]
        self._frequencies = frequencies.astype(np.float32)

    @classmethod
    def of(cls, reference: VectorReference, names: Sequence[str]) -> "VectorMap":
        """Return the map of a profile; `names` are the rows of the feature array."""
        fourier = reference.fourier
        frequencies = multivariate.frequencies(
            fourier.seed, len(reference.features), fourier.frequencies, fourier.bandwidth
        )
        return cls([names.index(name) for name in reference.features], reference.means, reference.scales, frequencies)

    def __call__(self, numeric: Floats) -> Vectors:
        """Turn numeric features, (features, n), to vectors; what is missing or invalid becomes the mean."""
        values = (numeric[self._chosen] - self._means) / self._scales
        values[~np.isfinite(numeric[self._chosen])] = 0.0
        np.clip(values, -_CLIP, _CLIP, out=values)
        singles = np.ascontiguousarray(values.T, np.float32)
        return Vectors(singles, multivariate.fourier_map(singles, self._frequencies))


class Sums(NamedTuple):
    """Sums of vectors: n (...), Σ map (..., D), Σ x xᵀ (..., F, F)."""

    n: Floats
    maps: Floats
    outer: Floats


class VectorCounts:
    """The part of the ledger that holds sums of vectors: n, the maps, the upper triangle of the outer products."""

    def __init__(self, reference: VectorReference) -> None:
        self._maps = 2 * reference.fourier.frequencies
        self._features = len(reference.features)
        self._triangle = np.triu_indices(self._features)
        self.cells = 1 + self._maps + len(self._triangle[0])

    def count(self, cells: Floats, vectors: Vectors) -> None:
        """Add vectors to the section's cells."""
        cells[0] += len(vectors.values)
        cells[1 : 1 + self._maps] += np.ones(len(vectors.maps), np.float32) @ vectors.maps
        cells[1 + self._maps :] += (vectors.values.T @ vectors.values)[self._triangle]

    def sums(self, cells: Floats) -> Sums:
        """Take the section's cells, (..., cells), apart."""
        outer = np.zeros((*cells.shape[:-1], self._features, self._features))
        outer[..., self._triangle[0], self._triangle[1]] = cells[..., 1 + self._maps :]
        outer[..., self._triangle[1], self._triangle[0]] = cells[..., 1 + self._maps :]
        return Sums(cells[..., 0], cells[..., 1 : 1 + self._maps], outer)


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

    def compare(self, sums: Sums) -> tuple[Floats, Floats]:
        """Return values and thresholds, (W, statistics); NaN below the least sample size."""
        reference, n = self._reference, sums.n
        enough = (n >= self._min_samples)[:, np.newaxis]
        error = multivariate.reconstruction_error(n, sums.outer, self._components)
        values = [multivariate.mmd(n, sums.maps, self._mean), np.abs(error / (reference.error_mean or np.nan) - 1)]
        limits = [
            multivariate.mmd_threshold(self._coefficient, n, reference.fourier.rows),
            multivariate.mean_threshold(
                n,
                reference.error_mean or np.nan,
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
