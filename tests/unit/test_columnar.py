import datetime as dt
import json
import uuid
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import Decoded
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.formats import ARROW_STREAM
from mlops_exporter.events.schema import Schema
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.models import NOW, profiles

PROFILES = profiles()
DECODER = Decoder([Schema(name, profile) for name, profile in PROFILES.items()])


def stream(*batches: Any, metadata: dict[str, str] | None = None, **options: Any) -> bytes:
    """An Arrow IPC stream of record batches, or of dicts of columns."""
    made = [pa.record_batch(batch) if isinstance(batch, dict) else batch for batch in batches]
    schema = made[0].schema.with_metadata({"model": "credit"} if metadata is None else metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in made:
            writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    assert body.startswith(ARROW_STREAM)
    return body


def decode(*batches: Any, **more: Any) -> Decoded:
    return DECODER.decode(stream(*batches, **more), NOW)


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    """The accepted events, with NaN as None."""
    found = []
    for name, columns in decoded.columns.items():
        schema = Schema(name, PROFILES[name])
        numeric, codes, _ = columns.features.encoded(schema)
        values = iter([*zip(numeric.T.tolist(), codes.T.tolist(), strict=True)])
        scores = schema.score_array(columns.scores).tolist() if PROFILES[name].classes else [[]] * len(columns)
        for row in range(len(columns)):
            event = {
                "model": name,
                "line": columns.lines[row],
                "id": columns.ids[row],
                "time": columns.times[row],
                "version": columns.versions[row],
                "features": next(values) if columns.features.present[row] else None,
                "score": scores[row],
                "prediction": columns.predictions[row],
                "label": columns.labels[row],
                "latency": columns.latencies[row],
                "error": columns.errors[row],
            }
            found.append(json.loads(json.dumps(event, default=float).replace("NaN", "null")))
    return sorted(found, key=lambda event: int(event["line"]))


def test_a_stream_says_what_the_same_events_say_in_json() -> None:
    events: list[dict[str, Any]] = [
        {"model": "credit", "version": "7", "id": "a", "ts": NOW - 5, "score": 0.25, "prediction": 1, "features": f}
        for f in (
            {"amount": 1.5, "country": "DE", "age": 5, "member": True},
            {"amount": None, "country": "1", "age": -3, "member": None},
            {"amount": float("inf"), "country": "nowhere", "age": None, "member": False},
            {"amount": float("-inf"), "country": "1.0", "age": 0, "member": True},
        )
    ]
    events += [
        {"model": "iris", "id": "b", "scores": {"setosa": 0.25, "virginica": 0.75}, "features": {"width": 1.0}},
        {"model": "iris", "id": "c", "prediction": "setosa", "label": "virginica", "latency_seconds": 0.5},
        {"model": "price", "version": "2", "prediction": 12.5, "error": "boom"},
        {"model": "price", "id": "d", "label": 7.25},
    ]
    scores = pa.struct([("setosa", pa.float64()), ("virginica", pa.float64())])
    features = pa.struct(
        [
            ("amount", pa.float64()),
            ("country", pa.string()),
            ("age", pa.int32()),
            ("member", pa.bool_()),
            ("width", pa.float32()),
        ]
    )
    table = {
        "model": pa.array([event["model"] for event in events]).dictionary_encode(),
        "version": pa.array([event.get("version") for event in events]),
        "id": pa.array([event.get("id") for event in events]),
        "ts": pa.array([event.get("ts") for event in events]),
        "score": pa.array([event.get("score") for event in events]),
        "scores": pa.array([event.get("scores") for event in events], scores),
        "label": pa.array([str(event["label"]) if "label" in event else None for event in events]),
        "latency_seconds": pa.array([event.get("latency_seconds") for event in events]),
        "error": pa.array([event.get("error") for event in events]),
        "features": pa.array([event.get("features") for event in events], features),
    }
    price = {
        **table,
        "label": pa.array([event.get("label") for event in events[6:]]),
        "prediction": pa.array([12.5, None]),
    }
    price = {name: column if len(column) == 2 else column[6:] for name, column in price.items()}
    classes = {**table, "prediction": pa.array([str(e["prediction"]) if "prediction" in e else None for e in events])}
    classes = {name: column[:6] for name, column in classes.items()}
    body = "\n".join(json.dumps(event) for event in events).encode()
    expected = rows(DECODER.decode(body, NOW))
    assert len(expected) == len(events)
    got = rows(decode(classes)) + [{**event, "line": event["line"] + 6} for event in rows(decode(price))]
    assert got == expected


def test_columns_of_any_other_name_are_features() -> None:
    (event,) = rows(decode({"amount": [1.5], "country": ["FR"], "comment": ["not a feature"], "score": [0.5]}))
    assert event["features"] == [[1.5, None], [1, 4]]
    assert (event["version"], event["time"], event["id"]) == ("default", NOW, None)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 2], pa.int8()), [1.0, 2.0]),
        (pa.array([1, 2], pa.uint64()), [1.0, 2.0]),
        (pa.array([1.5, None], pa.float32()), [1.5, None]),
        (pa.array([np.float16(1.5), None], pa.float16()), [1.5, None]),
        (pa.array([1, None]).cast(pa.decimal128(30, 2)), [1.0, None]),
        (pa.array([7, 7]).dictionary_encode(), [7.0, 7.0]),
        (pa.array(["1", None]), [float("inf"), None]),
        (pa.array([True, False]), [float("inf"), float("inf")]),
        (pa.array([[1], None]), [float("inf"), None]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)
def test_types_of_numeric_features(column: Any, expected: list[float | None]) -> None:
    assert [event["features"][0][0] for event in rows(decode({"amount": column}))] == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["DE", None, "??"]), [0, 5, 3]),
        (pa.array(["DE", None, "1.0"], pa.large_string()), [0, 5, 2]),
        (pa.array(["FR", None, "FR"]).dictionary_encode(), [1, 5, 1]),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(["FR", None])), [1, 5, 5]),
        (pa.array([1, None, 2]), [2, 5, 3]),
        (pa.array([1.0, float("nan"), 1.5]), [2, 5, 3]),
        (pa.array([True, None, False]), [3, 5, 3]),
        (pa.array([{"a": 1}, None, {"a": 2}]), [4, 5, 4]),
        (pa.nulls(3), [5, 5, 5]),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)
def test_types_of_categorical_features(column: Any, expected: list[int]) -> None:
    assert [event["features"][1][0] for event in rows(decode({"country": column}))] == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps(unit: str) -> None:
    moment = dt.datetime.fromtimestamp(NOW - 60, dt.UTC)
    column = pa.array([moment, None], pa.timestamp(unit, "Europe/Berlin"))
    assert [event["time"] for event in rows(decode({"score": [0.5, 0.5], "ts": column}))] == [NOW - 60, NOW]


BAD_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("bad_timestamp", {"score": [0.5] * 2, "ts": [NOW, float("nan")]}),
    ("bad_timestamp", {"score": [0.5] * 2, "ts": [NOW, -1.0]}),
    ("bad_timestamp", {"score": [0.5] * 2, "ts": pa.array([None, 0], pa.timestamp("s"))}),
    ("future_timestamp", {"score": [0.5] * 2, "ts": [NOW, NOW + 301]}),
    ("bad_score", {"score": [0.5, 1.5]}),
    ("bad_score", {"score": [0.5, float("inf")]}),
    ("bad_id", {"score": [0.5] * 2, "id": ["a", ""]}),
    ("bad_id", {"score": [0.5] * 2, "id": ["a", "x" * 257]}),
    ("bad_version", {"score": [0.5] * 2, "version": ["a", ""]}),
    ("bad_version", {"score": [0.5] * 2, "version": ["a", "x" * 65]}),
    ("bad_latency", {"score": [0.5] * 2, "latency_seconds": [0.0, -0.5]}),
    ("bad_latency", {"score": [0.5] * 2, "latency_seconds": [0.0, float("inf")]}),
    ("bad_latency", {"score": [0.5] * 2, "latency_seconds": [1e6, 1e6 + 1]}),
    ("unknown_class", {"prediction": ["1", "2"]}),
    ("unknown_class", {"score": [0.5] * 2, "label": [None, 7]}),
    ("nothing_to_count", {"prediction": ["1", None]}),
    ("missing_id", {"prediction": ["1", None], "label": ["1", "1"]}),
    ("missing_id", {"prediction": ["1", None], "label": ["1", "1"], "id": ["a", None]}),
    ("unknown_model", {"score": [0.5] * 2, "model": ["credit", "debit"]}),
    ("missing_model", {"score": [0.5] * 2, "model": ["credit", None]}),
]


@pytest.mark.parametrize(("reason", "columns"), BAD_ROWS)
def test_bad_rows_cost_nobody_else(reason: str, columns: dict[str, Any]) -> None:
    decoded = decode(columns)
    assert decoded.refused == [(2, reason)]
    assert [event["line"] for event in rows(decoded)] == [1]


def test_bad_rows_of_other_tasks() -> None:
    scores = pa.array([{"setosa": 1.0, "virginica": 0.0}, {"setosa": 0.5, "virginica": 0.0}])
    assert decode({"scores": scores}, metadata={"model": "iris"}).refused == [(2, "bad_score")]
    rose = pa.array([None, {"rose": 1.0}], pa.struct([("rose", pa.float64())]))
    decoded = decode({"scores": rose, "width": [1.0, 1.0]}, metadata={"model": "iris"})
    assert decoded.refused == [(2, "bad_score")]
    decoded = decode({"prediction": [3e4, 3.1e4], "label": [1.0, 1.0]}, metadata={"model": "price"})
    assert decoded.refused == [(2, "bad_prediction")]
    decoded = decode({"prediction": [1.0, 1.0], "label": [-3e4, -3.1e4]}, metadata={"model": "price"})
    assert decoded.refused == [(2, "bad_label")]


def test_a_model_that_is_no_text_refuses_the_stream() -> None:
    decoded = decode({"score": [0.5], "model": pa.array([{"name": "credit"}])})
    assert (decoded.refused, decoded.accepted) == ([(1, "bad_arrow")], 0)


def test_no_model_at_all() -> None:
    assert decode({"score": [0.5]}, metadata={}).refused == [(1, "missing_model")]
    assert decode({"score": [0.5]}, metadata={"model": "debit"}).refused == [(1, "unknown_model")]


def test_several_record_batches_are_one_body() -> None:
    first, second = (pa.record_batch({"country": pa.array(v).dictionary_encode()}) for v in (["DE"], ["FR", "DE"]))
    decoded = decode(first, second)
    assert [event["features"][1][0] for event in rows(decoded)] == [0, 1, 0]
    assert [event["line"] for event in rows(decoded)] == [1, 2, 3]
    assert decode({"score": pa.array([], pa.float64())}).accepted == 0


def test_a_stream_cut_short_gives_what_came_before() -> None:
    batch = pa.record_batch({"score": [0.5] * 100})
    body = stream(batch, batch)
    decoded = DECODER.decode(body[:-200], NOW)
    assert decoded.accepted == 100
    assert decoded.refused == [(101, "bad_arrow")]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_unread(codec: str) -> None:
    bomb = stream({"score": np.zeros(10_000_000)}, compression=codec)
    assert DECODER.decode(bomb, NOW).refused == [(1, "bad_arrow")]
    words = pa.array(["x" * 100_000]).dictionary_encode()
    assert DECODER.decode(stream({"country": words}, compression=codec), NOW).refused == [(1, "bad_arrow")]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [10_000, 1_000_000_000])
def test_rows_without_data_are_bounded(rows: int) -> None:
    empty = pa.record_batch({"amount": pa.nulls(rows), "score": pa.nulls(rows)})
    assert DECODER.decode(stream(empty), NOW).refused == [(1, "bad_arrow")]


def test_narrow_rows_are_taken() -> None:
    n = 10_000
    narrow = {"member": np.zeros(n, np.bool_), "score": np.full(n, 0.5, np.float32)}
    assert decode(narrow).accepted == n


@pytest.mark.slow
def test_damaged_streams_never_raise() -> None:
    good = stream(
        {
            "id": ["a", "b", "c"],
            "country": pa.array(["DE", "FR", None]).dictionary_encode(),
            "amount": [1.0, 2.0, None],
            "score": [0.5, 0.5, 0.5],
            "features": pa.array([{"age": 1.0}, None, {"age": 2.0}]),
        }
    )
    random = Random(3)
    accepted = refused = 0
    for _ in range(3000):
        body = bytearray(good)
        for _ in range(random.choice([1, 1, 2, 8])):
            body[random.randrange(4, len(body))] = random.choice([0, 1, 127, 128, 255, random.randrange(256)])
        decoded = DECODER.decode(bytes(body[: random.choice([len(body), random.randrange(4, len(body))])]), NOW)
        accepted += decoded.accepted
        refused += decoded.refused.total
        for columns in decoded.columns.values():
            assert len({len(columns.lines), len(columns.ids), len(columns.times), len(columns.versions)}) == 1
    assert min(accepted, refused) > 500


@pytest.mark.parametrize("make", [lambda: b"\xff\xff\xff\xff", lambda: stream({"score": [0.5]})[:100]])
def test_streams_without_a_row(make: Callable[[], bytes]) -> None:
    assert DECODER.decode(make(), NOW).refused == [(1, "bad_arrow")]


NAMED = [uuid.UUID(int=Random(number).getrandbits(128), version=4) for number in range(50)]
BYTES = pa.array([*(each.bytes for each in NAMED), None], pa.binary(16))


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(BYTES, id="sixteen bytes"),
        pytest.param(pa.concat_arrays([BYTES, BYTES]).slice(51), id="a slice"),
        pytest.param(BYTES.dictionary_encode(), id="a dictionary"),
        *(
            [pytest.param(pa.ExtensionArray.from_storage(pa.uuid(), BYTES), id="the extension type")]
            if hasattr(pa, "uuid")  # since Arrow 18
            else []
        ),
    ],
)
def test_uuids_are_read_as_their_text(column: Any) -> None:
    ids = decode({"id": column, "score": [0.5] * 51}).columns["credit"].ids
    assert [*ids] == [*map(str, NAMED), None]


def test_sixteen_bytes_that_are_text_are_one_and_a_single_uuid_never() -> None:
    may_be_utf8 = uuid.UUID("41414141-4141-4141-8241-414141414141").bytes.replace(b"A\x82", b"\xc3\x82")
    assert may_be_utf8.decode()
    for cells, text in (
        (b"order-2026-00017", "order-2026-00017"),
        (may_be_utf8, str(uuid.UUID(bytes=may_be_utf8))),
        (bytes(range(240, 256)), str(uuid.UUID(bytes=bytes(range(240, 256))))),
    ):
        decoded = decode({"id": pa.array([cells], pa.binary(16)), "score": [0.5]})
        assert [*decoded.columns["credit"].ids] == [text]


def test_counting_a_stream_and_its_events_in_json_gives_the_same_ledger() -> None:
    random = np.random.default_rng(5)
    n = 3000
    amounts, ages = random.normal(15, 10, n), random.normal(15, 10, n)
    countries = random.choice(["DE", "FR", "1", "IT"], n)
    scores = random.random(n)
    body = stream({"amount": amounts, "age": ages, "country": countries, "score": scores, "ts": np.full(n, NOW)})
    lines = [
        {"model": "credit", "ts": NOW, "score": score, "features": {"amount": a, "age": b, "country": c}}
        for a, b, c, score in zip(amounts.tolist(), ages.tolist(), countries.tolist(), scores.tolist(), strict=True)
    ]
    ledgers = []
    for each in (body, "\n".join(map(json.dumps, lines)).encode()):
        settings = ModelSettings.model_validate({"name": "credit", "task": "binary", "profile": "credit.json"})
        model = Model(settings, PROFILES["credit"], Limits())
        columns = DECODER.decode(each, NOW).columns["credit"]
        model.admit({"default"})
        model.count(columns)
        ledgers.append(model.versions["default"].lifetime)
    assert ledgers[0].sum() > 5 * n
    np.testing.assert_allclose(ledgers[0], ledgers[1])


def test_arrow_and_json_bodies_mix() -> None:
    decoded = decode({"score": [0.5, 0.25]})
    more = DECODER.decode(b'{"model":"credit","score":0.75,"id":"z"}', NOW)
    for name, columns in more.columns.items():
        decoded.add(name, columns)
    assert [event["score"] for event in rows(decoded)] == [[0.5], [0.75], [0.25]]
    assert decoded.columns["credit"].older_than(NOW + 1) == 3
    kept = decoded.columns["credit"].keep([True, False, True], Schema("credit", PROFILES["credit"]))
    assert (len(kept), kept.older_than(NOW)) == (2, 0)
