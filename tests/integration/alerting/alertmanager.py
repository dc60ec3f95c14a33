"""A real Alertmanager for tests, the shipped configuration made local, and a receiver that keeps what it is sent."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.requirements import require_program
from tests.support.prometheus import eventually, free_port

SHIPPED = Path(__file__).parents[3] / "alertmanager"


@dataclass
class Notification:
    """One message of one receiver: its path is the receiver's name and kind."""

    path: str
    body: dict[str, Any]
    time: float


@dataclass
class Inbox:
    """Everything that was sent to the test's web server, at `url`."""

    url: str
    notifications: list[Notification] = field(default_factory=list)

    def to(self, path: str) -> list[Notification]:
        return [notification for notification in self.notifications if notification.path == f"/{path}"]


@contextmanager
def receiving() -> Iterator[Inbox]:
    """Run a web server that takes notifications."""
    inbox = Inbox("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inbox.notifications.append(Notification(self.path, body, time.time()))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        inbox.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield inbox
        finally:
            server.shutdown()
            thread.join()


def shipped() -> dict[str, Any]:
    """The shipped configuration."""
    content: dict[str, Any] = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text())
    return content


def local(inbox: Inbox, wait: str = "1s", interval: str = "2s") -> dict[str, Any]:
    """The shipped routes, inhibition and messages, every receiver being `inbox`, without long waits and mutes."""
    config: dict[str, Any] = json.loads(json.dumps(shipped()))  # without the sharing of YAML's anchors
    config["templates"] = [str(SHIPPED / "templates" / "*.tmpl")]
    config["global"] = {"slack_api_url": f"{inbox.url}/slack"}

    def hasten(route: dict[str, Any]) -> None:
        route |= {"group_wait": wait, "group_interval": interval, "repeat_interval": "1h"}
        route.pop("mute_time_intervals", None)
        route.pop("active_time_intervals", None)
        for child in route.get("routes", []):
            hasten(child)

    hasten(config["route"])
    for receiver in config["receivers"]:
        name = receiver["name"]
        for key in ("pagerduty_configs", "email_configs", "webhook_configs"):
            receiver.pop(key, None)
        receiver["webhook_configs"] = [{"url": f"{inbox.url}/{name}", "send_resolved": True}]
        for slack in receiver.get("slack_configs", []):
            slack["api_url"] = f"{inbox.url}/slack/{name}"
    return config


@dataclass(frozen=True)
class Alertmanager:
    """A running server, at `url`."""

    url: str

    def post(self, *alerts: Mapping[str, str]) -> None:
        """Send alerts, given by their labels."""
        content = [{"labels": dict(labels), "annotations": {"summary": "Something is wrong."}} for labels in alerts]
        answer = httpx.post(f"{self.url}/api/v2/alerts", json=content, trust_env=False)
        assert answer.status_code == 200, answer.text

    def states(self) -> dict[str, str]:
        """State of each alert by its name."""
        answer = httpx.get(f"{self.url}/api/v2/alerts", trust_env=False).json()
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in answer}


@contextmanager
def running_alertmanager(config: Mapping[str, Any], directory: Path) -> Iterator[Alertmanager]:
    """Run Alertmanager with `config`, data in `directory`."""
    program = require_program("prometheus-alertmanager")
    config_file = directory / "alertmanager.yml"
    config_file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config_file}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    log = directory / "alertmanager.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            eventually(lambda: _is_ready(address, process, log))
            yield Alertmanager(f"http://{address}")
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"alertmanager ended:\n{log.read_text()}"
    try:
        return httpx.get(f"http://{address}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
