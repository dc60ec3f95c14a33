"""What tests and simulations of calibration share."""

import numpy as np


def bins(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    place = np.minimum((score * 10).astype(int), 9)
    count, positives, total = (np.bincount(place, weights, 10) for weights in (None, label, score))
    return count.astype(np.float64), positives, total
