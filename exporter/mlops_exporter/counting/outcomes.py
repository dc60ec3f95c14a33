"""What is counted of a number by which answers are rated: its part of the ledger."""

from mlops_exporter.counting import bounds
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.settings.models import OutcomeSettings
from mlops_exporter.statistics import ratings


class OutcomeCounts:
    """The sums of one outcome. Other bounds make other cells: what was summed between the former is left behind."""

    cells = ratings.CELLS

    def __init__(self, outcome: str, settings: OutcomeSettings) -> None:
        self.outcome = outcome
        self.low, self.high = settings.low, settings.high
        self.name = f"outcome {outcome} {self.low!r} {self.high!r}"

    def bounds(self, largest: float) -> Bounds:
        """Return what one value can add to each cell; no bound is by the `largest` of a regression."""
        far = self.high - self.low
        return bounds.joined([bounds.counts(1), bounds.sums(1, far), bounds.sums(1, far**2)])
