"""Bodies that are small on the wire and large in memory: how much the process takes, and how long others wait."""

import gzip
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.exporter import Exporter, start_exporter, write_config
from tests.support.prometheus import eventually

LIMIT = 16 * 1024 * 1024
NDJSON, JSON, BATCH = "application/x-ndjson", "application/json", "application/cloudevents-batch+json"
ARROW = "application/vnd.apache.arrow.stream"
EVENT = b'{"model":"price","features":{"area":1}}'


def _fill(element: bytes, separator: bytes = b",", size: int = LIMIT) -> bytes:
    """As many elements as there is room for, in brackets."""
    return b"[" + separator.join([element] * ((size - 2) // (len(element) + len(separator)))) + b"]"


def _arrow() -> bytes:
    import pyarrow as pa

    table = pa.table({"score": pa.nulls(4_000_000, pa.bool_()), "model": pa.nulls(4_000_000)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()[:LIMIT]


def _within(element: bytes, size: int) -> bytes:
    """An event that has an array where its features should be."""
    return b'{"model":"price","features":' + _fill(element, size=size) + b"}"


def _rows(element: bytes, size: int) -> str:
    return '{"instances": ' + _fill(element, size=size).decode() + "}"


def _cloud_event(data: str) -> bytes:
    head = {"specversion": "1.0", "id": "1", "source": "s", "inferenceservicename": "price"}
    event = json.dumps({**head, "type": "org.kubeflow.serving.inference.request"})
    return f'[{event[:-1]}, "data": {data}}}]'.encode()


def _tensor(values: int) -> str:
    data = "[" + ",".join(["[1]"] * values) + "]"
    return f'{{"inputs": [{{"name": "a", "shape": [1, {values}, 1], "datatype": "FP32", "data": {data}}}]}}'


def _many_rows() -> bytes:
    event = json.loads(_cloud_event(_rows(b'{"area":1}', 11_000)))[0]  # of a thousand rows
    return json.dumps([event | {"id": str(number)} for number in range(99)]).encode()


CORPUS: dict[str, tuple[str, Callable[[], bytes], set[int]]] = {
    "array of empty objects": (JSON, lambda: _fill(b"{}"), {413}),
    "array of numbers": (JSON, lambda: _fill(b"1"), {413}),
    "array of arrays": (JSON, lambda: _fill(b"[]"), {413}),
    "array of events": (JSON, lambda: _fill(EVENT), {413}),
    "array, not ended": (JSON, lambda: _fill(b"{}")[:-1], {413}),
    "array within an event": (JSON, lambda: _fill(_within(b"[]", LIMIT - 99)), {400}),
    "events with long arrays": (JSON, lambda: _fill(_within(b"{}", 900_000)), {400}),
    "brackets": (JSON, lambda: b"[" * LIMIT, {400, 413}),
    "lines of a number": (NDJSON, lambda: b"1\n" * (LIMIT // 2), {413}),
    "empty lines": (NDJSON, lambda: b"\n" * LIMIT, {413}),
    "as many bad lines as may be": (NDJSON, lambda: b"1\n" * 100_000, {400}),
    "as many events as may be": (NDJSON, lambda: b"\n".join([EVENT] * 100_000), {202}),
    "one line": (NDJSON, lambda: b'{"model":"price","features":{"area":' + b"1" * (LIMIT - 50) + b"}}", {400}),
    "batch of empty objects": (BATCH, lambda: _fill(b"{}"), {413}),
    "batch of one with many rows": (BATCH, lambda: _cloud_event(_rows(b"[1]", 4_000_000)), {400, 413}),
    "batch of one with a large row": (BATCH, lambda: _cloud_event(_rows(b"{}", 12_000_000)), {400}),
    "batch of one with NaN": (BATCH, lambda: _cloud_event(_rows(b"[NaN]", 4_000_000)), {400}),
    "batch of one in a text": (BATCH, lambda: _cloud_event(json.dumps(_rows(b"[1]", 3_900_000))), {400}),
    "batch of one with a long tensor": (BATCH, lambda: _cloud_event(_tensor(1_000_000)), {400}),
    "batch of as many rows as may be": (BATCH, _many_rows, {202}),
    "Arrow, rows without bytes": (ARROW, _arrow, {400, 413}),
}  # fmt: skip


@contextmanager
def _watched(exporter: Exporter, slowest: list[float]) -> Iterator[None]:
    """Ask for health all along; `slowest` becomes the times that it took."""
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not over.is_set():
                began = time.perf_counter()
                assert client.get(f"{exporter.url}/-/healthy").status_code == 200
                slowest.append(time.perf_counter() - began)
                over.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    directory = tmp_path_factory.mktemp("amplified")
    config = write_config(directory, state={"path": "state"})
    child = start_exporter(directory, "run", f"--config.file={config}")
    with child.process as process:
        try:
            eventually(child.is_ready, 90)
            yield child
        finally:
            process.kill()


@pytest.mark.benchmark  # its times are those of a machine that does nothing else
@pytest.mark.parametrize("name", CORPUS)
def test_a_body_takes_neither_memory_nor_time(exporter: Exporter, name: str) -> None:
    content_type, make, statuses = CORPUS[name]
    body = make()
    assert len(body) <= LIMIT
    compressed = gzip.compress(body, 1)
    waits: list[float] = []
    with _watched(exporter, waits):
        answer = httpx.post(
            f"{exporter.url}/v1/events",
            content=compressed,
            headers={"content-type": content_type, "content-encoding": "gzip"},
            timeout=60,
            trust_env=False,
        )
    peak = psutil.Process(exporter.process.pid).memory_info().rss, _peak(exporter.process.pid)
    print(
        f"{name}: {len(compressed)} bytes, {answer.status_code}, peak {peak[1] / 1e6:.0f} MB, health {max(waits):.3f} s"
    )
    assert answer.status_code in statuses, answer.text[:300]
    assert peak[1] < 300e6
    assert max(waits) < 0.2
    assert len(answer.content) < 20_000


def _peak(pid: int) -> float:
    """The largest memory that a process has ever held, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024.0 * int(status.partition("VmHWM:")[2].split()[0])


def test_what_is_refused_whole_is_not_journalled(exporter: Exporter) -> None:
    state = Path(exporter.log).parent / "state"
    marker = b"never to be stored"
    answer = httpx.post(
        f"{exporter.url}/v1/events",
        content=b'{"model":"nobody","id":"' + marker + b'"}\n',
        headers={"content-type": NDJSON},
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == 400
    assert not any(marker in file.read_bytes() for file in state.iterdir() if file.is_file())
