"""Workloads on a /proc of files: what real processes do too seldom, or not on command."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlops_exporter.compute import procfs
from mlops_exporter.compute.processes import ProcessStat, Tally, WorkloadSnapshot, parse_process_stat
from mlops_exporter.compute.workloads import WorkloadSampler
from mlops_exporter.settings.compute import ComputeSettings
from tests.support.node import BOOTED, CGROUP2, LATER, TICKS, Proc


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def watch(proc: Proc, *workloads: dict[str, Any]) -> WorkloadSampler:
    settings = ComputeSettings.model_validate({"workloads": [{"phase": "training", **w} for w in workloads]})
    return WorkloadSampler(proc.root, settings.workloads, lambda: BOOTED)


TRAIN = {"name": "train", "match": r"train\.py"}
SERVE = {"name": "serve", "match": r"serve\.py"}


def ticks(snapshots: Sequence[WorkloadSnapshot]) -> list[int]:
    return [round(snapshot.cpu_seconds * TICKS) for snapshot in snapshots]


def test_stat_is_read_past_any_command_name() -> None:
    line = b"42 (evil ) R 1) name) Z 7 42 42 0 -1 4 100 0 0 0 11 22 33 44 20 0 5 0 8843 1 388 18 1 1 0\n"
    assert parse_process_stat(line) == ProcessStat(b"Z", 7, 33, 77, 5, 8843, 388)


def test_a_process_is_found_by_its_command_line_with_spaces(proc: Proc) -> None:
    sampler = watch(proc, {"name": "w", "match": r"python train\.py --fast"})
    proc.put(10, "python train.py --fast", own=3)
    proc.put(11, "python train.py --slow")
    proc.put(12)  # a kernel thread
    (snapshot,) = sampler.sample()
    assert snapshot.pids == {10}
    assert (snapshot.processes, snapshot.started, snapshot.threads) == (1, 1, 3)
    assert snapshot.memory_bytes == 256 * os.sysconf("SC_PAGE_SIZE")
    assert snapshot.start_time == pytest.approx(time.time() - BOOTED + LATER / TICKS, abs=1)


def test_use_before_the_exporter_started_is_left_out(proc: Proc) -> None:
    proc.put(10, "train.py", own=5000, children=700, started=5, io=(1 << 20, 1 << 10))
    sampler = watch(proc, TRAIN)
    (first,) = sampler.sample()
    assert (first.cpu_seconds, first.read_bytes, first.written_bytes, first.started) == (0, 0, 0, 0)
    proc.put(10, "train.py", own=5100, children=750, started=5, io=((1 << 20) + 7, (1 << 10) + 3))
    (second,) = sampler.sample()
    assert (ticks([second]), second.read_bytes, second.written_bytes) == ([150], 7, 3)


def test_counters_stay_and_gauges_go_with_the_process(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=40, io=(5, 6))
    sampler.sample()
    proc.remove(10)
    (gone,) = sampler.sample()
    assert (ticks([gone]), gone.read_bytes, gone.written_bytes, gone.processes) == ([40], 5, 6, 0)
    assert (gone.memory_bytes, gone.threads, gone.open_files, gone.start_time) == (None, None, None, None)
    assert gone.pids == frozenset()
    proc.put(11, "train.py", own=2)
    (again,) = sampler.sample()
    assert (ticks([again]), again.processes, again.started) == ([42], 1, 2)


def test_a_number_used_again_is_another_process(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=40)
    sampler.sample()
    proc.put(10, "train.py", own=5, started=LATER + 100)
    (snapshot,) = sampler.sample()
    assert (ticks([snapshot]), snapshot.processes, snapshot.started) == ([45], 1, 2)
    proc.put(10, "bash", own=9, started=LATER + 200)
    (snapshot,) = sampler.sample()
    assert (ticks([snapshot]), snapshot.processes) == ([45], 0)


def test_descendants_belong_unless_another_workload_finds_them(proc: Proc) -> None:
    sampler = watch(proc, TRAIN, SERVE)
    proc.put(10, "train.py", own=1)
    proc.put(11, "loader", parent=10, own=2, started=LATER + 1)
    proc.put(12, "gzip", parent=11, own=4, started=LATER + 2)
    proc.put(13, "serve.py", parent=10, own=8, started=LATER + 2)
    proc.put(14, "gzip", parent=13, own=16, started=LATER + 3)
    proc.put(15, "gzip", parent=1, own=32, started=LATER + 3)
    train, serve = sampler.sample()
    assert train.pids == {10, 11, 12}
    assert serve.pids == {13, 14}
    assert ticks([train, serve]) == [7, 24]


def test_a_child_that_was_followed_is_not_counted_again_when_reaped(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=100)
    proc.put(11, "loader", parent=10, own=50, io=(30, 0), started=LATER + 1)
    assert ticks(sampler.sample()) == [150]
    proc.put(10, "train.py", own=110, children=58, io=(33, 0))  # the child used 8 more ticks and 3 bytes, and ended
    proc.remove(11)
    (snapshot,) = sampler.sample()
    assert (ticks([snapshot]), snapshot.read_bytes) == ([168], 33)


def test_children_that_no_sample_saw_count_when_reaped(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=10)
    sampler.sample()
    proc.put(10, "train.py", own=10, children=500)
    assert ticks(sampler.sample()) == [510]


def test_a_child_reaped_after_its_parent_was_read_is_not_counted_twice(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=10)
    proc.put(11, "loader", parent=10, own=50, started=LATER + 1)
    sampler.sample()
    proc.remove(11)  # and the parent does not show it yet
    assert ticks(sampler.sample()) == [60]
    proc.put(10, "train.py", own=10, children=52)
    assert ticks(sampler.sample()) == [62]


def test_grandchildren_are_claimed_through_a_parent_that_ended_too(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=1)
    proc.put(11, "worker", parent=10, own=20, started=LATER + 1)
    proc.put(12, "loader", parent=11, own=300, started=LATER + 2)
    assert ticks(sampler.sample()) == [321]
    proc.remove(11)
    proc.remove(12)
    proc.put(10, "train.py", own=1, children=325)
    assert ticks(sampler.sample()) == [326]


def test_children_that_the_kernel_reaps_itself_hold_nothing_against_the_parent(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=1)
    proc.put(11, "loader", parent=10, own=1000, started=LATER + 1)
    sampler.sample()
    proc.remove(11)  # the parent ignores SIGCHLD: its children's time never comes
    for _ in range(3):
        assert ticks(sampler.sample()) == [1001]
    proc.put(10, "train.py", own=1, children=200)
    assert ticks(sampler.sample()) == [1201]


def test_a_zombie_keeps_its_time_and_is_no_running_process(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=10)
    sampler.sample()
    proc.put(10, "", own=17, state="Z")
    (snapshot,) = sampler.sample()
    assert (ticks([snapshot]), snapshot.processes, snapshot.memory_bytes) == ([17], 0, None)


def test_a_fork_that_becomes_another_workload_changes_sides(proc: Proc) -> None:
    sampler = watch(proc, TRAIN, SERVE)
    proc.put(10, "train.py")
    proc.put(11, "train.py", parent=10, started=LATER + 1)
    train, serve = sampler.sample()
    assert (train.processes, serve.processes) == (2, 0)
    proc.put(11, "serve.py", parent=10, started=LATER + 1)
    train, serve = sampler.sample()
    assert (train.processes, serve.processes) == (1, 1)


def test_memory_is_not_that_of_the_process_it_was_forked_from(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls exec after its numbers were read and before its command line is."""
    sampler = watch(proc, TRAIN)
    proc.put(10, "bash", pages=100_000)
    read = procfs.read

    def read_late(path: str) -> bytes:
        if path.endswith("10/cmdline"):
            proc.put(10, "python train.py", pages=300)
        return read(path)

    monkeypatch.setattr(procfs, "read", read_late)
    (train,) = sampler.sample()
    assert train.memory_bytes == 300 * os.sysconf("SC_PAGE_SIZE")


def test_a_process_that_renames_itself_late_is_found_with_its_children(proc: Proc) -> None:
    proc.put(10, "python", started=5)
    proc.put(11, "helper", parent=10, started=6)
    sampler = watch(proc, TRAIN)
    for _ in range(5):
        assert sampler.sample()[0].processes == 0
    proc.put(10, "train.py", started=5)
    seen = [sampler.sample()[0].processes for _ in range(30)]
    assert seen[-1] == 2


def test_the_first_workload_that_finds_a_process_has_it(proc: Proc, tmp_path: Path) -> None:
    (tmp_path / "server.pid").write_text("10\n")
    proc.put(10, "train.py", started=5)
    by_file = {"name": "file", "pid_file": "/server.pid"}
    for workloads in ((by_file, TRAIN), (TRAIN, by_file)):
        sampler = watch(proc, *workloads)
        for _ in range(5):
            assert [snapshot.processes for snapshot in sampler.sample()] == [1, 0]


def test_a_pid_file_brings_the_descendants(proc: Proc, tmp_path: Path) -> None:
    sampler = watch(proc, {"name": "w", "pid_file": "/run/server.pid"})
    proc.put(10, "gunicorn", started=5)
    proc.put(11, "gunicorn", parent=10, started=6)
    for _ in range(5):
        assert sampler.sample()[0].processes == 0, "no file yet"
    (tmp_path / "run").mkdir()
    (tmp_path / "run/server.pid").write_text("10")
    assert sampler.sample()[0].pids == {10, 11}


@pytest.mark.parametrize("content", ["", "x", "-1", "99999", "\xff"])
def test_a_pid_file_without_a_process_finds_none(proc: Proc, tmp_path: Path, content: str) -> None:
    (tmp_path / "server.pid").write_bytes(content.encode("latin-1"))
    assert watch(proc, {"name": "w", "pid_file": "/server.pid"}).sample()[0].processes == 0


def test_a_stale_pid_file_does_not_find_who_got_the_number(proc: Proc, tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    path.write_text("10")
    proc.put(10, "sshd", started=LATER)
    started = time.time() - BOOTED + LATER / TICKS
    os.utime(path, (started - 60, started - 60))
    assert watch(proc, {"name": "w", "pid_file": "/server.pid"}).sample()[0].processes == 0
    os.utime(path, (started + 1, started + 1))
    assert watch(proc, {"name": "w", "pid_file": "/server.pid"}).sample()[0].processes == 1


def test_a_cgroup_has_its_own_clock_that_misses_nothing(proc: Proc, tmp_path: Path) -> None:
    (tmp_path / "proc/1/mountinfo").write_text(CGROUP2)
    (tmp_path / "proc/1/cgroup").write_text("0::/\n")
    job = tmp_path / "sys/fs/cgroup/job"
    sampler = watch(proc, {"name": "w", "cgroup": "/job"})

    def use(microseconds: int, *pids: int) -> WorkloadSnapshot:
        (job / "worker").mkdir(parents=True, exist_ok=True)
        (job / "cpu.stat").write_text(f"usage_usec {microseconds}\n")
        (job / "worker/cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return sampler.sample()[0]

    assert sampler.sample()[0].cpu_seconds == 0
    proc.put(10, "x", own=1)
    first = use(2_000_000, 10)
    assert (first.processes, first.cpu_seconds) == (1, 2.0)
    assert use(7_000_000, 10).cpu_seconds == 7.0, "also of processes that were never seen"
    assert use(500_000).cpu_seconds == 7.5, "a new cgroup under the old name"
    for path in (job / "cpu.stat", job / "worker/cgroup.procs"):
        path.unlink()
    (job / "worker").rmdir()
    job.rmdir()
    proc.remove(10)
    assert sampler.sample()[0].cpu_seconds == 7.5
    assert use(1_000_000).cpu_seconds == 8.5


def test_a_cgroup_that_ran_before_the_exporter_counts_from_now(proc: Proc, tmp_path: Path) -> None:
    (tmp_path / "proc/1/mountinfo").write_text(CGROUP2)
    (tmp_path / "proc/1/cgroup").write_text("0::/\n")
    job = tmp_path / "sys/fs/cgroup/job"
    job.mkdir(parents=True)
    (job / "cpu.stat").write_text("usage_usec 9000000\n")
    sampler = watch(proc, {"name": "w", "cgroup": "/job"})
    assert sampler.sample()[0].cpu_seconds == 0
    (job / "cpu.stat").write_text("usage_usec 9500000\n")
    assert sampler.sample()[0].cpu_seconds == 0.5


def test_a_kernel_without_io_accounting_costs_only_io(proc: Proc) -> None:
    (proc.root / "proc/1/io").unlink()
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py", own=4)
    (proc.root / "proc/10/io").unlink()
    (snapshot,) = sampler.sample()
    assert (snapshot.processes, snapshot.read_bytes, snapshot.written_bytes) == (1, None, None)
    assert ticks([snapshot]) == [4]


def test_the_exporter_is_no_workload(proc: Proc) -> None:
    proc.put(1, "mlops-exporter train.py")
    assert watch(proc, TRAIN).sample()[0].processes == 0


def test_a_claim_lapses_after_two_samples() -> None:
    tally = Tally(seen=100)
    assert tally.grow(100, claim=50) == 0
    assert tally.grow(130, claim=0) == 0, "30 of the 50 claimed"
    assert tally.grow(160, claim=0) == 30


def test_a_successor_goes_on_with_the_workloads_that_stay(proc: Proc) -> None:
    sampler = watch(proc, TRAIN, SERVE)
    proc.put(10, "train.py", own=40, children=7, io=(5, 6))
    proc.put(11, "serve.py", own=30)
    proc.put(12, "worker of train", own=2, parent=10)
    assert ticks(sampler.sample()) == [49, 30]
    evaluate = {"name": "evaluate", "match": r"serve\.py"}
    settings = ComputeSettings.model_validate({"workloads": [{"phase": "training", **w} for w in (evaluate, TRAIN)]})
    following = sampler.successor(settings.workloads)
    proc.put(10, "train.py", own=50, children=7, io=(6, 6))
    proc.put(11, "serve.py", own=33)
    proc.put(12, "worker of train", own=4, parent=10)
    evaluated, trained = following.sample()
    assert ticks([evaluated, trained]) == [3, 61], "what was used before belongs to none, or to whom it was credited"
    assert (trained.read_bytes, trained.started) == (6, 2)
    assert (sorted(trained.pids), sorted(evaluated.pids)) == ([10, 12], [11])
    proc.remove(12)
    proc.put(10, "train.py", own=50, children=12, io=(6, 6))
    assert ticks(following.sample()) == [3, 62], "of its reaped child all but one tick was counted"
    assert ticks(sampler.sample()) == [62, 33], "the former goes on by itself"


def test_a_successor_leaves_out_what_was_used_before_a_workload_was_watched(proc: Proc) -> None:
    since_boot = [BOOTED]
    both = ComputeSettings.model_validate({"workloads": [{"phase": "training", **w} for w in (TRAIN, SERVE)]}).workloads
    sampler = WorkloadSampler(proc.root, both[:1], lambda: since_boot[0])
    proc.put(10, "train.py", own=20)
    proc.put(11, "serve.py", own=30)
    assert ticks(sampler.sample()) == [20]
    since_boot[0] += 60
    following = sampler.successor(both)
    proc.put(11, "serve.py", own=31)
    assert ticks(following.sample()) == [20, 0]
    proc.put(11, "serve.py", own=35)
    assert ticks(following.sample()) == [20, 4]


def _held(proc: Proc) -> list[str]:
    """The files below the test's /proc that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith(f"{proc.root}/")]


def test_files_of_members_stay_open_as_long_as_these_are_members(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    proc.put(10, "train.py")
    proc.put(11, "vi")
    sampler.sample()
    sampler.sample()
    assert sorted(_held(proc)) == [f"{proc.root}/proc/10/{name}" for name in ("fd", "io", "stat")]
    successor = sampler.successor(watch(proc, TRAIN, SERVE)._workloads)
    del sampler
    successor.sample()
    assert len(_held(proc)) == 3
    proc.remove(10)
    successor.sample()
    assert _held(proc) == []


@pytest.mark.slow
def test_a_thousand_processes_are_followed_with_a_bounded_number_of_open_files(proc: Proc) -> None:
    sampler = watch(proc, TRAIN)
    for pid in range(10, 1010):
        proc.put(pid, "train.py", io=(1, 2))
    for _ in range(3):
        (train,) = sampler.sample()
    assert (train.processes, train.read_bytes, train.written_bytes) == (1000, 1000, 2000)
    assert len(_held(proc)) == 3 * 256


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    """The kernel's own /proc: a kept file reads nothing after its process, whoever has the number."""
    kept = procfs.Kept("/proc", "stat")
    with subprocess.Popen(["sleep", "60"]) as process:
        assert kept.read(process.pid).startswith(b"%d (" % process.pid)
        process.kill()
    with pytest.raises(ProcessLookupError):
        kept.read(process.pid)
    with pytest.raises(FileNotFoundError):
        kept.read(process.pid)
