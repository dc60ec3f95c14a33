"""How much faster a scrape of many series is than prometheus_client's own, on the same samples in the same run."""

import gc
import math
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Metric as ClientMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from mlops_exporter.exposition.samples import Samples
from mlops_exporter.exposition.text import render
from tests.support.exposition import BINS, DRIFT, bins_and_drift


class ClientCollector:
    """The same samples as prometheus_client's metric families, built at each scrape as its documentation advises."""

    def __init__(self, series: int) -> None:
        counters, gauges = bins_and_drift(series)
        self.counters = list(zip(_labels(counters), counters.values.tolist(), strict=True))
        self.gauges = list(zip(_labels(gauges), gauges.values.tolist(), strict=True))

    def collect(self) -> Iterator[ClientMetric]:
        bins = CounterMetricFamily(BINS.name, BINS.help, labels=BINS.labels)
        for labels, value in self.counters:
            bins.add_metric(labels, value)
        yield bins
        drift = GaugeMetricFamily(DRIFT.name, DRIFT.help, labels=DRIFT.labels)
        for labels, value in self.gauges:
            drift.add_metric(labels, value)
        yield drift


def _labels(samples: Samples) -> list[list[str]]:
    return [prefix.split('"')[1::2] for prefix in samples.rows.prefixes]


def best(function: Callable[[], object]) -> float:
    """Seconds of one call, with the collector of garbage out of the way."""
    gc.collect()
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(series: int = 10_000, rounds: int = 7, openmetrics: bool = False) -> tuple[float, float]:
    """Return the best seconds of (prometheus_client, ours) over interleaved rounds."""
    samples = bins_and_drift(series)
    registry = CollectorRegistry()
    registry.register(ClientCollector(series))
    generate: Callable[[CollectorRegistry], bytes] = generate_openmetrics if openmetrics else generate_latest
    theirs = ours = math.inf
    for _ in range(rounds):
        theirs = min(theirs, best(lambda: generate(registry)))
        ours = min(ours, best(lambda: render(samples, openmetrics)))
    return theirs, ours


def main() -> None:
    for openmetrics in (False, True):
        for series in (1_000, 10_000, 50_000):
            theirs, ours = measure(series, openmetrics=openmetrics)
            name = "openmetrics" if openmetrics else "text"
            print(
                f"exposition {name} {series} series: {ours * 1e3:.2f} ms, prometheus_client {theirs * 1e3:.1f} ms, "
                f"ratio {theirs / ours:.1f} (goal 15)"
            )


if __name__ == "__main__":
    main()
