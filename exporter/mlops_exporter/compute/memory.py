"""Memory of the host or the container, and pressure stall information."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlops_exporter.compute import cgroup, procfs
from mlops_exporter.compute.histogram import RatioHistogram
from mlops_exporter.compute.snapshots import Published
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Rows, Samples


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """One sample, in bytes."""

    used: int
    total: int
    histogram: tuple[float, ...]
    oom_kills: int | None = None

    @property
    def utilization(self) -> float:
        """Used share of the total."""
        return min(self.used / self.total, 1.0)


def parse_meminfo(text: bytes) -> tuple[int, int]:
    """Return total and available bytes from /proc/meminfo."""
    kibibytes: dict[bytes, int] = {}
    for line in text.splitlines()[:3]:
        name, value = line.split()[:2]
        kibibytes[name] = int(value)
    return kibibytes[b"MemTotal:"] * 1024, kibibytes[b"MemAvailable:"] * 1024


def parse_oom_kills(vmstat: bytes) -> int | None:
    """Return how many processes the kernel has killed for memory, from /proc/vmstat; None before Linux 4.13."""
    for line in vmstat.splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return None


class MemorySampler:
    """Measures memory in use. `scope` is None for the host, else the cgroup per controller."""

    def __init__(self, root: Path, scope: Mapping[str, cgroup.Hierarchy] | None) -> None:
        self._meminfo = str(root / "proc/meminfo")
        self._vmstat = str(root / "proc/vmstat")
        self._scope = scope
        self._histogram = RatioHistogram(catalogue.COMPUTE_MEMORY_UTILIZATION)

    def sample(self) -> MemorySnapshot:
        """Take a sample. Raises OSError where /proc or the cgroup cannot be read."""
        total, available = parse_meminfo(procfs.read(self._meminfo))
        used = total - available
        if self._scope is not None:
            place = self._scope.get("memory")
            in_cgroup = None if place is None else cgroup.memory_used(place)
            if place is None or in_cgroup is None:
                raise OSError("the cgroup's memory cannot be read: is its memory controller enabled?")
            used = in_cgroup
            total = min(total, cgroup.memory_limit(place) or total)
        self._histogram.observe(min(used / total, 1.0))
        return MemorySnapshot(used, total, self._histogram.values(), self._oom_kills())

    def _oom_kills(self) -> int | None:
        if self._scope is None:
            with suppress(OSError):
                return parse_oom_kills(procfs.read(self._vmstat))
            return None
        place = self._scope.get("memory")
        return None if place is None else cgroup.oom_kills(place)


class MemoryCollector:
    """Samples of the latest `MemorySnapshot`."""

    name = "memory"
    about = "memory of the host or container"
    by_default = True

    def __init__(self, published: Published[MemorySnapshot]) -> None:
        self._published = published
        self._used = Rows(catalogue.COMPUTE_MEMORY_USED_BYTES, [[]])
        self._total = Rows(catalogue.COMPUTE_MEMORY_TOTAL_BYTES, [[]])
        self._histogram = Rows(catalogue.COMPUTE_MEMORY_UTILIZATION, [[]])
        self._oom_kills = Rows(catalogue.COMPUTE_OOM_KILLS, [[]])

    def collect(self, now: float) -> Iterable[Samples]:
        """Return the latest sample. Raises what prevented it."""
        snapshot = self._published.get()
        if snapshot is None:
            return
        yield Samples(self._used, np.array([float(snapshot.used)]))
        yield Samples(self._total, np.array([float(snapshot.total)]))
        yield Samples(self._histogram, np.array(snapshot.histogram))
        if snapshot.oom_kills is not None:
            yield Samples(self._oom_kills, np.array([float(snapshot.oom_kills)]))


class PressureCollector:
    """Pressure stall information, read at scrape time: it is a counter, so nothing is lost between scrapes."""

    name = "pressure"
    about = "pressure stall information"
    by_default = True
    _RESOURCES = ("cpu", "memory", "io")

    def __init__(self, root: Path, scope: Mapping[str, cgroup.Hierarchy] | None) -> None:
        # cgroup v1 keeps none per cgroup, and the host's says nothing about one container: then there is none.
        self._files = {resource: root / "proc/pressure" / resource for resource in self._RESOURCES}
        if scope is not None:
            unified = [place.leaf for place in scope.values() if place.version == 2][:1]
            self._files = {resource: leaf / f"{resource}.pressure" for leaf in unified for resource in self._RESOURCES}
        self._rows = Rows(
            catalogue.COMPUTE_PRESSURE_SECONDS,
            [(resource, kind) for resource in self._files for kind in ("some", "full")],
        )

    def collect(self, now: float) -> Iterable[Samples]:
        """Return stall times; those that the kernel does not keep are absent."""
        values = []
        for path in self._files.values():
            stall = cgroup.read_stall(path)
            values += [
                np.nan if stall is None else stall.some,
                np.nan if stall is None or stall.full is None else stall.full,
            ]
        yield Samples(self._rows, np.array(values, dtype=np.float64))
