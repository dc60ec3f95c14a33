"""Odd numbers, ids, times and encodings mean the same through every door, or are refused for the same reason."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_exporter.counting.keys import hash_ids
from mlops_exporter.events.attributes import Attributes
from mlops_exporter.events.columns import Columns, Decoded
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.explain import explained
from mlops_exporter.events.schema import Schema
from mlops_exporter.probing.protocols import ProtocolError
from mlops_exporter.probing.rows import RowsError, _number, outcomes
from mlops_exporter.probing.verdict import said
from mlops_exporter.profile import arrays
from mlops_exporter.profile.values import canonical, text_as_number
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.tables import ColumnSettings
from mlops_exporter.sources.lines import MALFORMED, lines_of, ndjson
from mlops_exporter.tables import cells
from mlops_exporter.tables.mapping import Mapping
from mlops_exporter.tables.readers import gathered
from tests.field.rows import EVENTS, MODEL, write_csv, write_parquet
from tests.models import profiles

NOW = 1.8e9
PROFILE = profiles()["credit"]
DECODER = Decoder([Schema("credit", PROFILE)])
EVENT = b'{"model":"credit","id":"1","score":0.5}'


def of_json(**members: Any) -> Decoded:
    return DECODER.decode(json.dumps({"model": "credit", "score": 0.5} | members).encode(), NOW)


def of_arrow(**columns: Any) -> Decoded:
    table = pa.table({"score": pa.array([0.5])} | columns).replace_schema_metadata({"model": "credit"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return DECODER.decode(sink.getvalue().to_pybytes(), NOW)


def keys(*several: Decoded) -> set[int]:
    """The keys by which ids are joined."""
    return {int(key) for decoded in several for key in hash_ids(decoded.columns["credit"].ids, 7)}


def test_one_id_in_any_form_is_one() -> None:
    forms = [of_json(id=form) for form in (125, 125.0, "125", "125.0", "125.00")]
    columns = [
        pa.array([125.0]),
        pa.array([125], pa.uint8()),
        pa.array([125.0], pa.float32()),
        pa.array([Decimal("125.00")]),
        pa.array(["125.0"]),
        pa.array(["125"], pa.string_view()),
        pa.array(["125"]).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays([1], ["125"]),
    ]
    assert len(keys(*forms, *(of_arrow(id=column) for column in columns))) == 1


def test_ids_that_differ_stay_apart() -> None:
    """Where a double could not hold them either, and where bytes are no text."""
    large = [2**70, 2**70 + 1, 2**53, 2**53 + 1]
    decimals = [of_arrow(id=pa.array([Decimal(n)], pa.decimal128(38, 0))) for n in large]
    assert keys(*decimals) == keys(*(of_json(id=number) for number in large))
    assert len(keys(*decimals)) == len(large)
    for damaged in (b"\xe9", b"\xe8"):
        assert DECODER.decode(EVENT.replace(b'"1"', b'"%b"' % damaged), NOW).refused == [(1, "bad_id")]


@pytest.mark.parametrize(
    ("member", "value", "column"),
    [
        ("id", 1.5, pa.array([1.5])),
        ("id", True, pa.array([True])),
        ("id", [1], pa.array([[1]])),
        ("id", "", pa.array([""])),
        ("score", "0.5", pa.array(["0.5"])),
        ("score", True, pa.array([True])),
        ("score", float("inf"), pa.array([float("inf")])),
        ("ts", "2026-01-01", pa.array([dt.date(2026, 1, 1)])),
        ("ts", "2026-01-01T00:00:00", pa.array([dt.datetime(2026, 1, 1)])),
        ("ts", "noon", pa.array(["noon"])),
        ("ts", True, pa.array([True])),
        ("label", [1], pa.array([[1]])),
        ("label", True, pa.array([True])),
        ("prediction", {"a": 1}, pa.array([{"a": 1}])),
        ("latency_seconds", "1", pa.array(["1"])),
        ("error", 1, pa.array([1])),
        ("features", 1, pa.array([1])),
        ("version", True, pa.array([True])),
    ],
)
def test_what_json_refuses_arrow_refuses_for_the_same_reason(member: str, value: Any, column: Any) -> None:
    refused = of_json(**{member: value}).refused
    assert len(refused) == 1
    assert of_arrow(**{member: column}).refused == refused


@pytest.mark.parametrize("time", ["2026-11-01T00:00:00Z", "2026-11-01 01:00:00.000+01:00"])
def test_times_of_texts(time: str) -> None:
    (found,) = (list(decoded.columns["credit"].times) for decoded in (of_arrow(ts=pa.array([time])),))
    assert found == list(of_json(ts=time).columns["credit"].times)


def test_marks_of_byte_order() -> None:
    mark = b"\xef\xbb\xbf"
    joined = b"\n".join(mark + EVENT for _ in range(3))  # as messages of one writer each
    assert DECODER.decode(joined, NOW).accepted == 3


WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", ["{0}", "{0}\n{0}\n{0}\n", "[{0},\n {0}]", "\r\n {0}\r\n{0}"])
def test_a_body_in_utf16_is_one_refusal_that_says_so(encoding: str, text: str) -> None:
    """With a mark of byte order and without; PowerShell and Windows services write such."""
    body = text.format(EVENT.decode()).encode(encoding)
    assert DECODER.decode(body, NOW).refused == [(1, "malformed_json")]
    assert next(explained([(1, "malformed_json")], body, {})).endswith("the body is in UTF-16: send UTF-8")
    assert lines_of(body) == [MALFORMED]


@pytest.mark.parametrize("schema", [1, 255, 31488, 31489, 2**16, 2**24, 2**31])
def test_the_frame_of_any_schema_is_no_utf16(schema: int) -> None:
    assert lines_of(b"\0" + schema.to_bytes(4, "big") + EVENT) == [EVENT]


def test_no_message_in_another_encoding_costs_its_neighbours() -> None:
    mark = b"\xef\xbb\xbf"
    messages = [EVENT.decode().encode("utf-16"), mark + b"[" + EVENT + b"," + EVENT + b"]", mark + EVENT, EVENT]
    lines = [line for message in messages for line in lines_of(message)]
    decoded = DECODER.decode(b"\n".join(lines), NOW)
    assert (decoded.accepted, decoded.refused) == (4, [(1, "malformed_json")])
    assert DECODER.decode(b"\xff\xfe{\0\n" + EVENT, NOW).accepted == 1
    assert ndjson(mark + b"[" + EVENT + b"]\n" + EVENT).count(b"[") == 0


@pytest.mark.parametrize(
    "column",
    [
        pa.array([Decimal(2**70), Decimal(2**70 + 1)], pa.decimal128(38, 0)),
        pa.array([2.0**70, None]),
        pa.array([float("inf"), 125.0]),
        pa.array([1.5, 125.0]),
        pa.array(["125.0", "x"], pa.string_view()),
        pa.RunEndEncodedArray.from_arrays([1, 2], ["a", "b"]),
        gathered([{"id": 125.0}, {"id": "x"}]).column(0),
        gathered([{"id": 2**70}, {"id": 1}]).column(0),
    ],
)
def test_a_row_of_a_table_is_the_event_of_its_cells(column: Any) -> None:
    """In files and databases, whichever type their column has; no cell stops the others."""
    settings_ = ColumnSettings.model_validate({"id": "id", "score": "p"})
    batch = pa.RecordBatch.from_arrays([column, pa.array([0.5, 0.5])], ["id", "p"])
    decoded = DECODER.decode(Mapping("credit", settings_, "UTC", [], []).events(batch), NOW)
    if cells.is_several(column.type):
        texts, numbers = column.field(1).to_pylist(), column.field(0).to_pylist()
        ids = [number if text is None else text for text, number in zip(texts, numbers, strict=True)]
    else:
        ids = [int(each) if isinstance(each, Decimal) else each for each in column.to_pylist()]
    as_json = [of_json(id=each) for each in ids]
    assert [reason for _, reason in decoded.refused] == [reason for each in as_json for _, reason in each.refused]
    assert keys(decoded) == keys(*(each for each in as_json if each.accepted))


def test_a_table_in_utf8_with_its_mark(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", {"größe": [*range(60)], "label": [0, 1] * 30})
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    profile, _ = build(BuildRequest(table, "binary", label="label", positive="1", categorical=()))
    assert list(profile.features) == ["größe"]


TEXTS = [
    "5",
    " 5",
    "5 ",
    "+5",
    "5.",
    ".5",
    "1e3",
    "1E-3",
    "nan",
    "-nan",
    "inf",
    "1e999",
    "1_000",
    "５",
    "0x1",
    "",
    "x",
    "5,0",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_one_number_in_tables_pushes_and_probes(text: str) -> None:
    found = text_as_number(text, ())
    for column in (pa.array([text]), pa.array([text, "no number"])[:1], pa.array([text]).dictionary_encode()):
        for read in (cells.numbers(column, typed=False), arrays.numbers(column, (), untyped=True)):
            assert np.array_equal(read, [found], equal_nan=True)
    if np.isinf(found):
        with pytest.raises(RowsError, match="is no number"):
            _number(text, ())
    else:
        asked = _number(text, ())
        assert asked == found if asked is not None else np.isnan(found)


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5.0), (Decimal("2.5"), 2.5), (None, np.nan), (float("nan"), np.nan), ("", np.nan)]
    + [(bad, None) for bad in ("5", "inf", "1_000", True, float("inf"), 10**400, [5])],
)
def test_the_label_and_the_answer_of_a_probe_are_read_as_those_of_events(value: Any, number: float | None) -> None:
    price = profiles()["price"]
    if number is None:
        with pytest.raises(RowsError, match="is no number"):
            outcomes([value], price, "y")
        with pytest.raises(ProtocolError, match="is no number"):
            said({"predict": [value]}, {}, price)
    else:
        for found in (outcomes([value], price, "y"), said({"predict": [value]}, {}, price).prediction):
            assert np.array_equal(found, [number], equal_nan=True)


@pytest.mark.parametrize("text", TEXTS)
def test_an_untyped_label_of_a_probe_is_read_as_any_cell(text: str) -> None:
    found = text_as_number(text)
    if np.isinf(found):
        with pytest.raises(RowsError, match="is no number"):
            outcomes([text], profiles()["price"], "y", typed=False)
    else:
        assert np.array_equal(outcomes([text], profiles()["price"], "y", typed=False), [found], equal_nan=True)


@pytest.mark.parametrize(
    ("score", "good"), [(1.0000001, True), (-0.004, True), (1.2, False), ("0.5", False), (1, True)]
)
def test_an_answered_score_has_the_tolerance_of_events(score: Any, good: bool) -> None:
    if good:
        assert said({"score": [[score]]}, {}, profiles()["credit"]).scores.max() <= 1
    else:
        with pytest.raises(ProtocolError, match=r"no probabilities|is no number"):
            said({"score": [score]}, {}, profiles()["credit"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([Decimal(10**18 + 1), Decimal(7), None], pa.decimal128(20, 0)),
        pa.array([Decimal("1.50"), Decimal("2.00"), None]),
        pa.array([10**18 + 1, None], pa.int64()),
        pa.array(["a", "1.0", None], pa.string_view()),
        pa.array([True, None]),
        pa.array([0.1, 1.0, None], pa.float32()),
    ],
)
def test_a_category_of_a_table_is_that_of_an_event(column: Any) -> None:
    names = [canonical(value) for value in column.to_pylist()]
    found = cells.categories(arrays.usual(column), typed=True)
    assert [None if place < 0 else found.names[place] for place in found.which.tolist()] == names
    known, which = arrays.categories(arrays.usual(column), ())
    assert [known[place] for place in which.tolist()] == names


GROUP_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00*"), min_size=1, max_size=8).filter(
    lambda name: name not in ("label", "score", "prediction", "amount")
)
GROUPS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=6),
    st.sampled_from(["other", "unknown", "f\u202e", "1.0", "none", "true", "007", "a*b", '"', "\\"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=GROUP_NAMES, values=st.lists(GROUPS, min_size=2, max_size=4, unique_by=canonical))
def test_any_group_of_any_name_is_counted_as_itself(name: str, values: list[str]) -> None:
    groups = [None if row % 10 == 9 else values[row % len(values)] for row in range(60)]
    table = {"amount": [float(row) for row in range(60)], name: groups, "label": [0, 1] * 30}
    with TemporaryDirectory() as directory:
        path = write_parquet(Path(directory) / "t.parquet", table)
        profile, _ = build(
            BuildRequest(path, "binary", label="label", positive="1", features=("amount",), groups=(name,))
        )
    attributes = Attributes({name: []}, profile, 100)
    schema = Schema(MODEL, profile, attributes)
    assert len(set(attributes.groups[0])) == len(attributes.groups[0])  # else Prometheus refuses the scrape
    expected = profile.groups[name].counts[: len(attributes.groups[0]) - 2]
    assert sum(expected) == 60 - groups.count(None)
    plain = {"amount": table["amount"], "label": table["label"]}
    json_rows = [
        {"model": MODEL, "features": {"amount": 1.0}, "groups": {name: group}, "label": 0, "id": row}
        for row, group in enumerate(groups)
    ]
    struct = pa.array([{name: group} for group in groups])
    bodies = [
        b"\n".join(json.dumps(row).encode() for row in json_rows),
        EVENTS["arrow"](pa.table(plain | {"groups": struct})),
        EVENTS["arrow"](pa.table(plain | {f"groups.{name}": pa.array(groups)})),
    ]
    for body in bodies:
        decoded = Decoder([schema]).decode(body, NOW)
        assert (decoded.accepted, decoded.ignored) == (60, {})
        counted = np.zeros(len(attributes.groups[0]))
        for columns in decoded.parts[MODEL]:
            codes = _codes(schema, columns)
            counted += np.bincount(codes, minlength=len(counted))
        assert counted.astype(int).tolist() == [*expected, 0, groups.count(None)]


@pytest.mark.parametrize(
    ("a", "b"), [(["x*y", "x"], ["z", "y*z"]), (["*x", "x"], ["y", "*y"]), (["other", "(other)"], ["unknown", "b"])]
)
def test_no_two_groups_of_an_intersection_have_one_name(a: list[str], b: list[str]) -> None:
    variables = {name: profiles()["credit"].features["country"] for name in "ab"}
    variables = {
        name: msgspec.structs.replace(variables[name], categories=values) for name, values in (("a", a), ("b", b))
    }
    profile = msgspec.structs.replace(PROFILE, groups=variables)
    (groups,) = Attributes({"a*b": []}, profile, 100).groups
    assert len(set(groups)) == len(groups) == 10


def test_close_edges_have_names_of_their_own() -> None:
    (groups,) = Attributes({"amount": [1_000_000, 1_000_001]}, PROFILE, 100).groups
    assert groups == ["(-inf,1000000)", "[1000000,1000001)", "[1000001,+inf)", "unknown"]


def _codes(schema: Schema, columns: Columns) -> Any:
    return schema.group_array(columns, columns.features.encoded(schema))[:, 0].astype(int)
