"""Which slices of the traffic are worse than the rest of it, of the many that are looked at."""

from typing import Literal

import numpy as np
from scipy.special import ndtr

from mlops_exporter.arrays import Floats
from mlops_exporter.statistics.intervals import Estimate, Z


def p_of_no_worse(
    part: Estimate, rest: Estimate, tolerance: Floats | float, better: Literal["higher", "lower"]
) -> Floats:
    """Return one-sided p-values, shaped as the estimates, that a part is at most `tolerance` worse than the rest.

    Part and rest share no event, so the distances from value to limit add up as squares (MOVER: Zou and Donner 2008,
    Stat. Med. 27(10)). NaN where an interval is missing.
    """
    if better == "higher":
        worse = rest.value - part.value
        spread = np.hypot(part.upper - part.value, rest.value - rest.lower)
    else:
        worse = part.value - rest.value
        spread = np.hypot(part.value - part.lower, rest.upper - rest.value)
    return np.asarray(ndtr((tolerance - worse) * Z / spread), np.float64)


def p_of_kept(estimate: Estimate, bound: Floats | float, better: Literal["higher", "lower"]) -> Floats:
    """Return one-sided p-values, shaped as the estimate, that the true value is on the right side of a bound."""
    if better == "higher":
        return np.asarray(ndtr((estimate.value - bound) * Z / (estimate.upper - estimate.value)), np.float64)
    return np.asarray(ndtr((bound - estimate.value) * Z / (estimate.value - estimate.lower)), np.float64)
