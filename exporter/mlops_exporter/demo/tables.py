"""Small tables as CSV files, plain or gzipped, held as one NumPy array per column."""

import csv
import gzip
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Ints

DATA = Path(__file__).parent / "data"

Table = Mapping[str, NDArray[Any]]


def read_table(path: Path, text: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the columns of a CSV file with a header, each of shape (rows,).

    Columns named in `text` are strings, all others float64 with NaN for an empty cell.
    """
    raw = path.read_bytes()
    content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    header, *rows = csv.reader(io.StringIO(content.decode()))
    columns = zip(*rows, strict=True)
    return {
        name: np.array(cells) if name in text else np.array([cell or "nan" for cell in cells]).astype(np.float64)
        for name, cells in zip(header, columns, strict=True)
    }


def write_table(path: Path, table: Table) -> None:
    """Write the columns as CSV; NaN becomes an empty cell. The same table always gives the same bytes."""
    columns = [[_cell(value) for value in column.tolist()] for column in table.values()]
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*columns, strict=True))
    raw = content.getvalue().encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def take(table: Table, rows: Ints | Flags) -> dict[str, NDArray[Any]]:
    """Return the chosen rows, by index or by mask."""
    return {name: column[rows] for name, column in table.items()}


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{value:.10g}"
