"""The values that metrics must keep, absolute or against the profile's own."""

from mlops_exporter.counting.model import Model
from mlops_exporter.settings.models import Benchmark


def benchmark_bounds(model: Model) -> dict[str, tuple[float | None, float | None]]:
    """Return the lowest and the highest agreed value of each metric with a benchmark."""
    reference = model.profile.performance
    return {name: _bounds(benchmark, reference.get(name)) for name, benchmark in model.settings.benchmarks.items()}


def _bounds(benchmark: Benchmark, reference: float | None) -> tuple[float | None, float | None]:
    low, high = benchmark.min, benchmark.max
    if benchmark.max_drop is not None and reference is not None:
        low = reference - benchmark.max_drop
    if benchmark.max_increase is not None and reference is not None:
        high = reference + benchmark.max_increase
    return low, high
