"""A small real model server for tests: KServe V1 and V2, MLflow's `/invocations`, Azure ML's and any other JSON.

It stands in for the real ones in the usual suite; tests/integration/lifecycle holds it against their recorded answers.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Row = Mapping[str, Any]
Predict = Callable[[list[Row]], list[Any]]


@dataclass
class Endpoint:
    """A running server, at `url`. What it does may be changed while it runs."""

    predict: Predict
    features: list[str]
    url: str = ""
    version: str | None = None
    status: int = 200
    delay: float = 0.0
    broken: bytes | None = None
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    output: str = "predict"

    def answer(self, path: str, body: Any) -> Any:
        if path.startswith("/v2/"):
            columns = {tensor["name"]: tensor["data"] for tensor in body["inputs"]}
            if set(columns) != set(self.features):  # one tensor with all of them
                (tensor,) = body["inputs"]
                width = tensor["shape"][1]
                columns = {name: tensor["data"][at::width] for at, name in enumerate(self.features)}
            said = self.predict([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
            wide = isinstance(said[0], list)
            flat = [value for row in said for value in row] if wide else said
            shape = [len(said), len(said[0]) if wide else 1]
            output = {"name": self.output, "shape": shape, "datatype": "FP64", "data": flat}
            return {"model_name": "m", "outputs": [output]} | ({"model_version": self.version} if self.version else {})
        if path.startswith("/v1/"):
            return {
                "predictions": self.predict([dict(zip(self.features, row, strict=True)) for row in body["instances"]])
            }
        if path == "/invocations":
            frame = body["dataframe_split"]
            return {
                "predictions": self.predict([dict(zip(frame["columns"], row, strict=True)) for row in frame["data"]])
            }
        if path == "/score":
            frame = body["input_data"]
            assert frame["index"] == list(range(len(frame["data"])))
            return self.predict([dict(zip(frame["columns"], row, strict=True)) for row in frame["data"]])
        return {"result": [{"values": self.predict(body["wrapped"]["rows"])}]}


@contextmanager
def serving(predict: Predict, features: list[str], **settings: Any) -> Iterator[Endpoint]:
    """Run a server on 127.0.0.1."""
    endpoint = Endpoint(predict, features, **settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.asked.append((self.path, dict(self.headers), body))
            time.sleep(endpoint.delay)
            if endpoint.status != 200:
                content = b"out of order"
            else:
                content = endpoint.broken or json.dumps(endpoint.answer(self.path, body)).encode()
            self.send_response(endpoint.status)
            self.send_header("Content-Type", "application/json")
            if endpoint.version:
                self.send_header("X-Model-Version", endpoint.version)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()
