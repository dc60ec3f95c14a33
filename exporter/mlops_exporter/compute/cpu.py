"""CPU utilisation, usable cores, throttling and load of the host or the container."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlops_exporter.compute import cgroup, procfs
from mlops_exporter.compute.histogram import RatioHistogram
from mlops_exporter.compute.snapshots import Published
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Rows, Samples

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuSnapshot:
    """One sample. `utilization` is None in the first, which only sets the baseline."""

    cores: float
    used_seconds: float
    utilization: float | None
    histogram: tuple[float, ...]
    throttling: cgroup.Throttling | None
    load: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class HostTimes:
    """The first lines of /proc/stat: seconds since boot summed over online CPUs, and how many those are."""

    busy: float
    total: float
    cpus: int


def parse_stat(text: bytes) -> HostTimes:
    """Read /proc/stat. Busy is all but idle and iowait; guest time is contained in user time already (proc(5))."""
    ticks = [int(field) for field in text[: text.index(b"\n")].split()[1:9]]
    total, waiting = sum(ticks), ticks[3] + ticks[4]
    cpus = text.count(b"\ncpu")
    return HostTimes((total - waiting) / _TICKS_PER_SECOND, total / _TICKS_PER_SECOND, cpus)


class CpuSampler:
    """Measures CPU use between its calls. `scope` is None for the host, else the cgroup per controller."""

    def __init__(self, root: Path, scope: Mapping[str, cgroup.Hierarchy] | None) -> None:
        self._stat = str(root / "proc/stat")
        self._loadavg = str(root / "proc/loadavg")
        self._scope = scope
        self._previous: tuple[float, float] | None = None
        self._histogram = RatioHistogram(catalogue.COMPUTE_CPU_UTILIZATION)

    def sample(self, now: float) -> CpuSnapshot:
        """Take a sample at `now` (monotonic seconds). Raises OSError where /proc or the cgroup cannot be read."""
        times = parse_stat(procfs.read(self._stat))
        cores = float(times.cpus)
        throttling = None
        if self._scope is None:
            utilization = self._observe(times.busy, times.total, 1.0)
            used = times.busy
        else:
            cores, throttling = self._limits(cores)
            used = self._cgroup_seconds()
            utilization = self._observe(used, now, cores)
        one, five, fifteen = procfs.read(self._loadavg).split()[:3]
        load = (float(one), float(five), float(fifteen))
        return CpuSnapshot(cores, used, utilization, self._histogram.values(), throttling, load)

    def _limits(self, online: float) -> tuple[float, cgroup.Throttling | None]:
        assert self._scope is not None
        limits = [online]
        if "cpuset" in self._scope and (size := cgroup.cpuset_size(self._scope["cpuset"])):
            limits.append(size)
        throttling = None
        if "cpu" in self._scope:
            if quota := cgroup.cpu_quota(self._scope["cpu"]):
                limits.append(quota)
            throttling = cgroup.throttling(self._scope["cpu"])
        return min(limits), throttling

    def _cgroup_seconds(self) -> float:
        assert self._scope is not None
        place = self._scope.get("cpuacct")
        seconds = None if place is None else cgroup.cpu_seconds(place.leaf, place.version)
        if seconds is None:
            raise OSError("the cgroup's CPU time cannot be read: is the cpuacct or unified cgroup hierarchy mounted?")
        return seconds

    def _observe(self, used: float, clock: float, cores: float) -> float | None:
        """Return the CPU seconds used since the last call over those that the `clock` offered `cores` times."""
        previous, self._previous = self._previous, (used, clock)
        if previous is None or clock <= previous[1]:
            return None
        # Clamped: counters of the CPUs are read one after another, and a quota may be exceeded for one period.
        utilization = min(max((used - previous[0]) / ((clock - previous[1]) * cores), 0.0), 1.0)
        self._histogram.observe(utilization)
        return utilization


class CpuCollector:
    """Samples of the latest `CpuSnapshot`."""

    name = "cpu"
    about = "CPU of the host or container"
    by_default = True

    def __init__(self, published: Published[CpuSnapshot], scope: str) -> None:
        self._published = published
        self._info = Rows(catalogue.COMPUTE_INFO, [[scope]])
        self._single = [
            Rows(metric, [[]])
            for metric in (
                catalogue.COMPUTE_CPU_UTILIZATION_RATIO,
                catalogue.COMPUTE_CPU_CORES,
                catalogue.COMPUTE_CPU_SECONDS,
                catalogue.COMPUTE_CPU_PERIODS,
                catalogue.COMPUTE_CPU_THROTTLED_PERIODS,
                catalogue.COMPUTE_CPU_THROTTLED_SECONDS,
            )
        ]
        self._histogram = Rows(catalogue.COMPUTE_CPU_UTILIZATION, [[]])
        self._load = Rows(catalogue.COMPUTE_LOAD_AVERAGE, [["1m"], ["5m"], ["15m"]])

    def collect(self, now: float) -> Iterable[Samples]:
        """Return the latest sample. Raises what prevented it."""
        snapshot = self._published.get()
        if snapshot is None:
            return
        throttling = snapshot.throttling
        singles = (
            np.nan if snapshot.utilization is None else snapshot.utilization,
            snapshot.cores,
            snapshot.used_seconds,
            *(
                (np.nan,) * 3
                if throttling is None
                else (throttling.periods, throttling.throttled_periods, throttling.throttled_seconds)
            ),
        )
        yield Samples(self._info, np.ones(1))
        for rows, value in zip(self._single, singles, strict=True):
            yield Samples(rows, np.array([value], dtype=np.float64))
        yield Samples(self._histogram, np.array(snapshot.histogram))
        yield Samples(self._load, np.array(snapshot.load))
