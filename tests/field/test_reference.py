"""Awkward tables: what `profile build` takes them for, and what it says."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_exporter import cli
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.reading import Reading
from tests.field.rows import arrow_events, counts, ndjson_events, reference_counts, write_csv, write_parquet

N = 120
LABEL = [row % 2 for row in range(N)]
MIXED = [(row * 37) % 11 for row in range(N)]  # a plain feature


def built(path: Path, **request: Any) -> tuple[Profile, str]:
    """The profile of a binary model, and what was said of it."""
    given: dict[str, Any] = {"task": "binary", "label": "label", "prediction": "prediction"}
    profile, notes = build(BuildRequest(path, **(given | request)))
    return profile, "\n".join(notes)


def table(**columns: Any) -> dict[str, Any]:
    """A table with some columns beside outcomes and a plain feature."""
    prediction = [int(label) if row % 5 else 1 - label for row, label in enumerate(LABEL)]
    return {**columns, "plain": MIXED, "prediction": prediction, "label": LABEL}


def csv_of(tmp_path: Path, **columns: Any) -> Path:
    return write_csv(tmp_path / "t.csv", table(**columns))


def test_missing_is_the_empty_cell_and_what_is_said(tmp_path: Path) -> None:
    """`NA` is Namibia until somebody says otherwise, in the reference as in events."""
    path = csv_of(tmp_path, country=["NA", "DE", "", "none"] * 30)
    profile, notes = built(path)
    country = profile.features["country"]
    assert isinstance(country, CategoricalVariable)
    assert (country.categories, country.counts[-1]) == (["DE", "NA", "none"], 30)
    assert "cells taken as missing: country 30" in notes
    assert "country: 30 cells say 'NA', taken as a category; --missing NA reads them as missing" in notes
    profile, _ = built(path, reading=Reading(missing=("", "NA")))
    assert profile.features["country"].counts[-1] == 60
    rows = table(country=["NA", "DE", "", "none"] * 30)
    assert counts(profile, ndjson_events(rows)) == reference_counts(profile)
    assert counts(profile, arrow_events(rows)) == reference_counts(profile)


def test_a_marker_among_numbers_leaves_a_column_of_numbers(tmp_path: Path) -> None:
    profile, notes = built(csv_of(tmp_path, age=["NA", 30, 41, 52.5] * 30))
    assert isinstance(profile.features["age"], NumericVariable)
    assert profile.features["age"].counts[-2:] == [30, 0]
    assert "age: 30 cells say 'NA', counted as invalid; --missing NA reads them as missing" in notes


@pytest.mark.parametrize("width", [pa.float16(), pa.float32(), pa.float64()])
def test_precision_moves_nothing_into_another_bin(width: Any, tmp_path: Path) -> None:
    """0.1 of a tensor is 0.10000000149 in JSON; point masses and discrete features had moved by a bin."""
    values = [0.1, 0.2, 0.3, 1.7] * 30
    columns = pa.table(table(x=values)).set_column(0, "x", pa.array(np.array(values, width.to_pandas_dtype())))
    profile, _ = built(write_parquet(tmp_path / "t.parquet", columns))
    expected = reference_counts(profile)
    for dtype in (width.to_pandas_dtype(), np.float32, np.float64):
        if np.dtype(dtype).itemsize >= np.dtype(width.to_pandas_dtype()).itemsize:
            rows = table(x=np.array(values, width.to_pandas_dtype()).astype(dtype).tolist())
            assert counts(profile, ndjson_events(rows)) == expected
    assert counts(profile, ndjson_events(table(x=values))) == expected
    assert counts(profile, arrow_events(columns)) == expected


def test_long_numbers_keep_double_precision(tmp_path: Path) -> None:
    """Seconds since 1970 within one hour are one number in single precision."""
    values = [1_700_000_000 + second for second in (1, 2, 3, 4)] * 30
    profile, _ = built(csv_of(tmp_path, second=values))
    feature = profile.features["second"]
    assert isinstance(feature, NumericVariable)
    assert feature.precision == "double"
    assert len([count for count in feature.counts if count]) == 4


def test_decimals_are_numbers_and_dates_are_named(tmp_path: Path) -> None:
    day = dt.date(2026, 1, 1)
    columns = table(
        price=[Decimal(f"{row % 7}.50") for row in range(N)],
        day=[day + dt.timedelta(row % 9) for row in range(N)],
        at=[dt.datetime(2026, 1, 1, row % 24, tzinfo=dt.UTC) for row in range(N)],
    )
    profile, notes = built(write_parquet(tmp_path / "t.parquet", columns))
    assert isinstance(profile.features["price"], NumericVariable)
    assert "day: left out, since dates and times always drift" in notes
    assert "at: left out, since dates and times always drift" in notes
    assert list(profile.features) == ["price", "plain"]
    rows = {name: values for name, values in columns.items() if name not in ("day", "at")}
    assert counts(profile, arrow_events(rows)) == reference_counts(profile)
    assert counts(profile, ndjson_events(rows)) == reference_counts(profile)


def test_codes_identifiers_and_dates_are_named(tmp_path: Path) -> None:
    """Each had become a numeric feature without a word, and drifted for ever."""
    shuffled = np.random.default_rng(1).permutation(N)
    path = csv_of(
        tmp_path,
        row=list(range(N)),
        customer_id=(1000 + 7 * shuffled).tolist(),
        plz=[f"0{1000 + row % 5}" for row in range(N)],
        day=[20260101 + row % 28 for row in range(N)],
        date=[f"2026-01-{1 + row % 28:02d}" for row in range(N)],
        german=[f"{1 + row % 28:02d}.01.2026" for row in range(N)],
        amount=(shuffled * 3).tolist(),
        second=[5 + 3 * row for row in range(N)],
    )
    profile, notes = built(path)
    assert list(profile.features) == ["plz", "amount", "second", "plain"]
    assert profile.features["plz"].categories == ["01000", "01001", "01002", "01003", "01004"]  # type: ignore[union-attr]
    for said in (
        "row: left out, since it identifies the rows",
        "customer_id: left out, since it identifies the rows",
        "plz: numbers with leading zeros, taken as codes",
        "day: left out, since its numbers are dates",
        "date: left out, since its texts are dates",
        "german: left out, since its texts are dates",
        "amount: taken as numbers, though all differ; where they identify rows, --exclude amount",
        "second: taken as numbers, though it goes one way from row to row",
    ):
        assert said in notes
    kept, _ = built(path, types={"row": "numeric", "amount": "exclude", "day": "categorical"})
    assert list(kept.features) == ["row", "plz", "day", "second", "plain"]
    assert isinstance(kept.features["day"], CategoricalVariable)


def test_empty_columns_are_left_out_all_at_once(tmp_path: Path) -> None:
    path = csv_of(tmp_path, a=[""] * N, b=[""] * N)
    profile, notes = built(path)
    assert list(profile.features) == ["plain"]
    assert "left out, since there is no value at all: a, b" in notes
    with pytest.raises(BuildError, match="--features: no value at all in a, b"):
        built(path, features=("a", "plain", "b"))


def test_what_predicts_the_label_or_is_called_so_is_named(tmp_path: Path) -> None:
    leak = [label + 0.25 for label in LABEL]
    _, notes = built(csv_of(tmp_path, leak=leak, yhat=MIXED))
    assert "leak: tells the label all by itself" in notes
    assert "yhat: is called like an outcome of the model" in notes
    assert "plain:" not in notes


def test_a_performance_too_good_to_be_true_is_named(tmp_path: Path) -> None:
    """A forest profiled on its own training rows fails its benchmark in the first hour."""
    _, notes = built(csv_of(tmp_path), prediction="label")
    assert "too good to be true (accuracy 1): build the profile from rows that the model was not trained on" in notes
    assert "too good" not in built(tmp_path / "t.csv")[1]


@pytest.mark.parametrize(
    ("text", "encoding", "said", "reading"),
    [
        ("a;label\n1;0\n2;1\n", "utf-8", r"--delimiter ';' reads it", Reading(delimiter=";")),
        ("a\tlabel\n1\t0\n2\t1\n", "utf-8", r"--delimiter \$'\\t' reads it", Reading(delimiter="\t")),
        ("ä,label\n1,0\n2,1\n", "latin-1", "not UTF-8.*--encoding latin-1", Reading(encoding="latin-1")),
        ("a,label\n1,0\n2,1\n", "utf-16", "--encoding utf-16 reads it", Reading(encoding="utf-16")),
        (
            'a,label\n"1,5",0\n"2,5",1\n',
            "utf-8",
            "'1,5' are numbers with a decimal comma: --decimal ,",
            Reading(decimal=","),
        ),
    ],
)
def test_other_dialects_say_what_reads_them(
    text: str, encoding: str, said: str, reading: Reading, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises((TableError, BuildError), match=said):
        built(path, prediction=None)
    profile, _ = built(path, prediction=None, reading=reading)
    (feature,) = profile.features.values()
    assert isinstance(feature, NumericVariable)
    assert feature.counts[-2:] == [0, 0]


@pytest.mark.parametrize(
    ("scores", "good"), [([1.0000001, -1e-9], True), ([1.004, 0.2], True), ([1.2, 0.2], False), ([-0.1, 0.2], False)]
)
def test_probabilities_allow_for_rounding(scores: list[float], good: bool, tmp_path: Path) -> None:
    path = csv_of(tmp_path, s=scores * (N // 2))
    if good:
        built(path, prediction=None, scores={"positive": "s"})
    else:
        with pytest.raises(BuildError, match=r"--score: probabilities lie between 0 and 1.*; row 1 has"):
            built(path, prediction=None, scores={"positive": "s"})


NAMES = ['5" disk', "a\\b", "tab\there", "line\nend", "\u202eltr", "a,b", "\x1b[31m", "ü", "model", "{x}"]


def test_any_name_works_from_the_table_to_the_ledger(tmp_path: Path) -> None:
    """Such names had passed `build` and `check`, and ended `run` with a traceback for all models."""
    columns = table(**{name: [(row * 7) % 5 for row in range(N)] for name in NAMES})
    columns["label"] = ['5" disk' if label else "a\\b\t" for label in LABEL]
    columns["prediction"] = columns["label"]
    profile, _ = built(write_csv(tmp_path / "t.csv", columns), positive='5" disk')
    assert set(NAMES) <= set(profile.features)
    assert counts(profile, ndjson_events(columns)) == reference_counts(profile)


def command(*arguments: object) -> int:
    return cli.main([str(argument) for argument in ("profile", "build", "--task=binary", *arguments)])


def test_names_with_commas_and_files_of_types_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv_of(tmp_path, **{"a,b": MIXED, "c": MIXED})
    types = tmp_path / "types.yml"
    types.write_text("a,b: categorical\n")
    out = tmp_path / "p.json"
    named = ("--data", path, "--label=label", "--prediction=prediction", "--output", out)
    assert command(*named, "--features", '"a,b",c', "--columns", types, "--missing", "NA") == 0
    written = json.loads(out.read_text())
    assert list(written["features"]) == ["a,b", "c"]
    assert written["features"]["a,b"]["kind"] == "categorical"
    assert written["missing"] == ["", "NA"]
    types.write_text("c: number\n")
    assert command(*named, "--columns", types) == 1
    assert "--columns: c: 'number' is no type; there are numeric, categorical, exclude" in capsys.readouterr().err


def test_the_data_cannot_be_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv_of(tmp_path)
    before = path.read_bytes()
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    for output in (path, link):
        assert command("--data", path, "--label=label", "--output", output) == 1
        assert "is what is read; name another file" in capsys.readouterr().err
    assert path.read_bytes() == before
