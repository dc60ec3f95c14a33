"""How good the values of features are: which share of them is missing, invalid, out of range, unseen."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.profile.bins import BELOW, BEYOND, INVALID, MISSING


class Shares(NamedTuple):
    """Shares of poor values, (W, features); `out_of_range` of numeric features alone, `unseen` of categorical ones.

    Missing and invalid ones are shares of all values, the others of the valid ones. NaN for too few values.
    """

    missing: Floats
    invalid: Floats
    out_of_range: Floats
    unseen: Floats


class Quality:
    """Works out the shares of one model."""

    def __init__(self, layout: Layout, min_samples: int) -> None:
        sections = np.array([[s.start, s.stop] for s in layout.features.values()], np.intp).reshape(-1, 2)
        self._starts, self._stops = sections.T
        self._numeric = len(layout.numeric)
        self._min_samples = min_samples
        variables = [layout.profile.features[name] for name in layout.feature_names]
        counts = [np.array(variable.counts, np.float64) for variable in variables]
        self.reference = Shares(
            _shares(counts, MISSING),
            _shares(counts, INVALID),
            np.zeros(self._numeric),
            _shares(counts[self._numeric :], BEYOND),
        )
        """The shares in the reference; none of its values is out of its range."""

    def outside_range(self, totals: Floats) -> Floats:
        """Return how many values of numeric features lie outside the reference's range, (W, numeric)."""
        split = self._numeric
        return totals[:, self._starts[:split] + BELOW] + totals[:, self._stops[:split] + BEYOND]

    def shares(self, totals: Floats) -> Shares:
        """Return the shares in sums of ledgers, (W, cells)."""
        running = np.concatenate([np.zeros((len(totals), 1)), np.cumsum(totals, axis=1)], axis=1)
        n = running[:, self._stops] - running[:, self._starts]
        n = np.where(n >= self._min_samples, n, np.nan)
        missing, invalid = totals[:, self._stops + MISSING], totals[:, self._stops + INVALID]
        valid, split = n - missing - invalid, self._numeric
        unseen = totals[:, self._stops[split:] + BEYOND]
        return Shares(
            missing / n, invalid / n, self.outside_range(totals) / valid[:, :split], unseen / valid[:, split:]
        )


def _shares(counts: Sequence[Floats], cell: int) -> Floats:
    return np.array([of[cell] / max(of.sum(), 1.0) for of in counts])
