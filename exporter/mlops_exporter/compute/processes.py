"""The processes of workloads, followed from sample to sample, and what they use.

Every sample lists /proc once and looks closely only at processes that are new or belong to a workload. Counters are
sums over all processes that ever belonged, so they never fall. What a process used after its last sample is not lost
when its parent belongs to the workload too: the kernel adds a reaped child's use to its parent's, and so does
`_Tally`, less what was counted of the child while it lived. That also covers children that no sample ever saw.
The CPU time of a workload given by cgroup is the cgroup's own, which is exact.

Source: proc(5) for /proc/PID/stat and /proc/PID/io.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from mlops_exporter.compute import cgroup, procfs
from mlops_exporter.compute.pods import Pod
from mlops_exporter.settings.compute import WorkloadSettings

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_YOUNG_SAMPLES = 3  # a fresh process has its parent's command line until it calls exec
_REMATCH_EVERY = 30  # samples between two looks at an old process, which may have renamed itself
_PID_FILE_SLACK_SECONDS = 5.0  # a process much younger than the file that names it is not the one meant


class ProcessStat(NamedTuple):
    """The fields used of /proc/PID/stat; CPU times in clock ticks, `children` those of reaped children."""

    state: bytes
    parent: int
    own: int
    children: int
    threads: int
    started: int
    resident_pages: int


def parse_process_stat(text: bytes) -> ProcessStat:
    """Read /proc/PID/stat, where the command in parentheses may hold anything, spaces and parentheses included."""
    fields = text[text.rindex(b")") + 2 :].split(None, 22)
    return ProcessStat(
        state=fields[0],
        parent=int(fields[1]),
        own=int(fields[11]) + int(fields[12]),
        children=int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        started=int(fields[19]),
        resident_pages=int(fields[21]),
    )


@dataclass(slots=True)
class Tally:
    """A counter that the kernel adds to a parent's when it reaps a child, without counting a child twice.

    `seen` is the last reading. A vanished child's readings are a `claim` against its parent's growth, which contains
    them. The child may vanish just before its parent's growth is read, so a claim stands for two samples and lapses
    then: where a parent ignores its children the kernel adds nothing, and nothing must be held against it.
    """

    seen: int = 0
    carried: int = 0

    def grow(self, reading: int, claim: int) -> int:
        """Take a reading and return what it adds to the workload."""
        if reading == self.seen and not claim and not self.carried:  # as it is at most samples
            return 0
        gain = reading - self.seen - claim + self.carried
        self.seen = reading
        self.carried = min(max(gain, -claim), 0)
        return max(gain, 0)


@dataclass(slots=True)
class _Process:
    workload: int
    started: int
    parent: int = 0
    samples: int = 0
    own: int = 0
    children: Tally = field(default_factory=Tally)
    read: Tally = field(default_factory=Tally)
    written: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class _Claim:
    """What vanished children were seen to use: to be taken off their parent's growth."""

    ticks: int = 0
    read: int = 0
    written: int = 0


@dataclass(slots=True)
class _Totals:
    started: int = 0
    ticks: int = 0
    read: int = 0
    written: int = 0
    cgroup_seconds: float = 0.0
    cgroup_last: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is followed under one name: a workload, or one pod of it, whose processes its cgroup names."""

    workload: WorkloadSettings
    pod: Pod | None = None

    @property
    def cgroup(self) -> str | None:
        """Its path below the cgroup mount point, where that is how it is found."""
        return self.workload.cgroup if self.pod is None else self.pod.cgroup


@dataclass(frozen=True, slots=True)
class WorkloadSnapshot:
    """One target at one sample. None is what the exporter may not read, or what no process has."""

    target: Target
    pids: frozenset[int]
    processes: int
    started: int
    cpu_seconds: float
    memory_bytes: float | None
    threads: int | None
    open_files: int | None
    read_bytes: int | None
    written_bytes: int | None
    start_time: float | None


@dataclass(slots=True)
class _Present:
    """Sums over the living processes of a workload."""

    pids: list[int] = field(default_factory=list)
    pages: int = 0
    threads: int = 0
    open_files: int = 0
    files_readable: bool = True
    io_readable: bool = True
    oldest: int | None = None


class ProcessFollower:
    """Follows the processes of some targets.

    A process belongs to the first target that finds it, else to its parent's. This process belongs to none. What
    processes used before the sampler existed is left out, so that a restart of the exporter looks like no jump.
    """

    def __init__(self, root: Path, targets: Sequence[Target], boot_clock: Callable[[], float]) -> None:
        self._root = root
        self._proc = str(root / "proc")
        self.targets = targets
        self._boot_clock = boot_clock
        self._patterns = [
            (index, re.compile(os.fsencode(target.workload.match)))
            for index, target in enumerate(targets)
            if target.workload.match is not None
        ]
        self._cgroups = self._cgroup_directories(cgroup.find_hierarchies(root)) if self._uses_cgroups() else {}
        now = int(boot_clock() * _TICKS_PER_SECOND)  # whole ticks, as start times are
        self._since = [now for _ in targets]
        self._boot_time = time.time() - boot_clock()
        self._members: dict[int, _Process] = {}
        self._others: dict[int, int] = {}  # process id to samples seen
        self._totals = [_Totals() for _ in targets]
        self._samples = 0
        self._kernel_keeps_io = Path(self._proc, "self/io").exists()
        self._stat_files = procfs.Kept(self._proc, "stat")
        self._io_files = procfs.Kept(self._proc, "io")
        self._file_directories = procfs.Kept(self._proc, "fd")

    def successor(self, targets: Sequence[Target]) -> "ProcessFollower":
        """Return a follower of other targets, which goes on with the counters of those that stay as they are.

        What a process used until its last sample stays with the target that it was credited to; from then on it
        counts for the one that finds it now. This follower may go on, too.
        """
        following = ProcessFollower(self._root, targets, self._boot_clock)
        for index, target in enumerate(targets):
            if target in self.targets:
                former = self.targets.index(target)
                following._totals[index] = copy(self._totals[former])
                following._since[index] = self._since[former]
        named = following._named_processes(self._members.keys())
        for pid, process in self._members.items():  # parents before their children
            parent = following._members.get(process.parent)
            owner = following._found_by(pid, named)
            if owner is None and parent is not None:
                owner = parent.workload
            if owner is not None:
                following._members[pid] = replace(deepcopy(process), workload=owner)
        return following

    def _uses_cgroups(self) -> bool:
        return any(target.cgroup for target in self.targets)

    def _cgroup_directories(self, places: Mapping[str, cgroup.Hierarchy]) -> dict[int, tuple[Path, cgroup.Hierarchy]]:
        place = places.get("cpuacct")
        if place is None:
            return {}
        return {
            index: (place.top / target.cgroup.lstrip("/"), place)
            for index, target in enumerate(self.targets)
            if target.cgroup is not None
        }

    def sample(self) -> tuple[WorkloadSnapshot, ...]:
        """Take a sample, one snapshot per target. Raises OSError where /proc cannot be listed."""
        if not self.targets:
            return ()
        self._samples += 1
        present = [_Present() for _ in self.targets]
        pids = procfs.process_ids(self._proc)
        named = self._named_processes(pids)
        stats = self._follow(pids, named, present)
        self._find(pids - stats.keys(), named, present)
        self._add_cgroup_time()
        return tuple(
            self._snapshot(index, totals, now)
            for index, (totals, now) in enumerate(zip(self._totals, present, strict=True))
        )

    # Following members.

    def _follow(self, pids: set[int], named: Mapping[int, int], present: list[_Present]) -> dict[int, ProcessStat]:
        """Read every member, parents before children, and credit what it used; forget the vanished."""
        stats: dict[int, ProcessStat] = {}
        for pid, process in self._members.items():
            stat = self._member_stat(pid) if pid in pids else None
            if stat is None or stat.started != process.started:
                continue
            stats[pid] = stat
            process.samples += 1
            if process.samples <= _YOUNG_SAMPLES and (own := self._found_by(pid, named)) is not None:
                process.workload = own  # it was taken for its parent's before it called exec
        claims: defaultdict[int, _Claim] = defaultdict(_Claim)
        for pid in reversed([pid for pid in self._members if pid not in stats]):
            gone, own_claim = self._members.pop(pid), claims.pop(pid, _Claim())
            for files in (self._stat_files, self._io_files, self._file_directories):
                files.forget(pid)
            claim = claims[gone.parent]
            claim.ticks += gone.own + gone.children.seen + own_claim.ticks
            claim.read += gone.read.seen + own_claim.read
            claim.written += gone.written.seen + own_claim.written
        nothing = _Claim()
        for pid, stat in stats.items():
            self._credit(pid, stat, claims.get(pid, nothing), present)
        return stats

    def _credit(self, pid: int, stat: ProcessStat, claim: _Claim, present: list[_Present]) -> None:
        process = self._members[pid]
        process.parent = stat.parent
        totals, now = self._totals[process.workload], present[process.workload]
        totals.ticks += stat.own - process.own + process.children.grow(stat.children, claim.ticks)
        process.own = stat.own
        if stat.state == b"Z":  # ended, and waiting to be reaped: its times are final, all else is gone
            return
        try:
            read, written = self._io(pid)
            totals.read += process.read.grow(read, claim.read)
            totals.written += process.written.grow(written, claim.written)
        except PermissionError:
            now.io_readable = False
        except OSError:  # it ended just now
            return
        try:
            now.open_files += self._file_directories.entries(pid)
        except PermissionError:
            now.files_readable = False
        except OSError:
            return
        now.pids.append(pid)
        now.pages += stat.resident_pages
        now.threads += stat.threads
        now.oldest = stat.started if now.oldest is None else min(now.oldest, stat.started)

    # Finding members.

    def _find(self, pids: set[int], named: Mapping[int, int], present: list[_Present]) -> None:
        """Look for members among `pids`, which are none yet: at the new and the young, and at a share of the old."""
        self._others = {pid: self._others.get(pid, 0) + 1 for pid in pids}
        turn = self._samples % _REMATCH_EVERY
        candidates = [
            pid
            for pid, samples in self._others.items()
            if samples <= _YOUNG_SAMPLES or pid % _REMATCH_EVERY == turn or pid in named
        ]
        found_late = self._look(candidates, named, present)
        if found_late:  # its children were passed over when they were new
            self._look(list(self._others), named, present)

    def _look(self, candidates: Iterable[int], named: Mapping[int, int], present: list[_Present]) -> bool:
        """Take the candidates that belong to a workload as members; return whether one was no new process."""
        stats = [(pid, stat) for pid in candidates if (stat := self._stat(pid)) is not None]
        found_late = False
        for pid, stat in sorted(stats, key=lambda item: item[1].started):
            workload = self._workload_of(pid, stat, named)
            # Read again: it may have called exec since, and its memory been that of the one it was forked from.
            if workload is None or (stat := self._stat(pid)) is None:
                continue
            process = _Process(workload, stat.started, stat.parent)
            if stat.started < self._since[workload]:
                self._set_baseline(pid, stat, process)
            else:
                self._totals[workload].started += 1
            self._members[pid] = process
            self._credit(pid, stat, _Claim(), present)
            found_late |= self._others.pop(pid) > 1
        return found_late

    def _workload_of(self, pid: int, stat: ProcessStat, named: Mapping[int, int]) -> int | None:
        if (found := self._found_by(pid, named)) is not None:
            return found
        parent = self._members.get(stat.parent)
        return None if parent is None else parent.workload

    def _found_by(self, pid: int, named: Mapping[int, int]) -> int | None:
        """Return the first workload that finds the process itself."""
        command_line = self._command_line(pid) if self._patterns else b""
        found = [named[pid]] if pid in named else []
        if command_line:  # kernel threads and zombies have none
            found += [index for index, pattern in self._patterns if pattern.search(command_line)]
        return min(found, default=None)

    def _set_baseline(self, pid: int, stat: ProcessStat, process: _Process) -> None:
        process.own = stat.own
        process.children.seen = stat.children
        with suppress(OSError):
            process.read.seen, process.written.seen = self._io(pid)

    def _named_processes(self, pids: Collection[int]) -> dict[int, int]:
        """Return the processes that pid files and cgroups name, each with its first workload."""
        named: dict[int, int] = {}
        for index, target in enumerate(self.targets):
            if target.workload.pid_file is not None:
                found = self._pid_in_file(target.workload.pid_file)
            elif index in self._cgroups:
                found = cgroup.process_ids(self._cgroups[index][0])
            else:
                continue
            for pid in found:
                if pid in pids:
                    named.setdefault(pid, index)
        return named

    def _pid_in_file(self, path: Path) -> list[int]:
        """Return the process that the file names, unless it started so late that it only got the number of the dead."""
        path = self._root / str(path).lstrip("/")
        try:
            words = path.read_text().split(maxsplit=1)
            written = path.stat().st_mtime
        except (OSError, UnicodeDecodeError):
            return []
        if not words or not words[0].isdecimal() or (stat := self._stat(int(words[0]))) is None:
            return []
        return [int(words[0])] if self._start_time(stat.started) <= written + _PID_FILE_SLACK_SECONDS else []

    # Reading /proc. A process may end at any moment: then there is nothing to read.

    def _stat(self, pid: int) -> ProcessStat | None:
        try:
            return parse_process_stat(procfs.read(f"{self._proc}/{pid}/stat"))
        except (OSError, ValueError):
            return None

    def _member_stat(self, pid: int) -> ProcessStat | None:
        try:
            return parse_process_stat(self._stat_files.read(pid))
        except (OSError, ValueError):
            return None

    def _command_line(self, pid: int) -> bytes:
        try:
            return procfs.read(f"{self._proc}/{pid}/cmdline").replace(b"\0", b" ").rstrip()
        except OSError:
            return b""

    def _io(self, pid: int) -> tuple[int, int]:
        if not self._kernel_keeps_io:
            raise PermissionError("the kernel keeps no I/O accounting of processes")
        lines = self._io_files.read(pid).split(b"\n")
        return int(lines[4][12:]), int(lines[5][13:])  # "read_bytes: N", "write_bytes: N"

    # Making snapshots.

    def _start_time(self, started: int) -> float:
        return self._boot_time + started / _TICKS_PER_SECOND

    def _add_cgroup_time(self) -> None:
        for index, (directory, place) in self._cgroups.items():
            totals = self._totals[index]
            seconds = cgroup.cpu_seconds(directory, place.version)
            if seconds is None:
                if not directory.is_dir():
                    totals.cgroup_last = 0.0  # when it comes back it counts from nothing
                continue
            if totals.cgroup_last is not None:
                # A smaller reading is that of a new cgroup under the old name.
                grown = seconds - totals.cgroup_last
                totals.cgroup_seconds += grown if grown >= 0 else seconds
            totals.cgroup_last = seconds

    def _snapshot(self, index: int, totals: _Totals, now: _Present) -> WorkloadSnapshot:
        alive = bool(now.pids)
        return WorkloadSnapshot(
            target=self.targets[index],
            pids=frozenset(now.pids),
            processes=len(now.pids),
            started=totals.started,
            cpu_seconds=totals.cgroup_seconds if index in self._cgroups else totals.ticks / _TICKS_PER_SECOND,
            memory_bytes=now.pages * _PAGE_BYTES if alive else None,
            threads=now.threads if alive else None,
            open_files=now.open_files if alive and now.files_readable else None,
            read_bytes=totals.read if now.io_readable else None,
            written_bytes=totals.written if now.io_readable else None,
            start_time=None if now.oldest is None else self._start_time(now.oldest),
        )


def boot_clock() -> float:
    """Return the seconds since boot, by the clock from which the kernel takes the start times of processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
