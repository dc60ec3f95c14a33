"""What tests and simulations of challenge share."""

import numpy as np


def histograms(y: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of the scores in 512 bins of equal width, and of both in 32."""
    one, other = ((scores * 512).astype(int) for scores in (champion, challenger))
    together = np.zeros((32, 32, 2))
    np.add.at(together, (one // 16, other // 16, y), 1)
    return (*(np.bincount(bins * 2 + y, minlength=1024).reshape(512, 2) * 1.0 for bins in (one, other)), together)
