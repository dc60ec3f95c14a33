"""CloudEvents and Arrow streams over HTTP to the real exporter, with state and without."""

import gzip
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from mlops_exporter.sources.base import ARROW_TYPE
from tests.support.exporter import Exporter, running_exporter, write_config
from tests.support.prometheus import eventually

KSERVE = {"wait": "3s", "models": {"my-isvc": {"model": "credit", "outputs": {"predict_proba": "scores"}}}}
SOURCES = [{"name": "push", "http": {"kserve": KSERVE}}]


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    directory = tmp_path_factory.mktemp("exporter")
    write_config(directory, sources=SOURCES)
    with running_exporter(directory) as running:
        yield running


def attributes(kind: str, identifier: str, service: str = "credit", **more: str) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": identifier,
        "source": "http://localhost:9081/",
        "type": f"org.kubeflow.serving.inference.{kind}",
        "inferenceservicename": service,
        "namespace": "ml",
        "component": "predictor",
        "endpoint": "default",
        **more,
    }


def send(exporter: Exporter, kind: str, data: Any, identifier: str, service: str = "credit", **more: str) -> Any:
    """Send a CloudEvent as KServe's logger does: binary, with the content type of whoever asked the model."""
    headers = {f"Ce-{name.title()}": value for name, value in attributes(kind, identifier, service, **more).items()}
    headers["Content-Type"] = "application/x-www-form-urlencoded"  # as curl -d says
    return httpx.post(f"{exporter.url}/v1/events", content=json.dumps(data), headers=headers, trust_env=False)


def test_kserve_binary(exporter: Exporter) -> None:
    request = {"instances": [{"amount": 1.5, "country": "DE"}, {"amount": 25, "country": "??"}]}
    answer = send(exporter, "request", request, "b1", endpoint="canary")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "rejected": 0, "errors": []})
    assert exporter.value("ml_exporter_cloud_events_waiting", source="push") == 1
    answer = send(exporter, "response", {"predictions": [0, 1]}, "b1", endpoint="canary")
    assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
    assert exporter.value("ml_model_predictions_total", model="credit", version="canary") == 2
    assert (exporter.value("ml_exporter_cloud_events_total", outcome="joined") or 0) >= 2
    label = {"model": "credit", "id": "b1/1", "label": 1}
    assert httpx.post(f"{exporter.url}/v1/events", json=label, trust_env=False).status_code == 202
    assert exporter.value("ml_model_labels_total", model="credit", version="canary") == 1


def test_kserve_batch_in_the_v2_protocol(exporter: Exporter) -> None:
    def tensor(name: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
        return {"name": name, "shape": shape, "datatype": "FP64", "data": data}

    inputs = {"inputs": [tensor("amount", [3, 1], [1, 2, 3]), tensor("age", [3], [4, 5, 6])]}
    outputs = {"outputs": [tensor("predict_proba", [3, 2], [0.5, 0.5, 0.25, 0.75, 1, 0])]}
    batch = [
        {**attributes("response", "v2", "my-isvc", endpoint="v2"), "data": outputs},
        {**attributes("request", "v2", "my-isvc", endpoint="v2"), "data": inputs},
        {**attributes("request", "v3", "nobody"), "data": inputs},
    ]
    headers = {"content-type": "application/cloudevents-batch+json; charset=utf-8", "content-encoding": "gzip"}
    body = gzip.compress(json.dumps(batch).encode())
    answer = httpx.post(f"{exporter.url}/v1/events", content=body, headers=headers, trust_env=False)
    assert answer.status_code == 202
    said = (
        '`model` is not in the configuration; `inferenceservicename` is "nobody"; known are "credit", "iris", "price"'
    )
    refused = {"line": 3, "reason": "unknown_model", "detail": said}
    assert answer.json() == {"accepted": 3, "rejected": 1, "errors": [refused]}
    assert exporter.value("ml_model_predictions_total", model="credit", version="v2") == 3
    assert (exporter.value("ml_exporter_events_rejected_total", reason="unknown_model") or 0) >= 1


def test_a_request_that_stays_alone_is_counted_by_its_features(exporter: Exporter) -> None:
    send(exporter, "request", {"instances": [{"amount": 1}]}, "alone", endpoint="alone")
    eventually(lambda: exporter.value("ml_model_predictions_total", version="alone") == 1)
    assert exporter.value("ml_exporter_cloud_events_total", outcome="request_alone") == 1


def test_a_duplicate_is_dropped(exporter: Exporter) -> None:
    for _ in range(3):
        send(exporter, "request", {"instances": [{"amount": 1}]}, "twice", endpoint="twice")
        send(exporter, "response", {"predictions": [1]}, "twice", endpoint="twice")
    assert exporter.value("ml_model_predictions_total", model="credit", version="twice") == 1
    assert exporter.value("ml_exporter_cloud_events_total", outcome="duplicate") == 4


def test_a_page_in_a_browser_cannot_send(exporter: Exporter) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = httpx.post(f"{exporter.url}/v1/events", content="{}", headers=headers, trust_env=False)
    assert answer.status_code == 415


def arrow(n: int, version: str) -> bytes:
    columns = {"amount": [float(i % 40) for i in range(n)], "country": ["DE"] * n, "score": [0.75] * n}
    batch = pa.record_batch({**columns, "id": [f"{version}-{i}" for i in range(n)]})
    batch = batch.replace_schema_metadata({"model": "credit", "version": version})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_arrow(exporter: Exporter, coding: str) -> None:
    body = arrow(5000, coding)
    headers = {"content-type": ARROW_TYPE, "content-encoding": coding}
    content = gzip.compress(body, 1) if coding == "gzip" else body
    answer = httpx.post(f"{exporter.url}/v1/events", content=content, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 5000, "rejected": 0, "errors": []})
    assert exporter.value("ml_model_predictions_total", version=coding) == 5000
    assert exporter.value("ml_feature_values_total", version=coding, feature="country", bin="DE") == 5000


def test_arrow_that_is_none(exporter: Exporter) -> None:
    answer = httpx.post(
        f"{exporter.url}/v1/events", content=b"{}", headers={"content-type": ARROW_TYPE}, trust_env=False
    )
    said = "the body is not an Arrow IPC stream, or a column is not of the type that its name calls for"
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"line": 1, "reason": "bad_arrow", "detail": said}]


@pytest.mark.parametrize("kind", [ARROW_TYPE, "application/cloudevents-batch+json"])
def test_a_refusal_is_counted_by_reason_for_whoever_sends_a_key(exporter: Exporter, kind: str) -> None:
    headers = {"content-type": kind, "idempotency-key": f"of {kind}"}
    answer = httpx.post(f"{exporter.url}/v1/events", content=b"[{}]", headers=headers, trust_env=False)
    assert answer.status_code == 400
    said = answer.json()
    assert sum(said["refused"].values()) == said["rejected"] == 1
    assert [error["reason"] for error in said["errors"]] == list(said["refused"])


def test_what_was_answered_survives_a_kill_and_what_waits_survives_a_restart(tmp_path: Path) -> None:
    write_config(tmp_path, state={"path": str(tmp_path / "state")})
    with running_exporter(tmp_path) as exporter:
        assert send(exporter, "request", {"instances": [{"amount": 1}]}, "killed").status_code == 202
        assert send(exporter, "response", {"predictions": [1]}, "killed").status_code == 202
        answer = httpx.post(
            f"{exporter.url}/v1/events", content=arrow(100, "1"), headers={"content-type": ARROW_TYPE}, trust_env=False
        )
        assert answer.status_code == 202
        exporter.process.send_signal(signal.SIGKILL)
        exporter.process.wait()
    with running_exporter(tmp_path) as exporter:
        counted = exporter.scrape().by("version", "ml_model_predictions_total", model="credit")
        assert counted == {"default": 1, "1": 100}
        assert send(exporter, "request", {"instances": [{"amount": 1}]}, "stopped").json()["accepted"] == 0
        exporter.process.send_signal(signal.SIGTERM)
        exporter.process.wait(timeout=10)
    begin = time.time()
    with running_exporter(tmp_path) as exporter:
        assert exporter.value("ml_exporter_cloud_events_waiting", source="push") == 1
        assert send(exporter, "response", {"predictions": [1]}, "stopped").json()["accepted"] == 1
        assert exporter.value("ml_model_predictions_total", model="credit", version="default") == 2
        assert time.time() - begin < 55  # or it would have been counted alone
