"""Tables as other programs write them: the same rows in another form are the same rows, anything else is told."""

import decimal
import gzip
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.sources.table import mapping_of, reading_of
from mlops_exporter.tables import readers
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import find

ROWS = 300
_RANDOM = np.random.default_rng(0)
AMOUNTS = np.round(_RANDOM.normal(size=ROWS), 2)
COUNTRIES = [str(name) for name in np.array(["DE", "FR"])[_RANDOM.integers(0, 2, ROWS)]]
SCORES = np.round(_RANDOM.random(ROWS), 3)
LABELS = (_RANDOM.random(ROWS) < SCORES).astype(int)
BYTES = [name.encode() for name in COUNTRIES]


def columns(**others: Any) -> dict[str, Any]:
    usual = {"amount": AMOUNTS, "country": COUNTRIES, "score": SCORES, "label": LABELS}
    return {
        name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in (usual | others).items()
    }


def request(path: Path, **more: Any) -> BuildRequest:
    return BuildRequest(path, "binary", label="label", scores={"1": "score"}, **more)


def built(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a profile says of the rows, and what is noted."""
    profile, notes = build(request(path))
    return {name: getattr(profile, name) for name in ("features", "label", "score", "performance")}, notes


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("plain") / "plain.parquet"
    pq.write_table(pa.table(columns()), path)
    return built(path)[0]


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write(table)


SAME: dict[str, dict[str, Any]] = {
    "codes": {"country": pa.array(COUNTRIES).dictionary_encode()},
    "codes of numbers": {
        "amount": pa.array(AMOUNTS).dictionary_encode(),
        "label": pa.array(LABELS).dictionary_encode(),
    },
    "large texts": {"country": pa.array(COUNTRIES, pa.large_string())},
    "bytes": {"country": pa.array(BYTES)},
    "large bytes": {"country": pa.array(BYTES, pa.large_binary())},
    "bytes of one length": {"country": pa.array(BYTES, pa.binary(2))},
    "codes of bytes": {"country": pa.array(BYTES).dictionary_encode()},
    "decimals": {"amount": pa.array([decimal.Decimal(str(value)) for value in AMOUNTS], pa.decimal128(12, 2))},
    "long decimals": {"amount": pa.array([decimal.Decimal(str(value)) for value in AMOUNTS], pa.decimal256(50, 2))},
    "small whole numbers": {"label": pa.array(LABELS, pa.int8())},
    "whole floats": {"label": pa.array(LABELS.astype(float))},
}


@pytest.mark.parametrize("form", [".parquet", ".arrow"])
@pytest.mark.parametrize("name", SAME)
def test_the_same_rows_in_another_form(name: str, form: str, plain: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / f"odd{form}", pa.table(columns(**SAME[name])))
    assert built(tmp_path / f"odd{form}") == (plain, [])


def _empty_groups(directory: Path) -> Path:
    table = pa.table(columns())
    with pq.ParquetWriter(directory / "t.parquet", table.schema) as writer:
        for start, rows in ((0, 0), (0, 100), (100, 0), (100, 200), (300, 0)):
            writer.write_table(table.slice(start, rows))
    return directory / "t.parquet"


def _of_spark(directory: Path) -> Path:
    table = pa.table(columns())
    place = directory / "t"
    (place / "_temporary").mkdir(parents=True)
    pq.write_table(table.slice(0, 100), place / "part-00000.snappy.parquet")
    pq.write_table(table.slice(0, 0), place / "part-00001.snappy.parquet")
    pq.write_table(table.slice(100), place / "part-00002.snappy.parquet")
    for name in ("_SUCCESS", "_metadata", ".part-00000.snappy.parquet.crc", "_temporary/0.parquet"):
        (place / name).write_bytes(b"")
    return place


def _csv(encode: Callable[[str], bytes], name: str = "t.csv") -> Callable[[Path], Path]:
    rows = zip(AMOUNTS.tolist(), COUNTRIES, SCORES.tolist(), LABELS.tolist(), strict=True)
    text = "amount,country,score,label\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)

    def write(directory: Path) -> Path:
        (directory / name).write_bytes(encode(text))
        return directory / name

    return write


PLACES: dict[str, Callable[[Path], Path]] = {
    "groups without rows": _empty_groups,
    "a directory of Spark": _of_spark,
    "gzip": _csv(lambda text: gzip.compress(text.encode()), "t.csv.gz"),
    "gzip in two parts": _csv(
        lambda text: gzip.compress(text[:99].encode()) + gzip.compress(text[99:].encode()), "t.csv.gz"
    ),
    "a mark of the order of bytes": _csv(lambda text: b"\xef\xbb\xbf" + text.encode()),
    "lines of Windows": _csv(lambda text: text.replace("\n", "\r\n").encode()),
    "quotes": _csv(lambda text: text.replace("DE", '"DE"').encode()),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_same_rows_in_other_files(name: str, plain: dict[str, Any], tmp_path: Path) -> None:
    assert built(PLACES[name](tmp_path)) == (plain, [])


NESTED = {
    "structs": [{"a": float(value)} for value in AMOUNTS],
    "lists of texts": [["x"]] * ROWS,
    "maps": pa.array([[("a", 1.0)]] * ROWS, pa.map_(pa.string(), pa.float64())),
}


@pytest.mark.parametrize("name", NESTED)
def test_columns_without_single_values_are_left_out_and_named(name: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns(amount=NESTED[name])), tmp_path / "t.parquet")
    found, notes = built(tmp_path / "t.parquet")
    assert list(found["features"]) == ["country"]
    assert notes == ["amount: left out, since its cells are lists or structs, and no single values"]
    with pytest.raises(BuildError, match="no single value in amount"):
        build(request(tmp_path / "t.parquet", features=("amount", "country")))


@pytest.mark.parametrize("form", [".parquet", ".arrow"])
def test_two_columns_of_one_name(form: str, tmp_path: Path) -> None:
    table = pa.table(columns())
    write(tmp_path / f"t{form}", table.append_column("amount", table["amount"]))
    with pytest.raises(TableError, match=rf"t{form}: column names must differ .*: amount"):
        built(tmp_path / f"t{form}")


def test_files_of_another_format_than_their_name(tmp_path: Path) -> None:
    pq.write_table(pa.table(columns()), tmp_path / "table.parquet")
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("sheet", "")
    content = {
        "gzip": gzip.compress(b"a\n1\n"),
        "Parquet": (tmp_path / "table.parquet").read_bytes(),
        "a spreadsheet": (tmp_path / "book.xlsx").read_bytes(),
    }
    for what, data in content.items():
        for name in ("t.csv", "t.ndjson"):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(TableError, match=rf"{name}: it is .*{what}, not a text"):
                built(tmp_path / name)


@pytest.mark.parametrize("form", ["t.parquet", "t.csv"])
def test_no_more_columns_are_read_than_are_wanted(form: str, tmp_path: Path) -> None:
    path = tmp_path / form
    table = pa.table(columns(note=["x" * 100] * ROWS, **{"amount.net": AMOUNTS}))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        table.to_pandas().to_csv(path, index=False)
    narrow = request(path, features=("amount",))
    (file,) = find([str(path)])
    assert {*next(readers.batches(file, narrow.reading_of_named)).schema.names} == {"amount", "score", "label"}
    profile: Profile = build(narrow)[0]
    assert list(profile.features) == ["amount"]
    settings = TableSettings.model_validate(
        {"model": "m", "path": str(path), "columns": {"score": "score", "label": "label"}}
    )
    reading = reading_of(settings, {"m": profile})
    (batch, *_) = readers.batches(file, reading)
    assert {*batch.schema.names} == {"amount", "score", "label"}
    assert mapping_of(settings, {"m": profile}).events(batch)
    with pytest.raises(BuildError, match="has no column 'nota'; did you mean 'note'"):
        build(replace(narrow, exclude=("nota",)))
    unfit = TableSettings.model_validate({"model": "m", "path": str(path), "columns": {"score": "proba"}})
    (batch, *_) = readers.batches(file, reading_of(unfit, {"m": profile}))
    with pytest.raises(TableError, match=r"no column 'proba'; there are .*note"):
        mapping_of(unfit, {"m": profile}).events(batch)
