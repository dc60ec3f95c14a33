import asyncio
import gzip
import logging
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mlops_exporter import __version__
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.budget import Budget
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.exposition.samples import Rows, Samples


class Counting:
    """Exposes how often it was collected, and fails on demand."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.metric = Metric(f"ml_{name}", "gauge", "model", f"Collections of {name}.")
        self.collections = 0
        self.now = 0.0
        self.error: Exception | None = None
        self.more: list[Samples] = []

    def collect(self, now: float) -> Iterator[Samples]:
        self.collections += 1
        self.now = now
        yield Samples(Rows(self.metric, [()]), np.array([float(self.collections)]))
        yield from self.more
        if self.error is not None:
            raise self.error


class Service:
    def __init__(self) -> None:
        self.generation = 0
        self.alpha, self.beta = Counting("alpha"), Counting("beta")
        self.registry = Registry([self.alpha, self.beta], lambda: self.generation, now=lambda: 1234.5)

    def scrape(self, openmetrics: bool = False, collectors: Iterable[str] | None = None) -> bytes:
        names = None if collectors is None else frozenset(collectors)
        return asyncio.run(self.registry.scrape(openmetrics, gzipped=False, collectors=names))


def values(body: bytes) -> dict[str, float]:
    """Values by series name, with the collector's name in braces where there is one."""
    return {
        sample.name + (f"{{{sample.labels['collector']}}}" if "collector" in sample.labels else ""): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def test_scrape_holds_all_collectors_and_the_exporter_itself() -> None:
    service = Service()
    body = service.scrape()
    found = values(body)
    assert found["ml_alpha"] == found["ml_beta"] == 1
    assert found["ml_exporter_collector_success{alpha}"] == found["ml_exporter_collector_success{beta}"] == 1
    assert 0 <= found["ml_exporter_collector_duration_seconds{alpha}"] < 1
    assert f'ml_exporter_build_info{{version="{__version__}",pythonversion="3.' in body.decode()
    assert found["process_resident_memory_bytes"] > 1e6
    assert found["python_info"] == 1
    assert service.alpha.now == 1234.5


def test_openmetrics_is_one_document() -> None:
    body = Service().scrape(openmetrics=True).decode()
    names = {family.name for family in parse_openmetrics(body)}  # type: ignore[no-untyped-call]
    assert {"ml_alpha", "ml_exporter_build_info", "process_cpu_seconds", "python_info"} <= names
    assert body.count("# EOF") == 1
    assert body.endswith("# EOF\n")


def test_a_failing_collector_costs_its_own_samples_only(caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    caplog.set_level(logging.INFO)
    service.beta.error = RuntimeError("no such file")
    for service.generation in (1, 2, 3):
        found = values(service.scrape())
        assert found["ml_alpha"] == service.generation
        assert "ml_beta" not in found  # not even what it yielded before it failed
        assert found["ml_exporter_collector_success{beta}"] == 0
        assert found["ml_exporter_collector_success{alpha}"] == 1
        assert found["ml_exporter_collector_duration_seconds{beta}"] >= 0
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "beta" in caplog.text
    assert "no such file" in caplog.text

    service.beta.error = None
    for service.generation in (4, 5):
        assert values(service.scrape())["ml_exporter_collector_success{beta}"] == 1
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_one_state_is_collected_once() -> None:
    service = Service()
    first = service.scrape()
    assert service.scrape() is first
    assert service.alpha.collections == 1
    service.generation += 1
    assert values(service.scrape())["ml_alpha"] == 2


def test_filters_and_formats_have_bodies_of_their_own() -> None:
    service = Service()
    only_beta = values(service.scrape(collectors=["beta"]))
    assert "ml_beta" in only_beta
    assert "ml_alpha" not in only_beta
    assert "ml_exporter_collector_success{alpha}" not in only_beta
    assert service.alpha.collections == 0
    assert "ml_alpha" in values(service.scrape())
    assert service.scrape(openmetrics=True) != service.scrape()
    with pytest.raises(KeyError, match="gamma"):
        service.scrape(collectors=["gamma"])


async def concurrent_bodies(registry: Registry) -> list[bytes]:
    impatient = asyncio.create_task(registry.scrape(openmetrics=False, gzipped=True))
    others = [asyncio.create_task(registry.scrape(openmetrics=False, gzipped=True)) for _ in range(5)]
    await asyncio.sleep(0)
    impatient.cancel()
    return await asyncio.gather(*others)


def test_compression_is_shared_and_survives_a_scraper_that_leaves() -> None:
    service = Service()
    bodies = asyncio.run(concurrent_bodies(service.registry))
    assert all(body is bodies[0] for body in bodies)
    assert gzip.decompress(bodies[0]) == service.scrape()
    assert service.alpha.collections == 1


def wide(series: int) -> Samples:
    rows = Rows(catalogue.CALIBRATION_POSITIVES, [("m", "1", str(number)) for number in range(series)])
    return Samples(rows, np.ones(series))


@pytest.mark.parametrize("openmetrics", [False, True])
def test_series_are_counted_and_kept_within_the_limit(openmetrics: bool) -> None:
    service = Service()
    service.registry.budget = Budget(1000)
    few, many = wide(500), wide(2000)
    for more, dropped in (([few], 0), ([few, many], 2500), ([few], 500)):
        service.alpha.more = more
        service.generation += 1
        for collectors in (None, {"alpha"}):
            lines = service.scrape(openmetrics, collectors).decode().splitlines()
            assert f"ml_exporter_series {sum(not line.startswith('#') for line in lines)}.0" in lines
            assert f'ml_exporter_series_dropped{{detail="bins"}} {dropped}.0' in lines
            assert "ml_exporter_series_limit 1000.0" in lines
            there = [line for line in lines if line.startswith("ml_model_calibration_positives_total{")]
            assert len(there) == (0 if dropped else 500)


def test_what_is_not_restored_yet_is_not_shown() -> None:
    counting, other = Counting("counts"), Counting("other")
    withheld = {"counts"}
    registry = Registry([counting, other], lambda: len(withheld), withheld=lambda: withheld)

    def shown() -> dict[str, float]:
        return values(asyncio.run(registry.scrape(openmetrics=False, gzipped=False)))

    assert "ml_other" in shown()
    assert not {"ml_counts", "ml_exporter_collector_success{counts}"} & shown().keys()
    withheld.clear()
    assert shown()["ml_counts"] == 1, "collected for the first time"
