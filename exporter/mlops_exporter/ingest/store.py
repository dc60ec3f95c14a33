"""Durable state in one SQLite file: a journal of accepted bodies, and checkpoints that make its beginning dispensable.

A body is durable once it is in the journal. A checkpoint is written in pieces, between which the journal goes on, and
becomes the current one in a single transaction that also drops the journal up to it. So at any moment the file holds
one whole checkpoint and everything that came after it, and a start restores the one and replays the other.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlops_exporter.ingest.body import Body

SCHEMA = 2
FILE = "state.sqlite3"
PIECE_BYTES = 8 * 1024 * 1024

Fault = Literal["locked", "full", "read_only", "corrupt", "schema", "io"]

_TABLES = """
CREATE TABLE journal (
    sequence INTEGER PRIMARY KEY, source TEXT NOT NULL, arrived REAL NOT NULL, body BLOB NOT NULL, position BLOB,
    models TEXT, format TEXT
) STRICT;
CREATE TABLE checkpoints (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE pieces (
    name TEXT NOT NULL, generation INTEGER NOT NULL, piece INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (name, generation, piece)
) STRICT;
"""

_FROM_SCHEMA_1 = "ALTER TABLE journal ADD COLUMN format TEXT"


class StoreError(Exception):
    """The state cannot be read or written; the message says what to do, `fault` which kind it is."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


class Store:
    """The state file of one process. Used by one thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Open the file in `directory`, made when missing; raises StoreError."""
        self._path = directory / FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError("io", f"{directory}: cannot be made: {error.strerror}") from error
        if not os.access(directory, os.W_OK):
            raise StoreError("read_only", f"{directory}: state.path must be writable for the exporter's user")
        with self._faults():
            self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._faults():
                self._prepare()
        except StoreError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # a second process is refused, for as long as this one lives
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA wal_autocheckpoint = 4000")
        execute("PRAGMA secure_delete = FAST")  # ON, as Debian has it, writes the whole journal again to drop it
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise StoreError(
                "schema", f"{self._path}: has schema {version}, but this version of mlops-exporter knows {SCHEMA}"
            )
        execute("BEGIN EXCLUSIVE")
        if version < SCHEMA:
            for statement in [_FROM_SCHEMA_1] if version else _TABLES.split(";")[:-1]:
                execute(statement)
            execute(f"PRAGMA user_version = {SCHEMA}")
        # What a checkpoint that was not finished has left behind.
        execute(
            "DELETE FROM pieces WHERE NOT EXISTS"
            " (SELECT 1 FROM checkpoints c WHERE c.name = pieces.name AND c.generation = pieces.generation)"
        )
        execute("COMMIT")
        self.sequence: int
        """Number of the last body in the journal."""
        self._generation: int
        (self.sequence,) = execute("SELECT coalesce(max(sequence), 0) FROM journal").fetchone()
        (self._generation,) = execute("SELECT coalesce(max(generation), 0) FROM checkpoints").fetchone()
        (self._page_bytes,) = execute("PRAGMA page_size").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def append(self, bodies: Sequence[Body]) -> None:
        """Make bodies durable, all or none; raises StoreError."""
        rows = [
            (sequence, body.source, body.arrived, body.data, body.position, _names(body.models), body.format)
            for sequence, body in enumerate(bodies, self.sequence + 1)
        ]
        with self._faults():
            self._transact("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.sequence += len(rows)

    def room(self) -> int:
        """Return how many bytes can be written, to the disk and to what is free in the file; raises StoreError."""
        with self._faults():
            (free_pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        try:
            disk = os.statvfs(self._path)
        except OSError as error:
            raise StoreError("io", f"{self._path}: is gone ({error.strerror}): put it back, or restart") from error
        return int(disk.f_bavail * disk.f_frsize + free_pages * self._page_bytes)

    def journal(self) -> Iterator[Body]:
        """Yield the bodies in their order."""
        with self._faults():
            for _, source, arrived, data, position, models, form in self._connection.execute(
                "SELECT * FROM journal ORDER BY sequence"
            ):
                scope = None if models is None else frozenset(models.split("\n"))
                yield Body(source, data, arrived, position, scope, form)

    def begin_checkpoint(self) -> int:
        """Return the number under which the pieces of the next checkpoint are written."""
        self._generation += 1
        return self._generation

    def write_piece(self, name: str, generation: int, piece: int, data: bytes | memoryview) -> None:
        """Write a piece of a part of a checkpoint that is not yet current; raises StoreError."""
        with self._faults():
            self._transact("INSERT INTO pieces VALUES (?, ?, ?, ?)", [(name, generation, piece, data)])

    def finish_checkpoint(self, names: Sequence[str], generation: int, sequence: int) -> None:
        """Make the parts current and drop the journal up to `sequence`, in one transaction; raises StoreError."""
        with self._faults():
            execute = self._connection.execute
            execute("BEGIN IMMEDIATE")
            try:
                for name in names:
                    execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (name, generation))
                    execute("DELETE FROM pieces WHERE name = ? AND generation <> ?", (name, generation))
                execute("DELETE FROM journal WHERE sequence <= ?", (sequence,))
                execute("COMMIT")
            except BaseException:
                self._rollback()
                raise

    def abandon_checkpoint(self, generation: int) -> None:
        """Remove the pieces of a checkpoint that could not be finished."""
        with self._faults():
            self._connection.execute("DELETE FROM pieces WHERE generation = ?", (generation,))

    def checkpoint_bytes(self) -> int:
        """Return the size of the current checkpoint; raises StoreError."""
        with self._faults():
            (size,) = self._connection.execute("SELECT coalesce(sum(length(data)), 0) FROM pieces").fetchone()
        return int(size)

    def parts(self) -> set[str]:
        """Return the names of the parts that there are; raises StoreError."""
        with self._faults():
            return {name for (name,) in self._connection.execute("SELECT name FROM checkpoints")}

    def read(self, name: str) -> Any:
        """Return the current tree of a part, None when there is none; raises StoreError."""
        with self._faults():
            rows = self._connection.execute(
                "SELECT data FROM pieces JOIN checkpoints USING (name, generation) WHERE name = ? ORDER BY piece",
                (name,),
            )
            data = b"".join(row[0] for row in rows)
        return unpack(data) if data else None

    def _transact(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(statement, rows)
            self._connection.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _faults(self) -> "_Faults":
        return _Faults(self._path)


def _names(models: frozenset[str] | None) -> str | None:
    """Return the models that a sender may write as they are stored, one per line."""
    return None if models is None else "\n".join(models)


class _Faults:
    """Turns SQLite's errors into StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, sqlite3.Error):
            return
        name = getattr(error, "sqlite_errorname", "")
        fault, advice = next(
            (known for prefix, known in _ADVICE.items() if name.startswith(prefix)),
            ("io", "see the system's log for faults of the disk"),
        )
        raise StoreError(fault, f"{self._path}: {error}: {advice}") from error


_ADVICE: Mapping[str, tuple[Fault, str]] = {
    "SQLITE_BUSY": ("locked", "another process uses this state.path; every exporter needs its own"),
    "SQLITE_FULL": ("full", "make room on the disk; events are taken again as soon as there is some"),
    "SQLITE_READONLY": ("read_only", "state.path must be writable for the user that the exporter runs as"),
    "SQLITE_CANTOPEN": ("read_only", "state.path must be a directory that the exporter's user may write to"),
    "SQLITE_PERM": ("read_only", "state.path must be writable for the user that the exporter runs as"),
    "SQLITE_CORRUPT": ("corrupt", "nothing was changed; restore the file from a backup, or move it away to start anew"),
    "SQLITE_NOTADB": ("corrupt", "nothing was changed; restore the file from a backup, or move it away to start anew"),
}


def pack(tree: Any) -> Iterator[memoryview | bytes]:
    """Yield a tree of dicts, lists, numbers, strings and arrays as pieces of at most PIECE_BYTES."""
    arrays: list[NDArray[Any]] = []

    def keep(value: Any) -> Any:
        array = np.ascontiguousarray(value)
        arrays.append(array)
        return msgspec.msgpack.Ext(1, msgspec.msgpack.encode((array.dtype.str, array.shape, array.nbytes)))

    header = msgspec.msgpack.Encoder(enc_hook=keep).encode(tree)
    yield len(header).to_bytes(8, "little") + header
    for array in arrays:
        data = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]


def unpack(data: bytes) -> Any:
    """Return the tree that `pack` wrote. Its arrays can be written to."""
    length = int.from_bytes(data[:8], "little")
    offset = 8 + length

    def array(_code: int, description: memoryview) -> Any:
        nonlocal offset
        dtype, shape, size = msgspec.msgpack.decode(description)
        values = np.frombuffer(data, np.dtype(dtype), size // np.dtype(dtype).itemsize, offset).reshape(shape).copy()
        offset += size
        return values

    return msgspec.msgpack.Decoder(ext_hook=array).decode(data[8:offset])
