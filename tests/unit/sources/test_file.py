"""The files of a glob, by the clock of the test: nothing here waits."""

import asyncio
import gzip
import os
import shutil
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from mlops_exporter.sources import file as file_source
from mlops_exporter.sources.base import Health
from mlops_exporter.sources.file import IDLE_SECONDS, ROTATED_SECONDS, FileSource, Tail
from mlops_exporter.sources.lines import MALFORMED
from tests.sink import RecordingSink, event, events, running, until


class Follower:
    """A tail and its memory; time passes only when the test says so."""

    def __init__(self, pattern: Path) -> None:
        self.pattern = str(pattern)
        self.sink = RecordingSink()
        self.now = 100.0
        self.tail = Tail(self.pattern, None)

    def poll(self, passing: float = 1.0, bodies: int = 1_000_000) -> list[int]:
        """The ids that came, of `bodies` bodies at most, as if the exporter was killed after them."""
        self.now += passing
        before = len(self.sink.ids)
        for count, batch in enumerate(self.tail.poll(self.now), 1):
            asyncio.run(self.sink.submit("log", batch.body, self.now, batch.position))
            if count == bodies:
                break
        return self.sink.ids[before:]

    def restart(self) -> None:
        self.tail.close()
        self.tail = Tail(self.pattern, self.sink.position("log"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "model.ndjson"


@pytest.fixture
def follower(log: Path) -> Iterator[Follower]:
    follower = Follower(log)
    yield follower
    follower.tail.close()


@pytest.fixture
def all_follower(tmp_path: Path) -> Iterator[Follower]:
    """Follows rotated and compressed names too."""
    follower = Follower(tmp_path / "model.ndjson*")
    yield follower
    follower.tail.close()


def open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_file_that_appears_later_is_read_and_followed(follower: Follower, log: Path) -> None:
    assert follower.poll() == []
    assert follower.tail.health() == Health(True, 0)
    log.write_bytes(events(1, 2))
    assert follower.poll() == [1, 2]
    append(log, events(3))
    assert follower.poll(0.25) == [3]
    assert follower.poll() == []


def test_a_partial_line_waits_for_its_end(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1) + event(2)[:10])
    assert follower.poll() == [1]
    append(log, event(2)[10:])
    assert follower.poll() == []
    append(log, b"\n")
    assert follower.poll() == [2]


def test_a_restart_goes_on_where_it_stopped(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2))
    follower.poll()
    append(log, events(3))
    follower.restart()
    assert follower.poll() == [3]
    follower.restart()
    assert follower.poll() == []


def test_killed_between_bodies_every_event_counts_once(
    follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "READ_BYTES", 200)
    log.write_bytes(events(*range(500)))
    while follower.poll(bodies=7):
        follower.restart()
    assert follower.sink.ids == list(range(500))


def test_renamed_away_it_is_finished_before_its_successor(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1))
    follower.poll()
    append(log, events(2))
    log.rename(log.with_suffix(".old"))
    log.write_bytes(events(10))
    assert follower.poll() == [2, 10]
    append(log.with_suffix(".old"), events(3) + event(4))  # its writer has not noticed
    assert follower.poll() == [3]
    assert follower.poll(ROTATED_SECONDS + 1) == [4]  # no line end will come
    append(log, events(11))
    assert follower.poll() == [11]


def test_renamed_within_the_glob_it_is_the_same_file(all_follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2))
    all_follower.poll()
    log.rename(f"{log}.1")
    log.write_bytes(events(3))
    assert all_follower.poll() == [3]
    Path(f"{log}.1").rename(f"{log}.2")
    log.rename(f"{log}.1")
    log.write_bytes(events(4))
    all_follower.restart()
    assert all_follower.poll() == [4]


def test_copytruncate_reads_what_follows_from_the_beginning(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2, 3))
    follower.poll()
    shutil.copy(log, f"{log}.1")
    os.truncate(log, 0)
    append(log, events(4))
    assert follower.poll() == [4]
    append(log, events(5))
    follower.restart()
    assert follower.poll() == [5]


def test_truncated_and_grown_beyond_the_offset_between_two_looks(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1))
    follower.poll()
    os.truncate(log, 0)
    append(log, events(7, 8, 9))
    assert follower.poll() == [7, 8, 9]


def test_truncated_while_the_exporter_was_down(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2, 3))
    follower.poll()
    log.write_bytes(events(4))
    follower.restart()
    assert follower.poll() == [4]


def test_a_new_file_with_a_used_inode_is_new(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2))
    follower.poll()
    (state,) = follower.tail._files
    follower.tail.close()
    log.write_bytes(events(5, 6, 7))  # in place, so the inode is the same
    assert (log.stat().st_dev, log.stat().st_ino) == state
    follower.restart()
    assert follower.poll() == [5, 6, 7]


@pytest.mark.parametrize("looks", [0, 1, 3], ids=["never", "once", "to its end"])
def test_a_log_with_the_inode_of_a_compressed_file_is_read(all_follower: Follower, log: Path, looks: int) -> None:
    """File systems give the inode of a file deleted a moment ago to the next one."""
    compressed = log.with_name("model.ndjson.1.gz")
    compressed.write_bytes(gzip.compress(events(*range(1, 40))))
    read = [number for _ in range(looks) for number in all_follower.poll()]
    assert read == (list(range(1, 40)) if looks == 3 else [])
    compressed.rename(log)
    log.write_bytes(events(41, 42))
    assert all_follower.poll() == [41, 42]
    append(log, events(43))
    assert all_follower.poll() == [43]
    all_follower.restart()
    append(log, events(44))
    assert all_follower.poll() == [44]


def test_a_compressed_file_with_the_inode_of_a_log_is_read(all_follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2))
    assert all_follower.poll() == [1, 2]
    compressed = log.with_name("model.ndjson.1.gz")
    log.rename(compressed)
    compressed.write_bytes(gzip.compress(events(3, 4)))
    assert [number for _ in range(3) for number in all_follower.poll()] == [3, 4]


def test_compressed_files_are_read_once(all_follower: Follower, log: Path) -> None:
    Path(f"{log}.3.gz").write_bytes(gzip.compress(events(1)) + gzip.compress(events(2) + event(3)))
    assert all_follower.poll() == []  # it might still grow
    assert all_follower.poll() == [1, 2, 3]
    Path(f"{log}.3.gz").rename(f"{log}.4.gz")
    assert all_follower.poll() == []
    all_follower.restart()
    assert all_follower.poll() + all_follower.poll() == []


def test_a_partial_gzip_file_waits_until_it_is_whole(all_follower: Follower, log: Path) -> None:
    data, target = gzip.compress(events(*range(300))), Path(f"{log}.gz")
    for share in (5, 200, len(data) - 1):
        target.write_bytes(data[:share])
        assert all_follower.poll() + all_follower.poll() + all_follower.poll() == []
    assert all_follower.tail.health().up
    target.write_bytes(data)
    assert all_follower.poll() + all_follower.poll() == list(range(300))


def test_killed_within_a_compressed_file_every_event_counts_once(
    all_follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "READ_BYTES", 200)
    Path(f"{log}.gz").write_bytes(gzip.compress(events(*range(100))))
    all_follower.poll()
    while all_follower.poll(bodies=3):
        all_follower.restart()
        all_follower.poll()
    assert all_follower.sink.ids == list(range(100))


@pytest.mark.parametrize("copytruncate", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_rotated_and_compressed_it_counts_once(
    all_follower: Follower, log: Path, copytruncate: bool, restart: bool
) -> None:
    log.write_bytes(events(1, 2))
    all_follower.poll()
    append(log, events(3))  # not read yet when the file is rotated
    Path(f"{log}.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    if copytruncate:
        os.truncate(log, 0)
    else:
        log.unlink()
    log.open("ab").close()
    if restart:
        all_follower.restart()
    append(log, events(4))
    for _ in range(10):
        all_follower.poll()
    assert sorted(all_follower.sink.ids) == [1, 2, 3, 4]


def test_a_compressed_copy_waits_as_long_as_the_original_may_grow(all_follower: Follower, log: Path) -> None:
    log.write_bytes(events(1, 2))
    all_follower.poll()
    Path(f"{log}.gz").write_bytes(gzip.compress(events(1, 2)))
    assert [all_follower.poll() for _ in range(4)] == [[], [], [], []]
    append(log, events(3))
    assert [all_follower.poll() for _ in range(4)] == [[3], [], [], []]
    log.unlink()
    assert [all_follower.poll() for _ in range(8)] == [[]] * 8


def test_a_line_that_is_too_long_is_refused_and_skipped(
    follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(file_source, "READ_BYTES", 100)
    log.write_bytes(events(1) + b"x" * 1500)
    assert follower.poll() == [1, None]
    assert follower.sink.lines[-1] == MALFORMED
    follower.restart()
    append(log, b"y" * 5000)
    assert follower.poll() == []
    append(log, b"\n" + events(2))
    assert follower.poll() == [2]


def test_a_long_line_within_the_limit_is_whole(follower: Follower, log: Path) -> None:
    log.write_bytes(event(1, error="e" * 3_000_000) + b"\n" + events(2))
    assert follower.poll() == [1, 2]


def test_an_unreadable_file_shows_and_the_others_go_on(
    all_follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> object:  # root reads everything, so the permission is refused here
        if path.endswith(".a"):
            raise PermissionError(13, "Permission denied", path)
        return FileIO(path)

    monkeypatch.setattr(file_source, "FileIO", refuse)
    Path(f"{log}.a").write_bytes(events(1))
    Path(f"{log}.b").write_bytes(events(2))
    assert all_follower.poll() + all_follower.poll() + all_follower.poll() == [2]
    health = all_follower.tail.health()
    assert not health.up
    assert health.error is not None
    assert "Permission denied" in health.error
    assert caplog.text.count("Permission denied") == 1
    monkeypatch.undo()
    assert all_follower.poll() == [1]
    assert all_follower.tail.health() == Health(True, 0)


def test_directories_and_links_to_nowhere_are_passed_by(all_follower: Follower, log: Path) -> None:
    Path(f"{log}.d").mkdir()
    Path(f"{log}.l").symlink_to(log.parent / "nothing")
    log.write_bytes(events(1))
    Path(f"{log}.m").symlink_to(log)
    assert all_follower.poll() == [1]
    assert all_follower.tail.health().up


def test_an_idle_file_is_closed_and_opened_again(follower: Follower, log: Path) -> None:
    log.write_bytes(events(1))
    follower.poll()
    assert str(log) in open_files()
    follower.poll(IDLE_SECONDS + 1)
    assert str(log) not in open_files()
    append(log, events(2))
    assert follower.poll() == [2]


def test_lag_is_what_waits_divided_by_the_mean_line(
    follower: Follower, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "READ_BYTES", 10 * len(events(10)))
    log.write_bytes(events(*range(10, 60)))
    follower.poll(bodies=2)
    assert follower.tail.health().lag_events == 30


def test_the_checksum_is_of_all_that_was_delivered(follower: Follower, log: Path) -> None:
    data = events(*range(100))
    log.write_bytes(data[:700])
    follower.poll()
    append(log, data[700:])
    follower.poll()
    (file,) = follower.tail._files.values()
    assert (file.state.offset, file.state.crc, file.state.head) == (
        len(data),
        zlib.crc32(data),
        zlib.crc32(data[:1024]),
    )


@pytest.mark.slow
def test_the_source_delivers_waits_while_full_and_stops(log: Path) -> None:
    sink, source = RecordingSink(), FileSource("log", str(log))
    sink.refusals = 2
    log.write_bytes(events(1, 2))

    async def story() -> None:
        await until(lambda: sink.ids == [1, 2])
        append(log, events(3))
        await until(lambda: sink.ids == [1, 2, 3])
        await until(lambda: source.health == Health(True, 0))

    asyncio.run(running(source, sink, story))
    append(log, events(4))

    async def later() -> None:
        await until(lambda: sink.ids == [1, 2, 3, 4])

    asyncio.run(running(FileSource("log", str(log)), sink, later))


@pytest.mark.slow
def test_cancelled_while_a_body_is_taken_it_is_taken_once(log: Path) -> None:
    sink = RecordingSink()
    sink.delay = 0.3
    log.write_bytes(events(1, 2))

    async def cut() -> None:
        await asyncio.sleep(0.15)

    for _ in range(3):
        asyncio.run(running(FileSource("log", str(log)), sink, cut))
    assert sink.ids == [1, 2]
