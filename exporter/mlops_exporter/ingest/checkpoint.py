"""A checkpoint: a file of parts in pieces, and at its end a table of them with their checksums.

The table comes last, so that a file which was not finished, or has lost its end, is never taken for a checkpoint.
"""

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import xxhash

SYNC_BYTES = 32 * 1024 * 1024
"""Written before the disk has to have it: so that the end of a large file does not keep everybody waiting."""

_MAGIC = b"mlopsckp"
_END = struct.Struct("<Q8s8s")
"""Length of the table, its checksum, and the magic."""

_ZEROS = bytes(1024 * 1024)


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """Where a piece is in the file, and its checksum."""

    start: int
    length: int
    digest: bytes


class Table(msgspec.Struct, frozen=True):
    """What a checkpoint holds: of the state `identity`, all bodies up to `sequence`, in parts.

    Parts that are `verbatim` hold events as they came.
    """

    identity: bytes
    sequence: int
    parts: dict[str, list[Piece]]
    verbatim: list[str]


class DamagedError(Exception):
    """A checkpoint that cannot be read; the message says why."""


class Writer:
    """Writes a checkpoint; raises OSError."""

    def __init__(self, path: Path) -> None:
        """Make the file, which its owner alone may read."""
        self.path = path
        self.size = 0
        self._unsynced = 0
        self._parts: dict[str, list[Piece]] = {}
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")

    def add(self, name: str, number: int, data: bytes | memoryview) -> None:
        """Write the next piece of a part; numbers grow, from wherever they begin."""
        pieces = self._parts.setdefault(name, [])
        if number < len(pieces):
            raise ValueError(f"piece {number} of {name} cannot follow {len(pieces)} pieces")
        self._file.write(data)
        pieces.append(Piece(self.size, len(data), xxhash.xxh3_64_digest(data)))
        self.size += len(data)
        self._unsynced += len(data)
        if self._unsynced > SYNC_BYTES:
            self._sync()

    def counts(self) -> dict[str, int]:
        """Return how many pieces there are of every part so far."""
        return {name: len(pieces) for name, pieces in self._parts.items()}

    def finish(self, identity: bytes, sequence: int, verbatim: Collection[str]) -> None:
        """Write the table, and have all of it on the disk."""
        table = msgspec.msgpack.encode(Table(identity, sequence, self._parts, sorted(verbatim)))
        self._file.write(table + _END.pack(len(table), xxhash.xxh3_64_digest(table), _MAGIC))
        self._sync()
        self._file.close()
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def abandon(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # what could not be written may be in the way of closing
            self._file.close()
        _overwrite(self.path, [(0, self.size)])
        with suppress(OSError):
            self.path.unlink()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0


class Checkpoint:
    """A finished checkpoint. Raises DamagedError when it is none, or cannot be read."""

    def __init__(self, path: Path) -> None:
        """Read its table."""
        self.path = path
        try:
            with path.open("rb") as file:
                self.size = file.seek(0, os.SEEK_END)
                file.seek(max(0, self.size - _END.size))
                length, digest, magic = _END.unpack(file.read(_END.size))
                start = self.size - _END.size - length
                if magic != _MAGIC or start < 0:
                    raise DamagedError("has no end")
                file.seek(start)
                table = file.read(length)
        except OSError as error:
            raise DamagedError(error.strerror or str(error)) from error
        except struct.error:
            raise DamagedError("has no end") from None
        if xxhash.xxh3_64_digest(table) != digest:
            raise DamagedError("has a damaged table")
        try:
            self.table = msgspec.msgpack.decode(table, type=Table)
        except msgspec.MsgspecError as error:
            raise DamagedError(f"has an unknown table: {error}") from error
        if sum(piece.length for pieces in self.table.parts.values() for piece in pieces) != start:
            raise DamagedError("is longer or shorter than its pieces")

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the pieces of a part, none if it has no such part."""
        wanted = self.table.parts.get(name, [])
        try:
            with self.path.open("rb") as file:
                for number, piece in enumerate(wanted):
                    file.seek(piece.start)
                    data = file.read(piece.length)
                    if xxhash.xxh3_64_digest(data) != piece.digest:
                        raise DamagedError(f"has a damaged piece: {number} of {name}")
                    yield data
        except OSError as error:
            raise DamagedError(error.strerror or str(error)) from error

    def verify(self) -> None:
        """Read all of it."""
        for name in self.table.parts:
            for _ in self.pieces(name):
                pass


def remove(path: Path) -> None:
    """Remove a checkpoint, if it is there; what it holds of events as they came is overwritten first."""
    try:
        table = Checkpoint(path).table
        areas = [(piece.start, piece.length) for name in table.verbatim for piece in table.parts.get(name, [])]
    except DamagedError:
        with suppress(OSError):
            areas = [(0, path.stat().st_size)]
            _overwrite(path, areas)
    else:
        _overwrite(path, areas)
    with suppress(OSError):
        path.unlink()


def _overwrite(path: Path, areas: list[tuple[int, int]]) -> None:
    """Write zeros over areas (start, length) of a file, as far as that can be."""
    if not any(length for _, length in areas):
        return
    with suppress(OSError), path.open("r+b") as file:
        for start, length in areas:
            file.seek(start)
            for done in range(0, length, len(_ZEROS)):
                file.write(_ZEROS[: length - done])
        file.flush()
        os.fsync(file.fileno())
