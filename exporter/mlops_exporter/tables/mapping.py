"""Rows of a table as events: the columns that events have, as an Arrow IPC stream that the intake decodes."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.profile.arrays import distinct, is_number, is_text, usual
from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.tables import ColumnSettings
from mlops_exporter.tables import cells
from mlops_exporter.tables.errors import TableError


class Mapping:
    """How rows become events of one model. `numeric` and `features` are the features of its profile."""

    def __init__(
        self, model: str, columns: ColumnSettings, timezone: str, features: Collection[str], numeric: Collection[str]
    ) -> None:
        self._model = model
        self._columns = columns
        self._timezone = timezone
        self._features = features
        self._numeric = frozenset(numeric)

    def events(self, batch: Any) -> bytes:
        """Return the rows of a batch as an Arrow stream of events. Raises TableError where a column is not there."""
        return self.as_stream(self.columns(batch))

    def as_stream(self, rows: Any) -> bytes:
        """Return columns of events, a batch or a table, as an Arrow stream."""
        rows = rows.replace_schema_metadata({"model": self._model})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write(rows)
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def columns(self, batch: Any) -> Any:
        """Return the rows of a batch as columns of events. Raises TableError where a column is missing or unfit."""
        try:
            return self._columns_of(batch)
        except pa.ArrowException as error:
            raise TableError(f"not the columns that are configured: {str(error).splitlines()[0]}") from error

    def _columns_of(self, batch: Any) -> Any:
        columns = self._columns
        found: dict[str, Any] = {}
        for name in ("id", "version", "prediction", "label"):
            if (column := getattr(columns, name)) is not None:
                found[name] = plain(self._of(batch, column))
        for name in ("score", "latency_seconds"):
            if (column := getattr(columns, name)) is not None:
                found[name] = _number(self._of(batch, column))
        if columns.error is not None:
            found["error"] = _text(self._of(batch, columns.error))
        if columns.ts is not None:
            found["ts"] = _time(self._of(batch, columns.ts), self._timezone)
        if columns.scores:
            found["scores"] = _struct({name: _number(self._of(batch, c)) for name, c in columns.scores.items()})
        if columns.groups:
            found["groups"] = _struct({name: plain(self._of(batch, c)) for name, c in columns.groups.items()})
        wanted = columns.features
        if wanted is None:
            wanted = {name: name for name in self._features if name in batch.schema.names}
        if wanted:
            found["features"] = _struct({name: self._feature(name, self._of(batch, c)) for name, c in wanted.items()})
        return pa.RecordBatch.from_arrays(list(found.values()), list(found))

    def _of(self, batch: Any, name: str) -> Any:
        if name not in batch.schema.names:
            raise TableError(f"no column {name!r}; there are {', '.join(batch.schema.names)}")
        return usual(batch.column(name))

    def _feature(self, name: str, column: Any) -> Any:
        return _number(column) if name in self._numeric else plain(column)


def _struct(members: dict[str, Any]) -> Any:
    return pa.StructArray.from_arrays(list(members.values()), list(members))


def _number(column: Any) -> Any:
    """Return numbers, infinity for what is none; texts are read as numbers."""
    if is_number(column.type) and not pa.types.is_dictionary(column.type):
        return column.cast(pa.float64(), safe=False)
    if cells.is_vector(column.type):
        return column
    values = cells.numbers(column, typed=False)
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def plain(column: Any) -> Any:
    """Return a column in a type that events have: what was of several types as texts."""
    if not cells.is_several(column.type):
        return usual(column)
    values, which = distinct(column.field(0))
    names = np.array([*map(canonical, values), None], np.object_)[which]
    return pc.coalesce(column.field(1), pa.array(names, pa.string()))


def _text(column: Any) -> Any:
    """Return texts, whatever they were; null for empty ones."""
    column = plain(column).cast(pa.string())
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _time(column: Any, timezone: str) -> Any:
    """Return times with a zone, or numbers as they are, which are Unix seconds."""
    if is_text(column.type):
        column = _parsed(column)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="earliest")
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", "UTC"), safe=False)
    return column if not pa.types.is_decimal(column.type) else column.cast(pa.float64(), safe=False)


def _parsed(column: Any) -> Any:
    """Return texts as times; all of them have a zone, or none has."""
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    finest = [pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in ("UTC", None)]
    for kind in (*finest, pa.float64()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    raise TableError("ts: not all are times, as in 2026-11-01T12:00:00Z or Unix seconds")
