"""Features that are vectors, such as embeddings of texts or images: what is summed of them, and how windows compare."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from exporter.multivariate import VectorMap
from exporter.profile.fitted import EmbeddingReference
from exporter.statistics import multivariate

STATISTICS = ("mmd", "cosine", "norm")

_LEAST_VARIATION = 1e-3
"""Variation of vectors' lengths, as a share of their mean, below which they are normalised but for rounding."""

_LARGEST_STRAY = 0.1
"""Squared length of chance in the reference's mean vector, as a share of its own, above which it has no direction."""

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


def to_vectors(cells: Sequence[object], dimensions: int) -> Singles:
    """Return vectors as columns, (dimensions, n); NaN for what is no list of so many finite numbers."""
    absent = [np.nan] * dimensions
    fitting = [cell if isinstance(cell, list) and len(cell) == dimensions else absent for cell in cells]
    try:
        with np.errstate(over="ignore"):
            vectors = np.array(fitting, np.float32).reshape(-1, dimensions).T
    except (TypeError, ValueError, OverflowError):  # something in a list is no number: find out in which
        return np.concatenate([_column(cell, dimensions) for cell in fitting], axis=1)
    vectors[:, ~np.isfinite(vectors).all(axis=0)] = np.nan
    return np.ascontiguousarray(vectors)


def _column(cell: object, dimensions: int) -> Singles:
    try:
        with np.errstate(over="ignore"):
            column = np.array(cell, np.float32).reshape(dimensions, 1)
    except (TypeError, ValueError, OverflowError):
        column = np.full((dimensions, 1), np.nan, np.float32)
    return column if np.isfinite(column).all() else np.full((dimensions, 1), np.nan, np.float32)


class EmbeddingCounts:
    """A part of the ledger for one embedding: n, Σ norm, Σ map, Σ vector."""

    def __init__(self, reference: EmbeddingReference) -> None:
        self._map = VectorMap(
            range(len(reference.means)),
            reference.means,
            reference.scales,
            multivariate.frequencies(
                reference.fourier.seed, len(reference.means), reference.fourier.frequencies, reference.fourier.bandwidth
            ),
        )
        self._maps = len(reference.fourier.mean)
        self.cells = 2 + self._maps + len(reference.means)

    def count(self, cells: Floats, vectors: Singles) -> None:
        """Add vectors (dimensions, n) to the section's cells; those that are NaN count nowhere."""
        vectors = vectors[:, ~np.isnan(vectors[0])]
        if not vectors.shape[1]:
            return
        cells[0] += vectors.shape[1]
        cells[1] += np.sqrt(np.square(vectors).sum(axis=0)).sum()
        cells[2 : 2 + self._maps] += self._map(vectors).maps.sum(axis=1)
        cells[2 + self._maps :] += vectors.sum(axis=1)


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
