"""Drift of the joint distribution, from sums: what no feature shows alone.

Vectors are standardised by the reference: mean 0 and variance 1, a missing value being 0, which is the mean.
"""

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mlops_exporter.arrays import Floats

Real = TypeVar("Real", np.float32, np.float64)

LEAST_LEFT_OUT = 1e-3
"""Share of the variance that principal components leave out at least: less is within what single precision loses."""

_BLOCK = 256
_DRAWS = 20_000
_SEED = 1


def bandwidth(dimensions: int) -> float:
    """Width σ of the kernel exp(−‖x − y‖² / 2σ²) for standardised vectors: half their mean squared distance, 2 F."""
    return float(np.sqrt(dimensions))


def frequencies(seed: int, dimensions: int, count: int, width: float) -> Floats:
    """Draw the frequencies of a Gaussian kernel of that width, (F, count): normal with variance 1 / σ².

    From raw 64-bit numbers, whose sequence NumPy promises to keep, unlike that of its normal numbers.
    """
    raw = np.asarray(np.random.PCG64(seed).random_raw(dimensions * count), np.uint64)
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    normal: Floats = ndtri(uniform).reshape(dimensions, count) / width
    return normal


def fourier_map(vectors: NDArray[Real], frequencies: NDArray[Real]) -> NDArray[Real]:
    """Random Fourier features, (2 · count, n), of vectors (F, n) with frequencies (F, count).

    Their inner products approximate the kernel (Rahimi and Recht 2007, NeurIPS). Vectors are columns here: cosines and
    sums then run along memory. Multiplied in blocks, below the size from which BLAS wakes its threads.
    """
    count, n = frequencies.shape[1], vectors.shape[1]
    mapped = np.empty((2 * count, n), vectors.dtype)
    for start in range(0, n, _BLOCK):  # all of a block stays in the cache
        phase = frequencies.T @ vectors[:, start : start + _BLOCK]
        block = mapped[:, start : start + _BLOCK]
        np.cos(phase, out=block[:count])
        np.sin(phase, out=block[count:])
        block /= np.sqrt(count)
    return mapped


def mmd(n: Floats, map_sum: Floats, reference_mean: Floats) -> Floats:
    """Maximum mean discrepancy (Gretton et al. 2012, JMLR 13), (...), of windows from Σ of their maps, (..., D).

    The distance of the mean maps: 0 for equal distributions, at most √2.
    """
    mean = map_sum / np.where(n > 0, n, np.nan)[..., np.newaxis]
    distance: Floats = np.sqrt(np.square(mean - reference_mean).sum(-1))
    return distance


def mmd_coefficient(eigenvalues: Floats, alpha: float) -> float:
    """Return q with P(Σ λ χ²₁ > q) = alpha, λ being the eigenvalues of the map's covariance in the reference.

    Without drift the squared discrepancy is such a sum times 1/n + 1/N. By simulation, always the same.
    """
    return _mixture_quantile(eigenvalues.tobytes(), alpha)


@lru_cache(maxsize=1024)  # page and scrape ask for the same
def _mixture_quantile(eigenvalues: bytes, alpha: float) -> float:
    weights = np.maximum(np.frombuffer(eigenvalues, np.float64), 0.0)
    normal = np.random.default_rng(_SEED).standard_normal((_DRAWS, len(weights)))
    return float(np.quantile(np.square(normal) @ weights, 1 - alpha))


def mmd_threshold(coefficient: float, n: Floats, reference_n: Floats | float) -> Floats:
    """Discrepancy that windows of n without drift exceed at the coefficient's rate."""
    threshold: Floats = np.sqrt(coefficient * (1 / np.where(n > 0, n, np.nan) + 1 / reference_n))
    return threshold


def principal_components(second_moments: Floats, explained: float = 0.8) -> Floats:
    """Return the leading eigenvectors, (F, k), of the vectors' second moments that explain the given share.

    Fewer where these would leave out nothing: what is left of vectors that lie in a plane is rounding, whose relative
    change means nothing.
    """
    values, vectors = np.linalg.eigh(second_moments)
    share = np.cumsum(values[::-1]) / (values.sum() or 1.0)
    k = min(np.count_nonzero(share < explained) + 1, np.count_nonzero(share < 1 - LEAST_LEFT_OUT))
    return np.asarray(vectors[:, ::-1][:, :k], np.float64)


def reconstruction_error(n: Floats, outer_sum: Floats, components: Floats) -> Floats:
    """Mean squared distance of vectors from the components' plane, from Σ x xᵀ, (..., F, F): tr M (I − V Vᵀ)."""
    left_out = np.eye(len(components)) - components @ components.T
    squares = outer_sum.reshape(*outer_sum.shape[:-2], -1) @ left_out.ravel()
    error: Floats = squares / np.where(n > 0, n, np.nan)
    return error


def mean_threshold(
    n: Floats, mean: Floats | float, variance: float, skewness: float, reference_n: Floats | float, alpha: float
) -> Floats:
    """Return the relative change of a mean of n values, up or down, that chance exceeds at the rate alpha.

    Normal, with Cornish and Fisher's correction for the skewness of the mean (1938, Rev. Inst. Int. Stat. 5(4)).
    """
    n = np.where(n > 0, n, np.nan)
    z = -float(ndtri(alpha / 2))
    quantile = z + (z * z - 1) / 6 * abs(skewness) / np.sqrt(n)
    threshold: Floats = quantile * np.sqrt(variance * (1 / n + 1 / reference_n)) / mean
    return threshold


def cosine_distance(left: Floats, right: Floats) -> Floats:
    """1 − cosine of the angle between vectors, (..., F) and (F,), in [0, 2]; NaN for a vector of length 0."""
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right)
    distance: Floats = 1 - (left @ right) / np.where(lengths > 0, lengths, np.nan)
    return distance
