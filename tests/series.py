"""Samples as a test reads them: a dictionary from series to value."""

from collections.abc import Iterable

from mlops_exporter.exposition.samples import Collector, Samples


def series(samples: Iterable[Samples]) -> dict[str, float]:
    """Return the value of every series that is present, by its name and labels."""
    return {
        prefix.rstrip(): float(value)
        for sample in samples
        for prefix, value in zip(sample.rows.prefixes, sample.values, strict=True)
        if value == value
    }


def collect(collectors: Iterable[Collector]) -> dict[str, float]:
    """Return the series of all `collectors`; whatever one of them raises is raised."""
    return series(sample for collector in collectors for sample in collector.collect(0.0))
