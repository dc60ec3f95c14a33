"""Arrow IPC streams by rows: what each is found by, and streams of some of them, so that they can be passed on."""

from collections.abc import Generator, Iterable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops_exporter.arrays import Ints
from mlops_exporter.events.addresses import address
from mlops_exporter.events.arrow import UNREADABLE, read_steps, words_of
from mlops_exporter.events.texts import hold
from mlops_exporter.profile.arrays import distinct, is_number, is_text, usual


class Stream(NamedTuple):
    """The rows of a stream that can be read, and their addresses, None for none. `fault` is why no more can be."""

    table: Any
    addresses: list[str | None]
    fault: str | None

    def of(self, rows: Ints) -> bytes:
        """Return a stream of the rows of these numbers, from 0."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table.take(pa.array(rows)).combine_chunks())
        data: bytes = sink.getvalue().to_pybytes()
        return data


def read(body: bytes, limit: int | None) -> Generator[None, None, Stream]:
    """Read a stream, pausing after each of its batches; raises TooManyEventsError for more rows than `limit`."""
    batches: list[Any] = []
    fault = None
    try:
        yield from read_steps(body, 0, batches)
    except UNREADABLE as error:
        fault = words_of(error)
    rows = sum(batch.num_rows for batch in batches)
    hold(rows, limit)
    if not rows:
        return Stream(None, [], fault)
    try:
        table = _usual(pa.Table.from_batches(batches).combine_chunks())
        pairs = zip(_values(table, "id"), _values(table, "series"), strict=True)
        known: dict[tuple[Any, Any], str | None] = {}
        addresses = [known[pair] if pair in known else known.setdefault(pair, address(*pair)) for pair in pairs]
        table.slice(0, 1).take(pa.array([0]))  # of each type rows can be taken
    except UNREADABLE as error:
        return Stream(None, [], words_of(error))
    return Stream(table, addresses, fault)


def _usual(table: Any) -> Any:
    """Return a table whose columns are as decoders look at them."""
    columns = [usual(column.chunk(0)) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names).replace_schema_metadata(table.schema.metadata)


def _values(table: Any, name: str) -> Iterable[Any]:
    """Return the values of a column, None for those of one that is absent, or no texts and no numbers."""
    column = table.column(name) if table.column_names.count(name) == 1 else None
    if column is None or not (is_number(column.type) or is_text(column.type)):
        return repeat(None, table.num_rows)
    values, which = distinct(column.combine_chunks())
    found: list[Any] = np.array([*values, None], np.object_)[which].tolist()
    return found
