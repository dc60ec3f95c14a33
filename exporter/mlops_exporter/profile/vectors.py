"""Cells of a table or an event that are vectors, as arrays."""

from collections.abc import Sequence

import numpy as np

from mlops_exporter.arrays import Singles


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
