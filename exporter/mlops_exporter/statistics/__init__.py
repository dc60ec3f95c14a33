"""Statistics as pure functions of counts and sums: no I/O, nothing known of models, windows or metrics.

All take leading axes (windows, groups, …) and broadcast over them. NaN says that a value cannot be computed.
"""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
