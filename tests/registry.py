"""A small real HTTP server that answers as MLflow's does; tests/golden/mlflow has recorded answers of 3.17."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

GOLDEN = Path(__file__).parent / "golden" / "mlflow"


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@dataclass
class Registry:
    """What the server knows. Versions have the run `run-VERSION`; `artifacts` are by run and path."""

    url: str = ""
    versions: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)
    away: bool = False
    password: str | None = None
    page: int = 200

    def get(self, path: str, query: dict[str, str]) -> Any:
        if path == "/api/2.0/mlflow/registered-models/get" and query["name"] == "credit":
            answer = golden("registered")
            aliases = [{"alias": alias, "version": version} for alias, version in self.aliases.items()]
            answer["registered_model"]["aliases"] = aliases
            return answer
        if path == "/api/2.0/mlflow/model-versions/search":
            assert query["filter"] == "name='credit'"
            (one,) = golden("versions")["model_versions"]
            start = int(query.get("page_token", "0"))
            shown = self.versions[start : start + self.page]
            found = [{**one, "version": v, "run_id": f"run-{v}", "creation_timestamp": int(v)} for v in shown]
            more = start + self.page < len(self.versions)
            return {"model_versions": found} | ({"next_page_token": str(start + self.page)} if more else {})
        if path == "/api/2.0/mlflow/runs/get":
            answer = golden("run")
            answer["run"]["info"]["run_id"] = query["run_id"]
            answer["run"]["info"]["artifact_uri"] = f"mlflow-artifacts:/1/{query['run_id']}/artifacts"
            one = answer["run"]["data"]["metrics"][0]
            answer["run"]["data"]["metrics"] = [{**one, "key": k, "value": v} for k, v in self.metrics.items()]
            return answer
        if path == "/get-artifact":
            return self.artifacts.get((query["run_id"], query["path"]))
        return None


@contextmanager
def serving() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def refused(self) -> bool:
            wanted = f"Basic {base64.b64encode(f'me:{registry.password}'.encode()).decode()}"
            if registry.away:
                self.answer(503, b"away")
            elif registry.password and self.headers["Authorization"] != wanted:
                self.answer(401, b"You are not authenticated.")
            else:
                return False
            return True

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.refused():
                return
            parts = urlsplit(self.path)
            found = registry.get(parts.path, {name: each[0] for name, each in parse_qs(parts.query).items()})
            if found is None:
                self.answer(404, json.dumps(golden("missing")).encode())
            else:
                self.answer(200, found if isinstance(found, bytes) else json.dumps(found).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.refused():
                return
            content = json.loads(body)
            match urlsplit(self.path).path.rpartition("/2.0/mlflow/")[2]:
                case "model-versions/set-tag":
                    registry.tags.append(content)
                case "model-versions/create":
                    registry.versions.append(content["run_id"].removeprefix("run-"))
                case "registered-models/alias":
                    registry.aliases[content["alias"]] = content["version"]
            self.answer(200, b"{}")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.refused():
                _, _, place = urlsplit(self.path).path.partition("/artifacts/1/")
                run, _, path = place.partition("/artifacts/")
                registry.artifacts[run, path] = body
                self.answer(200, b"")

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
