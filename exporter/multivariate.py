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
    """Standardised features (F, n), and their Fourier maps (D, n)."""

    values: Singles
    maps: Singles

    def of(self, events: Ints) -> "Vectors":
        """Return those of some events."""
        return self if len(events) == self.values.shape[1] else Vectors(self.values[:, events], self.maps[:, events])


class VectorMap:
    """Makes vectors of features: `chosen` are rows of the feature array. Single precision, for speed."""

    def __init__(
        self, chosen: Sequence[int], means: Sequence[float], scales: Sequence[float], frequencies: Floats
    ) -> None:
        self._chosen = np.array(chosen, np.intp)
        self._means = np.array(means, np.float64)[:, np.newaxis]
        self._scales = np.minimum(scales, np.finfo(np.float32).max).astype(np.float32)[:, np.newaxis]
        self._frequencies = frequencies.astype(np.float32)

    @classmethod
    def of(cls, reference: VectorReference, names: Sequence[str]) -> "VectorMap":
        """Return the map of a profile; `names` are the rows of the feature array."""
        fourier = reference.fourier
        frequencies = multivariate.frequencies(
            fourier.seed, len(reference.features), fourier.frequencies, fourier.bandwidth
        )
        return cls([names.index(name) for name in reference.features], reference.means, reference.scales, frequencies)

    def __call__(self, numeric: Floats | Singles) -> Vectors:
        """Turn numeric features, (features, n), to vectors; what is missing or invalid becomes the mean."""
        chosen = numeric if len(self._chosen) == len(numeric) else numeric[self._chosen]
        with np.errstate(over="ignore", invalid="ignore"):  # what a single float cannot hold counts as missing
            values = np.subtract(chosen, self._means, dtype=np.float32, casting="same_kind")
            values /= self._scales
        values[~np.isfinite(values)] = 0.0
        np.clip(values, -_CLIP, _CLIP, out=values)
        return Vectors(values, multivariate.fourier_map(values, self._frequencies))


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
        cells[0] += vectors.values.shape[1]
        cells[1 : 1 + self._maps] += vectors.maps.sum(axis=1)
        cells[1 + self._maps :] += (vectors.values @ vectors.values.T)[self._triangle]

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
        left_out = reference.error_mean / (np.trace(moments) or 1.0)
        self._error_mean = reference.error_mean if left_out > multivariate.LEAST_LEFT_OUT / 2 else np.nan

    def compare(self, sums: Sums) -> tuple[Floats, Floats]:
        """Return values and thresholds, (W, statistics); NaN below the least sample size."""
        reference, n = self._reference, sums.n
        enough = (n >= self._min_samples)[:, np.newaxis]
        error = multivariate.reconstruction_error(n, sums.outer, self._components)
        values = [multivariate.mmd(n, sums.maps, self._mean), np.abs(error / self._error_mean - 1)]
        limits = [
            multivariate.mmd_threshold(self._coefficient, n, reference.fourier.rows),
            multivariate.mean_threshold(
                n,
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
