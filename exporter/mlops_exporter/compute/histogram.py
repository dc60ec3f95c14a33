"""A histogram of ratios, fed between scrapes."""

from bisect import bisect_left
from itertools import accumulate

from mlops_exporter.exposition.catalogue import Metric


class RatioHistogram:
    """Counts ratios in the buckets of `metric`; not thread-safe, so only `values` leaves the sampling thread."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, metric: Metric) -> None:
        self._bounds = metric.buckets
        self._counts = [0] * (len(metric.buckets) + 1)
        self._sum = 0.0

    def observe(self, ratio: float) -> None:
        """Count `ratio` in the bucket whose upper bound is the first not below it."""
        self._counts[bisect_left(self._bounds, ratio)] += 1
        self._sum += ratio

    def values(self) -> tuple[float, ...]:
        """Return cumulative bucket counts (+Inf last), sum and count, as `Samples` wants them."""
        cumulative = list(accumulate(self._counts))
        return (*cumulative, self._sum, cumulative[-1])
