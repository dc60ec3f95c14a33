import asyncio
import json
import sys
from typing import Any

import pytest

import mlops_exporter.events
from mlops_exporter.counting.keys import hash_ids
from mlops_exporter.counting.model import Model
from mlops_exporter.events import texts
from mlops_exporter.events.columns import Decoded
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.formats import ARROW_STREAM
from mlops_exporter.events.reasons import REASONS, Reason
from mlops_exporter.events.schema import Schema
from mlops_exporter.events.texts import CHUNK_BYTES
from mlops_exporter.ingest.http import KSERVE, HttpSource
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.settings.sources import KServeSettings
from mlops_exporter.sources.base import ARROW_TYPE, Content, IntakeResult
from mlops_exporter.sources.kserve import KServe
from tests.models import NOW, forecasting, profiles

PROFILES = profiles() | {"load": forecasting()}
SCHEMAS = {name: Schema(name, profile) for name, profile in PROFILES.items()}
DECODER = Decoder(list(SCHEMAS.values()))
GOOD = b'{"model":"credit","score":0.5}'


def decode(body: bytes | str) -> Decoded:
    return DECODER.decode(body.encode() if isinstance(body, str) else body, NOW)


def features(body: bytes | str, model: str = "credit") -> list[tuple[list[float], list[int]]]:
    """Numbers and cells of the accepted events of a model."""
    numeric, codes, _ = decode(body).columns[model].features.encoded(SCHEMAS[model])
    return list(zip(numeric.T.tolist(), codes.T.tolist(), strict=True))


def event(model: str = "credit", **members: Any) -> str:
    return json.dumps({"model": model, **members})


# --- every reason ----------------------------------------------------------------------------------------------------


def kserve_event(kind: str, data: Any, identifier: str = "a") -> dict[str, Any]:
    kind = f"org.kubeflow.serving.inference.{kind}"
    return {"specversion": "1.0", "id": identifier, "type": kind, "inferenceservicename": "credit", "data": data}


CLOUD = "application/cloudevents+json"
REQUEST = kserve_event("request", {"instances": [{"amount": 1}]})
EXAMPLES: dict[Reason, tuple[str, str]] = {
    "malformed_json": ("application/json", '{"model":"credit",'),
    "not_an_object": ("application/json", '"credit"'),
    "missing_model": ("application/json", '{"score":0.5}'),
    "unknown_model": ("application/json", event("debit", score=0.5)),
    "missing_id": ("application/json", event(label=1)),
    "event_too_large": ("application/json", event(features={"country": "x" * 1_048_576})),
    "bad_id": ("application/json", event(id="", score=0.5)),
    "bad_version": ("application/json", event(version=["3"], score=0.5)),
    "forbidden_model": ("application/x-ndjson", event(score=0.5)),
    "too_many_versions": ("application/x-ndjson", event(version=1, score=0.5) + "\n" + event(version=2, score=0.5)),
    "bad_timestamp": ("application/json", event(ts="2023-11-14T22:13:20", score=0.5)),
    "future_timestamp": ("application/json", event(ts=NOW * 1000, score=0.5)),
    "bad_features": ("application/json", event(features=[1, 2])),
    "bad_groups": ("application/json", event(score=0.5, groups=["female"])),
    "bad_score": ("application/json", event(score=1.01)),
    "bad_prediction": ("application/json", event(prediction=[1])),
    "bad_label": ("application/json", event(id="a", label={})),
    "unknown_class": ("application/json", event(prediction=2)),
    "bad_latency": ("application/json", event(score=0.5, latency_seconds=-1)),
    "bad_outcome": ("application/json", event(score=0.5, outcomes={"rating": 6})),
    "bad_horizon": ("application/json", event("load", prediction=1, horizon="2h")),
    "bad_quantile": ("application/json", event("load", prediction=1, horizon="1h", quantiles={"0.1": 0})),
    "bad_naive": ("application/json", event("load", prediction=1, horizon="1h", naive=1e99)),
    "bad_target": ("application/json", event("load", prediction=1, horizon="1h", series="north")),
    "bad_error": ("application/json", event(error=500)),
    "nothing_to_count": ("application/json", event(id="a")),
    "bad_cloud_event": (CLOUD, json.dumps({**REQUEST, "id": ""})),
    "unknown_cloud_event_type": (CLOUD, json.dumps({**REQUEST, "type": "com.example.ping"})),
    "bad_payload": (CLOUD, json.dumps({**REQUEST, "data": {"text": "hello"}})),
    "unnamed_columns": (CLOUD, json.dumps({**REQUEST, "data": {"instances": [[1, 2]]}})),
    "unmapped_outputs": (CLOUD, json.dumps(kserve_event("response", {"predictions": [[0.25, 0.75]]}))),
    "rows_differ": (
        "application/cloudevents-batch+json",
        json.dumps([REQUEST, kserve_event("response", {"predictions": [0, 1]})]),
    ),
    "bad_arrow": (ARROW_TYPE, event(score=0.5)),
    "framed_by_schema_registry": ("application/x-ndjson", "\0\0\0\0\7Avro"),
}


OF_BODIES = {"unauthorized", "unsupported_type", "body_too_large", "too_many_events", "body_stalled", "bad_gzip"}
OF_LEDGERS = {reason for reason in REASONS if "ledger" in reason or "pane" in reason} | {
    "other_profile",
    "other_layout",
    "bad_cells",
}
"""See test_ledgers."""
ELSEWHERE = OF_BODIES | OF_LEDGERS | {"arrow_not_installed"}


@pytest.mark.slow
@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason not in ELSEWHERE])
def test_every_reason(reason: Reason) -> None:
    content_type, body = EXAMPLES[reason]

    async def post() -> tuple[IntakeResult, Intake]:
        limits = Limits(versions=1)
        rest = {"profile": "p", "outcomes": {"rating": {"low": 1, "high": 5}}}
        models = [
            Model(ModelSettings.model_validate({"name": name, "task": profile.task, **rest}), profile, limits)
            for name, profile in PROFILES.items()
        ]
        kserve = KServe(KServeSettings(), PROFILES)
        intake = Intake(models, ["push"], limits, translators={KSERVE: kserve})
        source = HttpSource("push", intake, kserve)
        models_of_token = frozenset({"another"}) if reason == "forbidden_model" else None
        result = await source.submit(body.encode(), NOW, Content(content_type), models=models_of_token)
        intake.flush()
        return result, intake

    result, intake = asyncio.run(post())
    number = 2 if reason in ("too_many_versions", "rows_differ") else 1
    assert list(result.errors) == [(number, reason)]
    assert result.rejected == 1
    assert {name for name, count in intake.sources["push"].rejected.items() if count} == {reason}


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_models_mix_in_one_body() -> None:
    lines = [event("price", prediction=1), event(score=0.5), event("iris", prediction="setosa"), event(score=0.25)]
    decoded = decode("\n".join(lines))
    assert {name: list(columns.lines) for name, columns in decoded.columns.items()} == {
        "price": [1],
        "credit": [2, 4],
        "iris": [3],
    }
    assert decoded.columns["credit"].scores == [0.5, 0.25]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n \t\n", b"\r\n\r\n"])
@pytest.mark.parametrize("last", [b"", b"\n", b"\n\n", b" "])
def test_line_ends_and_blank_lines(end: bytes, last: bytes) -> None:
    decoded = decode(end.join([GOOD, b"{", GOOD]) + last)
    assert decoded.accepted == 2
    each = end.count(b"\n")
    assert decoded.refused == [(1 + each, "malformed_json")]
    assert list(decoded.columns["credit"].lines) == [1, 1 + 2 * each]


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\n", b"[]", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_body_of_no_events(body: bytes) -> None:
    decoded = decode(body)
    assert (decoded.accepted, decoded.refused) == (0, [])


@pytest.mark.parametrize(
    "body", [GOOD, b"[" + GOOD + b"]", GOOD + b"\n{", json.dumps(json.loads(GOOD), indent=2).encode()]
)
def test_byte_order_mark(body: bytes) -> None:
    assert decode(b"\xef\xbb\xbf" + body).accepted == 1


def test_arrays_number_their_elements() -> None:
    decoded = decode(f"[{event(score=0.5)},\n7, {event(score=2)}, {event(score=0.5)}]")
    assert decoded.accepted == 2
    assert sorted(decoded.refused) == [(2, "not_an_object"), (3, "bad_score")]
    assert list(decoded.columns["credit"].lines) == [1, 4]


def test_one_object_over_several_lines() -> None:
    for indent in (None, 1, 4):
        assert (
            decode(json.dumps({"model": "credit", "features": {"amount": 1}, "score": 0.5}, indent=indent)).accepted
            == 1
        )
    assert decode('{"features":{"amount":1}\n,"model":"credit"}').accepted == 1
    assert decode('\n\n{\n"model":"debit"\n}').refused == [(1, "unknown_model")]


@pytest.mark.parametrize("bad", [b"{", b"[", b"[]", b"[1", b"]", b"}", b"nul", b"\xff\xfe", b"\x00", b'"'])
def test_a_bad_line_never_costs_others(bad: bytes) -> None:
    for lines in ([bad, GOOD, GOOD], [GOOD, bad, GOOD], [GOOD, GOOD, bad]):
        decoded = decode(b"\n".join(lines))
        assert (decoded.accepted, decoded.refused.total) == (2, 1)
        assert decoded.refused[0][0] == 1 + lines.index(bad)


def test_two_objects_on_a_line_are_malformed() -> None:
    assert decode(GOOD + GOOD + b"\n" + GOOD).refused == [(1, "malformed_json")]


@pytest.mark.parametrize(
    "body",
    [
        b"\n" + GOOD + GOOD,
        GOOD + b"\n\n" + GOOD + GOOD,
        GOOD + b" " + GOOD + b"\n \n" + GOOD,
        GOOD + b'\n{"model":"credit",\n"score":0.5}\n' + GOOD + GOOD,
        GOOD + b'\n{"model":"credit","features":\n{"amount":1}}\n' + GOOD + GOOD,
        GOOD + b'\n{"model":"credit","features":{"amount":1}\n,"score":0.5}\n' + GOOD + GOOD,
    ],
)
def test_a_line_is_one_event_even_where_the_numbers_of_both_agree(body: bytes) -> None:
    decoded = decode(body)
    lines = [line for line in body.split(b"\n") if line.strip()]
    assert decoded.accepted == lines.count(GOOD)
    assert decoded.refused.total == len(lines) - lines.count(GOOD)


@pytest.mark.slow
def test_chunk_boundaries() -> None:
    line = event(id="a", features={"amount": 1.5})
    for total in (CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1):
        first = line + " " * (total - len(line) - 1) + "\n"
        assert len(first) == total
        assert decode(first + line + "\n" + line).accepted == 3
    count = 3 * CHUNK_BYTES // len(line)
    decoded = decode("\n".join([line] * count + ["{"] + [line] * count))
    assert decoded.accepted == 2 * count
    assert decoded.refused == [(count + 1, "malformed_json")]
    assert list(decoded.columns["credit"].lines) == [*range(1, count + 1), *range(count + 2, 2 * count + 2)]


def test_long_strings() -> None:
    long = "x" * 1_000_000
    decoded = decode("\n".join([event(features={"country": long}), event(id=long, score=0.5), event(score=0.5)]))
    assert decoded.accepted == 2
    assert decoded.refused == [(2, "bad_id")]


def test_pauses_let_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "CHUNK_BYTES", 100)
    decoded = Decoded()
    steps = [decoded.accepted for _ in DECODER.decode_steps(b"\n".join([GOOD] * 30), NOW, decoded)]
    assert len(steps) >= 10
    assert steps == sorted(set(steps))


# --- values ----------------------------------------------------------------------------------------------------------

NAN, INFINITE = "missing", "invalid"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1.0),
        ("-0", 0.0),
        ("1.5e1", 15.0),
        ("18446744073709551617", 18446744073709551617.0),
        ("null", NAN),
        ("NaN", NAN),
        ("Infinity", INFINITE),
        ("-Infinity", INFINITE),
        ("1e999", INFINITE),
        ("-1e999", INFINITE),
        ("9" * 400, INFINITE),
        ('"1"', INFINITE),
        ("true", INFINITE),
        ("[]", INFINITE),
        ("{}", INFINITE),
    ],
)
def test_numeric_features(text: str, expected: float | str) -> None:
    ((amount, _), _) = features(f'{{"model":"credit","features":{{"amount":{text}}}}}')[0]
    assert ("missing" if amount != amount else "invalid" if amount == float("inf") else amount) == expected


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('"DE"', 0),
        ('"\\u0044E"', 0),
        ('"1"', 2),
        ("1", 2),
        ("1.0", 2),
        ('"1.0"', 2),
        ("true", 3),
        ("2", 3),
        ('"01"', 3),
        ('""', 5),
        ("1e400", 3),
        ('"\\ud800"', 3),
        ("[]", 4),
        ("{}", 4),
        ("null", 5),
        ("NaN", 5),
    ],
)
def test_categories_are_strings(text: str, cell: int) -> None:
    assert features(f'{{"model":"credit","features":{{"country":{text}}}}}')[0][1][0] == cell


@pytest.mark.parametrize(
    ("text", "cell"), [("false", 0), ("true", 1), ('"true"', 1), ("1", 2), ('"True"', 1), ("null", 4)]
)
def test_boolean_categories(text: str, cell: int) -> None:
    assert features(f'{{"model":"credit","features":{{"member":{text}}}}}')[0][1][1] == cell


def test_absent_features_are_missing_and_unknown_ones_ignored() -> None:
    (((amount, age), cells),) = features(event(features={"zeal": [1e5]}))
    assert amount != amount
    assert age != age
    assert cells == [5, 4]


@pytest.mark.parametrize("text", ["1", "1.0", '"1"', '"1.0"', "1e0"])
def test_classes_are_strings(text: str) -> None:
    columns = decode(f'{{"model":"credit","prediction":{text},"label":{text}}}').columns["credit"]
    assert (columns.predictions, columns.labels) == ([1], [1])


@pytest.mark.parametrize(("text", "expected"), [("7", "7"), ('"7"', "7"), ("9" * 30, "9" * 30), ('"é"', "é")])
def test_ids_are_strings(text: str, expected: str) -> None:
    ids = decode(f'{{"model":"credit","score":0.5,"id":{text}}}').columns["credit"].ids
    assert hash_ids(ids, 1).tolist() == hash_ids([expected], 1).tolist()


@pytest.mark.parametrize("text", ['""', '"' + "x" * 257 + '"', "9" * 257, "1.5", "true", "[]", '"\\ud800"'])
def test_ids_that_are_none(text: str) -> None:
    assert decode(f'{{"model":"credit","score":0.5,"id":{text}}}').refused == [(1, "bad_id")]


@pytest.mark.parametrize(
    ("text", "expected"), [("3", "3"), ("3.0", "3"), ('"3.0"', "3.0"), ("2.5", "2.5"), ("null", "default")]
)
def test_versions(text: str, expected: str) -> None:
    body = f'{{"model":"credit","score":0.5,"version":{text}}}'
    assert decode(body).columns["credit"].versions == [expected]
    assert decode(body[:-1] + ',"latency_seconds":NaN}').columns["credit"].versions == [expected]  # read by hand


@pytest.mark.parametrize("text", ['""', '"' + "x" * 65 + '"', "1e300", "9" * 65, "true", "NaN", '"\\ud800"'])
def test_versions_that_are_none(text: str) -> None:
    assert decode(f'{{"model":"credit","score":0.5,"version":{text}}}').refused == [(1, "bad_version")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (str(NOW - 60), NOW - 60),
        ("0", 0.0),
        ('"2023-11-14T22:13:19.5Z"', NOW - 0.5),
        ('"2023-11-14T23:13:20+01:00"', NOW),
        ('"1969-12-31T23:59:59Z"', -1.0),
        (str(NOW + 299), NOW),
        ("null", NOW),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert decode(f'{{"model":"credit","score":0.5,"ts":{text}}}').columns["credit"].times == [seconds]


@pytest.mark.parametrize(
    "text",
    ["-1", '"yesterday"', '"1700000000"', "NaN", "true", "[]", "9" * 400, '"\\ud800"', '"2023-02-30T00:00:00Z"', '""'],
)
def test_times_that_are_none(text: str) -> None:
    assert decode(f'{{"model":"credit","score":0.5,"ts":{text}}}').refused == [(1, "bad_timestamp")]


@pytest.mark.parametrize("text", ["1e999", "9" * 30, str(NOW * 1000)])
def test_times_to_come(text: str) -> None:
    assert decode(f'{{"model":"credit","score":0.5,"ts":{text}}}').refused == [(1, "future_timestamp")]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"setosa": 1}, (1.0, 0.0, 0.0)),
        ({"setosa": 0.5, "virginica": 0.495}, (0.5, 0.0, 0.495)),
        ({"setosa": None, "versicolor": 1}, (0.0, 1.0, 0.0)),
        ({"setosa": 0.5}, None),
        ({"setosa": 0.9, "virginica": 0.2}, None),
        ({"setosa": 1.5}, None),
        ({"rose": 1}, None),
        ({}, None),
        ([0.2, 0.8], None),
        ("1", None),
    ],
)
def test_scores_of_several_classes(scores: Any, expected: tuple[float, ...] | None) -> None:
    decoded = decode(event("iris", scores=scores))
    if expected is None:
        assert decoded.refused == [(1, "bad_score")]
    else:
        assert tuple(SCHEMAS["iris"].score_array(decoded.columns["iris"].scores)[0]) == expected


@pytest.mark.parametrize("text", ["1e51", "-1e51", "9" * 400, "Infinity", '"1"', "true", "[]"])
def test_regression_outcomes(text: str) -> None:
    assert decode(f'{{"model":"price","prediction":{text}}}').refused == [(1, "bad_prediction")]
    assert decode(f'{{"model":"price","id":"a","label":{text}}}').refused == [(1, "bad_label")]


def test_scores_of_a_regression_are_no_prediction() -> None:
    for text in ("0.5", "[]", '{"a":1}', "NaN"):
        assert decode(f'{{"model":"price","scores":{text}}}').refused == [(1, "nothing_to_count")]


def test_the_last_of_equal_keys_counts() -> None:
    columns = decode('{"model":"credit","score":0.25,"id":"a","score":0.75,"id":"b"}').columns["credit"]
    assert (columns.scores, columns.ids) == ([0.75], ["b"])


@pytest.mark.parametrize("depth", [100, 900, 5000, 1_000_000])
def test_deep_nesting(depth: int) -> None:
    body = b'{"model":"credit","score":0.5,"comment":' + b"[" * depth + b"]" * depth + b"}"
    for lines in ([body, GOOD], [GOOD, body]):
        decoded = decode(b"\n".join(lines))
        assert decoded.accepted + decoded.refused.total == 2
        assert decoded.accepted >= 1
        assert {reason for _, reason in decoded.refused} <= {"malformed_json", "event_too_large"}


def test_damaged_utf8_is_no_id_and_no_category() -> None:
    """Two damaged ids must not be one."""
    for member, reason in (("id", "bad_id"), ("version", "bad_version")):
        assert decode(b'{"model":"credit","score":0.5,"%b":"a\xff"}' % member.encode()).refused == [(1, reason)]
    assert features(b'{"model":"credit","features":{"country":"D\xff"}}')[0][1][0] == 3


def test_a_label_alone_has_no_version() -> None:
    columns = decode(event(id="a", label=1, version="7")).columns["credit"]
    assert (columns.versions, columns.labels) == ([None], [1])


def test_an_exporter_without_pyarrow_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mlops_exporter.events, "arrow", raising=False)
    monkeypatch.setitem(sys.modules, "mlops_exporter.events.arrow", None)
    reader = Decoder([Schema(name, profile) for name, profile in PROFILES.items()])
    assert reader.decode(ARROW_STREAM, NOW).refused == [(1, "arrow_not_installed")]
    assert "mlops-exporter[arrow]" in REASONS["arrow_not_installed"]
