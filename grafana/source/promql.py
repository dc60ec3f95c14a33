"""Selectors for dashboards: series of the catalogue's metrics, narrowed by the dashboard's variables."""

from grafana.source.environment import LABELS
from mlops_exporter.exposition.catalogue import Metric

# Variables that hold one value. Every metric that has such a label is narrowed by it.
ONE = ("model", "version", "window", "attribute")

ENVIRONMENT = ",".join(f'{label}=~"${label}"' for label in LABELS)
EXPORTER = ",".join(part for part in (ENVIRONMENT, 'job=~"$job",instance=~"$instance"') if part)
ALERTS = ",".join(part for part in (ENVIRONMENT, 'job=~"$job"') if part)

WHERE = ", ".join(LABELS)
TARGET = ", ".join((*LABELS, "job", "instance"))


def by(*labels: str) -> str:
    """Return the clause that keeps these labels and those of the environment."""
    return f"by ({', '.join((*LABELS, *labels))})"


def on(*labels: str) -> str:
    """Return the clause that matches by these labels on one exporter."""
    return f"on ({', '.join((TARGET, *labels))})"


def series(metric: Metric, *matchers: str, free: str = "", suffix: str = "") -> str:
    """Return the selector of a metric: the exporter and each of the metric's labels in `ONE`, but those in `free`.

    `matchers` are added as they are; `suffix` picks a histogram's `_bucket`, `_sum` or `_count`.
    """
    held = [f'{label}="${label}"' for label in ONE if label in metric.labels and label not in free.split()]
    return f"{metric.name}{suffix}{{{','.join([EXPORTER, *held, *matchers])}}}"


def rate(metric: Metric, *matchers: str, free: str = "", suffix: str = "") -> str:
    """Return the rate per second of a counter or of a part of a histogram."""
    return rate_of(series(metric, *matchers, free=free, suffix=suffix))


def rate_of(selector: str) -> str:
    """Return the rate per second of what is selected.

    A data source left as it comes tells Grafana that scrapes are 15 s apart. Where they are rarer, $__rate_interval
    may hold one sample, of which there is no rate: then five minutes are taken.
    """
    return f"(rate({selector}[$__rate_interval]) or rate({selector}[5m]))"


def quantile(q: float, metric: Metric, *matchers: str, free: str = "") -> str:
    """Return the quantile `q` (0 to 1) of a histogram, over all exporters."""
    return f"histogram_quantile({q}, sum by (le) ({rate(metric, *matchers, free=free, suffix='_bucket')}))"


def largest(number: int, expression: str, label: str) -> str:
    """Return the series of `expression` whose `label` is among those that were largest in the time range.

    They are chosen once, for the whole range: `topk` alone would choose anew at every step, and leave gaps.
    """
    most = f"max by ({label}) (max_over_time(({expression})[$__range:$__interval] @ end()))"
    return f"{expression} and on ({label}) topk({number}, {most})"


def culprits(states: str, condition: str) -> str:
    """Return the worst four of `states` that fulfil a condition, by name; where none does, one for all of them."""
    named = f"topk(4, ({states}) {condition})"
    return f'{named} or label_replace(max({states}), "instance", "all", "", "") unless on () ({named})'
