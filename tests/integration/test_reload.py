"""A running exporter loads its configuration anew: all of it or nothing, and nothing is lost or counted twice."""

import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlops_exporter.profile.profile import Profile, save
from tests.models import numeric, profiles
from tests.support.exporter import ENVIRONMENT, Exporter, command, running_exporter
from tests.support.prometheus import eventually, free_port

RUN = ("run", "--config.file=mlops-exporter.yml", "--web.enable-lifecycle")
SAID: dict[str, dict[str, Any]] = {
    "credit": {"score": 0.9},
    "iris": {"prediction": "setosa"},
    "price": {"prediction": 11.0},
}
TASKS = {"credit": "binary", "iris": "multiclass", "price": "regression"}


def model(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "task": TASKS[name], "profile": f"{name}.json", **settings}


def other_price() -> Profile:
    """The profile of `price`, with other bins."""
    profile = profiles()["price"]
    profile.features["rooms"] = numeric([0.0, 5.0, 50.0])
    return profile


@dataclass
class Site:
    """A directory with profiles and a configuration."""

    directory: Path
    _versions: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for name, profile in profiles().items():
            save(profile, self.directory / f"{name}.json")

    def write(self, *models: Mapping[str, Any], **settings: Any) -> None:
        """Write the configuration, as a careful operator does: in one step."""
        draft = self.directory / f"draft-{next(self._versions)}.yml"
        draft.write_text(yaml.safe_dump({"models": list(models), **settings}, sort_keys=False))
        draft.rename(self.directory / "mlops-exporter.yml")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@contextmanager
def running(site: Site) -> Iterator[Exporter]:
    with running_exporter(site.directory, *RUN) as exporter:
        yield exporter


def reload(exporter: Exporter) -> httpx.Response:
    return httpx.post(f"{exporter.url}/-/reload", timeout=30, trust_env=False)


def hang_up(exporter: Exporter) -> None:
    """Send SIGHUP, and wait until it is heeded."""
    before = loaded(exporter)
    exporter.process.send_signal(signal.SIGHUP)
    eventually(lambda: loaded(exporter) != before)


def loaded(exporter: Exporter) -> float | None:
    return exporter.scrape().value("ml_exporter_config_last_reload_success_timestamp_seconds")


def lines(exporter: Exporter, says: str) -> int:
    return sum(says in line for line in exporter.log.read_text().splitlines())


def predictions(name: str, first: int, count: int, **more: Any) -> bytes:
    events = ({"model": name, "id": f"{name}-{n}", **SAID[name], **more} for n in range(first, first + count))
    return b"\n".join(json.dumps(event).encode() for event in events)


def labels(name: str, first: int, count: int, label: Any) -> bytes:
    events = ({"model": name, "id": f"{name}-{n}", "label": label} for n in range(first, first + count))
    return b"\n".join(json.dumps(event).encode() for event in events)


def counted(exporter: Exporter, name: str, metric: str = "ml_model_predictions_total") -> float | None:
    return exporter.scrape().value(metric, model=name)


def test_a_failed_reload_changes_nothing_and_says_everything(site: Site) -> None:
    site.write(model("credit"), model("price"))
    with running(site) as exporter:
        exporter.post(predictions("credit", 0, 5))
        start = loaded(exporter)
        site.write(
            model("credit", windows=["1parsec"]), model("price", task="binary"), model("iris", profile="no.json")
        )
        answer = reload(exporter)
        assert answer.status_code == 500
        assert answer.text.startswith("not reloaded, the former configuration stays in force:\n")
        for place, said in (
            (r"mlops-exporter\.yml:6: models\[0\]\.windows\[0\]: '1parsec' ", "is not a duration: write"),
            (r"mlops-exporter\.yml:12: models\[2\]\.profile: ", r"no\.json"),
        ):
            assert re.search(place + ".*" + said, answer.text), answer.text
        assert lines(exporter, "not reloaded, the former") == 1
        assert lines(exporter, "1parsec") == lines(exporter, "no.json") == 1, "every fault, once, in that one line"
        shown = exporter.scrape()
        assert shown.value("ml_exporter_config_last_reload_successful") == 0
        assert loaded(exporter) == start
        assert set(shown.by("model", "ml_model_labels_unmatched_total")) == {"credit", "price"}
        assert shown.value("ml_model_predictions_total", model="credit") == 5
        status = httpx.get(f"{exporter.url}/api/v1/status", trust_env=False).json()["configuration"]
        assert status["loaded"] == start
        assert "1parsec" in status["error"]
        assert "Last reload failed" in httpx.get(f"{exporter.url}/", trust_env=False).text
        assert httpx.get(f"{exporter.url}/-/healthy", trust_env=False).status_code == 200
        assert httpx.get(f"{exporter.url}/-/ready", trust_env=False).status_code == 200

        exporter.process.send_signal(signal.SIGHUP)
        eventually(lambda: lines(exporter, "not reloaded, the former") == 2)
        exporter.post(predictions("credit", 5, 5))
        assert counted(exporter, "credit") == 10

        site.write(model("credit"), model("price"))
        assert reload(exporter).text == "reloaded\n"
        shown = exporter.scrape()
        assert shown.value("ml_exporter_config_last_reload_successful") == 1
        assert (loaded(exporter) or 0) > (start or 0)
        assert shown.value("ml_model_predictions_total", model="credit") == 10


def test_what_needs_a_restart_is_refused(site: Site) -> None:
    site.write(model("credit"))
    with running(site) as exporter:
        site.write(model("credit"), state={"path": "state"}, compute={"interval": "2s", "scope": "host"})
        answer = reload(exporter)
        assert answer.status_code == 500
        assert [line.partition(": ")[2] for line in answer.text.splitlines()[1:]] == [
            "state.path: was absent and is state now: that needs a restart",
            "compute.interval: was 1.0 and is 2.0 now: that needs a restart",
            "compute.scope: was auto and is host now: that needs a restart",
        ]
        assert not (site.directory / "state").exists()


def test_models_come_go_and_stay(site: Site) -> None:
    site.write(model("credit"), model("price"))
    with running(site) as exporter:
        exporter.post(predictions("credit", 0, 40) + b"\n" + predictions("price", 0, 7))
        site.write(model("credit", benchmarks={"accuracy": {"min": 0.9}}, label_delay="1h"), model("iris"))
        hang_up(exporter)
        assert lines(exporter, "model price is removed, and 7 predictions that waited for their label are dropped") == 1
        exporter.post(
            predictions("credit", 0, 10) + b"\n" + labels("credit", 0, 40, 1) + b"\n" + predictions("iris", 0, 3)
        )
        shown = exporter.scrape()
        assert shown.value("ml_model_benchmark_min", model="credit") == 0.9
        assert shown.value("ml_model_predictions_total", model="credit") == 40, "known ones are no new ones"
        assert shown.value("ml_model_predictions_duplicate_total", model="credit") == 10
        assert shown.value("ml_model_labels_total", model="credit") == 40
        assert shown.value("ml_model_labels_unmatched_total", model="credit") == 0
        assert shown.value("ml_model_window_labels", model="credit", window="15m") == 40
        assert shown.value("ml_model_predictions_total", model="iris") == 3
        assert not shown.series("ml_model_info", model="price")
        refused = httpx.post(
            f"{exporter.url}/v1/events",
            content=predictions("price", 0, 1),
            headers={"content-type": "application/json"},
            trust_env=False,
        )
        assert [error["reason"] for error in refused.json()["errors"]] == ["unknown_model"]


def test_another_profile_begins_anew(site: Site) -> None:
    site.write(model("credit"), model("price"))
    with running(site) as exporter:
        exporter.post(predictions("credit", 0, 4) + b"\n" + predictions("price", 0, 6, features={"rooms": 7}))
        (former,) = exporter.scrape().by("profile_hash", "ml_model_info", model="price")
        save(other_price(), site.directory / "price.json")
        assert reload(exporter).status_code == 200
        assert lines(exporter, "begins anew, and keeps the predictions that wait for their label") == 1
        exporter.post(predictions("price", 6, 1, features={"rooms": 7}) + b"\n" + labels("price", 0, 2, 10.0))
        shown = exporter.scrape()
        (following,) = shown.by("profile_hash", "ml_model_info", model="price")
        assert former != following == other_price().digest
        assert shown.value("ml_model_predictions_total", model="price") == 1
        assert shown.value("ml_model_window_predictions", model="price", window="15m") == 1
        assert sum(shown.series("ml_feature_values_total", model="price", feature="rooms").values()) == 1
        assert shown.value("ml_model_labels_total", model="price") == 2
        assert shown.value("ml_model_pending_labels", model="price") == 0
        assert shown.value("ml_model_predictions_total", model="credit") == 4


def test_sources_come_go_and_stay(site: Site) -> None:
    logs = site.directory / "logs"
    logs.mkdir()
    kept, dropped, late = (logs / f"{name}.ndjson" for name in ("kept", "dropped", "late"))
    kept.write_bytes(predictions("credit", 0, 10) + b"\n")
    dropped.write_bytes(predictions("price", 0, 10) + b"\n")
    late.write_bytes(predictions("iris", 0, 10) + b"\n")
    models = [model(name) for name in TASKS]
    push, of_kept, of_dropped, of_late = (
        {"name": "push", "http": {}},
        *({"name": file.stem, "file": {"path": str(file)}} for file in (kept, dropped, late)),
    )
    site.write(*models, sources=[push, of_kept, of_dropped])
    with running(site) as exporter:
        eventually(lambda: (counted(exporter, "credit"), counted(exporter, "price")) == (10, 10))
        site.write(*models, sources=[push, of_kept, of_late])
        assert reload(exporter).status_code == 200
        for file, name in ((kept, "credit"), (dropped, "price"), (late, "iris")):
            with file.open("ab") as appended:
                appended.write(predictions(name, 10, 5) + b"\n")
        eventually(lambda: (counted(exporter, "credit"), counted(exporter, "iris")) == (15, 15))
        shown = exporter.scrape()
        assert shown.value("ml_model_predictions_total", model="price") == 10
        assert shown.by("source", "ml_exporter_events_total") == {"push": 0, "kept": 15, "late": 15}
        assert shown.by("source", "ml_exporter_source_up") == {"push": 1, "kept": 1, "late": 1}
        assert lines(exporter, "following") == 3, "the file of the source that stays was not opened again"
        assert lines(exporter, "source dropped is stopped") == lines(exporter, "source late is started") == 1

        site.write(*models, sources=[of_kept, of_dropped])
        assert reload(exporter).status_code == 200
        eventually(lambda: counted(exporter, "price") == 15)
        time.sleep(0.5)
        assert counted(exporter, "price") == 15
        duplicates = counted(exporter, "price", "ml_model_predictions_duplicate_total")
        assert duplicates == 0, "a source that comes back goes on where it was"
        assert httpx.post(f"{exporter.url}/v1/events", content=b"", trust_env=False).status_code == 404


def test_tokens_and_workloads_follow_the_configuration(site: Site) -> None:
    for name in ("one", "two"):
        (site.directory / name).write_text(f"the-token-of-file-{name}")
    bearer = {"authorization": "Bearer the-token-of-file-one"}

    def source(token: str) -> dict[str, Any]:
        return {"name": "push", "http": {"tokens": [{"file": token}]}}

    me = {"name": "me", "phase": "serving", "match": "run --config"}
    test = {"name": "test", "phase": "training", "match": "pytest"}
    site.write(model("credit"), sources=[source("one")], compute={"workloads": [test]})
    with running(site) as exporter:
        exporter.post(predictions("credit", 0, 1), **bearer)
        used = eventually(lambda: exporter.scrape().value("ml_workload_cpu_seconds_total", workload="test"))
        site.write(
            model("credit"),
            sources=[source("two")],
            compute={"workloads": [me, test], "cost": {"currency": "USD", "host_per_hour": 1}},
        )
        assert reload(exporter).status_code == 200
        shown = exporter.scrape()
        assert shown.by("workload", "ml_workload_processes").keys() == {"me", "test"}, "at once, without a gap"
        assert (shown.value("ml_workload_cpu_seconds_total", workload="test") or 0) >= used
        assert shown.value("ml_compute_cost_per_hour", resource="host", currency="USD") == 1
        refused = httpx.post(f"{exporter.url}/v1/events", content=b"", headers=bearer, trust_env=False)
        assert refused.status_code == 401


class Load:
    """Sends events of `credit` in the background, and counts what was accepted."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self.accepted = 0
        self.refused: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            for number in itertools.count(0, 20):
                if self._stop.is_set():
                    return
                body = predictions("credit", number, 20) + b"\n" + labels("credit", number, 20, 1)
                answer = client.post(
                    f"{self._exporter.url}/v1/events", content=body, headers={"content-type": "application/x-ndjson"}
                )
                if answer.status_code != 202 or answer.json()["rejected"]:
                    self.refused.append(answer.text)
                else:
                    self.accepted += 20


@pytest.mark.parametrize("state", [{}, {"state": {"path": "state"}}], ids=["memory", "state"])
def test_no_event_is_lost_or_doubled_and_no_scrape_is_mixed_under_load(site: Site, state: dict[str, Any]) -> None:
    log = site.directory / "log.ndjson"
    log.touch()
    sources = [{"name": "push", "http": {}}, {"name": "log", "file": {"path": str(log)}}]

    def write(turn: int) -> None:
        """Alternate between two configurations that differ in settings, models and sources at once."""
        credit = model("credit", benchmarks={"accuracy": {"min": 0.8 + 0.1 * (turn % 2)}})
        more = [model("iris")] if turn % 2 else []
        site.write(credit, model("price"), *more, sources=sources[: 1 + turn % 2], **state)

    write(1)
    appended = 0
    with running(site) as exporter, Load(exporter) as load:
        healthy = []
        for turn in range(20):
            write(turn)
            with log.open("ab") as file:
                file.write(predictions("price", appended, 10) + b"\n")
            appended += 10
            if turn % 3:
                assert reload(exporter).status_code == 200
            else:
                hang_up(exporter)
            shown = exporter.scrape()
            minimum = shown.value("ml_model_benchmark_min", model="credit")
            assert minimum == pytest.approx(0.8 + 0.1 * (turn % 2))
            assert bool(shown.series("ml_model_labels_unmatched_total", model="iris")) == bool(turn % 2)
            assert (shown.value("ml_exporter_source_up", source="log") is not None) == bool(turn % 2)
            healthy.append(httpx.get(f"{exporter.url}/-/healthy", trust_env=False).status_code)
        assert healthy == [200] * 20
        eventually(lambda: counted(exporter, "price") == appended)
        load.__exit__()
        assert not load.refused
        shown = exporter.scrape()
        assert load.accepted > 100
        assert shown.value("ml_model_predictions_total", model="credit") == load.accepted
        assert shown.value("ml_model_labels_total", model="credit") == load.accepted
        assert shown.value("ml_model_predictions_total", model="price") == appended
        assert shown.value("ml_model_predictions_duplicate_total", model="credit") == 0
        assert shown.value("ml_model_predictions_duplicate_total", model="price") == 0
        assert shown.value("ml_model_window_labels", model="credit", window="1h") == load.accepted
        print(f"20 reloads, {load.accepted} predictions")


def test_many_reloads_at_once_are_done_one_after_the_other(site: Site) -> None:
    site.write(model("credit"))
    with running(site) as exporter:
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(reload(exporter).status_code)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 8
        assert exporter.scrape().value("ml_exporter_config_last_reload_successful") == 1


def test_the_state_after_a_kill_is_that_of_the_reload(site: Site) -> None:
    state = {"state": {"path": str(site.directory / "state")}}
    site.write(model("credit"), model("iris"), model("price"), **state)
    with running(site) as exporter:
        for name, count in (("credit", 8), ("iris", 9), ("price", 10)):
            exporter.post(predictions(name, 0, count))
        site.write(model("credit", benchmarks={"accuracy": {"min": 0.9}}), model("price"), **state)
        save(other_price(), site.directory / "price.json")
        assert reload(exporter).status_code == 200
        exporter.post(predictions("credit", 8, 3) + b"\n" + predictions("price", 10, 2))
        before = {name: counted(exporter, name) for name in TASKS}
        assert before == {"credit": 11, "iris": None, "price": 2}
        exporter.process.kill()
        exporter.process.wait()
    with running(site) as exporter:
        assert {name: counted(exporter, name) for name in TASKS} == before
        exporter.post(labels("credit", 0, 11, 1) + b"\n" + labels("price", 0, 12, 11.0))
        assert counted(exporter, "credit", "ml_model_labels_total") == 11
        assert counted(exporter, "price", "ml_model_labels_total") == 12  # what waited for its label waits on
        site.write(model("credit"), model("price"), model("iris"), **state)
        assert reload(exporter).status_code == 200
        assert counted(exporter, "iris") == 9, "a model that comes back goes on where it was"
        exporter.post(predictions("iris", 0, 10))
        exporter.process.kill()
        exporter.process.wait()
    with running(site) as exporter:
        assert {name: counted(exporter, name) for name in TASKS} == {"credit": 11, "iris": 10, "price": 2}
        save(profiles()["price"], site.directory / "price.json")
        assert reload(exporter).status_code == 200
        assert lines(exporter, "begins anew, and keeps the predictions that wait for their label") == 2
        assert counted(exporter, "price") == 0, "a former profile does not bring its counts back"


@pytest.mark.parametrize("state", ["SigBlk", "SigCgt"])
def test_a_hang_up_before_it_is_ready_is_heeded_later(site: Site, state: str) -> None:
    """While the program is being loaded, and while it starts."""
    site.write(model("credit"), state={"path": str(site.directory / "state")})
    log = site.directory / "log"
    address = f"127.0.0.1:{free_port()}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(*RUN, f"--web.listen-address={address}"),
            cwd=site.directory,
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
        )
        try:
            while not hang_up_is_in(state, process.pid):
                assert process.poll() is None
                assert "listening on" not in log.read_text()
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGHUP)
            assert "listening on" not in log.read_text()
            eventually(lambda: "the configuration was loaded anew" in log.read_text())
            assert process.poll() is None
        finally:
            process.terminate()
            assert process.wait(timeout=15) == 0


def hang_up_is_in(state: str, pid: int) -> bool:
    """Whether a process blocks SIGHUP (SigBlk) or has a handler for it (SigCgt), so that the signal does not end it."""
    found = re.search(rf"^{state}:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & 1 << (signal.SIGHUP - 1))


def test_http_reloads_only_with_leave(site: Site) -> None:
    site.write(model("credit"))
    with running_exporter(site.directory, *RUN[:2]) as exporter:
        refused = reload(exporter)
        assert refused.status_code == 403
        assert refused.text == "reloading over HTTP is off: start with --web.enable-lifecycle, or send SIGHUP\n"
