"""Multivariate drift of a model: how features become vectors, what of them is summed, and how windows compare."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats, Ints, Singles, columns_of
from mlops_exporter.counting import bounds
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.profile.fitted import VectorReference
from mlops_exporter.statistics import multivariate

MAX_FEATURES = 64
"""Features that are looked at together, the first ones, numeric before categorical; sums grow with their square."""

FREQUENCIES = 64
SEED = 42

_CLIP = 5.0  # standard deviations, so that one outlier does not make a window

STATISTICS = ("mmd", "pca_reconstruction")


class Vectors(NamedTuple):
    """Standardised features (F, n), and their Fourier maps (D, n)."""

    values: Singles
    maps: Singles

    def of(self, events: Ints) -> "Vectors":
        """Return those of some events."""
        return Vectors(columns_of(self.values, events), columns_of(self.maps, events))


class VectorMap:
    """Makes vectors of features: `chosen` are rows of the array of numbers, `categories` of that of codes.

    A category becomes its share in the reference: `shares` are those of its codes. Single precision, for speed.
    """

    def __init__(
        self,
        chosen: Sequence[int],
        means: Sequence[float],
        scales: Sequence[float],
        frequencies: Floats,
        categories: Sequence[int] = (),
        shares: Sequence[Sequence[float]] = (),
    ) -> None:
        numbers = len(chosen)
        self._chosen = np.array(chosen, np.intp)
        self._means = np.array(means[:numbers], np.float64)[:, np.newaxis]
        self._scales = np.minimum(scales[:numbers], np.finfo(np.float32).max).astype(np.float32)[:, np.newaxis]
        self._frequencies = frequencies.astype(np.float32)
        self._categories = np.array(categories, np.intp)
        self._values = [  # of each code: categories, others, invalid, missing
            np.append(np.clip((np.array(each) - mean) / scale, -_CLIP, _CLIP), [0.0, 0.0]).astype(np.float32)
            for each, mean, scale in zip(shares, means[numbers:], scales[numbers:], strict=True)
        ]

    @classmethod
    def of(cls, reference: VectorReference, names: Sequence[str], categorical: Sequence[str] = ()) -> "VectorMap":
        """Return the map of a profile; `names` are the rows of the array of numbers, `categorical` of that of codes."""
        fourier, shares = reference.fourier, reference.shares or {}
        frequencies = multivariate.frequencies(
            fourier.seed, len(reference.features), fourier.frequencies, fourier.bandwidth
        )
        return cls(
            [names.index(name) for name in reference.features if name not in shares],
            reference.means,
            reference.scales,
            frequencies,
            [categorical.index(name) for name in shares],
            list(shares.values()),
        )

    def __call__(self, numeric: Floats | Singles, codes: Ints | None = None) -> Vectors:
        """Turn features, (features, n), and codes of categories, (categorical, n), to vectors.

        What is missing or invalid becomes the mean.
        """
        chosen = numeric if len(self._chosen) == len(numeric) else numeric[self._chosen]
        values = np.empty((len(self._frequencies), chosen.shape[1]), np.float32)
        numbers = values[: len(chosen)]
        with np.errstate(over="ignore", invalid="ignore"):  # what a single float cannot hold counts as missing
            np.subtract(chosen, self._means, out=numbers, dtype=np.float32, casting="same_kind")
            numbers /= self._scales
        numbers[~np.isfinite(numbers)] = 0.0
        np.clip(numbers, -_CLIP, _CLIP, out=numbers)
        if codes is not None:
            for row, category, known in zip(values[len(chosen) :], self._categories, self._values, strict=True):
                np.take(known, codes[category], out=row)
        return Vectors(values, multivariate.fourier_map(values, self._frequencies))


class VectorSums(NamedTuple):
    """Sums of vectors: n (...), Σ map (..., D), Σ x xᵀ (..., F, F)."""

    n: Floats
    maps: Floats
    outer: Floats


class VectorCounts:
    """The part of the ledger that holds sums of vectors: n, the maps, the upper triangle of the outer products."""

    name = "vectors"

    def __init__(self, reference: VectorReference) -> None:
        self._maps = 2 * reference.fourier.frequencies
        self._features = len(reference.features)
        self._triangle = np.triu_indices(self._features)
        self.cells = 1 + self._maps + len(self._triangle[0])

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells."""
        return bounds.joined(
            [bounds.counts(1), bounds.signed(self._maps, 1.0), bounds.signed(len(self._triangle[0]), _CLIP**2)]
        )

    def count(self, cells: Floats, vectors: Vectors) -> None:
        """Add vectors to the section's cells."""
        cells[0] += vectors.values.shape[1]
        cells[1 : 1 + self._maps] += vectors.maps.sum(axis=1)
        cells[1 + self._maps :] += (vectors.values @ vectors.values.T)[self._triangle]

    def sums(self, cells: Floats) -> VectorSums:
        """Take the section's cells, (..., cells), apart."""
        outer = np.zeros((*cells.shape[:-1], self._features, self._features))
        outer[..., self._triangle[0], self._triangle[1]] = cells[..., 1 + self._maps :]
        outer[..., self._triangle[1], self._triangle[0]] = cells[..., 1 + self._maps :]
        return VectorSums(cells[..., 0], cells[..., 1 : 1 + self._maps], outer)
