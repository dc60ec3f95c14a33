"""Tables from files, a block of columns at a time, so that a file larger than memory can be read."""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

Block = dict[str, list[object]]
"""Columns of one length. Cells of a CSV file are texts, others have the types of their file; None is missing."""

BLOCK_ROWS = 2_000


class TableError(Exception):
    """A table that cannot be read; the message names the file and says what would be right."""


def is_typed(path: Path) -> bool:
    """Whether the cells of the file have types, as in events; in CSV all are texts."""
    return _kind(path) != ".csv"


def read_blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a CSV, NDJSON or Parquet file, told apart by its suffix; `.gz` may follow the first two."""
    kind = _kind(path)
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    if kind == ".csv":
        return _readable(path, _csv_blocks(path))
    if kind in (".ndjson", ".jsonl", ".json"):
        return _readable(path, _ndjson_blocks(path))
    if kind in (".parquet", ".pq"):
        return _parquet_blocks(path)
    raise TableError(f"{path}: cannot tell its format; name it .csv, .ndjson (either with .gz) or .parquet")


def _readable(path: Path, blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield the blocks; what is wrong with the bytes of the file becomes a TableError."""
    try:
        yield from blocks
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8: {error.reason}; convert it, for example with iconv") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(f"{path}: not a gzip file, or cut short: {error}") from error
    except csv.Error as error:
        raise TableError(f"{path}: not CSV: {error}") from error


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else suffixes[-1] if suffixes else ""


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _csv_blocks(path: Path) -> Iterator[Block]:
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text)
        header = next(reader, None)
        if not header:
            raise TableError(f"{path}: empty; the first line must name the columns")
        if len(set(header)) != len(header):
            raise TableError(f"{path}:1: column names must differ from each other")
        rows: list[list[str]] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise TableError(f"{path}:{reader.line_num}: {len(row)} cells, but the header names {len(header)}")
            rows.append(row)
            if len(rows) == BLOCK_ROWS:
                yield _columns(header, rows)
                rows = []
        if rows:
            yield _columns(header, rows)


def _columns(header: list[str], rows: list[list[str]]) -> Block:
    return {name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _ndjson_blocks(path: Path) -> Iterator[Block]:
    """Yield blocks of flat objects, or of events, whose `features` then count as columns too."""
    decoder = msgspec.json.Decoder(dict[str, object])
    with _open(path) as file:
        rows: list[dict[str, object]] = []
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = decoder.decode(line.removeprefix(codecs.BOM_UTF8))
            except msgspec.DecodeError as error:
                raise TableError(f"{path}:{number}: not a JSON object, one on each line: {error}") from error
            rows.append(_flat(row))
            if len(rows) == BLOCK_ROWS:
                yield _gather(rows)
                rows = []
        if rows:
            yield _gather(rows)


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


def _gather(rows: list[dict[str, object]]) -> Block:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet_blocks(path: Path) -> Iterator[Block]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise TableError(f"{path}: Parquet needs pyarrow: pip install 'mlops-exporter[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BLOCK_ROWS):
                yield batch.to_pydict()
    except pyarrow.ArrowException as error:
        raise TableError(f"{path}: not a Parquet file: {error}") from error
