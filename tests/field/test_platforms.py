"""What platforms send, as they send it."""

import json
from typing import Any

import numpy as np
import pytest

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.sources.base import Content
from mlops_exporter.sources.lines import MALFORMED, lines_of
from tests.models import NOW, profiles
from tests.support.kserve import cloud_event, events, kserve, take, translate

REQUEST = {"inputs": [{"name": "amount", "shape": [1], "datatype": "FP64", "data": [12.5]}]}
RESPONSE = {"outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [1]}]}


def joined(request: dict[str, Any], response: dict[str, Any], **more: Any) -> dict[str, Any]:
    adapter = kserve()
    assert events(take(adapter, cloud_event("request", request, "uuid-of-the-agent", **more))) == []
    (event,) = events(take(adapter, cloud_event("response", response, "uuid-of-the-agent", **more)))
    return event


def test_the_id_of_a_v2_payload_is_the_events() -> None:
    """KServe's agent invents the CloudEvent's id where the caller sends none; the caller knows only its own."""
    assert joined(REQUEST | {"id": "req-9"}, RESPONSE | {"id": "req-9"})["id"] == "req-9"
    assert joined(REQUEST | {"id": "req-9"}, RESPONSE)["id"] == "req-9"
    assert joined(REQUEST, RESPONSE | {"id": "made-by-the-server"})["id"] == "made-by-the-server"
    assert joined(REQUEST, RESPONSE)["id"] == "uuid-of-the-agent"


def test_the_version_of_a_v2_payload_is_the_events() -> None:
    """Otherwise old and new model share windows after a rollout."""
    assert joined(REQUEST, RESPONSE | {"model_version": "1.0"})["version"] == "1.0"
    assert joined(REQUEST, RESPONSE)["version"] == "default"


def test_what_waits_keeps_id_and_version_over_a_restart() -> None:
    adapter, restarted = kserve(), kserve()
    take(adapter, cloud_event("response", RESPONSE | {"id": "req-9", "model_version": "7"}))
    restarted.restore(adapter.state())
    (event,) = events(take(restarted, cloud_event("request", REQUEST)))
    assert (event["id"], event["version"]) == ("req-9", "7")


@pytest.mark.parametrize(
    ("datatype", "data", "value"),
    [
        ("FP64", np.array([12.5], "<f8").tobytes(), 12.5),
        ("FP32", np.array([12.5], "<f4").tobytes(), 12.5),
        ("FP16", np.array([12.5], "<f2").tobytes(), 12.5),
        ("BF16", (np.array([12.5], "<f4").view("<u4") >> 16).astype("<u2").tobytes(), 12.5),
        ("INT8", b"\xff", -1),
        ("BYTES", b"\x02\x00\x00\x00DE", "DE"),
    ],
)
def test_binary_tensors_follow_the_json(datatype: str, data: bytes, value: Any) -> None:
    """The protocol's binary data extension, as Triton and its clients use it."""
    tensor = {"name": "ä", "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    body = json.dumps({"inputs": [tensor]}, ensure_ascii=False).encode() + data
    event = cloud_event("request", None)
    attributes = {name: str(each) for name, each in event.items() if name != "data"}
    adapter = kserve()
    assert translate(adapter, Content("application/octet-stream", attributes), body).refused == []
    (taken,) = events(take(adapter, cloud_event("response", RESPONSE)))
    assert taken["features"] == {"ä": value}
    cut = translate(kserve(), Content("application/octet-stream", attributes), body[:-1])
    assert cut.refused == [(1, "bad_payload")]


@pytest.mark.parametrize("body", [b'{"inputs": 5}\x00', b'{"inputs": [3]}\x00', b"[]\x00", b"\xff"])
def test_what_is_neither_json_nor_tensors_is_refused(body: bytes) -> None:
    attributes = {name: str(each) for name, each in cloud_event("request", None).items() if name != "data"}
    assert translate(kserve(), Content("application/json", attributes), body).refused == [(1, "malformed_json")]


def test_seldons_events_of_the_same_shape_are_read() -> None:
    adapter = kserve()
    take(adapter, cloud_event("request", REQUEST, type="io.seldon.serving.inference.request"))
    (event,) = events(take(adapter, cloud_event("response", RESPONSE, type="io.seldon.serving.inference.response")))
    assert event["prediction"] == 1


AZURE = {"azureml": {"model": "credit", "outputs": {"probability": "score"}}}


def posted(kind: str, rows: Any, identifier: str = "req-1", **more: str) -> tuple[Content, bytes]:
    """What azureml-ai-monitoring 1.0.0 posts to /modeldata/log."""
    attributes = {
        "time": "1793523090",
        "type": f"azureml.inference.{kind}",
        "collect-data-type": "pandas.core.frame.DataFrame",
        "agent": "azureml-ai-monitoring/1.0.0",
        "x-request-id": identifier,
        **more,
    }
    return Content("application/json", attributes), json.dumps(rows).encode()


def test_azures_sdk_posts_inputs_and_outputs_apart() -> None:
    adapter = kserve(AZURE)
    rows = [{"amount": 12.5, "country": "DE"}, {"amount": None, "country": "FR"}]
    assert events(translate(adapter, *posted("model_inputs", rows, **{"model-version": "3"}))) == []
    outputs = [{"probability": 0.75}, {"probability": 0.25}]
    first, second = events(translate(adapter, *posted("model_outputs", outputs)))
    said = {"model": "credit", "version": "3", "ts": "2026-11-01T08:51:30+00:00"}
    assert first == said | {"id": "req-1/0", "features": rows[0], "score": 0.75}
    assert second == said | {"id": "req-1/1", "features": rows[1], "score": 0.25}
    assert adapter.counts["joined"] == 2


def test_a_deployment_of_azures_may_name_its_model() -> None:
    """By the headers of its correlation context, where several send to one exporter."""
    adapter = kserve()
    named = {"inferenceservicename": "credit"}
    translate(adapter, *posted("model_inputs", [{"amount": 1.0}], **named))
    (event,) = events(translate(adapter, *posted("model_outputs", [{"prediction": 1}], **named)))
    assert (event["id"], event["prediction"]) == ("req-1", 1)
    assert translate(kserve(), *posted("model_inputs", [])).refused == [(1, "unknown_model")]


def test_what_azures_data_collector_stores_may_be_posted_too() -> None:
    adapter = kserve(AZURE)
    stored = {"specversion": "1.0", "id": "8f", "time": "2026-11-01T08:51:30Z", "correlationid": "c1"}
    for kind, rows in (("inputs", [{"amount": 2.0}]), ("outputs", [{"probability": 0.5}])):
        taken = take(adapter, {**stored, "type": f"azureml.inference.model_{kind}", "modelversion": "3", "data": rows})
    (event,) = events(taken)
    assert (event["id"], event["version"], event["ts"]) == ("c1", "3", stored["time"])
    assert (event["features"], event["score"]) == ({"amount": 2.0}, 0.5)


@pytest.mark.parametrize("time", ["", "soon", "nan", "1e99"])
def test_azures_events_without_a_correlation_or_with_odd_times(time: str) -> None:
    assert translate(kserve(AZURE), *posted("model_inputs", [{}], "")).refused == [(1, "bad_cloud_event")]
    assert translate(kserve(AZURE), *posted("model_inputs", "no rows")).refused == [(1, "bad_payload")]
    assert translate(kserve(AZURE), *posted("model_inputs", [{"amount": 1.0}], time=time)).refused == []


def test_an_unknown_type_is_named_before_the_attributes_that_other_types_lack() -> None:
    event = {"specversion": "1.0", "id": "1", "type": "azureml.inference.model_inputs_outputs", "data": []}
    assert take(kserve(), event).refused == [(1, "unknown_cloud_event_type")]


def refusals(value: bytes) -> list[str]:
    """Why a message of a broker is refused."""
    body = b"\n".join(lines_of(value))
    decoder = Decoder([Schema(name, profile) for name, profile in profiles().items()])
    return [reason for _, reason in decoder.decode(body, NOW).refused]


def test_a_message_that_is_no_text_is_one_refusal() -> None:
    """Its line ends are none: one message had counted as four."""
    assert refusals(b"\x08\x96\n\x01\n\x02\n\x03") == ["malformed_json"]
    assert lines_of(b"\x89PNG\r\n\x1a\n") == [MALFORMED]
    assert lines_of("zwei\nZeilen ü".encode("latin-1")) == [MALFORMED]


def test_the_frame_of_a_schema_registry_is_named_and_json_behind_it_read() -> None:
    frame = b"\x00\x00\x00\x00\x07"
    assert refusals(frame + b"\x06\x0aabc") == ["framed_by_schema_registry"]
    assert lines_of(frame + b'{"model":"credit"}') == [b'{"model":"credit"}']
    assert lines_of(b'\x00\x00\x00\x0a\x0a[{"a":1},{"b":2}]') == [b'{"a":1}', b'{"b":2}']
