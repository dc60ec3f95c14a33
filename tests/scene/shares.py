"""When the scene happens, and what one of its exporters sees of a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

END = 1_793_620_800
"""The moment at which the scene stands: 2 November 2026, 12:00 UTC, a Monday."""
BEGIN = END - 2 * 3600
DRIFT_FROM = END - 3600
LATE_FROM = END - 5400

Floats = NDArray[np.float64]
Event = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """What one exporter sees of a model: events a second, and which are of the newer version."""

    model: str
    rate: float
    seed: int
    canary: float = 0.0
    noise: float = 3.7
    groups: bool = True
