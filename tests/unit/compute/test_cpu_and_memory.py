import time
from pathlib import Path

import pytest

from mlops_exporter.compute import cgroup
from mlops_exporter.compute.cpu import CpuCollector, CpuSampler, CpuSnapshot, parse_stat
from mlops_exporter.compute.memory import MemoryCollector, MemorySampler, MemorySnapshot, PressureCollector
from mlops_exporter.compute.snapshots import NoSnapshotError, Published, StaleSnapshotError
from mlops_exporter.exposition.samples import Collector
from tests.series import collect
from tests.unit.compute.trees import GIB, HOST, V1_CONTAINER, V2_CONTAINER, plant


def grown(user: int, idle: int) -> str:
    """Return /proc/stat after `user` and `idle` ticks more."""
    return HOST["proc/stat"].replace("cpu  100 0 50 800", f"cpu  {100 + user} 0 50 {800 + idle}")


def test_busy_is_all_but_idle_and_iowait_and_guests_are_users() -> None:
    times = parse_stat(b"cpu  100 10 50 800 40 3 2 5 90 9\ncpu0 1\ncpu1 1\nintr 5\n")
    assert (times.busy, times.total, times.cpus) == (1.7, 10.1, 2)


def test_host_utilization_is_what_happened_between_two_samples(tmp_path: Path) -> None:
    sampler = CpuSampler(plant(tmp_path, HOST), None)
    first = sampler.sample(0.0)
    assert (first.utilization, first.cores, first.load) == (None, 4.0, (0.5, 1.25, 2.0))
    assert first.throttling is None
    plant(tmp_path, {"proc/stat": grown(user=25, idle=75)})
    second = sampler.sample(1.0)
    assert second.utilization == pytest.approx(0.25)
    assert second.histogram == (0, 0, *[1] * 9, second.utilization, 1), "0.25 lies in the bucket up to 0.3"


def test_a_container_is_measured_against_what_it_may_use(tmp_path: Path) -> None:
    root = plant(tmp_path, V2_CONTAINER)
    scope = cgroup.find_scope(root, "auto")
    sampler = CpuSampler(root, scope)
    first = sampler.sample(10.0)
    assert first.cores == 1.5
    assert first.used_seconds == 3.0
    assert first.throttling == cgroup.Throttling(100, 25, 1.25)
    plant(tmp_path, {"sys/fs/cgroup/cpu.stat": "usage_usec 3750000\n"})
    assert sampler.sample(11.0).utilization == pytest.approx(0.5)
    plant(tmp_path, {"sys/fs/cgroup/cpu.stat": "usage_usec 4750000\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    resized = sampler.sample(12.0)
    assert resized.cores == 3
    assert resized.utilization == pytest.approx(1 / 3)


def test_v1_container_is_limited_by_its_cpuset(tmp_path: Path) -> None:
    root = plant(tmp_path, V1_CONTAINER)
    assert CpuSampler(root, cgroup.find_scope(root, "auto")).sample(0.0).cores == 2


def test_a_burst_over_the_quota_stays_within_one(tmp_path: Path) -> None:
    root = plant(tmp_path, V2_CONTAINER)
    sampler = CpuSampler(root, cgroup.find_scope(root, "auto"))
    sampler.sample(0.0)
    plant(tmp_path, {"sys/fs/cgroup/cpu.stat": "usage_usec 9000000\n"})
    assert sampler.sample(1.0).utilization == 1.0


def test_memory_of_host_and_container(tmp_path: Path) -> None:
    host = MemorySampler(plant(tmp_path, HOST), None).sample()
    assert (host.used, host.total) == (4 * GIB, 16 * GIB)
    for tree in (V2_CONTAINER, V1_CONTAINER):
        root = plant(tmp_path / str(id(tree)), tree)
        inside = MemorySampler(root, cgroup.find_scope(root, "auto")).sample()
        assert (inside.used, inside.total) == (GIB - GIB // 4, 2 * GIB)


def test_oom_kills_are_those_of_what_is_watched(tmp_path: Path) -> None:
    assert MemorySampler(plant(tmp_path / "host", HOST), None).sample().oom_kills == 3
    for name, tree, kills in (("v2", V2_CONTAINER, 2), ("v1", V1_CONTAINER, 1)):
        root = plant(tmp_path / name, tree)
        assert MemorySampler(root, cgroup.find_scope(root, "auto")).sample().oom_kills == kills


def test_a_kernel_that_keeps_no_oom_kills_has_memory_all_the_same(tmp_path: Path) -> None:
    root = plant(tmp_path, {**V2_CONTAINER, "sys/fs/cgroup/memory.events": "low 0\n"})
    snapshot = MemorySampler(root, cgroup.find_scope(root, "auto")).sample()
    assert (snapshot.oom_kills, snapshot.total) == (None, 2 * GIB)


def test_a_container_without_limit_may_use_the_host(tmp_path: Path) -> None:
    root = plant(tmp_path, {**V2_CONTAINER, "sys/fs/cgroup/memory.max": "max\n"})
    assert MemorySampler(root, cgroup.find_scope(root, "auto")).sample().total == 16 * GIB


def test_a_container_whose_memory_is_not_kept_says_so(tmp_path: Path) -> None:
    root = plant(tmp_path, V2_CONTAINER)
    (root / "sys/fs/cgroup/memory.current").unlink()
    with pytest.raises(OSError, match="memory controller"):
        MemorySampler(root, cgroup.find_scope(root, "auto")).sample()


def test_series_of_a_host(tmp_path: Path) -> None:
    root = plant(tmp_path, HOST)
    cpu, memory = Published[CpuSnapshot](60), Published[MemorySnapshot](60)
    cpu_sampler = CpuSampler(root, None)
    cpu.put(cpu_sampler.sample(0.0))
    memory.put(MemorySampler(root, None).sample())
    collectors: list[Collector] = [CpuCollector(cpu, "host"), MemoryCollector(memory), PressureCollector(root, None)]
    first = collect(collectors)
    assert "ml_compute_cpu_utilization_ratio" not in first, "one sample has no utilisation"
    plant(tmp_path, {"proc/stat": grown(user=30, idle=70)})
    cpu.put(cpu_sampler.sample(1.0))
    found = collect(collectors)
    assert {name: value for name, value in found.items() if "le=" not in name} == pytest.approx(
        {
            'ml_compute_info{scope="host"}': 1,
            "ml_compute_cpu_utilization_ratio": 0.3,
            "ml_compute_cpu_cores": 4,
            "ml_compute_cpu_seconds_total": 1.8,
            "ml_compute_cpu_utilization_sum": 0.3,
            "ml_compute_cpu_utilization_count": 1,
            'ml_compute_load_average{window="1m"}': 0.5,
            'ml_compute_load_average{window="5m"}': 1.25,
            'ml_compute_load_average{window="15m"}': 2.0,
            "ml_compute_memory_used_bytes": 4 * GIB,
            "ml_compute_memory_total_bytes": 16 * GIB,
            "ml_compute_memory_utilization_sum": 0.25,
            "ml_compute_memory_utilization_count": 1,
            "ml_compute_oom_kills_total": 3,
            'ml_compute_pressure_seconds_total{resource="cpu",kind="some"}': 1.5,
            'ml_compute_pressure_seconds_total{resource="memory",kind="some"}': 2.5,
            'ml_compute_pressure_seconds_total{resource="memory",kind="full"}': 0.5,
        }
    )


def test_series_of_a_container(tmp_path: Path) -> None:
    root = plant(tmp_path, V2_CONTAINER)
    scope = cgroup.find_scope(root, "auto")
    cpu = Published[CpuSnapshot](60)
    cpu.put(CpuSampler(root, scope).sample(0.0))
    found = collect([CpuCollector(cpu, "cgroup"), PressureCollector(root, scope)])
    assert found['ml_compute_info{scope="cgroup"}'] == 1
    assert found["ml_compute_cpu_periods_total"] == 100
    assert found["ml_compute_cpu_throttled_periods_total"] == 25
    assert found["ml_compute_cpu_throttled_seconds_total"] == 1.25
    assert found['ml_compute_pressure_seconds_total{resource="memory",kind="full"}'] == 3.0
    assert 'ml_compute_pressure_seconds_total{resource="cpu",kind="some"}' not in found, "the host's is not its own"


def test_v1_containers_have_no_pressure(tmp_path: Path) -> None:
    root = plant(tmp_path, V1_CONTAINER)
    assert collect([PressureCollector(root, cgroup.find_scope(root, "auto"))]) == {}


def test_a_failed_sample_is_an_error_not_the_last_value() -> None:
    published = Published[MemorySnapshot](60)
    assert collect([MemoryCollector(published)]) == {}
    published.put(MemorySnapshot(1, 2, ()))
    before = published.generation
    published.put(OSError("gone"))
    assert published.generation > before
    with pytest.raises(NoSnapshotError, match="gone"):
        published.get()


def test_an_old_sample_is_an_error() -> None:
    published = Published[MemorySnapshot](0.05)
    published.put(MemorySnapshot(1, 2, ()))
    assert published.get() is not None
    before = published.generation
    time.sleep(0.1)
    assert published.generation > before, "a cached scrape must not outlive the sample"
    with pytest.raises(StaleSnapshotError, match="no sample for"):
        published.get()
