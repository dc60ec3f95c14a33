"""Tables as logs of events: their rows in the order of time, without any Python per row.

A file is read batch by batch, and sorted as far as it may be out of order; files that begin later are opened later.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_exporter.arrays import Floats
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS, Reason
from mlops_exporter.tables.captured import batches
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import File
from mlops_exporter.tables.mapping import Mapping
from mlops_exporter.tables.reading import Reading

BODY_ROWS = 4096
"""Rows of a body: as many as are decoded together."""

_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class RowLog:
    """One file. `refused` counts rows without a usable time, which are left out."""

    def __init__(
        self,
        file: File,
        mapping: Mapping,
        reading: Reading,
        lateness: float,
        now: float,
        refused: "Counter[Reason]",
    ) -> None:
        self._file = file
        self._mapping = mapping
        self._reading = reading
        self._lateness = lateness
        self._latest = now + CLOCK_SKEW_SECONDS
        self._refused = refused
        self._source: Iterator[tuple[Floats, Any]] | None = None
        self._over = False
        self._newest = -math.inf
        self._times = np.empty(0)
        self._rows: Any = None
        self._at = 0
        times, _ = next(self._events(Counter()), (np.empty(0), None))
        self.next = float(times.min()) if len(times) else -math.inf

    def open(self) -> None:
        """Read the beginning, so that `next` is known."""
        self._read_ahead(-math.inf)

    def take(self, until: float) -> tuple[Floats, Iterator[bytes]]:
        """Return the times, ascending, of rows up to `until` that were not taken yet, and the rows as bodies."""
        if self.next > until + self._lateness:
            return self._times[:0], iter(())
        self._read_ahead(until + self._lateness)
        begin = self._at
        self._at = end = int(np.searchsorted(self._times, until, "right"))
        self._look()
        return self._times[begin:end], self._bodies(self._rows, begin, end)

    def _bodies(self, rows: Any, begin: int, end: int) -> Iterator[bytes]:
        for start in range(begin, end, BODY_ROWS):
            yield self._mapping.as_stream(rows.slice(start, min(BODY_ROWS, end - start)))

    def _read_ahead(self, time: float) -> None:
        """Read until a row is younger than `time`, at least one, and keep all in order."""
        if self._source is None and not self._over:
            self._source = self._events(self._refused)
        found = [(self._times[self._at :], self._rows.slice(self._at))] if self._rows is not None else []
        read = False
        while self._source is not None and (self._newest <= time or not sum(len(times) for times, _ in found)):
            more = next(self._source, None)
            if more is None:
                self._source, self._over = None, True
                break
            read = True
            self._newest = max(self._newest, float(more[0].max()))
            found.append(more)
        if read:
            self._times = np.concatenate([times for times, _ in found])
            self._rows = pa.concat_tables([rows for _, rows in found], promote_options="permissive").combine_chunks()
            self._at = 0
            if np.any(self._times[1:] < self._times[:-1]):
                order = np.argsort(self._times, kind="stable")
                self._times, self._rows = self._times[order], self._rows.take(pa.array(order)).combine_chunks()
        self._look()

    def _look(self) -> None:
        left = self._at < len(self._times)
        self.next = float(self._times[self._at]) if left else math.inf if self._over else self._newest

    def _events(self, refused: "Counter[Reason]") -> Iterator[tuple[Floats, Any]]:
        """Yield the times of rows, and the rows as events; raises TableError."""
        read = 0
        for batch in batches(self._file, self._reading):
            try:
                rows = pa.Table.from_batches([self._mapping.columns(batch, read + 1)])
            except TableError as error:
                raise TableError(f"{self._file.place}: {error}") from error
            read += batch.num_rows
            times = _seconds(rows, self._file.place)
            future = times > self._latest
            refused["bad_timestamp"] += int(np.count_nonzero(np.isnan(times)))
            refused["future_timestamp"] += int(np.count_nonzero(future))
            usable = ~(np.isnan(times) | future)
            if not usable.all():
                times, rows = times[usable], rows.filter(pa.array(usable))
            if len(times):
                yield times, rows


def _seconds(rows: Any, place: str) -> Floats:
    """Return when each row happened in Unix seconds, NaN where that is not known."""
    if "ts" not in rows.column_names:
        raise TableError(f"{place}: no column ts, which a replay goes by: --column ts=COLUMN names another")
    column = rows.column("ts").combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_timestamp(column.type):
        column = pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), _UNITS[column.type.unit])
    times = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    return np.where(times >= 0, times, np.nan)
