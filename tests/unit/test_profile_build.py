"""Profiles from tables: types, bins, classes, errors, and the reference performance beside scikit-learn's."""

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.tables.errors import TableError

Table = dict[str, Any]


def write_csv(path: Path, table: Table) -> Path:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return write_bytes(path, text.getvalue())


def write_bytes(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    return write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows))


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def built(path: Path | tuple[str, ...], **request: Any) -> Profile:
    profile, _ = build(BuildRequest(data=path, **request))
    profile.validate()
    return profile


@pytest.fixture
def credit() -> Table:
    """A binary task: numbers with a point mass and gaps, whole numbers, texts, booleans, a group."""
    random = np.random.default_rng(3)
    n = 3000
    amount = np.where(random.random(n) < 0.3, 0.0, random.lognormal(3, 1, n).round(2))
    score = random.random(n).round(4)
    label = (random.random(n) < score).astype(int)
    age: list[float | None] = [None if gap else float(a) for gap, a in zip(random.random(n) < 0.1, amount, strict=True)]
    return {
        "amount": amount.tolist(),
        "rooms": random.integers(1, 7, n).tolist(),
        "age": age,
        "country": random.choice(["DE", "FR", "IT"], n, p=[0.7, 0.2, 0.1]).tolist(),
        "owner": (random.random(n) < 0.5).tolist(),
        "sex": random.choice(["female", "male"], n).tolist(),
        "score": score.tolist(),
        "label": label.tolist(),
    }


BINARY = {"task": "binary", "label": "label", "scores": {"positive": "score"}, "groups": ("sex",)}


def as_events(table: Table) -> list[dict[str, Any]]:
    return [
        {
            "model": "credit",
            "id": str(number),
            "features": {name: row[name] for name in ("amount", "rooms", "age", "country", "owner")},
            "groups": {"sex": row["sex"]},
            "score": row["score"],
            "label": row["label"],
        }
        for number, row in enumerate(rows_of(table))
    ]


WRITERS: dict[str, Callable[[Path, Table], Path]] = {
    "csv": lambda directory, table: write_csv(directory / "t.csv", table),
    "csv.gz": lambda directory, table: write_csv(directory / "t.csv.gz", table),
    "ndjson": lambda directory, table: write_lines(directory / "t.ndjson", rows_of(table)),
    "jsonl.gz": lambda directory, table: write_lines(directory / "t.jsonl.gz", rows_of(table)),
    "events": lambda directory, table: write_lines(directory / "events.ndjson", as_events(table)),
    "parquet": lambda directory, table: write_parquet(directory / "t.parquet", table),
}


def write_parquet(path: Path, table: Table) -> Path:
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_table_gives_the_same_profile_from_every_format(kind: str, credit: Table, tmp_path: Path) -> None:
    expected = built(write_csv(tmp_path / "reference.csv", credit), **BINARY)
    actual = built(WRITERS[kind](tmp_path, credit), **BINARY)
    assert list(actual.features) == ["amount", "rooms", "age", "country", "owner"]
    assert actual.digest == expected.digest


def test_types_are_inferred(credit: Table, tmp_path: Path) -> None:
    profile = built(write_csv(tmp_path / "t.csv", credit), **BINARY)
    kinds = {name: type(variable) for name, variable in profile.features.items()}
    assert kinds == {
        "amount": NumericVariable,
        "rooms": NumericVariable,
        "age": NumericVariable,
        "country": CategoricalVariable,
        "owner": CategoricalVariable,
    }
    country, owner, age = profile.features["country"], profile.features["owner"], profile.features["age"]
    assert isinstance(country, CategoricalVariable)
    assert isinstance(owner, CategoricalVariable)
    assert country.categories == ["DE", "FR", "IT"]
    assert country.counts == [*(credit["country"].count(name) for name in ("DE", "FR", "IT")), 0, 0, 0]
    assert owner.categories == ["false", "true"]
    assert age.counts[-1] == credit["age"].count(None)
    assert sum(age.counts) == profile.rows == 3000
    assert profile.groups["sex"].categories == ["female", "male"]


def test_numbers_may_be_declared_categories(credit: Table, tmp_path: Path) -> None:
    profile = built(write_csv(tmp_path / "t.csv", credit), **BINARY, categorical=("rooms",))
    rooms = profile.features["rooms"]
    assert isinstance(rooms, CategoricalVariable)
    assert rooms.categories == ["1", "2", "3", "4", "5", "6"]


def test_features_are_chosen_by_name_or_by_exclusion(credit: Table, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", credit)
    assert list(built(path, **BINARY, features=("country", "amount")).features) == ["country", "amount"]
    assert list(built(path, **BINARY, exclude=("age", "owner")).features) == ["amount", "rooms", "country"]


def test_moments_are_those_of_the_column(credit: Table, tmp_path: Path) -> None:
    amount = built(write_csv(tmp_path / "t.csv", credit), **BINARY).features["amount"]
    assert isinstance(amount, NumericVariable)
    assert amount.mean == pytest.approx(np.mean(credit["amount"]), rel=1e-12)
    assert amount.standard_deviation == pytest.approx(np.std(credit["amount"]), rel=1e-12)


def test_a_few_bad_cells_are_invalid_and_many_make_a_category(tmp_path: Path) -> None:
    few = [*map(str, range(97)), "n.a.", "?", "inf"]
    many = [*map(str, range(80)), *["?"] * 20]
    profile = built(write_csv(tmp_path / "t.csv", {"few": few, "many": many, "y": [1.5] * 100}), task="regression")
    assert isinstance(profile.features["few"], NumericVariable)
    assert profile.features["few"].counts[-2:] == [3, 0]
    assert isinstance(profile.features["many"], CategoricalVariable)


@pytest.mark.slow
def test_identifiers_are_left_out_with_a_note_unless_asked_for(tmp_path: Path) -> None:
    n = 30_000  # more than the distinct texts that are kept
    path = write_csv(tmp_path / "t.csv", {"id": [f"u{i}" for i in range(n)], "x": range(n), "y": [0.0, 1.0] * (n // 2)})
    profile, notes = build(BuildRequest(data=path, task="regression", label="y"))
    assert list(profile.features) == ["x"]
    assert "id: left out, since nearly every row has another text; --features would keep it" in notes
    kept = built(path, task="regression", label="y", features=("id", "x")).features["id"]
    assert isinstance(kept, CategoricalVariable)
    assert kept.categories == []
    assert kept.counts[-3] == pytest.approx(n / 2, rel=0.03)


def test_the_index_of_a_data_frame_is_no_feature(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", {"": range(50), "x": range(50), "y": [0.0, 1.0] * 25})
    profile, notes = build(BuildRequest(data=path, task="regression", label="y"))
    assert list(profile.features) == ["x"]
    assert "a column without a name, such as an index of rows, is left out" in notes


def test_cells_mean_what_they_mean_in_events(tmp_path: Path) -> None:
    """Texts that only Python takes for numbers, and booleans as R and spreadsheets write them."""
    table = {"month": ["2024_01", "2024_02"] * 30, "owner": ["TRUE", "FALSE"] * 30, "y": ["TRUE", "FALSE"] * 30}
    profile = built(write_csv(tmp_path / "t.csv", table), task="binary", label="y")
    month, owner = profile.features["month"], profile.features["owner"]
    assert isinstance(month, CategoricalVariable)
    assert month.categories == ["2024_01", "2024_02"]
    assert isinstance(owner, CategoricalVariable)
    assert owner.categories == ["false", "true"]
    assert profile.positive == "true"


def test_a_byte_order_mark_is_no_part_of_the_table(tmp_path: Path) -> None:
    for name, text in (("t.csv", "x,y\n1,0\n2,1\n"), ("t.ndjson", '{"x":1,"y":0}\n{"x":2,"y":1}\n')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert list(built(tmp_path / name, task="binary", label="y").features) == ["x"]


def test_the_most_frequent_categories_are_kept_by_name(tmp_path: Path) -> None:
    cells = [f"c{i:03d}" for i in range(150) for _ in range(i + 1)]
    path = write_csv(tmp_path / "t.csv", {"c": cells, "y": [1.0] * len(cells)})
    variable = built(path, task="regression", label="y").features["c"]
    assert isinstance(variable, CategoricalVariable)
    assert len(variable.categories) == 100
    assert {f"c{i:03d}" for i in range(80, 150)} <= set(variable.categories)
    assert not {f"c{i:03d}" for i in range(20)} & set(variable.categories)


def test_categories_that_are_frequent_by_luck_are_not_counted_by_it(tmp_path: Path) -> None:
    n, distinct = 20_000, 1000
    cells = [f"c{code}" for code in np.random.default_rng(1).integers(0, distinct, n)]
    variable = built(write_csv(tmp_path / "t.csv", {"c": cells}), task="regression").features["c"]
    assert isinstance(variable, CategoricalVariable)
    assert len(variable.categories) == 100
    counted = sum(variable.counts)
    assert counted == pytest.approx(n / 2, rel=0.03)
    named = sum(variable.counts[:100]) / counted  # the luckiest 100 have 0.15 of the rows
    assert named == pytest.approx(100 / distinct, abs=4 * np.sqrt(0.1 * 0.9 / counted))


def test_columns_that_appear_late_were_missing_before(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = [{"x": 1.0, "y": 0.5}] * 5000 + [{"x": 2.0, "z": 3.0, "y": 0.5}] * 10
    profile = built(write_lines(tmp_path / "t.ndjson", rows), task="regression", label="y")
    assert profile.features["z"].counts[-1] == 5000
    assert sum(profile.features["z"].counts) == profile.rows == 5010


def test_texts_of_a_typed_file_are_no_numbers(tmp_path: Path) -> None:
    rows = [{"code": str(i % 3), "flag": i % 2 == 0, "odd": {"a": 1}, "y": 1} for i in range(60)]
    profile, notes = build(BuildRequest(write_lines(tmp_path / "t.ndjson", rows), "regression", label="y"))
    assert "left out, since there is no value at all: odd" in notes
    assert isinstance(profile.features["code"], CategoricalVariable)
    assert profile.features["code"].categories == ["0", "1", "2"]
    assert isinstance(profile.features["flag"], CategoricalVariable)


REGRESSION = {"x": [1.0, 2.0, 3.0], "p": [1.0, 2.0, 2.5], "y": [1.1, 2.1, 2.4]}
CLASSES = {"x": [1.0, 2.0, 3.0, 4.0], "s": [0.1, 0.4, 0.6, 0.9], "y": ["a", "b", "a", "b"]}


@pytest.mark.parametrize(
    ("table", "request_", "message"),
    [
        (REGRESSION, {"task": "regression", "label": "Y"}, "--label: .*t.csv has no column 'Y'; it has p, x, y"),
        (
            {"amount": [1.0], "y": [2.0]},
            {"task": "regression", "label": "y", "features": ("amonut",)},
            "--features: .* has no column 'amonut'; did you mean 'amount'?",
        ),
        (REGRESSION, {"task": "regression", "label": "y", "groups": ("sex",)}, "--groups: .* no column 'sex'"),
        (REGRESSION, {"task": "regression", "label": "y", "scores": {"positive": "p"}}, "a regression has no scores"),
        (CLASSES, {"task": "regression", "label": "y"}, "y: a regression needs numbers"),
        (CLASSES, {"task": "binary", "label": "y"}, "--positive: say which class is the positive one, a or b"),
        (CLASSES, {"task": "binary", "label": "y", "positive": "c"}, "--positive: 'c' is not a class"),
        (CLASSES, {"task": "binary", "scores": {"positive": "s"}}, "needs --label or --prediction"),
        (REGRESSION, {"task": "binary", "label": "y"}, "--task binary: needs two classes, but there are 3: 1.1, 2.1"),
        ({"x": [1], "y": ["a"]}, {"task": "binary", "label": "y"}, "needs two classes, but there are 1: a"),
        ({"x": [1], "y": ["a"]}, {"task": "multiclass", "label": "y"}, "two classes or more, but there is only 'a'"),
        (
            CLASSES,
            {"task": "multiclass", "label": "y", "scores": {"a": "s"}},
            "--scores: every class needs its column CLASS=COLUMN; without one: b",
        ),
        (
            CLASSES | {"s": [0.1, 0.4, 0.6, 1.9]},
            {"task": "binary", "label": "y", "positive": "b", "scores": {"positive": "s"}},
            "--score: probabilities lie between 0 and 1",
        ),
        (
            CLASSES | {"s": [-0.1, 0.4, 0.6, 0.9]},
            {"task": "binary", "label": "y", "positive": "b", "scores": {"positive": "s"}},
            "--score: probabilities lie between 0 and 1",
        ),
        (
            CLASSES | {"s": ["", "", "", ""]},
            {"task": "binary", "label": "y", "positive": "b", "scores": {"positive": "s"}},
            "--score.*s: has no number",
        ),
        (
            REGRESSION | {"x": ["", "", ""]},
            {"task": "regression", "label": "y", "features": ("x",)},
            "--features: no value at all in x; leave them out",
        ),
        ({"x": [], "y": []}, {"task": "regression", "label": "y"}, "t.csv: no rows"),
        (
            REGRESSION | {"x": [1.0, 1.7e308, -1.7e308]},
            {"task": "regression", "label": "y"},
            r"x: holds a number of size 1.7e\+308, .* leave the cells empty, or else use --exclude x",
        ),
    ],
)
def test_what_cannot_be_built_says_what_would_be_right(
    table: Table, request_: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=message):
        built(write_csv(tmp_path / "t.csv", table), **request_)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "empty; the first line must name the columns"),
        ("t.csv", b"a,a\n1,2\n", "t.csv:1: column names must differ"),
        ("t.csv", b"a,b\n1,2\n1\n", "t.csv:3: 1 cells, but the header names 2"),
        ("t.csv", b"a,b\n\xff,2\n", "t.csv: not UTF-8"),
        ("t.csv.gz", b"a,b\n1,2\n", "t.csv.gz: not a compressed file"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-6], "t.csv.gz: not a compressed file, or cut short"),
        ("t.csv", b"a,b\n" + b"x" * 9_000_000 + b",1\n", "t.csv: not a readable CSV file: straddling object"),
        ("t.ndjson", b'{"a": "\xff"}\n', "t.ndjson: not UTF-8"),
        ("t.ndjson", b'{"a": 1}\noops\n', "t.ndjson:2: not a JSON object, one on each line"),
        ("t.ndjson", b'{"a": 1}\n"a"\n', "t.ndjson:2: not a JSON object, one on each line"),
        ("t.ndjson", b'{"a": "\\ud800"}\n', "t.ndjson:1: not a JSON object, one on each line"),
        ("t.ndjson", b'[{"a": 1},\n{"a": 2}]\n', r"t.ndjson:1: a JSON array: write one object on each line, as jq"),
        ("t.parquet", b"PAR1", "not a readable Parquet file"),
        ("t.xls", b"", "cannot tell its format; name it .csv or .ndjson"),
    ],
)
def test_tables_that_cannot_be_read(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match=message):
        built(path, task="regression", label="a")


def test_nan_in_json_is_missing_as_in_events(tmp_path: Path) -> None:
    path = tmp_path / "t.ndjson"
    cells = [*range(50), "NaN", "Infinity"]
    path.write_text("".join(f'{{"a": {cell}, "y": {row % 7}}}\n' for row, cell in enumerate(cells)))
    profile = built(path, task="regression", label="y")
    assert profile.features["a"].counts[-2:] == [1, 1]  # missing, invalid


@pytest.mark.parametrize(
    ("task", "cell", "message"),
    [
        (
            "multiclass",
            {"y": [1], "a": 1},
            "the column 'y' names no class: each of its cells must be one text or number",
        ),
        ("regression", {"y": 1, "a": [1, math.nan]}, "a: no cell is a list of 2 finite numbers; --exclude a"),
    ],
)
def test_columns_of_arrays_that_say_nothing_are_named(
    task: str, cell: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text(f"{json.dumps(cell)}\n" * 50)
    with pytest.raises(BuildError, match=re.escape(message)):
        built(path, task=task, label="y")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nothing\.csv: no such file"):
        built(tmp_path / "nothing.csv", task="regression", label="a")


def test_classes_are_negative_then_positive(tmp_path: Path) -> None:
    table = {"x": [1, 2, 3, 4], "y": ["yes", "no", "yes", "no"]}
    path = write_csv(tmp_path / "t.csv", table)
    assert built(path, task="binary", label="y", positive="no").classes == ["yes", "no"]
    assert built(path, task="binary", label="y", positive="yes").classes == ["no", "yes"]
    for cells in ([0, 1, 1, 0], [True, False, True, False]):
        path = write_csv(tmp_path / "t.csv", table | {"y": cells})
        assert built(path, task="binary", label="y").positive in ("1", "true")


def close(profile: Profile, expected: dict[str, float]) -> None:
    """Binned curves to 1e-3, sums exactly. Two forms of the calibration error are the exporter's own."""
    own = {"expected_calibration_error_by_chance", "expected_calibration_error_corrected"}
    assert profile.performance.keys() - own == expected.keys()
    for name, value in expected.items():
        binned = name in ("roc_auc", "average_precision")
        assert profile.performance[name] == pytest.approx(value, abs=1e-3 if binned else 1e-9), name


def test_binary_reference_performance_equals_scikit_learn(credit: Table, tmp_path: Path) -> None:
    y, score = np.array(credit["label"]), np.array(credit["score"])
    predicted = (score >= 0.5).astype(int)
    bins = np.minimum((score * 10).astype(int), 9)
    calibration = sum(abs((y - score)[bins == bin_].sum()) for bin_ in range(10)) / len(y)
    close(
        built(write_csv(tmp_path / "t.csv", credit), **BINARY),
        {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
            "precision": metrics.precision_score(y, predicted),
            "recall": metrics.recall_score(y, predicted),
            "specificity": metrics.recall_score(y, predicted, pos_label=0),
            "f1": metrics.f1_score(y, predicted),
            "mcc": metrics.matthews_corrcoef(y, predicted),
            "roc_auc": metrics.roc_auc_score(y, score),
            "average_precision": metrics.average_precision_score(y, score),
            "log_loss": metrics.log_loss(y, score),
            "brier_score": metrics.brier_score_loss(y, score),
            "expected_calibration_error": calibration,
        },
    )


def test_multiclass_reference_performance_equals_scikit_learn(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    names = np.array(["cat", "dog", "emu"])
    scores = random.dirichlet([1.0, 1.0, 1.0], 2000)
    y = names[(scores.cumsum(axis=1) > random.random((2000, 1))).argmax(axis=1)]
    predicted = names[scores.argmax(axis=1)]
    table: Table = {"x": random.normal(size=2000).tolist(), "y": y.tolist()}
    table |= {f"p_{name}": scores[:, index].tolist() for index, name in enumerate(names)}
    profile = built(
        write_csv(tmp_path / "t.csv", table),
        task="multiclass",
        label="y",
        scores={name: f"p_{name}" for name in ("emu", "cat", "dog")},
    )
    assert profile.classes == ["cat", "dog", "emu"]
    actual = y[:, None] == names
    top, right = scores.max(axis=1), predicted == y
    bins = np.minimum((top * 10).astype(int), 9)
    recalls = [metrics.recall_score(~actual[:, k], predicted != names[k]) for k in range(3)]
    close(
        profile,
        {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
            "precision": metrics.precision_score(y, predicted, average="macro"),
            "recall": metrics.recall_score(y, predicted, average="macro"),
            "specificity": float(np.mean(recalls)),
            "f1": metrics.f1_score(y, predicted, average="macro"),
            "mcc": metrics.matthews_corrcoef(y, predicted),
            "roc_auc": metrics.roc_auc_score(y, scores, multi_class="ovr"),
            "log_loss": metrics.log_loss(y, scores),
            "brier_score": float(np.square(scores - actual).sum(axis=1).mean()),
            "expected_calibration_error": sum(abs((right - top)[bins == bin_].sum()) for bin_ in range(10)) / len(y),
        },
    )
    f1 = metrics.f1_score(y, predicted, average=None)
    assert [profile.class_performance[name]["f1"] for name in names] == pytest.approx(f1, abs=1e-9)


def test_regression_reference_performance_equals_scikit_learn(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    y = random.normal(50, 10, 2500)
    predicted = y + random.normal(1, 4, 2500)
    path = write_csv(tmp_path / "t.csv", {"x": y.tolist(), "p": predicted.tolist(), "y": y.tolist()})
    close(
        built(path, task="regression", label="y", prediction="p"),
        {
            "mae": metrics.mean_absolute_error(y, predicted),
            "rmse": metrics.root_mean_squared_error(y, predicted),
            "mape": metrics.mean_absolute_percentage_error(y, predicted),
            "r2": metrics.r2_score(y, predicted),
            "bias": float((predicted - y).mean()),
        },
    )


def test_without_labels_there_is_no_reference_performance(credit: Table, tmp_path: Path) -> None:
    del credit["label"]
    credit["prediction"] = [int(score >= 0.5) for score in credit["score"]]
    profile = built(
        write_csv(tmp_path / "t.csv", credit), task="binary", prediction="prediction", scores={"positive": "score"}
    )
    assert profile.performance == {}
    assert profile.label is None
    assert profile.score is not None


def parts(directory: Path, table: Table, rows: int) -> Path:
    """A partitioned directory with the rows of a table in files of so many rows."""
    for number, start in enumerate(range(0, len(table["label"]), rows)):
        part = directory / f"day={number // 2:04d}"
        part.mkdir(parents=True, exist_ok=True)
        piece = {name: cells[start : start + rows] for name, cells in table.items()}
        pq.write_table(pa.table(piece), part / f"part-{number:04d}.parquet", row_group_size=1 + rows // 3)
    (directory / "_SUCCESS").write_text("")
    return directory


def test_the_same_rows_in_many_files_give_the_same_profile(
    credit: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_exporter.tables.table.BLOCK_ROWS", 700)
    request = BINARY | {"exclude": ("day",)}
    whole = built(write_parquet(tmp_path / "t.parquet", credit), **BINARY)
    many = built(parts(tmp_path / "parts", credit, 170), **request)
    globbed = built(tmp_path / "parts" / "**" / "*.parquet", **request)
    csv_parts = [write_csv(tmp_path / f"p{n}.csv", {k: v[n * 1000 : n * 1000 + 1000] for k, v in credit.items()})
                 for n in range(3)]  # fmt: skip
    listed = built(tuple(map(str, csv_parts)), **BINARY)
    assert many.digest == globbed.digest == listed.digest == whole.digest


def test_parts_of_a_path_are_columns(credit: Table, tmp_path: Path) -> None:
    profile = built(parts(tmp_path / "parts", credit, 600), **BINARY)
    day = profile.features["day"]
    assert isinstance(day, CategoricalVariable)
    assert day.categories == ["0000", "0001", "0002"]


def test_numbers_that_become_texts_late_are_read_by_name_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_exporter.tables.table.BLOCK_ROWS", 50)
    cells = [*(str(i % 3) for i in range(100)), *["x"] * 100]
    code = built(write_csv(tmp_path / "t.csv", {"code": cells, "y": [1.5] * 200}), task="regression").features["code"]
    assert isinstance(code, CategoricalVariable)
    assert code.categories == ["0", "1", "2", "x"]
    assert code.counts == [34, 33, 33, 100, 0, 0, 0]


def test_what_is_kept_between_the_passes_is_bounded(
    credit: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "t.csv", credit)
    monkeypatch.setattr("mlops_exporter.tables.table.BLOCK_ROWS", 100)
    kept = built(path, **BINARY).digest
    monkeypatch.setattr("mlops_exporter.tables.spool.SPOOL_BYTES", 20_000)
    assert built(path, **BINARY).digest == kept
