"""Names of the arrays that the whole package speaks of, and how some of their columns are taken."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]
Singles = NDArray[np.float32]

Real = TypeVar("Real", bound=np.generic)


def columns_of(array: NDArray[Real], places: Ints) -> NDArray[Real]:
    """Return some columns by their ascending places: of a run, as the rows of a table are, a view and no copy."""
    if len(places) and places[-1] - places[0] == len(places) - 1:
        return array[:, places[0] : places[-1] + 1]
    return array.take(places, axis=1)  # faster than by indexing
