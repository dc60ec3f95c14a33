"""What a control group may use and has used, from the files of cgroup v1 and v2.

A container sees its own cgroup as the root of a hierarchy, or mounted at one; a service on the bare host sees the real
root above its own cgroup. That difference, not the presence of limits, tells a container from a host: a memory limit
on the exporter's own service says nothing about the machine that it watches.

Sources: kernel documentation, admin-guide/cgroup-v2.rst and cgroup-v1/*.rst; cgroups(7) for /proc/PID/cgroup.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

_UNLIMITED_BYTES_V1 = 1 << 60  # v1 writes "no limit" as the largest page-aligned number


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where this process sits in one hierarchy: `leaf` is its cgroup's directory, `top` the highest visible one."""

    version: Literal[1, 2]
    leaf: Path
    top: Path

    def upwards(self) -> Iterator[Path]:
        """Yield the directories from `leaf` to `top`: a limit on any of them binds."""
        directory = self.leaf
        while directory != self.top:
            yield directory
            directory = directory.parent
        yield self.top


@dataclass(frozen=True, slots=True)
class Throttling:
    """CPU bandwidth control so far: enforcement periods, periods throttled in, seconds throttled for."""

    periods: int
    throttled_periods: int
    throttled_seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Pressure stall information so far, in seconds: some or all tasks waited. `full` is None where not kept."""

    some: float
    full: float | None


def find_hierarchies(root: Path) -> dict[str, Hierarchy]:
    """Return this process's place per controller: `cpu`, `cpuacct`, `cpuset`, `memory`, in v2 where v1 lacks it.

    `root` is where /proc and the cgroup mounts are found. No cgroup file system mounted gives an empty dictionary.
    """
    paths: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    found: dict[str, Hierarchy] = {}
    unified: Hierarchy | None = None
    for mount_root, mount_point, kind, options in _mounts(root):
        if kind == "cgroup2" and unified is None:
            unified = _place(2, root, mount_root, mount_point, paths.get("", "/"))
        elif kind == "cgroup":
            for controller in options.split(","):
                if controller in paths:
                    found.setdefault(controller, _place(1, root, mount_root, mount_point, paths[controller]))
    if unified is not None:
        for controller in ("cpu", "cpuacct", "cpuset", "memory"):
            found.setdefault(controller, unified)
    return found


def _mounts(root: Path) -> list[tuple[str, str, str, str]]:
    """Return root, mount point, type and options of every mount; roots outside this cgroup namespace come last."""
    mounts = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, _, source = line.partition(" - ")
        mount_root, mount_point = fields.split(" ")[3:5]
        kind, _, options = source.split(" ")[:3]
        mounts.append((mount_root, mount_point, kind, options))
    return sorted(mounts, key=lambda mount: mount[0].startswith("/.."))


def _place(version: Literal[1, 2], root: Path, mount_root: str, mount_point: str, path: str) -> Hierarchy:
    top = root / mount_point.lstrip("/")
    below = path.removeprefix(mount_root.rstrip("/")).strip("/")
    # A path that climbs out ("/../sibling") belongs to another cgroup namespace: only the mount itself is visible.
    leaf = top / below if below and ".." not in below.split("/") else top
    return Hierarchy(version, leaf if leaf.is_dir() else top, top)


def find_scope(root: Path, scope: Literal["auto", "host", "cgroup"]) -> dict[str, Hierarchy] | None:
    """Return the cgroup per controller whose use and limits are to be reported, or None for the whole host.

    `auto` is the container's topmost cgroup in a container and the host elsewhere; `cgroup` is this process's own.
    """
    hierarchies = find_hierarchies(root)
    if scope == "cgroup":
        return hierarchies
    watched = [hierarchies[name] for name in ("cpu", "memory") if name in hierarchies]
    if scope == "auto" and any(not _is_real_root(hierarchy) for hierarchy in watched):
        return {name: replace(hierarchy, leaf=hierarchy.top) for name, hierarchy in hierarchies.items()}
    return None


def _is_real_root(hierarchy: Hierarchy) -> bool:
    # The kernel keeps release_agent (v1) at the real root alone, and cgroup.type (v2) everywhere but there.
    if hierarchy.version == 1:
        return (hierarchy.top / "release_agent").exists()
    return not (hierarchy.top / "cgroup.type").exists()


def cpu_quota(hierarchy: Hierarchy) -> float | None:
    """Return the cores' worth of CPU time that quotas allow, the smallest on the way up; None if unlimited."""
    quotas = []
    for directory in hierarchy.upwards():
        if hierarchy.version == 2:
            quota, _, period = _read(directory / "cpu.max").partition(" ")
        else:
            quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        if quota.strip() not in ("", "max", "-1"):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def cpuset_size(hierarchy: Hierarchy) -> int | None:
    """Return how many CPUs the nearest cpuset holds; None where none is kept."""
    names = ("cpuset.cpus.effective",) if hierarchy.version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
    for directory in hierarchy.upwards():
        for name in names:
            if cpus := _read(directory / name).strip():
                return count_cpus(cpus)
    return None


def count_cpus(cpus: str) -> int:
    """Return the size of a CPU list such as `0-3,8,10-11`."""
    bounds = (part.partition("-") for part in cpus.strip().split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in bounds)


def cpu_seconds(directory: Path, version: Literal[1, 2]) -> float | None:
    """Return the CPU seconds that the cgroup at `directory` and those below it have used; None where not kept."""
    if version == 2:
        usage = _flat_keyed(directory / "cpu.stat").get("usage_usec")
        return None if usage is None else usage / 1e6
    text = _read(directory / "cpuacct.usage")
    return int(text) / 1e9 if text else None


def throttling(hierarchy: Hierarchy) -> Throttling | None:
    """Return the throttling of the nearest cgroup that keeps it."""
    for directory in hierarchy.upwards():
        stat = _flat_keyed(directory / "cpu.stat")
        if "nr_periods" in stat:
            seconds = stat["throttled_usec"] / 1e6 if hierarchy.version == 2 else stat["throttled_time"] / 1e9
            return Throttling(stat["nr_periods"], stat["nr_throttled"], seconds)
    return None


def memory_limit(hierarchy: Hierarchy) -> int | None:
    """Return the smallest memory limit on the way up in bytes; None if unlimited."""
    name = "memory.max" if hierarchy.version == 2 else "memory.limit_in_bytes"
    limits = []
    for directory in hierarchy.upwards():
        text = _read(directory / name).strip()
        if text not in ("", "max") and int(text) < _UNLIMITED_BYTES_V1:
            limits.append(int(text))
    return min(limits, default=None)


def memory_used(hierarchy: Hierarchy) -> int | None:
    """Return the working set in bytes: usage less the file cache that the kernel drops first. None where not kept."""
    usage, inactive = (
        ("memory.current", "inactive_file")
        if hierarchy.version == 2
        else ("memory.usage_in_bytes", "total_inactive_file")
    )
    text = _read(hierarchy.leaf / usage)
    if not text:
        return None
    return max(int(text) - _flat_keyed(hierarchy.leaf / "memory.stat").get(inactive, 0), 0)


def oom_kills(hierarchy: Hierarchy) -> int | None:
    """Return how many processes of the cgroup and of those below it were killed for memory; None where not kept."""
    name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
    return _flat_keyed(hierarchy.leaf / name).get("oom_kill")


def read_stall(path: Path) -> Stall | None:
    """Return the totals of a PSI file (`some avg10=… total=MICROSECONDS`), or None where the kernel keeps none."""
    lines = _read(path).splitlines()
    totals = {line.split(" ", 1)[0]: int(line.rpartition("total=")[2]) / 1e6 for line in lines}
    return Stall(totals["some"], totals.get("full")) if "some" in totals else None


def process_ids(directory: Path) -> list[int]:
    """Return the ids of the processes in the cgroup at `directory` and in all below it."""
    pids: list[int] = []
    for below, _, files in os.walk(directory):
        if "cgroup.procs" in files:
            pids.extend(int(pid) for pid in _read(Path(below, "cgroup.procs")).split())
    return pids


def _flat_keyed(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {key: int(value) for key, value in pairs}


def _read(path: Path) -> str:
    """Return the file's text, empty where there is no such file: controllers come and go with the configuration."""
    try:
        return path.read_text()
    except OSError:
        return ""
