"""A table: the rows of its files as blocks of one size, so that within a part the files do not matter."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from mlops_exporter.profile.arrays import doubles
from mlops_exporter.tables import readers
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import File, find
from mlops_exporter.tables.reading import DEFAULT, Reading

BLOCK_ROWS = 16_384
"""Rows of a block: all of it is in memory, and what is counted of it is in the cache."""

PART_ROWS = 1 << 20
"""A part of a table ends with the file in which it gets so many rows.

Whoever shares a table out does so by parts. What is counted by parts is the same wherever they are counted.
"""


class Table:
    """The rows of files, in order. `told` hears how many rows have been read."""

    def __init__(
        self, files: Sequence[File], told: Callable[[int], None] | None = None, reading: Reading = DEFAULT
    ) -> None:
        self.files = list(files)
        self.reading = reading
        self._told = told

    @classmethod
    def at(
        cls, places: Sequence[str], told: Callable[[int], None] | None = None, reading: Reading = DEFAULT
    ) -> "Table":
        """Return the table at some places: files, globs, directories, here or in an object store."""
        return cls(find(places), told, reading)

    @property
    def typed(self) -> bool:
        """Whether cells have types, as in events; in CSV all are texts. Raises TableError where files disagree."""
        kinds = {file.format == "csv" for file in self.files}
        if len(kinds) > 1:
            odd = next(file for file in self.files if (file.format == "csv") != (self.files[0].format == "csv"))
            raise TableError(f"{odd.place}: CSV and files with types make no one table; convert one to the other")
        return not kinds.pop()

    def rows(self) -> int | None:
        """Return how many rows there are, None where only reading all of them would tell."""
        counts = [readers.rows_of(file) for file in self.files]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def batches(self) -> Iterator[Any]:
        """Yield the batches as the files have them."""
        for file in self.files:
            yield from readers.batches(file, self.reading)

    def blocks(self) -> Iterator[Any]:
        """Yield Arrow tables of BLOCK_ROWS rows, the last of a part of fewer; a column that its file lacks is null."""
        return chain.from_iterable(self.parts())

    def parts(self) -> Iterator[Iterator[Any]]:
        """Yield the blocks of each part, which are to be gone through before those of the next."""
        files = iter(self.files)
        for file in files:
            yield self._part(chain([file], files))

    def parts_of(self, rows: Sequence[int]) -> "list[Table]":
        """Return each part as a table, where it is known how many rows each file has."""
        parts: list[Table] = []
        size = PART_ROWS
        for file, count in zip(self.files, rows, strict=True):
            if size >= PART_ROWS:
                parts.append(Table([], reading=self.reading))
                size = 0
            parts[-1].files.append(file)
            size += count
        return parts

    def _part(self, files: Iterator[File]) -> Iterator[Any]:
        waiting: list[Any] = []
        rows = size = 0
        for file in files:
            for batch in readers.batches(file, self.reading):
                waiting.append(batch)
                rows += batch.num_rows
                size += batch.num_rows
                if rows >= BLOCK_ROWS:
                    whole = _joined(waiting, file)
                    full = rows - rows % BLOCK_ROWS
                    for start in range(0, full, BLOCK_ROWS):
                        yield self._tell(whole.slice(start, BLOCK_ROWS))
                    waiting = whole.slice(full).to_batches()
                    rows -= full
            if size >= PART_ROWS:
                break
        if rows:
            yield self._tell(_joined(waiting, file))

    def _tell(self, block: Any) -> Any:
        if self._told is not None:
            self._told(block.num_rows)
        return block


def _joined(batches: list[Any], file: File) -> Any:
    """Return batches as one table, numbers of several widths as the widest."""
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    schemas = {table.schema.remove_metadata() for table in tables}
    if len(schemas) > 1:
        tables = _alike(tables)
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise TableError(
            f"{file.place}: a column has another type than in the rows before: {str(error).splitlines()[0]}"
        ) from error


def _alike(tables: list[Any]) -> list[Any]:
    """Return tables with every column in one type: where numbers, texts and others meet, as structs of them."""
    kinds: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(_value_type(field.type))
    mixed = {name for name, types in kinds.items() if _disagree(types)}
    return [
        pa.table(
            {
                name: _several(column.combine_chunks()) if name in mixed else _plain(column)
                for name, column in zip(table.column_names, table.columns, strict=True)
            }
        )
        for table in tables
    ]


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(column: Any) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _class_of(kind: Any) -> str:
    if pa.types.is_struct(kind) and [kind.field(i).name for i in range(kind.num_fields)][:1] == [readers.NUMBER]:
        return "several"
    for name, test in (
        ("null", pa.types.is_null),
        ("number", lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t)),
        ("text", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)),
        ("boolean", pa.types.is_boolean),
    ):
        if test(kind):
            return name
    return str(kind)


def _disagree(types: set[Any]) -> bool:
    classes = {_class_of(kind) for kind in types} - {"null"}
    return len(classes) > 1 and classes <= {"number", "text", "boolean", "several"}


def _several(column: Any) -> Any:
    kind = _class_of(_value_type(column.type))
    if kind == "several":
        return column
    none = {readers.NUMBER: pa.float64(), readers.TEXT: pa.string(), readers.OTHER: pa.bool_()}
    members = {name: pa.nulls(len(column), type_) for name, type_ in none.items()}
    if kind == "number":
        members[readers.NUMBER] = doubles(column)
    elif kind != "null":
        members[readers.TEXT] = column.cast(pa.string())
    return pa.StructArray.from_arrays(list(members.values()), list(members))
