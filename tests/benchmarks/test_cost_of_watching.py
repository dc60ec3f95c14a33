import pytest

from tests.benchmarks.compute import GOAL_CPU_PERCENT, GOAL_MEBIBYTES, measure


@pytest.mark.benchmark
def test_watching_costs_less_than_its_bound() -> None:
    found = measure(seconds=10)
    assert (found.gpus, found.processes) == (8, 50)
    assert found.exporter.cpu_percent < GOAL_CPU_PERCENT
    assert found.exporter.mebibytes < GOAL_MEBIBYTES
