"""A small table as lists of Python values, for what goes on row by row: to an endpoint, as JSON."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mlops_exporter.profile.arrays import doubles
from mlops_exporter.settings.tables import QuerySettings
from mlops_exporter.tables.cells import is_several
from mlops_exporter.tables.database import Database
from mlops_exporter.tables.table import Table


def lists(rows: str | QuerySettings) -> tuple[Iterator[dict[str, list[Any]]], bool]:
    """Return columns, batch by batch, and whether cells have types; without, all are texts, and "" is missing.

    `rows` are those of files at a place, or of a query. Raises TableError.
    """
    if isinstance(rows, QuerySettings):
        return _asked(rows), True
    table = Table.at([rows])
    return _batches(table), table.typed


def _asked(settings: QuerySettings) -> Iterator[dict[str, list[Any]]]:
    with Database(settings).batches(settings.query) as batches:
        for batch in batches:
            yield {
                name: _values(column, typed=True)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }


def _batches(table: Table) -> Iterator[dict[str, list[Any]]]:
    for batch in table.batches():
        columns = zip(batch.schema.names, batch.columns, strict=True)
        yield {name: _values(column, typed=table.typed) for name, column in columns}


def _values(column: Any, *, typed: bool) -> list[Any]:
    if not typed:
        return ["" if cell is None else cell for cell in column.to_pylist()]
    if is_several(column.type):
        numbers, texts, _ = (member.to_pylist() for member in column.flatten())
        return [text if number is None else number for number, text in zip(numbers, texts, strict=True)]
    if pa.types.is_decimal(column.type):
        column = doubles(column)
    return list(column.to_pylist())
