"""Names of the arrays that the whole package speaks of."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]
Singles = NDArray[np.float32]
