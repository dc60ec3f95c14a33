"""Every metric as data: the one list from which exposition, documentation and contract tests are made.

Nothing here computes a value. Collectors refer to a metric by the constants below, so that a misspelt name is a type
error rather than a series nobody looks for.
"""

from dataclasses import dataclass
from typing import Literal

MetricType = Literal["counter", "gauge", "histogram"]
Pillar = Literal["model", "data", "compute", "exporter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: `name` as a query writes it, so counters carry their `_total`.

    `labels` are the label names in exposition order. `buckets` are a histogram's upper bounds without +Inf.
    """

    name: str
    type: MetricType
    pillar: Pillar
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """Name in OpenMetrics `# TYPE` lines, where a counter's family lacks the `_total` of its samples."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name


_metrics: dict[str, Metric] = {}


def _metric(
    name: str,
    type_: MetricType,
    pillar: Pillar,
    labels: str,
    help_: str,
    buckets: tuple[float, ...] = (),
) -> Metric:
    if name in _metrics:
        raise ValueError(f"metric {name} is in the catalogue twice")
    metric = Metric(name, type_, pillar, help_, tuple(labels.split()), buckets)
    _metrics[name] = metric
    return metric


def all_metrics() -> tuple[Metric, ...]:
    """Return every metric, in exposition order."""
    return tuple(_metrics.values())


EXPORTER_BUILD_INFO = _metric(
    "ml_exporter_build_info",
    "gauge",
    "exporter",
    "version pythonversion",
    "Version of the exporter and of the Python that runs it. The value is always 1.",
)
EXPORTER_COLLECTOR_DURATION = _metric(
    "ml_exporter_collector_duration_seconds",
    "gauge",
    "exporter",
    "collector",
    "Time that the collector took to produce its samples for this scrape.",
)
EXPORTER_COLLECTOR_SUCCESS = _metric(
    "ml_exporter_collector_success",
    "gauge",
    "exporter",
    "collector",
    "1 if the collector produced its samples for this scrape, 0 if it failed and they are absent.",
)
