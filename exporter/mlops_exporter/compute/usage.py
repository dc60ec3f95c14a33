"""Utilisation over a sliding window: a sum of panes, so that its cost does not grow with its length."""

from collections import deque
from dataclasses import dataclass, field

_BINS = 100


@dataclass(slots=True)
class _Pane:
    number: int
    counts: list[int] = field(default_factory=lambda: [0] * _BINS)
    total: float = 0.0
    largest: float = 0.0


class UsageWindow:
    """Ratios observed within the last `seconds`, give or take a twenty-fourth, in bins of one hundredth."""

    _PANES = 24

    def __init__(self, seconds: float) -> None:
        self._pane_seconds = seconds / self._PANES
        self._panes: deque[_Pane] = deque()
        self._counts = [0] * _BINS
        self.count = 0
        self._total = 0.0

    def observe(self, now: float, ratio: float) -> None:
        """Add a ratio seen at `now` (monotonic seconds), and drop what has left the window."""
        number = int(now // self._pane_seconds)
        while self._panes and self._panes[0].number <= number - self._PANES:
            self._drop(self._panes.popleft())
        if not self._panes or self._panes[-1].number != number:
            self._panes.append(_Pane(number))
        pane = self._panes[-1]
        bin_ = min(int(ratio * _BINS), _BINS - 1)
        pane.counts[bin_] += 1
        pane.total += ratio
        pane.largest = max(pane.largest, ratio)
        self._counts[bin_] += 1
        self._total += ratio
        self.count += 1

    def _drop(self, pane: _Pane) -> None:
        self._counts = [sum_ - gone for sum_, gone in zip(self._counts, pane.counts, strict=True)]
        self._total -= pane.total
        self.count -= sum(pane.counts)

    def quantile(self, q: float) -> float:
        """Return the upper edge of the bin that holds the `q` quantile, at most the maximum. Needs an observation."""
        wanted, seen = q * self.count, 0
        for bin_, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min((bin_ + 1) / _BINS, self.maximum)
        raise ValueError("no observation in the window")

    @property
    def mean(self) -> float:
        """Mean of the ratios. Needs an observation."""
        return self._total / self.count

    @property
    def maximum(self) -> float:
        """Largest of the ratios, 0 without any."""
        return max((pane.largest for pane in self._panes), default=0.0)
