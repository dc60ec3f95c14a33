import base64
import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec
import pytest

from mlops_exporter.events.arrays import STEP_BYTES, parse_steps
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.reasons import Refused
from mlops_exporter.events.schema import Schema
from mlops_exporter.sources.base import Content, Translated
from mlops_exporter.sources.kserve import PART_ROWS, Half, Kind, KServe, Reading
from tests.models import NOW, profiles
from tests.support.kserve import STRUCTURED, TIME, cloud_event, events, kserve, take, translate

BATCHED = Content("application/cloudevents-batch+json")

V1_REQUEST = {"instances": [{"amount": 12.5, "country": "DE"}]}
V1_RESPONSE = {"predictions": [1]}


def expire(adapter: KServe, now: float) -> Translated:
    expiry = adapter.expiry(now)
    assert expiry is not None
    return adapter.translate(expiry, now)


def joined(
    request: Any, response: Any, models: dict[str, Any] | None = None, service: str = "credit"
) -> list[dict[str, Any]]:
    """The events of a request and its response."""
    adapter = kserve(models)
    assert events(take(adapter, cloud_event("request", request, service=service))) == []
    return events(take(adapter, cloud_event("response", response, service=service)))


JOINED = {
    "model": "credit",
    "version": "default",
    "id": "a1",
    "ts": TIME,
    "features": {"amount": 12.5, "country": "DE"},
    "prediction": 1,
}


def binary(adapter: KServe, event: dict[str, Any]) -> Translated:
    attributes = {name: str(value) for name, value in event.items() if name not in ("data", "datacontenttype")}
    return translate(adapter, Content("application/json", attributes), json.dumps(event["data"]).encode())


def batched(adapter: KServe, event: dict[str, Any]) -> Translated:
    return translate(adapter, BATCHED, json.dumps([event]).encode())


def packed(adapter: KServe, event: dict[str, Any]) -> Translated:
    data = base64.b64encode(json.dumps(event.pop("data")).encode()).decode()
    return take(adapter, {**event, "data_base64": data})


def as_text(adapter: KServe, event: dict[str, Any]) -> Translated:
    return take(adapter, {**event, "data": json.dumps(event["data"])})


@pytest.mark.parametrize("send", [take, binary, batched, packed, as_text])
@pytest.mark.parametrize("response_first", [False, True])
def test_request_and_response_are_one_event(
    send: Callable[[KServe, dict[str, Any]], Translated], response_first: bool
) -> None:
    halves = [cloud_event("request", V1_REQUEST), cloud_event("response", V1_RESPONSE)]
    first, second = reversed(halves) if response_first else halves
    adapter = kserve()
    assert events(send(adapter, first)) == []
    assert adapter.waiting == 1
    assert events(send(adapter, second)) == [JOINED]
    assert adapter.waiting == 0
    assert adapter.counts["joined"] == 2


def test_a_batch_joins_within_itself_and_numbers_its_faults() -> None:
    adapter = kserve()
    batch = [
        cloud_event("request", V1_REQUEST),
        {**cloud_event("request", V1_REQUEST, "b"), "type": "com.example.other"},
        "no event",
        cloud_event("response", V1_RESPONSE),
        cloud_event("response", V1_RESPONSE, "c", service="unheard-of"),
    ]
    taken = translate(adapter, BATCHED, json.dumps(batch).encode())
    assert [json.loads(line) for line in taken.lines] == [JOINED]
    assert taken.origins == [4]
    assert taken.refused == [(2, "unknown_cloud_event_type"), (3, "not_an_object"), (5, "unknown_model")]


def test_several_rows_are_several_events() -> None:
    request = {"instances": [{"amount": 1}, {"amount": 2}, {"amount": [3]}]}
    made = joined(request, {"predictions": [0, [1], 1.0]})
    assert [event["id"] for event in made] == ["a1/0", "a1/1", "a1/2"]
    assert [event["features"]["amount"] for event in made] == [1, 2, 3]
    assert [event["prediction"] for event in made] == [0, 1, 1.0]


def test_rows_without_names_take_the_configured_ones() -> None:
    mapping = {"credit": {"features": ["amount", "country"]}}
    (event,) = joined({"instances": [[12.5, "DE"]]}, V1_RESPONSE, mapping)
    assert event == JOINED
    tensor = {"name": "input-0", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    made = joined({"inputs": [tensor]}, {"predictions": [0, 1]}, mapping)
    assert [event["features"] for event in made] == [{"amount": 1, "country": 2}, {"amount": 3, "country": 4}]
    (event,) = joined({"instances": [5]}, V1_RESPONSE, {"credit": {"features": ["amount"]}})
    assert event["features"] == {"amount": 5}


@pytest.mark.parametrize("nested", [False, True])
def test_v2_tensors(nested: bool) -> None:
    request = {
        "id": "another id",
        "inputs": [
            {"name": "amount", "shape": [2, 1], "datatype": "FP64", "data": [[1.5], [2.5]] if nested else [1.5, 2.5]},
            {"name": "country", "shape": [2], "datatype": "BYTES", "data": ["DE", "FR"]},
            {"name": "member", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        ],
    }
    probabilities = [[0.25, 0.75], [0.875, 0.125]] if nested else [0.25, 0.75, 0.875, 0.125]
    response = {
        "model_name": "m",
        "outputs": [
            {"name": "predict", "shape": [2, 1], "datatype": "INT64", "data": [1, 0]},
            {"name": "predict_proba", "shape": [2, 2], "datatype": "FP64", "data": probabilities},
        ],
    }
    mapping = {"credit": {"outputs": {"predict": "prediction", "predict_proba": "scores"}}}
    first, second = joined(request, response, mapping)
    assert first["features"] == {"amount": 1.5, "country": "DE", "member": True}
    assert (first["prediction"], first["score"]) == (1, 0.75)
    assert (second["prediction"], second["score"]) == (0, 0.125)
    assert second["id"] == "another id/1"


def test_class_order_of_scores() -> None:
    vector = {"predictions": [[0.5, 0.25, 0.25]]}
    request = {"instances": [{"width": 1}]}
    (event,) = joined(request, vector, {"iris": {"outputs": {"predictions": "scores"}}}, "iris")
    assert event["scores"] == {"setosa": 0.5, "versicolor": 0.25, "virginica": 0.25}
    order = {"outputs": {"predictions": "scores"}, "classes": ["virginica", "setosa", "versicolor"]}
    (event,) = joined(request, vector, {"iris": order}, "iris")
    assert event["scores"] == {"virginica": 0.5, "setosa": 0.25, "versicolor": 0.25}
    (event,) = joined(
        V1_REQUEST, {"predictions": [[0.9, 0.1]]}, {"credit": {"outputs": {"predictions": "scores"}, "classes": [1, 0]}}
    )
    assert event["score"] == 0.9


def test_named_outputs_of_v1() -> None:
    response = {"predictions": [{"label": 1, "probability": 0.7, "explanation": [1, 2]}]}
    (event,) = joined(V1_REQUEST, response, {"credit": {"outputs": {"label": "prediction", "probability": "score"}}})
    assert (event["prediction"], event["score"]) == (1, 0.7)


def test_service_names_map_to_models_and_endpoints_to_versions() -> None:
    mapping = {"ml/my-isvc": {"model": "credit"}, "my-isvc": {"model": "price"}, "other": {"model": "credit"}}
    adapter = kserve(mapping)
    for service, more, model, version in [
        ("my-isvc", {"endpoint": "canary"}, "credit", "canary"),
        ("my-isvc", {"namespace": "test"}, "price", "default"),
        ("other", {}, "credit", "default"),
    ]:
        take(adapter, cloud_event("request", V1_REQUEST, service, service, **more))
        (event,) = events(take(adapter, cloud_event("response", V1_RESPONSE, service, service, **more)))
        assert (event["model"], event["version"]) == (model, version)
    adapter = kserve({"credit": {"version": "revision"}})
    take(adapter, cloud_event("request", V1_REQUEST, revision="r7"))
    assert events(take(adapter, cloud_event("response", V1_RESPONSE, revision="r7")))[0]["version"] == "r7"


def test_canary_and_default_do_not_meet() -> None:
    adapter = kserve()
    assert events(take(adapter, cloud_event("request", V1_REQUEST, endpoint="canary"))) == []
    assert events(take(adapter, cloud_event("response", V1_RESPONSE, endpoint="default"))) == []
    assert adapter.waiting == 2


def test_other_components_are_ignored() -> None:
    adapter = kserve()
    assert events(take(adapter, cloud_event("request", V1_REQUEST, component="transformer"))) == []
    assert (adapter.waiting, adapter.counts["ignored"]) == (0, 1)
    adapter = kserve({"credit": {"component": "transformer"}})
    take(adapter, cloud_event("request", V1_REQUEST, component="transformer"))
    assert adapter.waiting == 1


def test_duplicates_are_dropped_before_and_after_the_join() -> None:
    adapter = kserve()
    request, response = cloud_event("request", V1_REQUEST), cloud_event("response", V1_RESPONSE)
    made = [len(events(take(adapter, event))) for event in (request, request, response, response, request)]
    assert made == [0, 0, 1, 0, 0]
    assert (adapter.counts["duplicate"], adapter.waiting) == (3, 0)


def test_memory_of_duplicates_is_bounded() -> None:
    adapter = kserve(remembered_events=2)
    for name in "abc":
        take(adapter, cloud_event("request", V1_REQUEST, name))
    take(adapter, cloud_event("request", V1_REQUEST, "b"))
    assert adapter.counts["duplicate"] == 1
    take(adapter, cloud_event("request", V1_REQUEST, "a"))
    assert adapter.counts["duplicate"] == 1


@pytest.mark.parametrize(("kind", "payload"), [("request", V1_REQUEST), ("response", V1_RESPONSE)])
def test_a_half_alone_is_counted_after_the_wait(kind: Kind, payload: Any) -> None:
    adapter = kserve(wait="60s")
    take(adapter, cloud_event(kind, payload))
    assert adapter.expiry(NOW + 59) is None
    (event,) = events(expire(adapter, NOW + 60))
    absent = "prediction" if kind == "request" else "features"
    assert event == {name: value for name, value in JOINED.items() if name != absent}
    assert {name for name, count in adapter.counts.items() if count} == {f"{kind}_alone"}
    assert adapter.expiry(NOW + 99) is None


def test_too_many_waiting_give_way_oldest_first() -> None:
    adapter = kserve(waiting_events=2)
    made = [event["id"] for name in "abcd" for event in events(take(adapter, cloud_event("request", V1_REQUEST, name)))]
    assert made == ["a", "b"]
    assert (adapter.waiting, adapter.counts["evicted"]) == (2, 2)


def test_waiting_bytes_are_bounded() -> None:
    adapter = kserve(waiting_bytes=1024)
    big = {"instances": [{"country": "x" * 600}]}
    for name in "abc":
        take(adapter, cloud_event("request", big, name))
    assert (adapter.waiting, adapter.counts["evicted"]) == (1, 2)
    huge = {"instances": [{"country": "x" * 6000}]}
    assert [event["id"] for event in events(take(adapter, cloud_event("request", huge, "d")))] == ["c", "d"]
    assert adapter.waiting == 0


def test_state_goes_on_after_a_restart() -> None:
    adapter = kserve()
    take(adapter, cloud_event("request", V1_REQUEST))
    take(adapter, cloud_event("request", V1_REQUEST, "done"))
    take(adapter, cloud_event("response", V1_RESPONSE, "done"))
    restarted = kserve(waiting_bytes=1024)
    restarted.restore(adapter.state())
    assert (restarted.waiting, restarted.counts["joined"]) == (1, 2)
    assert events(take(restarted, cloud_event("response", V1_RESPONSE))) == [JOINED]
    assert events(take(restarted, cloud_event("response", V1_RESPONSE, "done"))) == []
    assert restarted.counts["duplicate"] == 1
    assert restarted.state() != adapter.state()


def test_a_state_without_counts_is_taken_over() -> None:
    adapter = kserve()
    take(adapter, cloud_event("request", V1_REQUEST))
    waiting, remembered, _ = msgspec.msgpack.decode(adapter.state())
    restarted = kserve()
    restarted.restore(msgspec.msgpack.encode((waiting, remembered)))
    assert events(take(restarted, cloud_event("response", V1_RESPONSE))) == [JOINED]


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "amount", "shape": [1], "datatype": "FP32", "data": [1.0], **more}


REFUSED: list[tuple[str, Kind, Any]] = [
    ("bad_payload", "request", {"rows": []}),
    ("bad_payload", "request", [1, 2]),
    ("bad_payload", "request", {"inputs": []}),
    ("bad_payload", "request", {"inputs": {"amount": 1}}),
    ("bad_payload", "request", {"inputs": ["amount"]}),
    ("bad_payload", "request", {"inputs": [tensor(name=None)]}),
    ("bad_payload", "request", {"inputs": [tensor(shape=[2])]}),
    ("bad_payload", "request", {"inputs": [tensor(shape=[-1])]}),
    ("bad_payload", "request", {"inputs": [tensor(shape=[])]}),
    ("bad_payload", "request", {"inputs": [tensor(shape=[True])]}),
    ("bad_payload", "request", {"inputs": [tensor(shape=[1000000000, 0], data=[])]}),
    ("bad_payload", "request", {"inputs": [tensor(data=None, parameters={"binary_data_size": 4})]}),
    ("bad_payload", "request", {"inputs": [tensor(), tensor(name="age", shape=[2], data=[1, 2])]}),
    ("bad_payload", "response", {"error": "out of memory"}),
    ("unnamed_columns", "request", {"instances": [[1, 2]]}),
    ("unnamed_columns", "request", {"inputs": [tensor(shape=[1, 2], data=[1, 2])]}),
    ("unmapped_outputs", "response", {"predictions": [[0.1, 0.9]]}),
    ("unmapped_outputs", "response", {"predictions": [{"a": 1, "b": 2}]}),
    ("unmapped_outputs", "response", {"outputs": [tensor(name="a"), tensor(name="b")]}),
]


@pytest.mark.parametrize(("reason", "kind", "payload"), REFUSED)
def test_refused_payloads(reason: str, kind: Kind, payload: Any) -> None:
    adapter = kserve()
    taken = take(adapter, cloud_event(kind, payload))
    assert (taken.refused, taken.lines) == ([(1, reason)], [])
    assert adapter.waiting == 0
    assert take(adapter, cloud_event(kind, V1_REQUEST if kind == "request" else V1_RESPONSE)).refused == []


@pytest.mark.parametrize("payload", [{"predictions": [[0.1, 0.2, 0.7]]}, {"predictions": [{"other": 1}]}])
def test_outputs_that_the_mapping_does_not_fit(payload: Any) -> None:
    adapter = kserve({"credit": {"outputs": {"predictions": "scores"}}})
    assert take(adapter, cloud_event("response", payload)).refused == [(1, "unmapped_outputs")]


@pytest.mark.parametrize("missing", ["id", "type", "inferenceservicename", "data"])
def test_incomplete_cloud_events(missing: str) -> None:
    event = cloud_event("request", V1_REQUEST)
    del event[missing]
    assert take(kserve(), event).refused == [(1, "bad_cloud_event")]


@pytest.mark.parametrize("broken", [{"data_base64": "%"}, {"data_base64": 7}, {"id": "\ud800"}, {"id": 5}])
def test_broken_cloud_events(broken: dict[str, Any]) -> None:
    assert take(kserve(), {**cloud_event("request", V1_REQUEST), **broken}).refused == [(1, "bad_cloud_event")]


def test_bodies_that_are_no_json() -> None:
    for content, body, reason in [
        (STRUCTURED, b"{", "malformed_json"),
        (STRUCTURED, b"[]", "not_an_object"),
        (STRUCTURED, b"NaN", "not_an_object"),
        (BATCHED, b"{}", "not_an_object"),
        (BATCHED, b"", "malformed_json"),
        (Content("application/json", {**cloud_event("request", 0), "data": ""}), b"\x00\x01", "malformed_json"),
    ]:
        assert translate(kserve(), content, body).refused == [(1, reason)]


def test_different_numbers_of_rows_leave_the_first_waiting() -> None:
    adapter = kserve()
    take(adapter, cloud_event("request", V1_REQUEST))
    assert take(adapter, cloud_event("response", {"predictions": [0, 1]})).refused == [(1, "rows_differ")]
    assert adapter.waiting == 1
    assert events(take(adapter, cloud_event("response", V1_RESPONSE))) == [JOINED]


def test_json_that_only_python_writes() -> None:
    adapter = kserve()
    features = {"amount": float("nan"), "age": 10**30, "country": "\ud800"}
    event = cloud_event("request", {"instances": [features]})
    assert take(adapter, event).refused == []
    (line,) = expire(adapter, NOW + 100).lines
    decoded = Decoder([Schema("credit", profiles()["credit"])]).decode(line, NOW)
    assert (decoded.accepted, decoded.refused) == (1, [])


def test_deep_nesting_is_refused_or_passed_on() -> None:
    for depth in (10, 900, 2000, 100_000):
        data = b'{"instances":[{"amount":' + b"[" * depth + b"]" * depth + b"}]}"
        taken = translate(kserve(), Content("application/json", cloud_event("request", None) | {"data": ""}), data)
        assert taken.refused in ([], [(1, "malformed_json")], [(1, "event_too_large")])


LONG = [
    {"instances": [{"amount": n, "note": 'a "]" \\ ' * 9} for n in range(4000)]},
    {"inputs": [{"name": "amount", "shape": [40_000, 1], "datatype": "FP32", "data": [[n] for n in range(40_000)]}]},
    {"a": {"b": {"c": list(range(60_000))}}, "x" * 200_000: 1, "c": "y" * 200_000, "d": [["z" * 150_000, 2]] * 2},
]


def _kept(steps: Generator[None, None, Any], found: list[Any]) -> Iterator[None]:
    found.append((yield from steps))


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(LONG)))
def test_long_json_is_read_in_steps_as_at_once(place: int) -> None:
    for text in (json.dumps(LONG[place]), json.dumps(LONG[place], indent=1) + "\n"):
        found: list[Any] = []
        taken = len(list(_kept(parse_steps(text.encode(), json.loads), found)))
        assert found == [LONG[place]]
        assert taken > len(text) // STEP_BYTES


def test_long_json_that_is_none_is_refused() -> None:
    long = json.dumps(LONG[0])
    for text in (long[:-1], long[:-1] + "]", long + "}", long.replace(",", ",,", 1), "[" * 400_000, long + "[1]"):
        with pytest.raises((Refused, ValueError, RecursionError)):
            list(parse_steps(text.encode(), json.loads))


def test_an_event_of_too_many_rows_or_lists_is_refused() -> None:
    for rows in (10_001, 1_000_000):
        payload = {"instances": [[1]] * rows}
        content, data = Content("application/json", cloud_event("request", None) | {"data": ""}), json.dumps(payload)
        assert translate(kserve(), content, data.encode()).refused == [(1, "event_too_large")]


def test_a_body_of_many_rows_is_taken_in_parts() -> None:
    halves = [Half(("m", "1", str(n)), "request", None, n, [b"{}"] * 50) for n in range(1, 101)]
    parts = list(Reading(halves, [(101, "bad_payload")], 1).parts())
    assert [half for part in parts for half in part.halves] == halves
    assert max(sum(len(half.rows) for half in part.halves) for part in parts) <= PART_ROWS
    assert [(len(part.refused), part.ignored) for part in parts] == [(1, 1)] + [(0, 0)] * (len(parts) - 1)
