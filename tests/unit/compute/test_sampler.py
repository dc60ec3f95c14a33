"""The threads, and the GPUs of a vendor that does not exist."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mlops_exporter.compute.gpu import (
    Driver,
    DriverError,
    GpuCollector,
    GpuIdentity,
    GpuReading,
    GpuSampler,
    GpuSnapshot,
)
from mlops_exporter.compute.sampler import Compute
from mlops_exporter.compute.snapshots import NoSnapshotError, Published
from mlops_exporter.exposition.samples import Collector
from mlops_exporter.settings.compute import ComputeSettings
from tests.series import collect
from tests.unit.compute.trees import HOST, plant


class AcmeDriver:
    """A second vendor: all that it takes is this class."""

    vendor = "acme"

    def __init__(self) -> None:
        self.gpus = 1
        self.down: set[str] = set()
        self.missing = ""
        self.opened = 0
        self.closed = 0
        self.hangs = False
        self.released = threading.Event()

    def open(self) -> str:
        self.opened += 1
        if self.missing:
            raise DriverError(self.missing)
        return "7"

    def read(self) -> Sequence[GpuReading]:
        if self.hangs:
            self.released.wait(60)
        if self.missing:
            raise DriverError(self.missing)
        identities = [GpuIdentity(str(n), f"A{n}", name="Acme One") for n in range(self.gpus)]
        return [
            GpuReading(identity, up=False) if identity.uuid in self.down else GpuReading(identity, utilization=0.5)
            for identity in identities
        ]

    def close(self) -> None:
        self.closed += 1


LABELS = '{gpu="0",uuid="A0",mig=""}'


def scrape(snapshot: GpuSnapshot) -> dict[str, float]:
    published = Published[GpuSnapshot](60)
    published.put(snapshot)
    return collect([GpuCollector([("acme", published)])])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Compute]]:
    started: list[Compute] = []

    def start(*drivers: Driver) -> Compute:
        settings = ComputeSettings.model_validate({"interval": "100ms", "root": plant(tmp_path, HOST)})
        compute = Compute(settings, drivers)
        compute.start()
        started.append(compute)
        return compute

    yield start
    for compute in started:
        compute.stop()


def collector(compute: Compute, name: str) -> Collector:
    return next(collector for collector in compute.collectors if collector.name == name)


def test_a_second_vendor_is_one_class(run: Callable[..., Compute]) -> None:
    compute = run(AcmeDriver())
    time.sleep(0.25)
    found = collect([collector(compute, "gpu")])
    assert found['ml_gpu_driver_up{vendor="acme"}'] == 1
    assert found[f"ml_gpu_utilization_ratio{LABELS}"] == 0.5
    assert any('vendor="acme",name="Acme One",driver_version="7"' in name for name in found)


def test_the_driver_is_tried_again_ever_more_rarely_and_at_most_once_a_minute() -> None:
    driver = AcmeDriver()
    driver.missing = "library_not_found"
    sampler = GpuSampler(driver)
    tries = []
    for second in range(400):
        before = driver.opened
        assert sampler.sample(float(second)).error == "library_not_found"
        if driver.opened > before:
            tries.append(second)
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    driver.missing = ""
    assert sampler.sample(423.0).error is None


def test_a_lost_gpu_has_the_driver_opened_again_while_the_others_are_read() -> None:
    driver = AcmeDriver()
    driver.gpus = 2
    sampler = GpuSampler(driver)
    sampler.sample(0.0)
    driver.down = {"A1"}
    for second in range(1, 300):
        found = scrape(sampler.sample(float(second)))
        assert found['ml_gpu_up{gpu="1",uuid="A1",mig=""}'] == 0
        assert found[f"ml_gpu_utilization_ratio{LABELS}"] == 0.5
    assert 3 < driver.opened < 12
    driver.down = set()
    assert scrape(sampler.sample(300.0))['ml_gpu_up{gpu="1",uuid="A1",mig=""}'] == 1


def test_a_gpu_that_is_gone_leaves_no_series() -> None:
    driver = AcmeDriver()
    driver.gpus = 2
    sampler = GpuSampler(driver)
    assert any("A1" in name for name in scrape(sampler.sample(0.0)))
    driver.gpus = 1
    assert not any("A1" in name for name in scrape(sampler.sample(1.0)))


def test_a_driver_that_hangs_is_down_for_that_reason() -> None:
    published = Published[GpuSnapshot](0.05)
    published.put(GpuSampler(AcmeDriver()).sample(0.0))
    time.sleep(0.1)
    assert collect([GpuCollector([("acme", published)])]) == {
        'ml_gpu_driver_up{vendor="acme"}': 0.0,
        'ml_gpu_driver_error{vendor="acme",error="timeout"}': 1.0,
    }


@pytest.mark.slow
def test_a_hang_stops_neither_the_host_nor_stopping(run: Callable[..., Compute]) -> None:
    driver = AcmeDriver()
    driver.hangs = True
    compute = run(driver)
    time.sleep(0.45)
    found = collect([collector(compute, "memory")])
    assert found["ml_compute_memory_utilization_count"] >= 4
    began = time.monotonic()
    compute.stop()
    assert time.monotonic() - began < 2
    driver.released.set()


@pytest.mark.slow
def test_what_fails_costs_only_itself_and_one_line(
    run: Callable[..., Compute], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compute = run()
    time.sleep(0.15)
    (tmp_path / "proc/stat").rename(tmp_path / "proc/hidden")
    time.sleep(0.35)
    with pytest.raises(NoSnapshotError, match="proc/stat"):
        collect([collector(compute, "cpu")])
    assert "ml_compute_memory_used_bytes" in collect([collector(compute, "memory")])
    assert 'ml_compute_advice_observed_seconds{resource="host"}' in collect([collector(compute, "cost")])
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    (tmp_path / "proc/hidden").rename(tmp_path / "proc/stat")
    time.sleep(0.25)
    assert "ml_compute_cpu_cores" in collect([collector(compute, "cpu")])


@pytest.mark.slow
def test_generation_grows_with_every_sample(run: Callable[..., Compute]) -> None:
    compute = run(AcmeDriver())
    generations = []
    for _ in range(4):
        time.sleep(0.15)
        generations.append(compute.generation)
    assert generations == sorted(set(generations))


def test_collectors_have_the_names_of_their_switches(run: Callable[..., Compute]) -> None:
    names = [collector.name for collector in run().collectors]
    assert names == ["cpu", "memory", "pressure", "pods", "workloads", "gpu", "cost"]


def test_other_settings_take_over_without_a_gap() -> None:
    settings = ComputeSettings.model_validate({"interval": "100ms"})
    compute = Compute(settings, ())
    compute.start()
    time.sleep(0.25)
    workloads = [{"name": "w", "phase": "serving", "match": "nothing like it"}]
    priced = {"workloads": workloads, "cost": {"currency": "USD", "host_per_hour": 1}}
    added = ComputeSettings.model_validate(priced)
    other = settings.model_copy(update={"workloads": added.workloads, "cost": added.cost})
    before = compute.watch
    watch = compute.prepare(other)
    assert compute.watch is before, "until it is told to"
    compute.become(watch)
    found = collect([collector(compute, "workloads"), collector(compute, "cost")])
    assert found['ml_workload_processes{workload="w",phase="serving",pod_namespace="",pod_name=""}'] == 0
    assert found['ml_compute_cost_per_hour{resource="host",currency="USD"}'] == 1
    assert compute.prepare(other).workloads is watch.workloads, "what does not change goes on"
    compute.stop()
