"""The files of a table as Arrow batches, one file after the other, in one thread and bounded memory."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mlops_exporter.profile.arrays import usual
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import File
from mlops_exporter.tables.reading import DEFAULT, Reading

BATCH_ROWS = 16_384
"""Rows of a batch, at most."""

_CSV_BYTES = 1 * 1024 * 1024
_BYTES_OF_A_CODE = 3
_LINES = 16_384  # of NDJSON, at most, that are turned to columns together

NUMBER, TEXT, OTHER = "\0number", "\0text", "\0other"
"""Members of a struct that stands for a column of NDJSON whose values are of several types."""

_MEMBERS = (NUMBER, TEXT, OTHER)
_OTHER_DELIMITERS = (";", "\t", "|")
_MARKS_OF_ORDER = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_MARKS_OF_FORMATS = (
    (b"\x1f\x8b", "compressed by gzip", "name it ….gz"),
    (b"BZh", "compressed by bzip2", "name it ….bz2"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "name it ….zst"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "save it as CSV"),
    (b"PAR1", "Parquet", "name it ….parquet"),
    (b"ARROW1", "an Arrow file", "name it ….arrow"),
)
_WITH_COMMA = r"^([+-]?[0-9]*),([0-9]+(?:[eE][+-]?[0-9]+)?)$"


def batches(file: File, reading: Reading = DEFAULT) -> Iterator[Any]:
    """Yield the batches of a file, partitions of its path as columns of texts; null where a value is missing.

    Raises TableError.
    """
    with _readable(file):
        if file.format == "csv":
            for batch in _csv(file, reading):
                yield _with_partitions(batch, file)
            return
        missing = pa.array(reading.missing, pa.string())
        for batch in _READERS[file.format](file, reading):
            _need_names(batch.schema.names, file.place)
            yield _with_partitions(_without(batch, missing), file)


def _need_names(names: Sequence[str], place: str) -> None:
    """Raise TableError where two columns have one name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(
            f"{place}: column names must differ from each other, but these are there twice: {', '.join(twice)}"
        )


def _wanted(names: Sequence[str], file: File, reading: Reading) -> list[str] | None:
    """Return which of the columns of a file are to be read, None for all."""
    if reading.columns is None or not reading.required <= {*names, *file.partitions}:
        return None
    return [name for name in names if name in reading.columns] or None


def _need_text(start: bytes, file: File) -> None:
    """Raise TableError where the first bytes are those of another format."""
    for mark, what, ending in _MARKS_OF_FORMATS:
        if start.startswith(mark):
            raise TableError(f"{file.place}: it is {what}, not a text: {ending}")


def _without(batch: Any, missing: Any) -> Any:
    """Return a batch with null for texts that mean a missing value."""
    columns = [_null_for(usual(column), missing) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _null_for(column: Any, missing: Any) -> Any:
    kind = column.type
    if pa.types.is_struct(kind) and [kind.field(index).name for index in range(kind.num_fields)] == [*_MEMBERS]:
        members = [column.field(0), _null_for(column.field(1), missing), column.field(2)]
        return pa.StructArray.from_arrays(members, [*_MEMBERS])
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return column
        values = _null_for(column.dictionary, missing)
        return pa.DictionaryArray.from_arrays(column.indices, values) if values.null_count else column
    if not _is_text(kind):
        return column
    found = pc.is_in(column, missing.cast(kind))
    return pc.if_else(found, pa.scalar(None, kind), column) if found.true_count else column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def rows_of(file: File) -> int | None:
    """Return how many rows a file has, None where only reading all of it would tell."""
    if file.format != "parquet":
        return None
    with _readable(file), file.filesystem.open_input_file(file.path) as source:
        return int(pq.ParquetFile(source).metadata.num_rows)


_ENCODINGS = "a CSV file of older programs is read with --encoding latin-1 or cp1252"


@contextmanager
def _readable(file: File) -> Iterator[None]:
    """Turn what is wrong with a file into a TableError."""
    try:
        yield
    except (UnicodeDecodeError, LookupError) as error:
        raise TableError(f"{file.place}: not UTF-8: {getattr(error, 'reason', error)}; {_ENCODINGS}") from error
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        if "UTF8" in reason or "UTF-8" in reason:
            raise TableError(f"{file.place}: not UTF-8: {reason}; {_ENCODINGS}") from error
        raise TableError(f"{file.place}: not a readable {_TITLES[file.format]} file: {reason}") from error
    except OSError as error:
        what = "not a compressed file, or cut short" if file.compressed else "cannot be read"
        raise TableError(f"{file.place}: {what}: {str(error).splitlines()[0]}") from error


def _with_partitions(batch: Any, file: File) -> Any:
    for name, value in file.partitions.items():
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
    return batch


def _parquet(file: File, reading: Reading) -> Iterator[Any]:
    options = {"pre_buffer": not file.is_local, "buffer_size": 1 << 20}
    with file.filesystem.open_input_file(file.path) as source:
        with pq.ParquetFile(source, **options) as parquet:
            metadata = parquet.metadata
            names = parquet.schema_arrow.names
            _need_names(names, file.place)
            wanted = _wanted(names, file, reading)
            texts = [field.name for field in parquet.schema_arrow if _is_text(field.type)]
        texts = [name for name in texts if _repeats(metadata, name)]
        with pq.ParquetFile(source, metadata=metadata, read_dictionary=texts, **options) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                columns = [_short(column) for column in batch.columns]
                yield pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _repeats(metadata: Any, name: str) -> bool:
    """Return whether a column's texts are written as codes: a dictionary of ids costs much to make, and says nothing.

    Codes take two or three bytes each at most, and the dictionary little beside them.
    """
    if not metadata.num_row_groups:
        return False
    places = {metadata.schema.column(place).path: place for place in range(metadata.num_columns)}
    if name not in places:
        return False
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    taken = sum(group.column(places[name]).total_uncompressed_size for group in groups)
    return bool(taken <= _BYTES_OF_A_CODE * metadata.num_rows)


def _short(column: Any) -> Any:
    """Return a column of texts as codes only where that says it in fewer: a dictionary is of many batches."""
    if not pa.types.is_dictionary(column.type) or 2 * len(column.dictionary) <= len(column):
        return column
    return column.dictionary_decode() if _is_text(column.type.value_type) else column


def _arrow(file: File, reading: Reading) -> Iterator[Any]:
    with file.filesystem.open_input_file(file.path) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            with pa.ipc.open_stream(source) as stream:
                yield from stream
            return
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _csv(file: File, reading: Reading) -> Iterator[Any]:
    """Yield batches whose columns are all texts, null where a text means that a value is missing."""
    header = _header(file, reading)
    broken: list[TableError] = []

    def refuse(row: Any) -> str:
        line = "" if row.number is None else f":{row.number}"
        broken.append(
            TableError(f"{file.place}{line}: {row.actual_columns} cells, but the header names {row.expected_columns}")
        )
        return "error"

    try:
        with (
            file.stream() as stream,
            pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(use_threads=False, block_size=_CSV_BYTES, encoding=reading.encoding),
                pyarrow.csv.ParseOptions(
                    delimiter=reading.delimiter or ",", newlines_in_values=True, invalid_row_handler=refuse
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.string()),
                    include_columns=_wanted(header, file, reading),
                    null_values=list(reading.missing),
                    strings_can_be_null=True,
                ),
            ) as reader,
        ):
            for batch in reader:
                yield batch if reading.decimal == "." else _with_points(batch)
    except pa.ArrowException as error:
        if broken:
            raise broken[0] from error
        if str(error).startswith("CSV parse error: Empty CSV file"):
            return
        raise


def _with_points(batch: Any) -> Any:
    """Return a batch of texts in which numbers with a decimal comma have a point."""
    columns = [pc.replace_substring_regex(column, _WITH_COMMA, r"\1.\2") for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _header(file: File, reading: Reading) -> list[str]:
    with file.stream() as stream:
        start = stream.read(1 << 20)
    _need_text(start, file)
    encoding = "utf-8-sig" if reading.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else reading.encoding
    if encoding == "utf-8-sig":
        for mark, name in _MARKS_OF_ORDER:
            if start.startswith(mark):
                raise TableError(f"{file.place}: it is {name}, not UTF-8: --encoding {name} reads it")
    text = codecs.getincrementaldecoder(encoding)().decode(start)
    header = next(csv.reader(io.StringIO(text, newline=""), delimiter=reading.delimiter or ","), None)
    if not header:
        raise TableError(f"{file.place}: empty; the first line must name the columns")
    if len(header) == 1 and reading.delimiter is None:
        for other in _OTHER_DELIMITERS:
            if other in header[0]:
                said = {"\t": r"$'\t'"}.get(other, f"'{other}'")
                raise TableError(
                    f"{file.place}:1: no comma, but {other!r} between the names of columns: --delimiter {said} reads it"
                )
    _need_names(header, f"{file.place}:1")
    return header


def _ndjson(file: File, reading: Reading) -> Iterator[Any]:
    """Yield batches of flat objects, or of events, whose `features` then count as columns too."""
    decoder = msgspec.json.Decoder(dict[str, object])
    rows: list[dict[str, object]] = []
    with file.stream() as stream, io.BufferedReader(stream, 1 << 20) as lines:
        _need_text(lines.peek(8), file)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            line = line.removeprefix(codecs.BOM_UTF8)
            try:
                row = decoder.decode(line)
            except msgspec.DecodeError as error:
                row = _leniently(line, f"{file.place}:{number}", error)
            rows.append(_flat(row))
            if len(rows) == _LINES:
                yield gathered(rows)
                rows = []
        if rows:
            yield gathered(rows)


def _leniently(line: bytes, place: str, error: msgspec.DecodeError) -> dict[str, object]:
    """Return an object in which numbers may be NaN or infinite, as in events. Raises TableError, from `error`."""
    if line.lstrip().startswith(b"["):
        raise TableError(f"{place}: a JSON array: write one object on each line, as jq -c '.[]' does") from error
    try:
        row = json.loads(line.decode())
        json.dumps(row, ensure_ascii=False).encode()  # lone surrogates are no text
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise TableError(f"{place}: not a JSON object, one on each line: {error}") from error
    return row


def _flat(row: dict[str, object]) -> dict[str, object]:
    """Return the columns of an object: its members, or of an event its features and outcomes."""
    features = row.get("features")
    if not isinstance(features, dict):
        return row
    scores, groups = row.get("scores"), row.get("groups")
    return {
        **{name: row.get(name) for name in ("prediction", "score", "label") if name in row},
        **(scores if isinstance(scores, dict) else {}),
        **(groups if isinstance(groups, dict) else {}),
        **features,
    }


def gathered(rows: list[dict[str, object]]) -> Any:
    """Return rows as a batch, a column for each name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.RecordBatch.from_arrays([_array([row.get(name) for row in rows]) for name in names], list(names))


def _array(cells: list[object]) -> Any:
    """Return an array of cells; whole numbers beside others are numbers like these."""
    kinds = set(map(type, cells)) - {type(None)}
    if kinds and kinds <= {int, float}:
        try:
            if kinds == {int}:
                return pa.array(cells, pa.int64())
            return pa.array([cell if cell is None else float(cast(float, cell)) for cell in cells], pa.float64())
        except (OverflowError, pa.ArrowException):
            pass
    elif kinds <= {str}:
        return pa.array(cells, pa.string() if kinds else pa.null())
    elif kinds == {bool}:
        return pa.array(cells, pa.bool_())
    elif kinds == {list}:
        for kind in (pa.float64(), pa.string()):
            try:
                return pa.array(cells, pa.list_(kind))
            except (TypeError, ValueError, OverflowError, pa.ArrowException):
                pass
    return _several(cells)


def _several(cells: Sequence[object]) -> Any:
    numbers: list[float | None] = []
    texts: list[str | None] = []
    others: list[bool | None] = []
    for cell in cells:
        number, text, other = None, None, None
        if isinstance(cell, bool):
            text = "true" if cell else "false"
        elif isinstance(cell, str):
            text = cell
        elif isinstance(cell, int | float):
            try:
                number = float(cell)
            except OverflowError:
                text = str(cell)
        elif cell is not None:
            other = True
        numbers.append(number)
        texts.append(text)
        others.append(other)
    return pa.StructArray.from_arrays(
        [pa.array(numbers, pa.float64()), pa.array(texts, pa.string()), pa.array(others, pa.bool_())],
        [NUMBER, TEXT, OTHER],
    )


_READERS = {"ndjson": _ndjson, "parquet": _parquet, "arrow": _arrow}
_TITLES = {"csv": "CSV", "ndjson": "NDJSON", "parquet": "Parquet", "arrow": "Arrow"}
