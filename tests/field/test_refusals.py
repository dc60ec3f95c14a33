"""What is refused is told to the sender and, once a minute, in the log: reason, value at fault, what would be right."""

import asyncio
import json
import logging
import time
from typing import Any

import pyarrow as pa
import pytest

from mlops_exporter.events.explain import explained
from mlops_exporter.events.reasons import REASONS
from mlops_exporter.ingest.http import KSERVE, HttpSource
from mlops_exporter.settings.sources import KServeSettings
from mlops_exporter.sources.base import Content
from mlops_exporter.sources.kserve import KServe
from tests.support.pipeline import ndjson, profile, service, submit

NOW = time.time()

CLASSES = {"credit": ["0", "1"], "price": []}


@pytest.mark.parametrize(
    ("reason", "event", "said"),
    [
        ("unknown_class", b'{"model":"credit","prediction":1.0,"label":"yes"}', '`label` is "yes"; known are "0", "1"'),
        ("unknown_class", b'{"model":"credit","prediction":"x"}', '`prediction` is "x"; known are "0", "1"'),
        ("unknown_model", b'{"model":"credti"}', '`model` is "credti"; known are "credit", "price"'),
        ("bad_score", b'{"model":"credit","score":1.2}', "; `score` is 1.2"),
        ("bad_id", b'{"model":"credit","id":[1]}', "; `id` is [1]"),
        ("missing_model", b'{"id":1}', "there is no `model`"),
        ("malformed_json", b"{", "the line is not JSON"),
    ],
)
def test_a_refusal_names_the_value_and_what_would_be_right(reason: str, event: bytes, said: str) -> None:
    for body, line in ((event, 1), (b'{"model":1}\n' + event + b"\n", 2), (b"[0, " + event + b"]", 2)):
        (told,) = explained([(line, reason)], body, CLASSES)  # type: ignore[list-item]
        assert told.endswith(said)


def test_a_long_value_is_cut() -> None:
    (told,) = explained([(1, "bad_id")], b'{"model":"credit","id":"%b"}' % (b"x" * 5000), CLASSES)
    assert len(told) < 300


def test_each_reason_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    running = service("binary")
    bodies = [ndjson([{"model": "nobody", "id": number, "label": 1}] * 3) for number in range(4)]
    with caplog.at_level(logging.WARNING):
        submit(running, *bodies)
    (message,) = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert "refused 3 as unknown_model, as in line 1" in message
    assert '`model` is "nobody"' in message


ARROW, CLOUD_EVENT = "application/vnd.apache.arrow.stream", "application/cloudevents+json"


def posted(body: bytes, content_type: str) -> tuple[list[tuple[int, str]], list[str]]:
    """Post a body to a binary model; returns what was refused, and what was told of it."""
    running = service("binary")
    kserve = KServe(KServeSettings(), {"binary": profile("binary")})
    running.intake.translators[KSERVE] = kserve
    http = HttpSource("push", running.intake, kserve)
    result = asyncio.run(http.submit(body, NOW, Content(content_type)))
    return list(result.errors), list(result.details)


def stream(metadata: dict[str, str] | None = None, compression: str | None = None, **columns: Any) -> bytes:
    """An Arrow stream of one batch."""
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


@pytest.mark.parametrize(
    ("column", "values", "line", "reason", "said"),
    [
        ("score", pa.array([0.5, 1.7]), 2, "bad_score", "; `score` is 1.7"),
        (
            "prediction",
            pa.array(["yes", "maybe"]),
            2,
            "unknown_class",
            '`prediction` is "maybe"; known are "no", "yes"',
        ),
        ("id", pa.array([1.0, 2.5]), 2, "bad_id", "; `id` is 2.5"),
        ("id", pa.array([["a"], ["b"]]), 1, "bad_id", '; `id` is "(list<item: string>)"'),
        ("model", pa.array(["binary", "nobody"]), 2, "unknown_model", '`model` is "nobody"; known are "binary"'),
        ("model", pa.array([["binary"], []]), 1, "bad_arrow", "; the column `model` is of type list<item: string>"),
        ("ts", pa.array([0, 1], pa.timestamp("s")), 1, "bad_timestamp", '`ts` is "1970-01-01 00:00:00 (timestamp[s])"'),
        ("version", pa.array(["x" * 90] * 2), 1, "bad_version", f'; `version` is "{"x" * 79} …'),
    ],
)
def test_a_refused_row_of_arrow_names_the_value(column: str, values: Any, line: int, reason: str, said: str) -> None:
    """Columns have types: one that is wrong as a whole is named with its type."""
    columns = {"model": pa.array(["binary", "binary"]), "score": pa.array([0.5, 0.5]), column: values}
    errors, details = posted(stream(**columns), ARROW)
    assert errors[0] == (line, reason)
    assert details[0].endswith(said)


def test_a_stream_that_cannot_be_read_says_why() -> None:
    compressed = stream({"model": "binary"}, "zstd", score=pa.array([0.5] * 4000))
    assert "buffers are compressed: send them as they are" in posted(compressed, ARROW)[1][0]
    cut = stream({"model": "binary"}, score=pa.array([0.5] * 4000))[:-600]
    errors, (told,) = posted(cut, ARROW)
    assert errors == [(1, "bad_arrow")]
    assert len(told) > len(REASONS["bad_arrow"])
    assert posted(b"ARROW1 and more", ARROW)[1][0].endswith("it is an Arrow file: write an IPC stream")


V1: dict[str, Any] = {"instances": [{"amount": 1.0}]}
RESPONSE, REQUEST = "org.kubeflow.serving.inference.response", "org.kubeflow.serving.inference.request"


@pytest.mark.parametrize(
    ("attributes", "data", "reason", "said"),
    [
        (
            {"inferenceservicename": "nobody"},
            V1,
            "unknown_model",
            '`inferenceservicename` is "nobody"; known are "binary"',
        ),
        ({"type": "com.example.other"}, V1, "unknown_cloud_event_type", '; `type` is "com.example.other"'),
        ({"id": "", "inferenceservicename": ""}, V1, "bad_cloud_event", "; it lacks `id`, `inferenceservicename`"),
        ({}, None, "bad_cloud_event", "; it lacks `data`"),
        ({}, {"instances": [[1.0, 2.0]]}, "unnamed_columns", "; the rows have 2, and it names 0"),
        ({}, {"x": 1}, "bad_payload", "; there are no `instances`, `predictions`, `inputs` or `outputs`"),
        (
            {},
            {"inputs": [{"name": "amount", "shape": [3], "data": [1.0]}]},
            "bad_payload",
            '; the tensor "amount" has 1 values, by its shape 3',
        ),
        (
            {},
            {"inputs": [{"name": "amount", "shape": [2] * 99, "data": [1]}]},
            "bad_payload",
            '"amount" has no `shape`',
        ),
        ({"type": RESPONSE}, {"predictions": [{"a": 1, "b": 2}]}, "unmapped_outputs", '; the outputs are "a", "b"'),
        ({"type": RESPONSE}, {"predictions": [[[0.5, 0.5]]]}, "unmapped_outputs", '; "predictions" is a vector of 2'),
    ],
)
def test_a_refused_cloud_event_names_what_was_found(
    attributes: dict[str, str], data: Any, reason: str, said: str
) -> None:
    event = {"id": "1", "type": REQUEST, "inferenceservicename": "binary", "data": data} | attributes
    errors, details = posted(json.dumps(event).encode(), CLOUD_EVENT)
    assert errors == [(1, reason)]
    assert details[0].endswith(said)


def test_what_a_model_said_through_kserve_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    halves = [
        {"id": "1", "type": REQUEST, "inferenceservicename": "binary", "data": V1},
        {"id": "1", "type": RESPONSE, "inferenceservicename": "binary", "data": {"predictions": ["maybe"]}},
        {"id": "2", "type": REQUEST, "inferenceservicename": "nobody", "data": V1},
    ]
    with caplog.at_level(logging.WARNING):
        errors, details = posted(json.dumps(halves).encode(), "application/cloudevents-batch+json")
    assert errors == [(2, "unknown_class"), (3, "unknown_model")]
    assert details[0].endswith('`prediction` is "maybe"; known are "no", "yes"')
    assert details[1].endswith('`inferenceservicename` is "nobody"; known are "binary"')
    told = [record.getMessage() for record in caplog.records]
    assert any("refused 1 as unknown_class, as number 2" in each and '"maybe"' in each for each in told)
    assert any("refused 1 as unknown_model, as number 3" in each and '"nobody"' in each for each in told)
    (in_utf16,) = posted(json.dumps(halves[0]).encode("utf-16-le"), CLOUD_EVENT)[1]
    assert in_utf16.endswith("it is in UTF-16: send UTF-8")
