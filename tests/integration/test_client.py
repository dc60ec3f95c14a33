import ast
import asyncio
import gzip
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlops_exporter.client
from mlops_exporter.client import Monitor
from tests.support.exporter import Exporter, running_exporter, write_config
from tests.support.prometheus import eventually, free_port

NEVER = 60.0


def test_it_is_one_file_of_the_standard_library() -> None:
    tree = ast.parse(Path(mlops_exporter.client.__file__).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    loaded = (
        "import sys, mlops_exporter.client; "
        "print([m for m in sys.modules if m.startswith(('mlops_exporter', 'numpy', 'msgspec'))])"
    )
    output = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(output) == ["mlops_exporter", "mlops_exporter.client"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    directory = tmp_path_factory.mktemp("exporter")
    write_config(directory)
    with running_exporter(directory) as running:
        yield running


def test_events_reach_a_real_exporter(service: Exporter) -> None:
    with Monitor(service.url, model="credit", version="7") as monitor:
        for number in range(1200):
            monitor.predict(id=f"p{number}", features={"amount": number % 30, "country": "DE"}, score=0.75)
        monitor.predict(model="price", version="1", features={"rooms": 3}, prediction=12.5)
        assert monitor.flush()
        monitor.label("p0", 1)
        monitor.label("p1", "no such class")
        assert monitor.flush()
        assert (monitor.sent, monitor.rejected, monitor.dropped) == (1202, 1, 0)
        (error,) = monitor.last_errors
        assert (error["line"], error["reason"]) == (2, "unknown_class")
        assert error["detail"].endswith('`label` is "no such class"; known are "0", "1"')
        assert service.value("ml_model_predictions_total", model="credit", version="7") == 1200
        assert service.value("ml_model_predictions_total", model="price", version="1") == 1
        assert service.value("ml_model_labels_total", model="credit", version="7") == 1


def test_values_of_numpy_and_pandas(service: Exporter) -> None:
    with Monitor(service.url, model="credit", version="pandas") as monitor:
        row = {"amount": np.float32(12.5), "age": np.float64("nan"), "country": np.str_("FR"), "member": np.bool_(True)}
        monitor.predict(features=row, prediction=np.int64(1), score=np.float32(0.5), ts=pd.Timestamp.now("UTC"))
        monitor.predict(features={"amount": float("nan"), "age": np.float32("nan"), "country": pd.NA, "member": pd.NaT})
        monitor.predict(features={"amount": float("inf"), "age": np.array([7.0]), "country": object()})
        assert monitor.flush()
        assert (monitor.sent, monitor.rejected, monitor.dropped) == (3, 0, 0)
        shown = service.scrape()
        missing = shown.by("feature", "ml_feature_values_total", version="pandas", bin="missing")
        assert missing == {"amount": 1, "age": 2, "country": 1, "member": 2}
        invalid = shown.by("feature", "ml_feature_values_total", version="pandas", bin="invalid")
        assert (invalid["amount"], invalid["age"]) == (1, 1)
        assert shown.value("ml_feature_values_total", version="pandas", feature="country", bin="FR") == 1


def test_events_that_are_no_json_are_dropped_alone(scripted: Any) -> None:
    endless: dict[str, Any] = {}
    endless["amount"] = endless
    with Monitor(scripted().url, model="credit") as monitor:
        monitor.predict(features={("a", "tuple"): 1})
        monitor.predict(features=endless)
        monitor.predict(features={"amount": 1})
        assert monitor.flush()
        assert (monitor.sent, monitor.dropped) == (2, 1)  # a name is sent as text


def test_no_server_costs_the_caller_nothing(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor(f"http://127.0.0.1:{free_port()}", model="credit", queue_events=100, batch_events=10)
    begin = time.perf_counter()
    for number in range(10_000):
        monitor.predict(id=number, features={"amount": 1})
    assert time.perf_counter() - begin < 1.0
    begin = time.perf_counter()
    monitor.close(timeout=0.3)
    assert time.perf_counter() - begin < 1.0
    assert monitor.sent == 0
    assert monitor.dropped == 10_000
    monitor.predict(features={"amount": 1})
    assert monitor.dropped == 10_001
    assert sum("Connection refused" in record.getMessage() for record in caplog.records) == 1  # not once a try


def test_a_server_that_comes_later_gets_everything(tmp_path: Path) -> None:
    port = free_port()
    write_config(tmp_path)
    monitor = Monitor(f"http://127.0.0.1:{port}", model="credit", batch_seconds=0.01)
    for _ in range(50):
        monitor.predict(features={"amount": 1})
    time.sleep(0.2)
    with running_exporter(tmp_path, port=port) as service:
        assert monitor.flush(20)
        assert (monitor.sent, monitor.dropped) == (50, 0)
        assert service.value("ml_model_predictions_total", model="credit", version="default") == 50
        monitor.close()


def test_a_server_killed_and_started_again(tmp_path: Path) -> None:
    port = free_port()
    write_config(tmp_path)
    monitor = Monitor(f"http://127.0.0.1:{port}", model="credit", batch_seconds=0.01)
    with running_exporter(tmp_path, port=port) as service:
        monitor.predict(features={"amount": 1})
        assert monitor.flush()
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        for _ in range(30):
            monitor.predict(features={"amount": 1})
        assert not monitor.flush(0.3)
    with running_exporter(tmp_path, port=port) as service:
        assert monitor.flush(20)
        assert (monitor.sent, monitor.dropped) == (31, 0)
        assert service.value("ml_model_predictions_total", model="credit", version="default") == 30
        monitor.close()


class Scripted(ThreadingHTTPServer):
    """Answers each request as the next step of a script says, then as an exporter would that takes everything."""

    daemon_threads = True

    def __init__(self, *script: tuple[int, dict[str, str]] | float) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.script = list(script)
        self.requests: list[tuple[float, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append((time.monotonic(), dict(self.headers.items()), body))
        step = self.server.script.pop(0) if self.server.script else (202, {})
        if isinstance(step, float):
            time.sleep(step)
            return
        status, headers = step
        taken = json.dumps({"accepted": body.count(b"\n"), "rejected": 0, "errors": []}).encode()
        answer = taken if status == 202 else b"no"
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(answer))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Any]:
    servers: list[Scripted] = []

    def start(*script: tuple[int, dict[str, str]] | float) -> Scripted:
        server = Scripted(*script)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_retry_after_is_kept(scripted: Any) -> None:
    server = scripted((429, {"Retry-After": "1"}))
    with Monitor(server.url, model="credit") as monitor:
        monitor.predict(features={"amount": 1})
        assert monitor.flush()
        first, second = (moment for moment, _, _ in server.requests)
        assert second - first >= 1.0
        assert (monitor.sent, monitor.dropped) == (1, 0)


@pytest.mark.parametrize("status", [500, 503, 408])
def test_passing_faults_are_tried_again(scripted: Any, status: int) -> None:
    server = scripted((status, {}))
    with Monitor(server.url, model="credit") as monitor:
        monitor.predict(features={"amount": 1})
        assert monitor.flush()
        assert (len(server.requests), monitor.sent, monitor.dropped) == (2, 1, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_lasting_faults_are_not(scripted: Any, status: int, caplog: pytest.LogCaptureFixture) -> None:
    server = scripted((status, {}))
    with Monitor(server.url, model="credit") as monitor:
        monitor.predict(features={"amount": 1})
        assert monitor.flush()
        assert (len(server.requests), monitor.sent, monitor.dropped) == (1, 0, 1)
    assert f"answer {status}: no" in caplog.text


def test_a_slow_server_holds_up_nobody(scripted: Any) -> None:
    server = scripted(2.0)
    monitor = Monitor(server.url, model="credit", timeout=0.2, queue_events=10, batch_events=5)
    begin = time.perf_counter()
    for _ in range(1000):
        monitor.predict(features={"amount": 1})
    assert time.perf_counter() - begin < 0.5
    assert monitor.flush(10)
    assert monitor.dropped + monitor.sent == 1000
    assert monitor.sent >= 10
    monitor.close()


def test_full_queue_drops_the_newest(scripted: Any) -> None:
    server = scripted()
    monitor = Monitor(server.url, model="credit", queue_events=10, batch_events=100, batch_seconds=NEVER)
    for number in range(25):
        monitor.predict(id=number, features={"amount": 1})
    assert monitor.dropped == 15
    assert monitor.flush()
    assert [json.loads(line)["id"] for line in server.requests[0][2].splitlines()] == list(range(10))
    monitor.close()


def test_what_is_sent(scripted: Any) -> None:
    server = scripted()
    url = server.url.replace("http://", "http://user:p%40ss@") + "/behind/a/proxy/"
    with Monitor(url, model="credit", headers={"X-Tenant": "a"}) as monitor:
        monitor.predict(id="a", prediction=1, latency_seconds=0.5, groups={"sex": "female"}, error="boom", ts=5.0)
        assert monitor.flush()
    _, headers, body = server.requests[0]
    assert (headers["Authorization"], headers["X-Tenant"]) == ("Basic dXNlcjpwQHNz", "a")
    assert json.loads(body) == {
        "model": "credit",
        "id": "a",
        "ts": 5.0,
        "prediction": 1,
        "groups": {"sex": "female"},
        "latency_seconds": 0.5,
        "error": "boom",
    }
    with Monitor(server.url, model="credit", token="secret") as monitor:
        for _ in range(100):
            monitor.predict(features={"amount": 1})
        assert monitor.flush()
    assert server.requests[1][1]["Authorization"] == "Bearer secret"
    assert server.requests[1][1]["Content-Encoding"] == "gzip"


def test_the_time_is_that_of_the_call(scripted: Any) -> None:
    server = scripted()
    with Monitor(server.url, model="credit", batch_seconds=NEVER) as monitor:
        before = time.time()
        monitor.predict(features={"amount": 1})
        after = time.time()
        time.sleep(0.2)
        assert monitor.flush()
    assert before <= json.loads(server.requests[0][2])["ts"] <= after


@pytest.mark.parametrize("url", ["127.0.0.1:10042", "", "ftp://host", "http://"])
def test_a_url_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="write http://host:10042"):
        Monitor(url)


def test_exit_flushes(scripted: Any) -> None:
    server = scripted()
    program = f"""
from mlops_exporter.client import Monitor
monitor = Monitor({server.url!r}, model="credit", batch_seconds=60)
for _ in range(3):
    monitor.predict(features={{"amount": 1}})
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
    assert server.requests[0][2].count(b"\n") == 3


def test_exit_without_a_server_is_quick() -> None:
    program = f"""
from mlops_exporter.client import Monitor
monitor = Monitor("http://127.0.0.1:{free_port()}", model="credit", exit_seconds=0.5)
monitor.predict(features={{"amount": 1}})
"""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20, capture_output=True)
    assert time.perf_counter() - begin < 5


def test_children_of_a_fork_send_their_own(scripted: Any) -> None:
    server = scripted()
    program = f"""
import os
from mlops_exporter.client import Monitor
monitor = Monitor({server.url!r}, model="credit", batch_seconds=0.05)
monitor.predict(id="before", prediction=1)
monitor.flush()
monitor.predict(id="parent", prediction=1)
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        monitor.predict(id=f"child {{number}}", prediction=1)
        ok = monitor.flush() and (monitor.sent, monitor.dropped) == (1, 0)
        os._exit(0 if ok else 1)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], check=True, timeout=30)
    ids = [json.loads(line)["id"] for _, _, body in server.requests for line in body.splitlines()]
    assert sorted(ids) == ["before", "child 0", "child 1", "child 2", "parent"]


def test_the_examples_of_its_page(scripted: Any) -> None:
    server = scripted()
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    asgi, wsgi = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def app" in block)

    class Model:
        def predict_proba(self, features: Any) -> float:
            return 1.0 / float(features["amount"])

    request = json.dumps({"id": "a", "features": {"amount": 2}}).encode()
    names: dict[str, Any] = {"model": Model()}
    exec(asgi.replace("http://mlops-exporter:10042", server.url), names)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(names["app"]({"type": "http"}, receive, send))
    assert json.loads(sent[1]["body"]) == {"score": 0.5}
    exec(wsgi, names)
    (answer,) = names["app"]({"wsgi.input": io.BytesIO(request)}, lambda status, headers: None)
    assert json.loads(answer) == {"score": 0.5}
    with pytest.raises(ZeroDivisionError):
        names["app"]({"wsgi.input": io.BytesIO(request.replace(b"2", b"0"))}, None)
    assert names["monitor"].flush()
    names["monitor"].close()
    events = [json.loads(line) for _, _, body in server.requests for line in body.splitlines()]
    assert [(event.get("score"), event.get("error")) for event in events] == [
        (0.5, None),
        (0.5, None),
        (None, "ZeroDivisionError('float division by zero')"),
    ]
    assert events[0]["latency_seconds"] >= 0


def test_many_threads_lose_nothing(scripted: Any) -> None:
    server = scripted()
    with Monitor(server.url, model="credit", queue_events=100_000) as monitor:

        def predict() -> None:
            for _ in range(500):
                monitor.predict(prediction=1)

        threads = [threading.Thread(target=predict) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert monitor.flush(20)
        assert (monitor.sent, monitor.dropped) == (4000, 0)


def test_it_speaks_tls_only_to_whom_it_trusts(scripted: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monitor = Monitor(f"https://127.0.0.1:{listener.getsockname()[1]}", model="credit", timeout=0.5)
        monitor.predict(prediction=1)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(3)[:2] == b"\x16\x03"  # a TLS handshake
        monitor.close(0.1)
        assert eventually(lambda: monitor.dropped == 1)
