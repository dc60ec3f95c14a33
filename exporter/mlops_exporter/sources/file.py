"""Log files: follows every file that a glob matches, through rotation, truncation and compression.

A file is told by device and inode, and by the checksum of its first bytes, because inodes are used again. An offset is
always the end of a line, so that it alone says where to go on.
"""

import asyncio
import glob
import logging
import os
import stat
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from mlops_exporter.events import clock
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.sources.base import Health, Sink, deliver, finish
from mlops_exporter.sources.lines import MALFORMED, MAX_LINE_BYTES, ndjson

POLL_SECONDS = 0.25
SCAN_SECONDS = 1.0
"""How often the glob is evaluated."""

ROTATED_SECONDS = 5.0
"""How long a file that was rotated away stays open after its last growth: its writer may not have noticed yet."""

IDLE_SECONDS = 3600.0
"""A file that has not grown for so long is closed until it does."""

READ_BYTES = 256 * 1024

_HEAD_BYTES = 1024
_REMEMBERED = 100  # files gone that may come back, or turn up compressed

_log = logging.getLogger(__name__)

Key = tuple[int, int]


class FileState(msgspec.Struct):
    """What is remembered of a file: `crc` is the checksum of the `offset` bytes delivered, `head` of the first 1024."""

    path: str
    device: int
    inode: int
    offset: int = 0
    crc: int = 0
    head: int = 0
    skipping: bool = False  # the offset is within a line that is too long
    done: int | None = None  # the size of a compressed file that was read to its end

    @property
    def key(self) -> Key:
        """Identity among the files that there are."""
        return self.device, self.inode

    @property
    def head_bytes(self) -> int:
        """How many bytes `head` covers."""
        return min(self.offset, _HEAD_BYTES)

    def advance(self, data: bytes) -> None:
        """Take `data`, which follows, as delivered."""
        self.head = zlib.crc32(data[: _HEAD_BYTES - self.head_bytes], self.head)
        self.crc = zlib.crc32(data, self.crc)
        self.offset += len(data)


class Batch(NamedTuple):
    """Whole lines, and the position behind them."""

    body: bytes
    position: bytes


def make(settings: SourceSettings, _profiles: object) -> "FileSource":
    """Return the source of a configuration."""
    assert settings.file is not None
    return FileSource(settings.name, str(settings.file.path))


class FileSource:
    """The lines of all files that match a glob, from their beginning, and whatever is appended to them."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        self.health = Health(False, None, "not started")
        self._pattern = pattern

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled."""
        tail = Tail(self._pattern, sink.position(self.name))
        try:
            while True:
                batches = tail.poll(time.monotonic())
                while (batch := await finish(asyncio.to_thread(next, batches, None))) is not None:
                    await deliver(sink, self.name, batch.body, clock.now(), batch.position)
                    self.health = tail.health()
                self.health = tail.health()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            tail.close()


class Tail:
    """The followed files. It blocks, but briefly; `poll` is to be exhausted before it is called again."""

    def __init__(self, pattern: str, position: bytes | None) -> None:
        self._pattern = pattern
        self._files: dict[Key, _File] = {}
        self._remembered = msgspec.json.decode(position, type=list[FileState]) if position else []
        self._faults: dict[str, str] = {}
        self._former_faults: dict[str, str] = {}
        self._next_scan = 0.0
        self._bytes = self._lines = 0

    def poll(self, now: float) -> Iterator[Batch]:
        """Yield what is new in all files, oldest file first. `now` is a monotonic time in seconds."""
        if now >= self._next_scan:
            self._scan(now)
            self._next_scan = now + SCAN_SECONDS
        for key, file in list(self._files.items()):
            with self._reporting(file.state.path):
                for lines in file.read(now):
                    self._bytes += len(lines)
                    self._lines += lines.count(b"\n") or 1
                    if body := ndjson(lines):
                        yield Batch(body, self._position())
            if file.finished:
                file.close()
                del self._files[key]
                self.remember(file.state)

    def health(self) -> Health:
        """Return whether every file can be read, and how many lines are estimated to wait in them."""
        left = sum(file.left for file in self._files.values())
        lag = round(left * self._lines / self._bytes) if self._bytes else None if left else 0
        return Health(not self._faults, lag, next(iter(self._faults.values()), None))

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def remember(self, state: FileState) -> None:
        """Keep the state of content that is gone, in case it turns up again."""
        if state.offset and state.done is None:
            self._remembered = [state, *self._remembered[: _REMEMBERED - 1]]

    def original_of(self, file: "_Compressed") -> FileState | None:
        """Return the state of the plain file that `file` is a compressed copy of, None when none is known."""
        followed = [other.state for other in self._files.values() if isinstance(other, _Plain)]
        return next((state for state in (*followed, *self._remembered) if file.begins_like(state)), None)

    def is_followed(self, state: FileState) -> bool:
        """Return whether a file may still grow."""
        return any(file.state is state for file in self._files.values())

    def _position(self) -> bytes:
        return msgspec.json.encode([*(file.state for file in self._files.values()), *self._remembered])

    def _scan(self, now: float) -> None:
        """Take up the files that match the glob by now, and let go those that no longer do."""
        self._former_faults, self._faults = self._faults, {}
        found: dict[Key, tuple[str, os.stat_result]] = {}
        for path in glob.iglob(self._pattern, recursive=True):  # noqa: PTH207 - of an absolute or a relative pattern
            with self._reporting(path):
                status = Path(path).stat()
                if stat.S_ISREG(status.st_mode):
                    found.setdefault((status.st_dev, status.st_ino), (path, status))
        for key, (path, status) in sorted(found.items(), key=lambda item: item[1][1].st_mtime):
            file = self._files.get(key)
            if file is not None and isinstance(file, _Compressed) != _is_compressed(path):  # the inode was used again
                file.close()
                self.remember(file.state)
                file = None
            if file is None:
                file = self._files[key] = self._take_up(path, key)
            file.state.path = path
            with self._reporting(path):
                file.found(status.st_size)
        for key, file in self._files.items():
            if key not in found:
                file.lost(now)

    def _take_up(self, path: str, key: Key) -> "_File":
        state = next((state for state in self._remembered if state.key == key), None)
        if state is None:
            state = FileState(path, *key)
        else:
            self._remembered = [other for other in self._remembered if other is not state]
        _log.info("following %s from byte %d", path, state.offset)
        return _Compressed(state, self) if _is_compressed(path) else _Plain(state, self)

    @contextmanager
    def _reporting(self, path: str) -> Iterator[None]:
        """Turn a fault of one file into an entry of the faults, logged when new, so that the other files go on."""
        try:
            yield
        except FileNotFoundError:
            pass  # gone since the glob was evaluated
        except OSError as error:
            if str(error) not in (self._faults.get(path), self._former_faults.get(path)):
                _log.warning("cannot be read for now: %s", error)
            self._faults[path] = str(error)


def _is_compressed(path: str) -> bool:
    return path.endswith(".gz")


class _File(ABC):
    """One file. `left` is how many bytes of it wait, `finished` whether it is over and to be dropped."""

    left = 0
    finished = False

    def __init__(self, state: FileState, tail: Tail) -> None:
        self.state = state
        self._tail = tail

    @abstractmethod
    def found(self, size: int) -> None:
        """Note that the glob matches this file, which has `size` bytes."""

    @abstractmethod
    def lost(self, now: float) -> None:
        """Note that the glob does not match it any more."""

    @abstractmethod
    def read(self, now: float) -> Iterator[bytes]:
        """Yield the whole lines that wait. The state moves on before each is yielded."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    @abstractmethod
    def _read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer only at the end."""

    def _lines(self, end: int, final: bool) -> Iterator[bytes]:
        """Yield the lines up to the byte `end`; one without a line end only when it is the `final` one."""
        state, size = self.state, READ_BYTES
        while state.offset < end:
            data = self._read_at(state.offset, min(size, end - state.offset))
            if not data:
                return
            if cut := data.rfind(b"\n") + 1:
                data = data[:cut]
                body = data[data.index(b"\n") + 1 :] if state.skipping else data
                state.skipping = False
            elif state.skipping:
                body = b""
            elif len(data) > MAX_LINE_BYTES:
                body, state.skipping = MALFORMED, True
            elif state.offset + len(data) < end:
                size = min(4 * size, MAX_LINE_BYTES + 1)
                continue
            elif final:
                body = data
            else:
                return
            state.advance(data)
            self.left = end - state.offset
            size = READ_BYTES
            if body:
                yield body


class _Plain(_File):
    """A file that may grow."""

    def __init__(self, state: FileState, tail: Tail) -> None:
        super().__init__(state, tail)
        self._file: FileIO | None = None
        self._size = -1
        self._grown = 0.0
        self._lost: float | None = None

    def found(self, size: int) -> None:
        self._lost = None
        if self._file is None and size != self.state.offset:
            file = FileIO(self.state.path)
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self.state.key:  # rotated just now: the next scan tells
                file.close()
            else:
                self._file = file

    def lost(self, now: float) -> None:
        if self._lost is None:
            self._lost = now

    def read(self, now: float) -> Iterator[bytes]:
        over = self._lost is not None and now - max(self._lost, self._grown) >= ROTATED_SECONDS
        if self._file is None:
            self.finished = self._lost is not None
            return
        size = os.fstat(self._file.fileno()).st_size
        if size != self._size:
            self._size, self._grown = size, now
            if size < self.state.offset or not self._head_is(self.state):
                self._tail.remember(self.state)
                self.state = FileState(self.state.path, *self.state.key)
                _log.info("%s was truncated: reading it from its beginning", self.state.path)
            self.left = size - self.state.offset
            yield from self._lines(size, False)
        if over:
            yield from self._lines(size, True)
            self.finished = True
        elif now - self._grown > IDLE_SECONDS and self._lost is None and not self.left:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _head_is(self, state: FileState) -> bool:
        return zlib.crc32(self._read_at(0, state.head_bytes)) == state.head

    def _read_at(self, offset: int, size: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file.fileno(), size, offset)


class _Compressed(_File):
    """A gzip file, which is read once it is whole. Offsets are of the decompressed content."""

    def __init__(self, state: FileState, tail: Tail) -> None:
        super().__init__(state, tail)
        self._size = -1
        self._tried = -1
        self._stable = False
        self._original: FileState | None = None
        self._file: GzipFile | None = None
        self._start = 0
        self._data = b""

    def found(self, size: int) -> None:
        if self.state.done is not None and self.state.done != size:  # the inode was used again
            self.state = FileState(self.state.path, *self.state.key)
        self._stable = size == self._size
        self._size = size
        self.left = size if self.state.done is None else 0

    def lost(self, now: float) -> None:
        self.finished = True

    def read(self, now: float) -> Iterator[bytes]:
        if self.state.done is not None or not self._stable or self._size == self._tried:
            return
        if self._original is not None and self._tail.is_followed(self._original):
            return
        try:
            total = self._length()
            if self.state.offset and not self.begins_like(self.state):
                self.state = FileState(self.state.path, *self.state.key)
            if not self.state.offset and (original := self._original or self._tail.original_of(self)):
                self._original = original
                if self._tail.is_followed(original):
                    _log.info("%s waits: it is a compressed copy of %s", self.state.path, original.path)
                    return
                self.state = FileState(self.state.path, *self.state.key, original.offset, original.crc, original.head)
        except (EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            self._tried = self._size
            _log.warning("%s is not a whole gzip file (%s): waiting until it changes", self.state.path, error)
            return
        self._file, self._start, self._data = GzipFile(self.state.path), 0, b""
        yield from self._lines(total, True)
        self.state.done, self.left = self._size, 0
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def begins_like(self, state: FileState) -> bool:
        """Return whether the content begins with what was delivered of another file."""
        with GzipFile(self.state.path) as file:
            if state.offset == 0 or zlib.crc32(file.read(state.head_bytes)) != state.head:
                return False
            file.seek(0)
            crc, left = 0, state.offset
            while left and (piece := file.read(min(left, READ_BYTES))):
                crc, left = zlib.crc32(piece, crc), left - len(piece)
            return left == 0 and crc == state.crc

    def _length(self) -> int:
        """Return the length of the content, having read it all; raises EOFError and others when it is not whole."""
        with GzipFile(self.state.path) as file:
            return sum(map(len, iter(lambda: file.read(READ_BYTES), b"")))

    def _read_at(self, offset: int, size: int) -> bytes:
        """Keep what was read beyond the last line, as going back would decompress everything again."""
        assert self._file is not None
        while self._start + len(self._data) < offset:
            self._start += len(self._data)
            self._data = self._file.read(min(READ_BYTES, offset - self._start))
        self._start, self._data = offset, self._data[offset - self._start :]
        while len(self._data) < size and (piece := self._file.read(READ_BYTES)):
            self._data += piece
        return self._data[:size]
