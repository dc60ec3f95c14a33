"""An id is one in whatever form it comes, over a restart of the exporter, too: pandas makes 125.0 of 125."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support.exporter import Exporter, running_exporter, write_config
from tests.support.prometheus import eventually

ARROW = "application/vnd.apache.arrow.stream"


def stream(ids: Any, **columns: list[Any]) -> bytes:
    """An Arrow stream of one batch."""
    table = pa.table({"id": ids, **columns}).replace_schema_metadata({"model": "credit"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def posted(exporter: Exporter, ids: list[Any], member: str) -> None:
    """Send predictions or labels by JSON."""
    lines = [json.dumps({"model": "credit", "id": each, member: 1}) for each in ids]
    assert exporter.post("\n".join(lines).encode()).json()["rejected"] == 0


def test_forms_of_an_id_join_over_a_restart(tmp_path: Path) -> None:
    """JSON whole number, float and text; float64 columns with a missing id, as pandas has them; int64 and decimals."""
    write_config(tmp_path, state={"path": "state"}, sources=[{"name": "push", "http": {}}])
    floats = pa.array([124.0, None, 125.0], pa.float64())
    with running_exporter(tmp_path) as exporter:
        posted(exporter, [120, "121.0", 122.0, "123"], "prediction")
        answer = exporter.post(stream(floats, prediction=[1, 1, 1]), **{"content-type": ARROW}).json()
        assert (answer["accepted"], answer["rejected"]) == (3, 0)
        posted(exporter, [" 120", "0121"], "prediction")  # texts that are no whole number stay as they are
        eventually(lambda: exporter.value("ml_model_pending_predictions", model="credit") == 8)
        exporter.process.kill()
        exporter.process.wait()
    with running_exporter(tmp_path) as exporter:
        assert exporter.value("ml_model_pending_predictions", model="credit") == 8
        posted(exporter, ["120.0", 121, "122", 123.0], "label")
        labels = stream(pa.array([124, 125], pa.int64()), label=[1, 1])
        assert exporter.post(labels, **{"content-type": ARROW}).json()["accepted"] == 2
        eventually(lambda: exporter.value("ml_model_labels_total", model="credit") == 6)
        assert exporter.value("ml_model_labels_unmatched_total", model="credit") == 0
        assert exporter.value("ml_model_pending_predictions", model="credit") == 2
