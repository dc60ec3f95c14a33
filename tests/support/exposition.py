"""Samples of many bins and drift values, as a large scrape has them."""

import numpy as np

from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples

BINS = Metric("ml_feature_values_total", "counter", "data", "Values.", ("model", "version", "feature", "bin", "range"))
DRIFT = Metric("ml_feature_drift", "gauge", "data", "Drift.", ("model", "version", "window", "feature", "statistic"))


def bins_and_drift(series: int, seed: int = 1) -> list[Samples]:
    """Two thirds counters of bins, one third drift gauges: what makes most of a large scrape."""
    counters = series * 2 // 3
    bins = [("credit", "3", f"feature_{i // 10:04d}", f"{i % 10}", f"[{i},{i + 1})") for i in range(counters)]
    drift = [
        ("credit", "3", ("15m", "1h", "24h")[i % 3], f"feature_{i // 9:04d}", ("psi", "js", "ks")[i // 3 % 3])
        for i in range(series - counters)
    ]
    random = np.random.default_rng(seed)
    return [
        Samples(Rows(BINS, bins), random.integers(0, 1_000_000, counters).astype(float)),
        Samples(Rows(DRIFT, drift), random.random(len(drift))),
    ]
