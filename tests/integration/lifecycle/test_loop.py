"""The whole loop, all parts real: drift, Prometheus, Alertmanager, receiver, training, new profile, new version, quiet.

The cars of the demonstration drift away from the model of 1970 to 1973. A script trains a new one with scikit-learn on
what came in meanwhile, and puts its profile beside the first one. The stream is then served by the new version.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlops_exporter.demo.run import CONFIG
from tests.integration.alerting.alertmanager import SHIPPED, running_alertmanager
from tests.integration.alerting.hastened import hastened
from tests.integration.alerting.test_end_to_end import Cars
from tests.registry import Registry, serving
from tests.support.exporter import ENVIRONMENT, Exporter, command, running_exporter, write_config
from tests.support.prometheus import Prometheus, eventually, free_port, running_prometheus, scrape_job

FACTOR = 200  # of the waiting: 10 minutes are 3 seconds, an hour 18
TICK = 0.25
EVENTS = 50  # of a tick
SCRIPT = Path(__file__).with_name("retrain.py")


@dataclass
class Stream:
    """Labelled predictions of whichever version is deployed, written down for the training, too."""

    exporter: Exporter
    log: Path
    deployed: Path
    cars: Cars = field(default_factory=Cars)
    drifted: bool = False
    stopping: bool = False

    def run(self) -> None:
        with httpx.Client(trust_env=False) as client, self.log.open("a") as log:
            while not self.stopping:
                now = time.time()
                pool = self.cars.later if self.drifted else self.cars.usual
                events = [json.loads(line) for line in self.cars.draw(pool, "mpg", EVENTS, now).splitlines()]
                events = [self._served(event) for event in events]
                lines = "".join(json.dumps(event) + "\n" for event in events)
                if self.drifted:
                    log.write(lines)
                    log.flush()
                client.post(
                    f"{self.exporter.url}/v1/events",
                    content=lines.encode(),
                    headers={"Content-Type": "application/x-ndjson"},
                )
                time.sleep(max(0.0, now + TICK - time.time()))

    def _served(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return what the deployed model says."""
        if not self.deployed.exists():
            return event
        model = json.loads(self.deployed.read_text())
        terms = (weight * (event["features"][name] or 0.0) for name, weight in model["weights"].items())
        return {**event, "version": model["version"], "prediction": model["intercept"] + sum(terms)}


@contextmanager
def streaming(exporter: Exporter, directory: Path) -> Iterator[Stream]:
    stream = Stream(exporter, directory / "events.ndjson", directory / "deployed.json")
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        yield stream
    finally:
        stream.stopping = True
        thread.join()


@contextmanager
def running_receiver(directory: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    log = directory / "receiver.log"
    arguments = command("retrain", "--config.file=retrain.yml", f"--web.listen-address={address}")
    with (
        log.open("wb") as output,
        subprocess.Popen(arguments, cwd=directory, env=ENVIRONMENT, stdout=output, stderr=output) as process,
    ):
        try:
            eventually(lambda: _answers(f"http://{address}/-/ready"))
            yield address
        finally:
            process.terminate()
            process.wait(timeout=15)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def firing(server: Prometheus) -> Callable[[str], bool]:
    """Ask whether a reason to retrain a version fires. Evidence of change is kept as long as its version is known."""

    def ask(version: str) -> bool:
        return bool(
            server.query(
                f'ALERTS{{alertstate="firing",action!="",alertname!="MLModelConceptDrift",model="mpg",version="{version}"}}'
            )
        )

    return ask


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as running:
        yield running


@pytest.fixture
def directory(tmp_path: Path, registry: Registry) -> Path:
    demonstration = yaml.safe_load(CONFIG.read_text())["models"][0]
    registry.artifacts["run-1", "mlops-profile.json"] = (CONFIG.parent / demonstration["profile"]).read_bytes()
    registry.versions, registry.aliases = ["1"], {"champion": "1"}
    for key in ("fairness", "label_delay", "label_ttl"):
        demonstration.pop(key)
    model = {**demonstration, "profile": "mlflow:models:/credit@champion", "windows": ["10s", "20s"]}
    write_config(tmp_path, model, state={"path": "state"}, mlflow={"url": registry.url, "every": "1s"})
    (tmp_path / "token").write_text("0123456789abcdef")
    retraining = {
        "model": "mpg",
        "when": [["performance", "drift"]],
        "command": [sys.executable, str(SCRIPT), str(tmp_path), "$version", registry.url],
        "cool_down": "1m",
    }
    receiver = {"token_file": "token", "state": {"path": "retraining"}, "models": [retraining]}
    (tmp_path / "retrain.yml").write_text(yaml.safe_dump(receiver))
    (tmp_path / "rules").mkdir()
    for name, text in hastened(FACTOR).items():
        (tmp_path / "rules" / name).write_text(text)
    return tmp_path


def test_drift_leads_to_a_new_version_and_to_quiet(directory: Path) -> None:
    routes = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text())
    (route,) = [each for each in routes["route"]["routes"] if each["receiver"] == "retraining"]
    route = {**route, "group_wait": "1s", "group_interval": "1s"}
    route.pop("mute_time_intervals")
    with ExitStack() as stack:
        exporter = stack.enter_context(running_exporter(directory))
        receiver = stack.enter_context(running_receiver(directory))
        access = {"authorization": {"credentials_file": str(directory / "token")}}
        webhook = {"url": f"http://{receiver}/v1/alerts", "send_resolved": True, "http_config": access}
        alertmanager = stack.enter_context(
            running_alertmanager(
                {
                    "route": {"receiver": "nobody", "routes": [route]},
                    "inhibit_rules": routes["inhibit_rules"],
                    "receivers": [{"name": "nobody"}, {"name": "retraining", "webhook_configs": [webhook]}],
                },
                directory,
            )
        )
        server = stack.enter_context(
            running_prometheus(
                {
                    "rule_files": ["rules/*.yml"],
                    "alerting": {
                        "alertmanagers": [{"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}]
                    },
                    "scrape_configs": [
                        scrape_job("mlops-exporter", exporter.address),
                        scrape_job("mlops-retraining", receiver),
                    ],
                },
                directory,
                "--rules.alert.resend-delay=2s",
            )
        )
        stream = stack.enter_context(streaming(exporter, directory))
        is_firing = firing(server)
        time.sleep(12)
        assert not is_firing("1"), "a healthy model asks for nothing"
        stream.drifted = True
        eventually(lambda: (directory / "deployed.json").exists(), 90)
        eventually(lambda: exporter.value("ml_model_window_labels", model="mpg", version="2", window="20s"), 30)
        info = exporter.scrape()
        assert info.value("ml_model_info", model="mpg", version="2") == 1.0
        eventually(lambda: not is_firing("1"), 90)
        time.sleep(8)
        assert not is_firing("1")
        assert not is_firing("2"), "the new version is as good as it should be, by its own reference"
        (triggered,) = server.query('ml_retraining_triggered_total{model="mpg"}')
        assert triggered["value"][1] == "1"
        (result,) = server.query('ml_retraining_last_result{model="mpg"}')
        assert result["value"][1] == "1"
    lines = [json.loads(line) for line in (directory / "retraining" / "audit.ndjson").read_text().splitlines()]
    (started,) = [line for line in lines if line["decision"] == "started"]
    assert set(started["reasons"]) >= {"performance", "drift"}
    assert started["version"] == "1"
