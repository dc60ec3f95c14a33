"""What a scrape costs whose numbers are all worked out anew, and what a model version takes in memory."""

import asyncio
import re
import time
import tracemalloc

from mlops_exporter.counting.model import Model
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.exposition.samples import Collector
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.settings.models import Limits
from tests.benchmarks.exposition import best
from tests.support import workload

REFRESH_GOAL_MILLISECONDS = 5.0
MEMORY_GOAL_BYTES = 6 * 1024 * 1024

_ID = re.compile(rb'"id":"[^"]*",')


def filled(events: int) -> Model:
    """Return a model that has counted so many events: 10,000 different ones, again and again, without ids."""
    now = time.time()
    model = workload.model()
    intake = Intake([model], ["bench"], Limits())
    stock = [_ID.sub(b"", body) for body in workload.bodies(10_000, 1000, now)]

    async def submit() -> None:
        for _ in range(events // 10_000):
            for body in stock:
                await intake.submit("bench", body, now)
        intake.flush()

    asyncio.run(submit())
    return model


def collectors(model: Model) -> list[Collector]:
    from mlops_exporter.collectors.data import DataCollector
    from mlops_exporter.collectors.performance import ModelCollector

    return [ModelCollector([model]), DataCollector([model])]


def measure(events: int, rounds: int = 30) -> tuple[float, float, int]:
    """Return the best milliseconds of collecting every sample, of the whole text, and the number of series."""
    made = collectors(filled(events))
    now = time.time()

    def collect() -> int:
        return sum(len(samples.rows) for collector in made for samples in collector.collect(now))

    generation = iter(range(10**9))
    registry = Registry(made, generation.__next__)

    def scrape() -> None:
        asyncio.run(registry.scrape(openmetrics=False, gzipped=False))

    series = collect()
    scrape()
    return min(best(collect) for _ in range(rounds)) * 1e3, min(best(scrape) for _ in range(rounds)) * 1e3, series


def memory() -> int:
    """Return the bytes of one more version of a model with 25 features and three windows."""
    model = workload.model()
    model.admit({"1"})
    tracemalloc.start()
    model.admit({"2"})
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used


def main() -> None:
    """Print the table."""
    for events in (10_000, 1_000_000):
        collect, scrape, series = measure(events)
        print(
            f"refresh of {series} series, 25 features, 3 windows, after {events} events: {collect:.2f} ms "
            f"(goal {REFRESH_GOAL_MILLISECONDS:g}), with the text {scrape:.2f} ms"
        )
    print(f"memory of a model version: {memory() / 2**20:.2f} MiB (goal {MEMORY_GOAL_BYTES / 2**20:g})")


if __name__ == "__main__":
    main()
