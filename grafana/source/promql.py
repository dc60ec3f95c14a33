"""Selectors for dashboards: series of the catalogue's metrics, narrowed by the dashboard's variables."""

from mlops_exporter.exposition.catalogue import Metric

# Variables that hold one value. Every metric that has such a label is narrowed by it.
ONE = ("model", "version", "window", "attribute")

EXPORTER = 'job=~"$job",instance=~"$instance"'


def series(metric: Metric, *matchers: str, free: str = "", suffix: str = "") -> str:
    """Return the selector of a metric: job, instance and each of its labels in `ONE`, but the labels in `free`.

    `matchers` are added as they are; `suffix` picks a histogram's `_bucket`, `_sum` or `_count`.
    """
    held = [f'{label}="${label}"' for label in ONE if label in metric.labels and label not in free.split()]
    return f"{metric.name}{suffix}{{{','.join([EXPORTER, *held, *matchers])}}}"


def rate(metric: Metric, *matchers: str, free: str = "", suffix: str = "") -> str:
    """Return the rate per second of a counter or of a part of a histogram."""
    return f"rate({series(metric, *matchers, free=free, suffix=suffix)}[$__rate_interval])"


def quantile(q: float, metric: Metric, *matchers: str, free: str = "") -> str:
    """Return the quantile `q` (0 to 1) of a histogram, over all exporters."""
    return f"histogram_quantile({q}, sum by (le) ({rate(metric, *matchers, free=free, suffix='_bucket')}))"
