"""What a fleet of models needs, by arithmetic from what one model version takes: the table of docs/sizing.md.

Memory and series are measured here, on a model of 25 features. What a series costs Prometheus comes from
`python -m tests.benchmarks.fleet`, what it costs Mimir from that project's own page on planning capacity.
"""

import asyncio
import time
import tracemalloc
from itertools import count
from typing import NamedTuple

from mlops_exporter.counting.model import Model
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.benchmarks.refresh import collectors
from tests.support import workload

BINS = ("ml_feature_values_total", "ml_feature_reference_ratio")
"""What goes first where `limits.series` does not hold all."""

SCRAPE_SECONDS = 60
PROMETHEUS_BYTES = 12 * 1024
"""For each series that is shown, with what the rules record beside it: `python -m tests.benchmarks.fleet`."""

SAMPLE_BYTES = 1.5
"""On disk, in Prometheus' own words one to two."""

MIMIR_SERIES_OF_A_CORE = 300_000
MIMIR_BYTES = 2.5e9 / 300_000
MIMIR_COPIES = 3


class Version(NamedTuple):
    """What one version takes: bytes in its exporter, series of a scrape."""

    memory: int
    series: int


class Fleet(NamedTuple):
    """What many versions need."""

    exporters: float
    """Bytes in all exporters together, without what waits for labels."""
    series: int
    samples: float
    """A second."""
    prometheus: float
    """Bytes of memory."""
    disk: float
    """Bytes a day."""
    mimir_cores: float
    mimir: float
    """Bytes of memory in its ingesters."""


def version(windows: list[str], statistics: list[str], *, bins: bool) -> Version:
    """Return what a version of a model of 25 features takes with these windows and drift statistics."""
    settings = ModelSettings.model_validate(
        {
            "name": "credit",
            "task": "binary",
            "profile": "credit.json",
            "windows": windows,
            "drift": {"statistics": statistics},
        }
    )
    model = Model(settings, workload.profile(), Limits())
    model.admit({"1"})
    tracemalloc.start()
    model.admit({"3"})
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    model = Model(settings, workload.profile(), Limits())
    intake = Intake([model], ["bench"], Limits())

    async def text() -> str:
        now = time.time()
        for body in workload.bodies(5000, 1000, now):
            await intake.submit("bench", body, now)
        intake.flush()
        registry = Registry(collectors(model), count().__next__)
        return (await registry.scrape(openmetrics=False, gzipped=False)).decode()

    lines = [line for line in asyncio.run(text()).splitlines() if line and not line.startswith("#")]
    return Version(memory, sum(bins or not line.startswith(BINS) for line in lines))


def fleet(versions: int, each: Version) -> Fleet:
    """Return what so many versions need."""
    series = versions * each.series
    samples = series / SCRAPE_SECONDS
    return Fleet(
        exporters=versions * each.memory,
        series=series,
        samples=samples,
        prometheus=series * PROMETHEUS_BYTES,
        disk=samples * 86_400 * SAMPLE_BYTES,
        mimir_cores=MIMIR_COPIES * series / MIMIR_SERIES_OF_A_CORE,
        mimir=MIMIR_COPIES * series * MIMIR_BYTES,
    )


def rows() -> list[str]:
    """Return the rows of the table, in Markdown."""
    kinds = {
        "as it comes: three windows, three statistics": version(["15m", "1h", "1d"], ["psi", "js", "ks"], bins=True),
        "one window, one statistic": version(["1d"], ["psi"], bins=True),
        "the same without bins": version(["1d"], ["psi"], bins=False),
    }
    return [
        f"| {versions:,} | {kind} | {_gib(need.exporters)} | {need.series:,} | {need.samples:,.0f} "
        f"| {_gib(need.prometheus)} | {_gib(need.disk)} | {need.mimir_cores:,.1f} | {_gib(need.mimir)} |"
        for versions in (100, 1000, 10_000)
        for kind, each in kinds.items()
        for need in [fleet(versions, each)]
    ]


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"


def main() -> None:
    """Print the table."""
    print("\n".join(rows()))


if __name__ == "__main__":
    main()
