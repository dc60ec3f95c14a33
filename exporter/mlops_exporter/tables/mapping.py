"""Rows of a table as events: the columns that events have, as an Arrow IPC stream that the intake decodes."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.profile import arrays
from mlops_exporter.profile.arrays import distinct, doubles, is_number, is_text, usual, valid
from mlops_exporter.profile.profile import Task
from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.tables import ColumnSettings
from mlops_exporter.tables import cells
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.times import first_odd, in_zone, parsed

_LISTS = {
    "ranking": {"prediction": "prediction", "label": "label", "score": "scores", "categories": "categories"},
    "multilabel": {"prediction": "prediction", "label": "label"},
}
"""Of models whose cells hold lists, the columns that do, and the members of an event that they become."""

_LONGEST_SHOWN = 60


class Mapping:
    """How rows become events of one model. `numeric` and `features` are the features of its profile.

    The rows of some tasks hold lists.
    """

    def __init__(
        self,
        model: str,
        columns: ColumnSettings,
        timezone: str,
        features: Collection[str],
        numeric: Collection[str],
        task: Task | None = None,
    ) -> None:
        self._model = model
        self._columns = columns
        self._timezone = timezone
        self._features = features
        self._numeric = frozenset(numeric)
        self._lists = _LISTS.get(task or "", {})

    def events(self, batch: Any, first: int = 1) -> bytes:
        """Return the rows of a batch, numbered from `first`, as an Arrow stream of events. Raises TableError."""
        return self.as_stream(self.columns(batch, first))

    def as_stream(self, rows: Any) -> bytes:
        """Return columns of events, a batch or a table, as an Arrow stream."""
        rows = rows.replace_schema_metadata({"model": self._model})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write(rows)
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def columns(self, batch: Any, first: int = 1) -> Any:
        """Return the rows of a batch, numbered from `first`, as columns of events.

        Raises TableError where a column is missing or unfit.
        """
        try:
            return self._columns_of(_Rows(batch, first))
        except pa.ArrowException as error:
            raise TableError(f"not the columns that are configured: {str(error).splitlines()[0]}") from error

    def _columns_of(self, rows: "_Rows") -> Any:
        columns = self._columns
        found: dict[str, Any] = {}
        lists = self._lists
        for name, member in lists.items():
            if (column := getattr(columns, name)) is not None:
                found[member] = rows.of(column)
        for name in ("id", "version", "prediction", "label", "horizon", "series"):
            if name not in lists and (column := getattr(columns, name)) is not None:
                found[name] = plain(rows.single(column, name))
        for name in ("score", "latency_seconds", "naive"):
            if name not in lists and (column := getattr(columns, name)) is not None:
                found[name] = _number(rows.single(column, name))
        if columns.error is not None:
            found["error"] = _text(rows.single(columns.error, "error"))
        for name in ("ts", "target_ts"):
            if (column := getattr(columns, name)) is not None:
                found[name] = in_zone(rows.times(column), self._timezone)
        for nested, each, of in (
            ("scores", "a score", columns.scores),
            ("outcomes", "an outcome", columns.outcomes),
            ("quantiles", "a quantile", columns.quantiles),
        ):
            if of:
                found[nested] = _struct({name: _number(rows.single(column, each)) for name, column in of.items()})
        if columns.groups:
            found["groups"] = _struct({name: plain(rows.single(c, "a group")) for name, c in columns.groups.items()})
        wanted = columns.features
        if wanted is None:
            wanted = {name: name for name in self._features if name in rows.names}
        if wanted:
            found["features"] = _struct({name: self._feature(name, rows.of(c)) for name, c in wanted.items()})
        return pa.RecordBatch.from_arrays(list(found.values()), list(found))

    def _feature(self, name: str, column: Any) -> Any:
        return _number(column) if name in self._numeric else plain(column)


class _Rows:
    """The columns of a batch by name; `first` is the number of its first row."""

    def __init__(self, batch: Any, first: int) -> None:
        self.names: list[str] = batch.schema.names
        self._batch = batch
        self._first = first

    def of(self, name: str) -> Any:
        """Return a column. Raises TableError where there is none of that name."""
        if name not in self.names:
            raise TableError(f"no column {name!r}; there are {', '.join(self.names)}")
        return usual(self._batch.column(name))

    def single(self, name: str, role: str) -> Any:
        """Return a column whose cells are one value each. Raises TableError where one is a list or an object."""
        column = self.of(name)
        if cells.is_several(column.type):
            wrong = valid(column.field(2))
        elif pa.types.is_nested(column.type) and not pa.types.is_dictionary(column.type):
            wrong = valid(column)
        else:
            return column
        if wrong.any():
            row = self._first + int(wrong.argmax())
            raise TableError(
                f"row {row}, column {name!r}: a list or an object, but {role} is one value: a text or a number"
            )
        return column

    def times(self, name: str) -> Any:
        """Return a column of times; texts are parsed. Raises TableError, which names the first that is none."""
        column = self.single(name, "a column of times")
        if not is_text(column.type):
            return column
        texts = arrays.plain(column)
        if (found := parsed(texts)) is not None:
            return found
        place = first_odd(texts)
        text = texts[place].as_py()
        shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
        before = "" if place == texts.is_valid().index(True).as_py() else " like those before"
        raise TableError(
            f"row {self._first + place}, column {name!r}: {shown!r} is no time{before}: write all as "
            "2026-11-01T12:00:00Z, all without a zone, or all as Unix seconds"
        )


def _struct(members: dict[str, Any]) -> Any:
    return pa.StructArray.from_arrays(list(members.values()), list(members))


def _number(column: Any) -> Any:
    """Return numbers, infinity for what is none; texts are read as numbers."""
    if is_number(column.type) and not pa.types.is_dictionary(column.type):
        return doubles(column)
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
