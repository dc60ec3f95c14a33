"""Durable state: a journal of accepted bodies in SQLite, and checkpoints beside it that make its beginning dispensable.

A body is durable once it is in the journal. A checkpoint is written in pieces, between which the journal goes on, and
becomes the current one in a single transaction. The one before stays, and so do the bodies that came after it: a start
restores the newest checkpoint that can be read and replays what came after, which gives the same counts.

Whatever is stored has a checksum, and the journal no gaps. SQLite drops what follows a damaged byte in its write-ahead
log, without a word; so another file, the mark, says up to where bodies were acknowledged. `verify` looks at all of it
before anything is read, and nothing is written before `begin`.
"""

import errno
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import xxhash

from mlops_exporter.ingest import checkpoint
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.checkpoint import Checkpoint, DamagedError
from mlops_exporter.ingest.trees import unpack

SCHEMA = 4
FILE = "state.sqlite3"
MARK = "state.mark"
CHECKPOINT = "state.checkpoint-"
"""Followed by a number that grows."""

DROP_BYTES = 8 * 1024 * 1024
KEPT = 2
"""Checkpoints: the newest, and the one before."""

Fault = Literal["locked", "full", "read_only", "corrupt", "replaced", "schema", "io"]

Damaged = Literal["checkpoint", "former_checkpoint"]

_TABLES = {
    "journal": """(
        sequence INTEGER PRIMARY KEY, source TEXT NOT NULL, arrived REAL NOT NULL, body BLOB NOT NULL, position BLOB,
        models TEXT, format TEXT, digest BLOB
    ) STRICT""",
    "checkpoints": "(generation INTEGER PRIMARY KEY, sequence INTEGER NOT NULL) STRICT",
    "manifest": "(identity BLOB NOT NULL, sequence INTEGER NOT NULL, digest BLOB NOT NULL) STRICT",
}
"""`digest` is absent of what an earlier schema wrote. The manifest has one row: up to where the journal is dropped, and
the digest of that and of the list of checkpoints, each of which has counted the bodies up to its `sequence`."""

_FIRST = ("sequence", "source", "arrived", "body", "position")
_JOURNAL = (*_FIRST, "models")
_PIECES = ("name", "generation", "piece", "data")
_COLUMNS: Mapping[int, Mapping[str, tuple[str, ...]]] = {
    1: {"journal": _JOURNAL, "checkpoints": ("name", "generation"), "pieces": _PIECES},
    2: {"journal": (*_JOURNAL, "format"), "checkpoints": ("name", "generation"), "pieces": _PIECES},
    3: {
        "journal": (*_JOURNAL, "format", "digest"),
        "checkpoints": ("name", "generation", "pieces"),
        "pieces": (*_PIECES, "digest"),
        "manifest": ("identity", "sequence", "digest"),
    },
    4: {
        "journal": (*_JOURNAL, "format", "digest"),
        "checkpoints": ("generation", "sequence"),
        "manifest": ("identity", "sequence", "digest"),
    },
}
"""Tables and columns by schema: of every one that there has been."""
_FIRST_COLUMNS = {**_COLUMNS[1], "journal": _FIRST}
"""The very first had the number 1 too."""

_STEPS = {
    1: ["ALTER TABLE journal ADD COLUMN format TEXT"],
    2: ["ALTER TABLE journal ADD COLUMN digest BLOB", f"CREATE TABLE manifest {_TABLES['manifest']}"],
    3: ["DROP TABLE pieces", "DROP TABLE checkpoints", f"CREATE TABLE checkpoints {_TABLES['checkpoints']}"],
}
"""From a schema to the next. Before the fourth, checkpoints were in the file."""

_MARK = struct.Struct("<8sqq")
"""Identity of the state, number of the last acknowledged body, and the digest of both."""


class StoreError(Exception):
    """The state cannot be read or written; the message says what to do, `fault` which kind it is."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


class Store:
    """The state of one process. Used by one thread at a time.

    Opened it is locked and can be read; `begin` makes it ready to be written.
    """

    def __init__(self, directory: Path, *, anew: bool = False) -> None:
        """Open the state in `directory`, made when missing; `anew` whatever is left of another. Raises StoreError."""
        self.directory = directory
        self.damaged: dict[Damaged, str] = {}
        """Why the checkpoints cannot be read which are not restored."""
        self._anew = anew
        self._checkpoints: list[tuple[int, int]] = []
        """Numbers of those that are kept, and of the last body that each has counted; the newest last."""
        self._current: Checkpoint | None = None
        self._base = 0
        """Number of the last body that has been counted in what is read."""
        self._writers: dict[int, checkpoint.Writer] = {}
        self._path = directory / FILE
        self._log = self._path.with_name(f"{FILE}-wal")
        self._kept_log = self._path.with_name(f"{FILE}-wal.kept")
        self._keeps_log = False
        self._begun = False
        self._mark: int | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError("io", f"{directory}: cannot be made: {error.strerror}") from error
        if not os.access(directory, os.W_OK):
            raise StoreError("read_only", f"{directory}: state.path must be writable for the exporter's user")
        self._make_private()
        with self._faults():
            self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._faults():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _make_private(self) -> None:
        """Make the file, if need be, and let nobody else read it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                with suppress(PermissionError):  # another user's, who lets this one write
                    os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        except OSError as error:
            fault: Fault = "read_only" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else "io"
            remedy = "state.path must be writable for the user that the exporter runs as"
            raise StoreError(fault, f"{self._path}: cannot be opened: {error.strerror}: {remedy}") from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")  # a second process is refused, for as long as this one lives
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA wal_autocheckpoint = 4000")
        execute("BEGIN EXCLUSIVE")
        execute("COMMIT")
        self._keep_log()
        status = self._path.stat()
        self._file = status.st_dev, status.st_ino
        self._device = self.directory.stat().st_dev
        (self._schema,) = execute("PRAGMA user_version").fetchone()
        if self._schema > SCHEMA:
            raise StoreError(
                "schema", f"{self._path}: has schema {self._schema}, but this version of mlops-exporter knows {SCHEMA}"
            )
        (self._page_bytes,) = execute("PRAGMA page_size").fetchone()
        self.sequence = 0
        """Number of the last body in the journal, or of the last one that was dropped."""
        self._dropped = 0
        """Number of the last body that a checkpoint made dispensable."""
        self._identity = os.urandom(8)
        self._generation = 0
        self._check_columns()
        if self._schema:
            self._read_bounds()
        elif not self._anew:
            self._check_absence()

    def _keep_log(self) -> None:
        """Keep SQLite's log of a life that did not end well: closing the file consumes it, damaged as it may be."""
        with suppress(OSError):
            if self._log.stat().st_size:
                shutil.copy2(self._log, self._kept_log)
                self._keeps_log = True

    def _check_columns(self) -> None:
        """Raise StoreError unless there are just the tables and columns of the schema."""
        tables = [name for (name,) in self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {
            table: tuple(row[1] for row in self._connection.execute(f"PRAGMA table_info({table!r})"))
            for table in tables
        }
        self._scoped = "models" in found.get("journal", _JOURNAL)
        if found != _COLUMNS.get(self._schema, {}) and (self._schema, found) != (1, _FIRST_COLUMNS):
            raise self._corrupt(f"its tables are not those of schema {self._schema}")

    def _check_absence(self) -> None:
        """Raise StoreError when the file is new, and what lies beside it says that there was one."""
        left = [path.name for path in self._files()]
        with suppress(OSError, struct.error):
            identity, sequence, digest = _MARK.unpack((self.directory / MARK).read_bytes())
            if sequence and digest == _mark_digest(identity, sequence):
                left.append(MARK)
        if left:
            raise self._corrupt(f"is missing or empty, and {', '.join(left)} beside it tells that it was not")

    def _files(self) -> list[Path]:
        """Return the files of checkpoints that there are."""
        return sorted(self.directory.glob(f"{CHECKPOINT}*"))

    def _file_of(self, generation: int) -> Path:
        return self.directory / f"{CHECKPOINT}{generation}"

    def _read_bounds(self) -> None:
        execute = self._connection.execute
        (first,) = execute("SELECT min(sequence) FROM journal").fetchone()
        self._dropped = first - 1 if first is not None else 0
        if self._schema > 2:
            manifest = execute("SELECT identity, sequence, digest FROM manifest").fetchall()
            if len(manifest) != 1:
                raise self._corrupt("its manifest is missing")
            self._identity, self._dropped, digest = manifest[0]
            if digest != self._manifest_digest():
                raise self._corrupt("its list of checkpoints is damaged")
        self._base = self._dropped
        if self._schema > 3:
            self._checkpoints = execute("SELECT generation, sequence FROM checkpoints ORDER BY generation").fetchall()
        numbers = [
            path.name.removeprefix(CHECKPOINT) for path in self._files()
        ]  # one may be there that cannot be removed
        self._generation = max((int(number) for number in numbers if number.isdecimal()), default=0)
        self._generation = max([self._generation, *(generation for generation, _ in self._checkpoints)])
        first, last, rows = execute(
            "SELECT min(sequence), max(sequence), count(*) FROM journal WHERE sequence > ?", (self._dropped,)
        ).fetchone()
        self.sequence = last if rows else self._dropped
        if rows and (first != self._dropped + 1 or last - first + 1 != rows):
            raise self._corrupt("bodies are missing from its journal")
        if self._schema > 3:
            self._choose(lambda _: None)
        marked = self._read_mark()
        if marked is not None and marked > self.sequence:
            raise self._corrupt(
                f"the last {marked - self.sequence} bodies that were acknowledged are missing: its log is damaged, or "
                f"it is older than {MARK} beside it (if you have put back a backup, put {MARK} back too, or remove it)"
            )

    def verify(self) -> None:
        """Read everything and compare it with its checksums; raises StoreError, with everything left as it is."""
        with self._faults():
            execute = self._connection.execute
            faults = [text for (text,) in execute("PRAGMA quick_check(1)")]
            if faults != ["ok"]:
                raise self._corrupt(faults[0])
            if self._schema < 3:
                return
            if self._schema == 3:
                for name, generation, pieces in execute("SELECT name, generation, pieces FROM checkpoints"):
                    self._verify_part(name, generation, pieces)
            else:
                self._choose(Checkpoint.verify)
            for row in execute("SELECT * FROM journal ORDER BY sequence"):
                if row[-1] is not None and row[-1] != _digest(*row[:-1]):
                    raise self._corrupt(f"body {row[0]} of its journal is damaged")

    def _choose(self, examine: Callable[[Checkpoint], None]) -> None:
        """Choose the newest checkpoint that `examine` finds whole, and see to the other; raises StoreError.

        All bodies since the first one are a state, too, if they are there still.
        """
        found: list[tuple[Checkpoint | None, int]] = []
        self.damaged = {}
        for (generation, sequence), which in zip(reversed(self._checkpoints), get_args(Damaged), strict=False):
            try:
                one = Checkpoint(self._file_of(generation))
                if (one.table.identity, one.table.sequence) != (self._identity, sequence):
                    raise DamagedError("belongs to another state")
                examine(one)
            except DamagedError as error:
                self.damaged[which] = f"{self._file_of(generation)} {error}"
            else:
                found.append((one, sequence))
        if self._dropped == 0:
            found.append((None, 0))
        if not found:
            raise self._corrupt("; ".join(self.damaged.values()) or "its checkpoints are missing")
        self._current, self._base = found[0]

    def _verify_part(self, name: str, generation: int, pieces: int | None) -> None:
        found = 0
        for piece, data, digest in self._connection.execute(
            "SELECT piece, data, digest FROM pieces WHERE name = ? AND generation = ? ORDER BY piece",
            (name, generation),
        ):
            if digest is not None and digest != _digest(name, generation, piece, data):
                raise self._corrupt(f"piece {piece} of {name} is damaged")
            found += 1
        if pieces is not None and found != pieces:
            raise self._corrupt(f"{name} has {found} of its {pieces} pieces")

    def begin(self) -> None:
        """Bring the file to this version's schema and make it ready to be written; raises StoreError."""
        if self._begun:
            return
        with self._faults():
            execute = self._connection.execute
            if self._schema > 3:
                whole = [listed for listed in self._checkpoints if self._is_whole(listed)]
            else:
                whole = self._move_checkpoint()
            self._overwrite(True)
            execute("BEGIN EXCLUSIVE")
            try:
                if not self._schema:
                    for name, columns in _TABLES.items():
                        execute(f"CREATE TABLE {name} {columns}")
                if not self._scoped:
                    execute("ALTER TABLE journal ADD COLUMN models TEXT")
                for schema in range(self._schema, SCHEMA) if self._schema else ():
                    for statement in _STEPS[schema]:
                        execute(statement)
                execute(f"PRAGMA user_version = {SCHEMA}")
                self._write_manifest(whole, self._dropped)
                execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
            self._list(whole, self._dropped)
            self._schema = SCHEMA
        self._begun, self._keeps_log, self._scoped = True, False, True
        self._kept_log.unlink(missing_ok=True)
        with suppress(OSError):
            self._mark = os.open(self.directory / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._write_mark()

    def _is_whole(self, listed: tuple[int, int]) -> bool:
        """Whether a listed checkpoint was not found damaged."""
        place: Damaged = "checkpoint" if listed == self._checkpoints[-1] else "former_checkpoint"
        return place not in self.damaged

    def _move_checkpoint(self) -> list[tuple[int, int]]:
        """Write the checkpoint that an earlier schema kept in the file to one of its own; return the list of it."""
        parts = self.parts()
        if not parts:
            return []
        generation = self.begin_checkpoint()
        writer = self._writers.pop(generation)
        for name in sorted(parts):
            for piece, data in enumerate(self._old_pieces(name)):
                writer.add(name, piece, data)
        writer.finish(self._identity, self._dropped, sorted(parts))
        self._current = Checkpoint(writer.path)
        return [(generation, self._dropped)]

    def close(self) -> None:
        """Let go of the file. What was not begun is left as it was found, SQLite's log too."""
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._keeps_log:
            self._kept_log.replace(self._log)
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None

    def append(self, bodies: Sequence[Body]) -> None:
        """Make bodies durable, all or none; raises StoreError."""
        rows = [
            (sequence, body.source, body.arrived, body.data, body.position, _names(body.models), body.format)
            for sequence, body in enumerate(bodies, self.sequence + 1)
        ]
        with self._faults():
            statement = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            self._transact(statement, [(*row, _digest(*row)) for row in rows])
        self.sequence += len(rows)
        self._write_mark()

    def room(self) -> tuple[int, int]:
        """Return how many bytes are free on the disk, and in the file besides, for the journal; raises StoreError."""
        self.check_place()
        with self._faults():
            (free_pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        try:
            disk = os.statvfs(self._path)
        except OSError as error:
            raise StoreError("io", self._gone(error)) from error
        return int(disk.f_bavail * disk.f_frsize), int(free_pages * self._page_bytes)

    def check_place(self) -> None:
        """Raise StoreError when another file is, or none, where this one was opened: nobody would find it again."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise StoreError("io", self._gone(error)) from error
        if (status.st_dev, status.st_ino) != self._file:
            raise StoreError(
                "replaced",
                f"{self._path}: is another file than the one that was opened (a volume mounted over it, a snapshot "
                "rolled back): put it back, or restart",
            )

    @property
    def was_removed(self) -> bool:
        """Whether the directory is there without the file: removed and made again, not another volume's."""
        try:
            return self.directory.stat().st_dev == self._device and not self._path.exists()
        except OSError:
            return False

    def _gone(self, error: OSError) -> str:
        return f"{self._path}: is gone ({error.strerror}): put it back, or restart"

    def journal(self) -> Iterator[Body]:
        """Yield the bodies in their order."""
        if not self._schema:
            return
        with self._faults():
            models, form = ("models" if self._scoped else "NULL"), ("format" if self._schema > 1 else "NULL")
            names = f"source, body, arrived, position, {models}, {form}"
            for source, data, arrived, position, models, form in self._connection.execute(
                f"SELECT {names} FROM journal WHERE sequence > ? ORDER BY sequence",  # nosec B608: names are those above
                (self._base,),
            ):
                scope = None if models is None else frozenset(models.split("\n"))
                yield Body(source, data, arrived, position, scope, form)

    def begin_checkpoint(self) -> int:
        """Return the number under which the pieces of the next checkpoint are written; raises StoreError."""
        self._generation += 1
        with self._faults():
            self._writers[self._generation] = checkpoint.Writer(self._file_of(self._generation))
        return self._generation

    def write_piece(self, name: str, generation: int, piece: int, data: bytes | memoryview) -> None:
        """Write the next `piece` of a part of a checkpoint that is not yet current; raises StoreError."""
        self.check_place()
        with self._faults():
            self._writers[generation].add(name, piece, data)

    def others(self, names: Collection[str]) -> list[str]:
        """Return the names of the parts that there are besides."""
        return sorted(self.parts() - set(names))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the pieces of a part as they are kept, from wherever they can be read; raises StoreError."""
        faults = []
        for generation, _ in reversed(self._checkpoints):
            try:
                kept = Checkpoint(self._file_of(generation))
                if name in kept.table.parts:
                    for _ in kept.pieces(name):
                        pass
                    yield from kept.pieces(name)
                    return
            except DamagedError as error:
                faults.append(f"{self._file_of(generation)} {error}")
        raise self._corrupt("; ".join(faults) or f"{name} is in no checkpoint")

    def finish_checkpoint(
        self,
        parts: Mapping[str, int],
        generation: int,
        sequence: int,
        verbatim: Collection[str] = (),
        *,
        keep_former: bool = False,
    ) -> None:
        """Make a checkpoint of bodies up to `sequence` current, parts by their numbers of pieces; raises StoreError.

        All others become dispensable, and so does the journal up to it; with `keep_former` the newest of them stays,
        with what came after it. Of what is dropped, the parts that hold events `verbatim` are overwritten.
        """
        self.check_place()
        with self._faults():
            writer = self._writers[generation]
            if (written := writer.counts()) != parts:
                raise ValueError(f"{written} is written of {parts}")
            kept_verbatim = self._current.table.verbatim if self._current is not None else ()
            writer.finish(self._identity, sequence, {*verbatim, *kept_verbatim} & parts.keys())
            del self._writers[generation]
        if not keep_former:
            self._settle([(generation, sequence)], sequence)
        else:
            former = self._checkpoints[-1:]
            self._settle([*former, (generation, sequence)], former[0][1] if former else self._dropped)

    def double(self) -> Iterator[bool]:
        """Write the newest checkpoint once more, a piece a step, so that there are two; raises StoreError."""
        newest, sequence = self._checkpoints[-1]
        generation = self.begin_checkpoint()
        try:
            with self._faults():
                source, writer = Checkpoint(self._file_of(newest)), self._writers[generation]
                for name in source.table.parts:
                    for piece, data in enumerate(source.pieces(name)):
                        writer.add(name, piece, data)
                        yield True
                writer.finish(self._identity, sequence, source.table.verbatim)
                del self._writers[generation]
        except StoreError:
            self.abandon_checkpoint(generation)
            raise
        self._settle([(newest, sequence), (generation, sequence)], sequence)

    @property
    def is_single(self) -> bool:
        """Whether there are fewer checkpoints than are kept."""
        return len(self._checkpoints) < KEPT

    @property
    def holds_bodies(self) -> bool:
        """Whether there are bodies that no checkpoint has made dispensable."""
        return self.sequence > self._dropped

    def forget_former(self) -> None:
        """Drop the checkpoint before the newest, to make room; raises StoreError."""
        if not self.is_single:
            self._settle(self._checkpoints[-1:], self._checkpoints[-1][1])

    def _settle(self, checkpoints: list[tuple[int, int]], dropped: int) -> None:
        """Keep these checkpoints and no others, and the bodies after `dropped`."""
        with self._faults():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._write_manifest(checkpoints, dropped)
                self._connection.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
            self._list(checkpoints, dropped)

    def _list(self, checkpoints: list[tuple[int, int]], dropped: int) -> None:
        """Note what the manifest says, and remove the checkpoints that it does not name."""
        self._checkpoints, self._dropped = checkpoints, dropped
        named = {self._file_of(generation) for generation, _ in checkpoints}
        with suppress(DamagedError):
            self._current = Checkpoint(self._file_of(checkpoints[-1][0])) if checkpoints else None
        for path in self._files():
            if path not in named and path not in {writer.path for writer in self._writers.values()}:
                checkpoint.remove(path)

    def drop(self) -> bool:
        """Overwrite and drop some of the journal's bodies that a checkpoint made dispensable; whether there are more.

        Raises StoreError. A little at a time: what is overwritten goes through SQLite's log, and needs room there.
        """
        with self._faults():
            execute = self._connection.execute
            size, last = 0, None
            for sequence, length in execute(
                "SELECT sequence, length(body) FROM journal WHERE sequence <= ? ORDER BY sequence", (self._dropped,)
            ):
                last, size = sequence, size + length
                if size >= DROP_BYTES:
                    break
            if last is not None:
                self._overwrite(True)
                execute("DELETE FROM journal WHERE sequence <= ?", (last,))
            if last == self._dropped or last is None:
                execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds bodies too
                return False
        return True

    def abandon_checkpoint(self, generation: int) -> None:
        """Remove the pieces of a checkpoint that could not be finished."""
        if (writer := self._writers.pop(generation, None)) is not None:
            writer.abandon()

    def checkpoint_bytes(self) -> int:
        """Return the size of the current checkpoint."""
        return 0 if self._current is None else self._current.size

    def parts(self) -> set[str]:
        """Return the names of the parts that there are; raises StoreError."""
        if not self._schema or self._schema > 3:
            return set() if self._current is None else set(self._current.table.parts)
        with self._faults():
            return {name for (name,) in self._connection.execute("SELECT name FROM checkpoints")}

    def read(self, name: str) -> Any:
        """Return the current tree of a part, None when there is none; raises StoreError."""
        if self._schema in (1, 2, 3):
            pieces = self._old_pieces(name)
        else:
            pieces = iter(()) if self._current is None else self._current.pieces(name)
        with self._faults():
            try:
                return unpack(pieces)
            except (msgspec.MsgspecError, ValueError, TypeError) as error:
                raise self._corrupt(f"{name} cannot be read: {error}") from error

    def _old_pieces(self, name: str) -> Iterator[bytes]:
        """Yield the pieces of a part in a file of a schema that kept them there."""
        for (data,) in self._connection.execute(
            "SELECT data FROM pieces JOIN checkpoints USING (name, generation) WHERE name = ? ORDER BY piece", (name,)
        ):
            yield data

    def corrupt(self, error: Exception) -> StoreError:
        """Return that what was read means nothing, as restoring it has shown."""
        return self._corrupt(f"it cannot be restored: {type(error).__name__}: {error}")

    def _corrupt(self, what: str) -> StoreError:
        return StoreError("corrupt", f"{self._path}: {what}: {_LEFT}")

    def _write_manifest(self, checkpoints: list[tuple[int, int]], dropped: int) -> None:
        execute = self._connection.execute
        execute("DELETE FROM checkpoints")
        self._connection.executemany("INSERT INTO checkpoints VALUES (?, ?)", checkpoints)
        execute("DELETE FROM manifest")
        digest = _digest(self._identity, dropped, *(value for row in checkpoints for value in row))
        execute("INSERT INTO manifest VALUES (?, ?, ?)", (self._identity, dropped, digest))

    def _manifest_digest(self) -> bytes:
        columns, order = ("name, generation, pieces", "name") if self._schema < 4 else ("*", "generation")
        rows = self._connection.execute(
            f"SELECT {columns} FROM checkpoints ORDER BY {order}"  # nosec B608: they are those above
        )
        return _digest(self._identity, self._dropped, *(value for row in rows for value in row))

    def _overwrite(self, wanted: bool) -> None:
        """Overwrite what is deleted from now on, or only where that costs no further writing."""
        self._connection.execute(f"PRAGMA secure_delete = {'ON' if wanted else 'FAST'}")

    def _read_mark(self) -> int | None:
        """Return the number of the last body that is known to be acknowledged, None when nothing is known."""
        try:
            identity, sequence, digest = _MARK.unpack((self.directory / MARK).read_bytes())
        except (OSError, struct.error):
            return None
        mine = identity == self._identity and digest == _mark_digest(identity, sequence)
        return int(sequence) if mine else None

    def _write_mark(self) -> None:
        """Note the last body; a mark that is behind does no harm."""
        if self._mark is not None:
            row = self._identity, self.sequence
            with suppress(OSError):
                os.pwrite(self._mark, _MARK.pack(*row, _mark_digest(*row)), 0)

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


def _digest(*values: object) -> bytes:
    """Return the checksum of a row."""
    state = xxhash.xxh3_64()
    for value in values:
        content = value if isinstance(value, bytes | memoryview) else repr(value).encode()
        state.update(f"{type(value).__name__ if value is None else ''}{len(content)} ".encode())
        state.update(content)
    return state.digest()


def _mark_digest(identity: bytes, sequence: int) -> int:
    return int.from_bytes(_digest(identity, sequence), "little", signed=True)


class _Faults:
    """Turns SQLite's errors into StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, UnicodeDecodeError):  # of a text that is none any more
            raise StoreError("corrupt", f"{self._path}: {error.reason}: {_LEFT}") from error
        if isinstance(error, DamagedError):
            raise StoreError("corrupt", f"{self._path}: its checkpoint {error}: {_LEFT}") from error
        if isinstance(error, OSError):
            fault, advice = _ADVICE[_ERRNOS.get(error.errno or 0, "SQLITE_IOERR")]
            raise StoreError(fault, f"{error.filename or self._path}: {error.strerror}: {advice}") from error
        if not isinstance(error, sqlite3.Error):
            return
        name = getattr(error, "sqlite_errorname", "")
        fault, advice = next(
            (known for prefix, known in _ADVICE.items() if name.startswith(prefix)),
            _ADVICE["SQLITE_IOERR"],
        )
        raise StoreError(fault, f"{self._path}: {error}: {advice}") from error


_LEFT = "nothing was changed; restore all of the directory (state.*) from a backup, or move it away to start anew"
_ADVICE: Mapping[str, tuple[Fault, str]] = {
    "SQLITE_BUSY": ("locked", "another process uses this state.path; every exporter needs its own"),
    "SQLITE_FULL": ("full", "make room on the disk; events are taken again as soon as there is some"),
    "SQLITE_READONLY": ("read_only", "state.path must be writable for the user that the exporter runs as"),
    "SQLITE_CANTOPEN": ("read_only", "state.path must be a directory that the exporter's user may write to"),
    "SQLITE_PERM": ("read_only", "state.path must be writable for the user that the exporter runs as"),
    "SQLITE_CORRUPT": ("corrupt", _LEFT),
    "SQLITE_NOTADB": ("corrupt", _LEFT),
    "SQLITE_IOERR": ("io", "see the system's log for faults of the disk"),
}
_ERRNOS = {
    errno.ENOSPC: "SQLITE_FULL",
    errno.EDQUOT: "SQLITE_FULL",
    errno.EROFS: "SQLITE_READONLY",
    errno.EACCES: "SQLITE_PERM",
    errno.EPERM: "SQLITE_PERM",
}
