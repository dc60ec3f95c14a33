"""Champion and challenger: by how much the challenger is better or worse on the same events."""

from collections.abc import Callable

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.challenge import Challenge
from mlops_exporter.statistics import comparison
from mlops_exporter.statistics.intervals import Estimate

_DIFFERENCES: dict[str, Callable[[Floats, Floats], Estimate]] = {
    "accuracy": comparison.rate_difference,
    "brier_score": comparison.mean_difference,
    "log_loss": comparison.mean_difference,
    "mae": comparison.mean_difference,
    "rmse": comparison.root_difference,
}


def compare(challenge: Challenge, now: float, min_samples: int) -> tuple[Floats, Estimate]:
    """Return the number of pairs, (W,), and challenger less champion by metric, (W, metrics)."""
    n, sums, ranks = challenge.totals(now)
    enough = np.where(n >= min_samples, n, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [_DIFFERENCES[name](enough, sums[:, i]) for i, name in enumerate(challenge.means)]
        if challenge.ranking:
            ranked = np.where(np.isnan(enough)[:, np.newaxis], 0.0, ranks)
            found.append(comparison.roc_auc_difference(*challenge.ranking.histograms(ranked)))
    return n, Estimate(*(np.stack(parts, axis=-1) for parts in zip(*found, strict=True)))
