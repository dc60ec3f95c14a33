"""The recipes of docs/platforms.md on records in the shapes that the platforms document."""

import asyncio
import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.sources.table import make
from mlops_exporter.tables import captured
from tests.models import profiles
from tests.sink import RecordingSink
from tests.support.tables import told

PROFILE = profiles()["credit"]
SCHEMA = Schema("credit", PROFILE)
DOCUMENT = Path(__file__).parents[2] / "docs" / "platforms.md"
NAMES = ["amount", "age", "country", "member"]
ROWS: list[dict[str, Any]] = [
    {"amount": 12.5, "age": 41, "country": "DE", "member": True},
    {"amount": 20.0, "age": None, "country": "FR", "member": False},
]


def recipes(heading: str) -> list[dict[str, Any]]:
    section = DOCUMENT.read_text().split(f"\n## {heading}")[1].split("\n## ")[0]
    (block,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    sources: list[dict[str, Any]] = yaml.safe_load(block)["sources"]
    return sources


def taken(recipe: dict[str, Any], place: Path, count: int, **settings: Any) -> dict[str, list[Any]]:
    """What the intake makes of the files at a place, by the documented recipe."""
    recipe = recipe | {"table": recipe["table"] | {"path": str(place), "settle": "0", "interval": "1s", **settings}}
    source = make(SourceSettings.model_validate(recipe), {"credit": PROFILE})
    sink = RecordingSink()
    asyncio.run(told(source, sink, count))
    assert source.health.error is None
    found: dict[str, list[Any]] = {"ids": [], "scores": [], "times": [], "versions": [], "labels": [], "amount": []}
    for body in sink.bodies:
        decoded = Decoder([SCHEMA]).decode(body, time.time())
        assert not decoded.refused
        columns = decoded.columns["credit"]
        for name in ("ids", "times", "versions"):
            found[name] += list(getattr(columns, name))
        found["scores"] += np.asarray(columns.scores, float).ravel().tolist()
        found["labels"] += np.asarray(columns.labels, float).tolist()
        found["amount"] += columns.features.encoded(SCHEMA).numeric[0].tolist()
        found.setdefault("errors", []).extend(columns.errors)
        found.setdefault("predictions", []).extend(np.asarray(columns.predictions, float).tolist())
    return found


def lines(path: Path, *records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def azureml(kind: str, identifier: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": "8f", "source": "/subscriptions/s/onlineEndpoints/e/deployments/d",
        "type": f"azureml.inference.{kind}", "datacontenttype": "application/json", "time": "2026-11-01T08:51:30Z",
        "data": rows, "correlationid": identifier, "xrequestid": "x", "modelversion": "3",
        "collectdatatype": "pandas.core.frame.DataFrame", "agent": "azureml-ai-monitoring/0.1.0b4",
        "contentrange": "bytes 0-116/117",
    }  # fmt: skip


def test_azureml_joins_inputs_and_outputs_by_their_correlation_id(tmp_path: Path) -> None:
    (recipe,) = recipes("Azure ML")
    outputs = [{"predictions": 1, "probability": 0.75}, {"predictions": 0, "probability": 0.25}]
    lines(
        tmp_path / "model_inputs" / "2026" / "11" / "01" / "08" / "a.jsonl",
        azureml("model_inputs", "c1", ROWS),
        azureml("model_inputs", "c2", ROWS[:1]),
    )
    sink = RecordingSink()
    settings = recipe["table"] | {"path": str(tmp_path), "settle": "0", "interval": "1s"}
    waiting = make(SourceSettings.model_validate(recipe | {"table": settings}), {"credit": PROFILE})
    asyncio.run(told(waiting, sink, 0))
    assert not sink.bodies, "the outputs are not there yet"
    lines(
        tmp_path / "model_outputs" / "2026" / "11" / "01" / "08" / "a.jsonl",
        azureml("model_outputs", "c2", outputs[:1]),
        azureml("model_outputs", "c1", outputs),
    )
    found = taken(recipe, tmp_path, 3)
    assert found["ids"] == ["c2", "c1/0", "c1/1"]
    assert found["scores"] == [0.75, 0.75, 0.25]
    assert found["amount"] == [12.5, 12.5, 20.0]
    assert found["versions"] == ["3"] * 3
    assert found["times"][0] == 1_793_523_090.0


def sagemaker(data: str, encoding: str, answer: str, kind: str, number: int) -> dict[str, Any]:
    return {
        "captureData": {
            "endpointInput": {"observedContentType": kind, "mode": "INPUT", "data": data, "encoding": encoding},
            "endpointOutput": {"observedContentType": kind, "mode": "OUTPUT", "data": answer, "encoding": encoding},
        },
        "eventMetadata": {"eventId": f"event-{number}", "inferenceTime": "2026-11-01T23:33:12Z"},
        "eventVersion": "0",
    }


@pytest.mark.parametrize("coding", ["CSV", "JSON", "BASE64"])
def test_sagemaker_captures_and_ground_truth(tmp_path: Path, coding: str) -> None:
    capture, truth = recipes("SageMaker")
    order = list(PROFILE.features)
    cells = ["" if ROWS[0].get(name) is None else str(ROWS[0][name]).lower() for name in order]
    kind, data, answer = "text/csv", ",".join(cells).replace("de", "DE"), "0.75"
    if coding == "JSON":
        kind = "application/json"
        data, answer = (
            json.dumps({"instances": [{"features": [ROWS[0].get(n) for n in order]}]}),
            '{"predictions":[0.75]}',
        )
    if coding == "BASE64":
        data, answer = (base64.b64encode(text.encode()).decode() for text in (data, answer))
    lines(tmp_path / "captured" / "a.jsonl", *(sagemaker(data, coding, answer, kind, number) for number in range(3)))
    found = taken(capture, tmp_path / "captured", 3)
    assert found["ids"] == ["event-0", "event-1", "event-2"]
    assert found["scores"] == [0.75] * 3
    assert found["amount"] == [12.5] * 3
    label = {"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata": {"eventId": "event-1"},
             "eventVersion": "0"}  # fmt: skip
    lines(tmp_path / "truth" / "a.jsonl", label)
    found = taken(truth, tmp_path / "truth", 1)
    assert (found["ids"], found["labels"], found["versions"]) == (["event-1"], [1.0], [None])


def kserve(kind: str, payload: Any, identifier: str) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(payload).encode()).decode()
    return {
        "Url": {"Scheme": "http", "Host": "logger"}, "Bytes": data, "ContentType": "application/json",
        "ReqType": f"org.kubeflow.serving.inference.{kind}", "Id": identifier, "SourceUri": None,
        "InferenceService": "credit", "Namespace": "default", "Component": "predictor", "Endpoint": "",
        "Metadata": {}, "Annotations": {}, "CertName": "", "TlsSkipVerify": False,
    }  # fmt: skip


@pytest.mark.parametrize("layout", ["two files", "one array", "parquet"])
def test_kserves_stored_records(tmp_path: Path, layout: str) -> None:
    (recipe,) = recipes("KServe")
    tensors = [
        {"name": name, "shape": [2], "datatype": kind, "data": [row[name] for row in ROWS]}
        for name, kind in (("amount", "FP64"), ("country", "BYTES"))
    ]
    answer = {
        "model_version": "3",
        "id": "r1",
        "outputs": [{"name": "y", "shape": [2], "datatype": "INT64", "data": [1, 0]}],
    }
    records = [kserve("request", {"id": "r1", "inputs": tensors}, "a"), kserve("response", answer, "a")]
    if layout == "two files":
        for kind, record in zip(("request", "response"), records, strict=True):
            lines(tmp_path / f"a-{kind}.json", record)
    elif layout == "one array":
        (tmp_path / "a.json").write_text(json.dumps(records, indent=1))
    else:
        rows = [{name[0].lower() + name[1:]: str(value) for name, value in record.items()} for record in records]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = taken(recipe, tmp_path, 2)
    assert found["ids"] == ["r1/0", "r1/1"]
    assert found["predictions"] == [1.0, 0.0]
    assert found["amount"] == [12.5, 20.0]
    assert found["versions"] == ["3", "3"]


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
def test_databricks_inference_tables(tmp_path: Path, form: str) -> None:
    (recipe,) = recipes("MLflow and Databricks")
    values: Any = ROWS
    if form == "dataframe_split":
        values = {"columns": NAMES, "data": [[row[name] for name in NAMES] for row in ROWS]}
    elif form == "inputs":
        values = {name: [row[name] for row in ROWS] for name in NAMES}
    base = {"date": "2026-11-01", "timestamp_ms": 1_793_523_090_500, "sampling_fraction": 1.0, "execution_time_ms": 40,
            "request": json.dumps({form: values}),
            "request_metadata": [("endpoint_name", "e"), ("model_name", "credit"), ("model_version", "3")]}  # fmt: skip
    records = [
        base | {"databricks_request_id": "d1", "client_request_id": "mine", "status_code": 200,
                "response": json.dumps({"predictions": [0.75, 0.25]})},
        base | {"databricks_request_id": "d2", "client_request_id": None, "status_code": 500, "response": None},
    ]  # fmt: skip
    schema = pa.schema(
        [("date", pa.string()), ("timestamp_ms", pa.int64()), ("sampling_fraction", pa.float64()),
         ("execution_time_ms", pa.int64()), ("request", pa.string()),
         ("request_metadata", pa.map_(pa.string(), pa.string())), ("databricks_request_id", pa.string()),
         ("client_request_id", pa.string()), ("status_code", pa.int32()), ("response", pa.string())]
    )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(records, schema), tmp_path / "part-0.parquet")
    found = taken(recipe, tmp_path, 4)
    assert found["ids"] == ["mine/0", "mine/1", "d2/0", "d2/1"]
    assert found["scores"][:2] == [0.75, 0.25]
    assert found["errors"] == [None, None, "status 500", "status 500"]
    assert found["amount"] == [12.5, 20.0] * 2
    assert (found["times"][0], found["versions"][0]) == (1_793_523_090.5, "3")


def test_bentos_monitoring_log_is_a_table(tmp_path: Path) -> None:
    (recipe,) = recipes("BentoML")
    stamp = {"timestamp": "2026-11-01T08:51:30.893459", "request_id": "10995116277760"}
    lines(tmp_path / "data.1.log.jsonl", *(row | stamp | {"decision": n} for n, row in enumerate(ROWS)))
    found = taken(recipe, tmp_path, 2)
    assert found["predictions"] == [0.0, 1.0]
    assert found["amount"] == [12.5, 20.0]


def test_what_is_no_record_is_told(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {"eventMetadata": {"eventId": "e"}})
    settings = {"path": str(tmp_path), "model": "credit", "captured": "sagemaker", "columns": {}, "settle": "0"}
    source = make(SourceSettings.model_validate({"name": "s", "table": settings}), {"credit": PROFILE})
    asyncio.run(told(source, RecordingSink(), 0))
    assert "record 1 is not one of sagemaker: KeyError: 'captureData'" in str(source.health.error)


def test_inputs_without_outputs_are_taken_alone_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "ALONE_SECONDS", 0.0)
    (recipe,) = recipes("Azure ML")
    lines(tmp_path / "model_inputs" / "a.jsonl", azureml("model_inputs", "c1", ROWS[:1]))
    found = taken(recipe | {"table": recipe["table"] | {"columns": {}}}, tmp_path, 1)
    assert found["ids"] == ["c1"]
