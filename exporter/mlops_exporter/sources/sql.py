"""Rows of a database as a source: those beyond a watermark, with an overlap for rows that were committed late."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import xxhash

from mlops_exporter.events import clock
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.settings.tables import SqlSettings
from mlops_exporter.sources.base import Health, Sink, deliver, finish
from mlops_exporter.sources.table import BODY_ROWS, ProfilesByModel, mapping_of
from mlops_exporter.tables.database import Database
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.mapping import Mapping

OVERLAP_ROWS = 100_000
"""Rows of the overlap that are remembered, so that they are not taken again."""

_log = logging.getLogger(__name__)

Cursor = date | int | float | str
"""A value of the cursor's column; a time is a date, too."""


class Watermark(msgspec.Struct):
    """How far the rows are durable, and which of those within the overlap: hash of each, and its place in order."""

    cursor: str | None = None
    seen: list[tuple[int, float]] = []

    @property
    def value(self) -> Cursor | None:
        """The cursor of the last row."""
        return None if self.cursor is None else _read(self.cursor)


class _Part(NamedTuple):
    body: bytes
    watermark: Watermark


def make(settings: SourceSettings, profiles: ProfilesByModel) -> "SqlSource":
    """Return the source of a configuration."""
    assert settings.sql is not None
    return SqlSource(settings.name, settings.sql, mapping_of(settings.sql, profiles))


class SqlSource:
    """The rows of a query, in the order of its cursor."""

    def __init__(self, name: str, settings: SqlSettings, mapping: Mapping) -> None:
        self.name = name
        self.health = Health(False, None, "not started")
        self._settings = settings
        self._mapping = mapping
        self._database = Database(settings)

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled."""
        position = sink.position(self.name)
        watermark = msgspec.msgpack.decode(position, type=Watermark) if position else Watermark()
        while True:
            fault = None
            parts = self._parts(watermark)
            try:
                while (part := await finish(asyncio.to_thread(next, parts, None))) is not None:
                    encoded = msgspec.msgpack.encode(part.watermark)
                    await deliver(sink, self.name, part.body, clock.now(), encoded)
                    watermark = part.watermark
                    self.health = Health(True, None, None)
            except TableError as error:
                fault = str(error)
                if fault != self.health.error:
                    _log.warning("source %s: %s", self.name, fault)
            self.health = Health(fault is None, None, fault)
            await asyncio.sleep(self._settings.interval)

    def _parts(self, watermark: Watermark) -> Iterator[_Part]:
        settings = self._settings
        condition = ""
        parameters: list[Any] = []
        if watermark.value is not None:
            condition = f" WHERE rows.{settings.cursor} >= {self._database.mark}"
            parameters = [_before(watermark.value, settings.overlap)]
        # nosec B608 - the query is the configuration's, and values go as parameters
        query = f"SELECT * FROM ({settings.query}) AS rows{condition} ORDER BY rows.{settings.cursor}"  # nosec B608
        with self._database.batches(query, parameters) as batches:
            for batch in batches:
                for start in range(0, batch.num_rows, BODY_ROWS):
                    rows = batch.slice(start, BODY_ROWS)
                    part = self._part(rows, watermark)
                    if part is not None:
                        watermark = part.watermark
                        yield part

    def _part(self, rows: Any, watermark: Watermark) -> _Part | None:
        if self._settings.cursor not in rows.schema.names:
            raise TableError(f"the query has no column {self._settings.cursor!r}")
        marks = rows.column(self._settings.cursor).to_pylist()
        telling = [self._settings.cursor, self._settings.columns.id]
        names = list(dict.fromkeys(telling)) if telling[1] in rows.schema.names else rows.schema.names
        columns = [rows.column(name).to_pylist() for name in names]
        keys = [xxhash.xxh64_intdigest(repr(row).encode()) for row in zip(*columns, strict=True)]
        known = {key for key, _ in watermark.seen}
        fresh = [key not in known and mark is not None for key, mark in zip(keys, marks, strict=True)]
        if not any(fresh):
            return None
        former = watermark.value
        latest = max([*(mark for mark in marks if mark is not None), *([] if former is None else [former])])
        oldest = _order(_before(latest, self._settings.overlap))
        new = [(key, _order(mark)) for key, mark, is_new in zip(keys, marks, fresh, strict=True) if is_new]
        seen = [(key, order) for key, order in [*watermark.seen, *new] if order >= oldest][-OVERLAP_ROWS:]
        return _Part(self._mapping.events(rows.filter(pa.array(fresh))), Watermark(_written(latest), seen))


def _before(cursor: Cursor, seconds: float) -> Any:
    """Return where to read on from: a time less the overlap; numbers and texts have none but their equals."""
    return cursor - timedelta(seconds=seconds) if isinstance(cursor, date) else cursor


def _order(cursor: Cursor) -> float:
    """Return a number that ascends as the cursor does, as far as its first bytes tell."""
    if isinstance(cursor, datetime):
        return cursor.replace(tzinfo=cursor.tzinfo or UTC).timestamp()
    if isinstance(cursor, date):
        return float(cursor.toordinal())
    return float(int.from_bytes(cursor.encode()[:64].ljust(64, b"\0"))) if isinstance(cursor, str) else float(cursor)


def _written(cursor: Cursor) -> str:
    if isinstance(cursor, date):
        return f"{type(cursor).__name__} {cursor.isoformat()}"
    return f"{type(cursor).__name__} {cursor}"


def _read(text: str) -> Cursor:
    kind, _, value = text.partition(" ")
    return _KINDS[kind](value)


_KINDS: dict[str, Callable[[str], Cursor]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "int": int,
    "float": float,
    "str": str,
}
