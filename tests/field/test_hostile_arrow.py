"""An Arrow stream may say a lot by little: by dictionaries, runs and views that all rows share, by columns, by batches.

Each costs what it holds, or is refused. The largest had taken 2.3 GB and six seconds for 1.4 MB.
"""

import time
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops_exporter.events.columns import Decoded
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.profile import arrays
from tests.models import profiles

NOW = 1.8e9
ROWS = 20_000
LONG = "x" * 1_000_000
SCORES = pa.array(np.full(ROWS, 0.5, np.float32))
VIEWS = np.zeros((ROWS, 4), np.int32)
VIEWS[:, 0], VIEWS[:, 1] = len(LONG), np.frombuffer(b"xxxx", np.int32)[0]


def body(columns: dict[str, Any], batches: int = 1) -> bytes:
    table = pa.table(columns).replace_schema_metadata({"model": "credit"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for _ in range(batches):
            writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def shared(values: list[str]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int32)), pa.array(values))


HOSTILE: dict[str, tuple[dict[str, Any], int, int]] = {
    "a long id of a dictionary": ({"score": SCORES, "id": shared([LONG])}, 1, 0),
    "a long error of a dictionary": ({"score": SCORES, "error": shared([LONG])}, 1, ROWS),
    "a long id of a run": (
        {"score": SCORES, "id": pa.RunEndEncodedArray.from_arrays(pa.array([ROWS], pa.int32()), pa.array([LONG]))},
        1,
        0,
    ),
    "a long id that all view": (
        {
            "score": SCORES,
            "id": pa.Array.from_buffers(
                pa.string_view(), ROWS, [None, pa.py_buffer(VIEWS.tobytes()), pa.py_buffer(LONG.encode())]
            ),
        },
        1,
        0,
    ),
    "a dictionary of many": ({"score": SCORES, "country": shared([str(n) for n in range(500_000)])}, 1, ROWS),
    "many columns": ({f"c{n}": pa.nulls(1) for n in range(12_000)}, 1, 0),
    "many batches": ({"score": pa.array([0.5])}, 4000, 4000),
    "many empty batches": ({"score": pa.array([], pa.float64())}, 4000, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stream_costs_what_it_holds(name: str) -> None:
    columns, batches, accepted = HOSTILE[name]
    content, decoded = body(columns, batches), Decoded()
    decoder = Decoder([Schema("credit", profiles()["credit"])])
    longest, last = 0.0, time.thread_time()
    for _ in decoder.decode_steps(content, NOW, decoded):
        longest, last = max(longest, time.thread_time() - last), time.thread_time()
    assert decoded.accepted == accepted
    assert max(longest, time.thread_time() - last) < 0.2
    before, largest = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    for _ in decoder.decode_steps(content, NOW, Decoded()):
        largest = max(largest, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(peak, largest) < 100e6


@pytest.mark.parametrize("offset", [0, 3])
def test_runs_are_read_cell_by_cell(offset: int) -> None:
    ends = pa.array([2, 4, 5, 9], pa.int32())
    for values in (
        pa.array(["a", None, "b", "a"]),
        pa.array([1.5, None, 2.5, 1.5]),
        pa.array([True, None, False, True]),
    ):
        column = pa.RunEndEncodedArray.from_arrays(ends, values).slice(offset)
        assert arrays.usual(column).to_pylist() == column.to_pylist()
        names, which = arrays.distinct(arrays.usual(column))
        assert [None if place < 0 else names[place] for place in which.tolist()] == column.to_pylist()


def test_a_part_of_a_dictionary_is_read_by_what_it_uses() -> None:
    whole = pa.DictionaryArray.from_arrays(pa.array([5, None, 3, 5, 9]), pa.array([f"v{n}" for n in range(9)] + [None]))
    names, which = arrays.distinct(whole.slice(0, 4))
    assert names == ["v5", "v3"]
    assert which.tolist() == [0, -1, 1, 0]
