"""A table for whoever sends it to an exporter: batches in types that events have, as often as they are asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from mlops_exporter.tables.mapping import plain
from mlops_exporter.tables.reading import Reading
from mlops_exporter.tables.table import Table


class Pushed:
    """The rows at some places. `untyped` tells whether texts may be numbers, as in CSV and JSON."""

    def __init__(self, places: Sequence[str], reading: Reading) -> None:
        """Look for the files; raises TableError."""
        self._table = Table.at(places, reading=reading)
        self.untyped = not self._table.typed or any(file.format == "ndjson" for file in self._table.files)

    def rows(self) -> int | None:
        """Return how many rows there are, None where only reading all of them would tell."""
        return self._table.rows()

    def to_batches(self) -> Iterator[Any]:
        """Yield the rows from the first on; raises TableError."""
        for batch in self._table.batches():
            yield pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], batch.schema.names)


def names_at(place: str) -> list[str]:
    """Return the names of the columns of the rows at a place; raises TableError."""
    batch = next(Table.at([place]).batches(), None)
    return [] if batch is None else list(batch.schema.names)
