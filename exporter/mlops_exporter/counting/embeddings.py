"""Features that are vectors, such as embeddings of texts or images: what is summed of them, and how windows compare."""

import numpy as np

from mlops_exporter.arrays import Floats, Singles
from mlops_exporter.counting import bounds
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.counting.multivariate import VectorMap
from mlops_exporter.profile.fitted import EmbeddingReference
from mlops_exporter.statistics import multivariate

STATISTICS = ("mmd", "cosine", "norm")


class EmbeddingCounts:
    """A part of the ledger for one embedding: n, Σ norm, Σ map, Σ vector."""

    def __init__(self, name: str, reference: EmbeddingReference) -> None:
        self.name = f"embedding {name}"
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

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells."""
        numbers = self.cells - 2 - self._maps
        most = float(np.finfo(np.float32).max)
        return bounds.joined(
            [bounds.counts(1), bounds.sums(1, most), bounds.signed(self._maps, 1.0), bounds.signed(numbers, most)]
        )

    def count(self, cells: Floats, vectors: Singles) -> None:
        """Add vectors (dimensions, n) to the section's cells; those that are NaN count nowhere."""
        vectors = vectors[:, ~np.isnan(vectors[0])]
        if not vectors.shape[1]:
            return
        cells[0] += vectors.shape[1]
        cells[1] += np.sqrt(np.square(vectors).sum(axis=0)).sum()
        cells[2 : 2 + self._maps] += self._map(vectors).maps.sum(axis=1)
        cells[2 + self._maps :] += vectors.sum(axis=1)
