"""What probes found, in series of their own: they never mix with what users' requests made."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Self

import numpy as np

from mlops_exporter.collectors.family import Family, or_absent
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.judging.benchmarks import bounds
from mlops_exporter.probing.prober import Prober

_PARTS: tuple[tuple[Metric, str], ...] = (
    (catalogue.PROBE_PERFORMANCE, "value"),
    (catalogue.PROBE_PERFORMANCE_LOWER, "lower"),
    (catalogue.PROBE_PERFORMANCE_UPPER, "upper"),
)


class ProbeCollector:
    """How every probe went, and what its last pass found."""

    name = "probes"
    about = "what probes of live endpoints found"
    by_default = True
    of_counts = False

    def __init__(self, probers: Sequence[Prober]) -> None:
        self._probers = probers
        self._families = [Family(prober.settings.name, prober.settings.model) for prober in probers]

    @classmethod
    def of(cls, parts: Parts) -> Self | None:
        """Return the collector of these parts."""
        return None if parts.running is None else cls(parts.running.probers)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for prober, family in zip(self._probers, self._families, strict=True):
            yield from _health(prober, family)
            yield from _findings(prober)


def _health(prober: Prober, family: Family) -> Iterator[Samples]:
    course = prober.course
    counts, total = course.latency.counts, course.latency.sum
    cumulative = list(accumulate(counts))
    yield family(catalogue.PROBE_INTERVAL, [prober.settings.every])
    yield family(catalogue.PROBE_REQUEST_DURATION, [*cumulative, total, cumulative[-1]])
    yield family(catalogue.PROBE_REQUESTS, [course.requests])
    yield family(catalogue.PROBE_FAILURES, course.failures.values(), course.failures)
    yield family(catalogue.PROBE_PASSES, [course.passes])
    yield family(catalogue.PROBE_FAILED_PASSES, [course.failed_in_a_row])
    yield family(catalogue.PROBE_LAST_RUN, [or_absent(course.last_run)])
    yield family(catalogue.PROBE_LAST_SUCCESS, [or_absent(course.last_success)])


def _findings(prober: Prober) -> Iterator[Samples]:
    """Return what the last pass found, by the version that answered; so few series that their rows are made anew."""
    name, model, protocol = prober.settings.name, prober.settings.model, prober.settings.endpoint.kind
    for result in prober.results:
        version = result.version
        info = name, model, version, protocol, prober.origin(version)
        yield _samples(catalogue.PROBE_INFO, [info], [1.0])
        yield _samples(catalogue.PROBE_ROWS, [info[:3]], [float(result.rows)])
        if result.changed is not None:
            yield _samples(catalogue.PROBE_CHANGED, [info[:3]], [result.changed])
        rows = [(*info[:3], metric) for metric in result.performance]
        agreed = bounds(prober.model.benchmarks, prober.profile_of(version).performance)
        for metric, side in ((catalogue.PROBE_BENCHMARK_MIN, 0), (catalogue.PROBE_BENCHMARK_MAX, 1)):
            known = {name: bound for name, both in agreed.items() if (bound := both[side]) is not None}
            yield _samples(metric, [(*info[:3], name) for name in known], list(known.values()))
        for metric, part in _PARTS:
            yield _samples(metric, rows, [getattr(estimate, part) for estimate in result.performance.values()])


def _samples(metric: Metric, rows: Sequence[Sequence[str]], values: Sequence[float]) -> Samples:
    return Samples(Rows(metric, rows), np.array(values, np.float64))
