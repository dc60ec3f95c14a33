"""The values that metrics must keep, absolute or against the profile's own."""

from collections.abc import Mapping

from mlops_exporter.counting.reference import Reference
from mlops_exporter.settings.models import Benchmark


def benchmark_bounds(reference: Reference) -> dict[str, tuple[float | None, float | None]]:
    """Return the lowest and the highest agreed value of each metric with a benchmark, by a version's own reference."""
    return bounds(reference.settings.benchmarks, reference.profile.performance)


def bounds(
    benchmarks: Mapping[str, Benchmark], reference: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    """Return the lowest and the highest value of each benchmark, beside the `reference` performance by metric."""
    return {name: _bounds(benchmark, reference.get(name)) for name, benchmark in benchmarks.items()}


def _bounds(benchmark: Benchmark, reference: float | None) -> tuple[float | None, float | None]:
    low, high = benchmark.min, benchmark.max
    if benchmark.max_drop is not None and reference is not None:
        low = reference - benchmark.max_drop
    if benchmark.max_increase is not None and reference is not None:
        high = reference + benchmark.max_increase
    return low, high
