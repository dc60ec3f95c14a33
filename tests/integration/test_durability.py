"""Nothing acknowledged is lost or counted twice, whatever happens to the process or its disk."""

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

import pytest

from mlops_exporter.ingest.store import CHECKPOINT, FILE
from tests.integration.durability import Child
from tests.support.disk import small_disk
from tests.support.prometheus import free_port

PREDICTIONS = 'ml_model_predictions_total{model="m",version="default"}'
LABELS = 'ml_model_labels_total{model="m",version="default"}'
ERRORS = 'ml_model_absolute_error_sum_total{model="m",version="default"}'


def events(first: int, count: int) -> bytes:
    """Return predictions `first`… and, for the ones ten before them, their labels: each is off by 1."""
    lines = []
    for number in range(first, first + count):
        lines.append(f'{{"model":"m","id":"{number}","features":{{"x":0.5}},"prediction":1.5}}')
        if number >= 10:
            lines.append(f'{{"model":"m","id":"{number - 10}","label":0.5}}')
    return "\n".join(lines).encode()


@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=pytest.mark.soak)])
def test_acknowledged_events_are_counted_exactly_once_through_kills(tmp_path: Path, kills: int) -> None:
    rng = random.Random(7)
    port = free_port()
    next_event, unsure = 0, 0
    restarts = []
    for kill in range(kills):
        started = time.monotonic()
        child = Child(tmp_path, port)
        child.wait_for("/-/ready")
        restarts.append(time.monotonic() - started)
        counted = child.value(PREDICTIONS) if next_event else 0.0
        # A body that was under way when the process died is there as a whole or not at all.
        assert counted in (next_event, next_event + unsure), f"after {kill} kills"
        next_event = int(counted)
        if next_event > 10:
            assert child.value(LABELS) == next_event - 10
            assert child.value(ERRORS) == pytest.approx(next_event - 10, rel=1e-12)
            assert child.value('ml_model_pending_predictions{model="m",version="default"}') == 10
            assert child.value('ml_model_window_predictions{model="m",version="default",window="1h"}') == next_event
        killer = threading.Timer(rng.uniform(0.0, 0.12), os.kill, (child.pid, signal.SIGKILL))
        killer.start()
        unsure = 0
        try:
            while True:
                unsure = rng.choice((1, 3, 40))
                status, answer = child.post(events(next_event, unsure))
                assert (status, answer["rejected"]) == (202, 0)
                next_event += unsure
                unsure = 0
        except (OSError, HTTPException):
            pass
        killer.join()
        assert child.wait() == -signal.SIGKILL
    assert next_event > kills
    print(f"{kills} kills, {next_event} predictions; slowest restart {max(restarts):.2f} s")


def test_a_graceful_stop_leaves_a_checkpoint_and_an_empty_journal(tmp_path: Path) -> None:
    port = free_port()
    child = Child(tmp_path, port)
    child.wait_for("/-/ready")
    child.post(events(0, 50))
    assert child.kill(signal.SIGTERM) == 0
    with closing(sqlite3.connect(tmp_path / "state" / FILE)) as connection:
        assert connection.execute("SELECT count(*) FROM journal").fetchone() == (0,)
    child = Child(tmp_path, port)
    child.wait_for("/-/ready")
    assert child.value(PREDICTIONS) == 50
    status, answer = child.post(events(0, 50))  # redelivery, after the restart
    assert (status, answer["accepted"]) == (202, 90)
    assert child.value(PREDICTIONS) == 50
    assert child.value(LABELS) == 40
    assert child.value('ml_model_predictions_duplicate_total{model="m"}') == 50
    assert child.value('ml_model_labels_duplicate_total{model="m"}') == 40
    child.kill(signal.SIGTERM)


def test_a_checkpoint_that_cannot_be_read_changes_no_count(tmp_path: Path) -> None:
    """Of a process that was stopped, and of one that was killed in the middle of its work."""
    port, sent = free_port(), 0
    for damage in (None, "cut", "flipped", "empty", "missing", "unreadable"):
        child = Child(tmp_path, port)
        child.wait_for("/-/ready")
        if sent:
            assert (child.value(PREDICTIONS), child.value(LABELS)) == (sent, sent - 10)
        metrics = child.wait_for("/metrics")
        assert ('ml_exporter_state_damaged_timestamp_seconds{file="checkpoint"}' in metrics) == (damage is not None)
        child.post(events(sent, 50))
        sent += 50
        child.kill(signal.SIGTERM)
        child = Child(tmp_path, port)
        child.wait_for("/-/ready")
        child.post(events(sent, 25))
        sent += 25
        assert child.kill() == -signal.SIGKILL
        newest = max((tmp_path / "state").glob(f"{CHECKPOINT}*"), key=lambda path: int(path.name.split("-")[-1]))
        content = bytearray(newest.read_bytes())
        newest.unlink()
        if damage == "unreadable":
            newest.mkdir()
        elif damage != "missing":
            content[len(content) // 2] ^= 4
            newest.write_bytes({"cut": bytes(content[:-7]), "empty": b""}.get(damage or "", bytes(content)))
    child = Child(tmp_path, port)
    child.wait_for("/-/ready")
    assert (child.value(PREDICTIONS), child.value(LABELS)) == (sent, sent - 10)
    child.kill(signal.SIGTERM)


def test_a_second_process_on_the_same_state_refuses(tmp_path: Path) -> None:
    child = Child(tmp_path, free_port())
    child.wait_for("/-/ready")
    second = Child(tmp_path, free_port())
    assert second.wait() == 1
    assert "another process uses this state.path" in (tmp_path / "log").read_text()
    assert child.post(events(0, 5))[0] == 202
    child.kill(signal.SIGTERM)


def test_a_full_disk_refuses_events_shows_it_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", "4m"):
        port = free_port()
        child = Child(tmp_path, port)
        child.wait_for("/-/ready")
        accepted = 0
        status = 202
        while status == 202:
            status, _ = child.post(events(accepted, 500))
            accepted += 500 if status == 202 else 0
            assert accepted < 100_000
        assert status == 503
        assert "make room on the disk" in child.wait_for("/-/ready", 503)
        assert child.value('ml_exporter_state_errors_total{fault="full"}') >= 1
        assert child.value(PREDICTIONS) == accepted
        assert child.kill() == -signal.SIGKILL
        child = Child(tmp_path, port)
        child.wait_for("/metrics")
        subprocess.run(["mount", "-o", "remount,size=64m", tmp_path / "state"], check=True)
        child.wait_for("/-/ready")
        assert child.value(PREDICTIONS) == accepted
        assert child.post(events(accepted, 500))[0] == 202
        assert child.value(PREDICTIONS) == accepted + 500
        child.kill(signal.SIGTERM)


def _state(tmp_path: Path) -> Path:
    """Return a state file that holds something."""
    child = Child(tmp_path, free_port())
    child.wait_for("/-/ready")
    child.post(events(0, 50))
    child.kill(signal.SIGTERM)
    return tmp_path / "state" / FILE


def test_a_corrupt_file_is_reported_and_left_alone(tmp_path: Path) -> None:
    file = _state(tmp_path)
    broken = b"not a database at all" * 1000
    file.write_bytes(broken)
    child = Child(tmp_path, free_port())
    assert "move it away to start anew" in child.wait_for("/-/ready", 503)
    assert child.value('ml_exporter_state_errors_total{fault="corrupt"}') >= 1
    assert child.post(events(0, 5))[0] == 503
    child.kill(signal.SIGTERM)
    assert file.read_bytes() == broken


def test_a_file_of_a_newer_version_is_reported_and_left_alone(tmp_path: Path) -> None:
    file = _state(tmp_path)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    child = Child(tmp_path, free_port())
    assert "has schema 99" in child.wait_for("/-/ready", 503)
    assert child.value('ml_exporter_state_errors_total{fault="schema"}') >= 1
    child.kill(signal.SIGTERM)
    assert file.read_bytes() == before


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands where the directory should")
    child = Child(tmp_path, free_port())
    assert "cannot be made" in child.wait_for("/-/ready", 503)
    assert child.get("/-/healthy")[0] == 200
    child.kill(signal.SIGTERM)


def test_a_read_only_disk_is_reported(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", "8m"):
        child = Child(tmp_path, free_port())
        child.wait_for("/-/ready")
        assert child.post(events(0, 5))[0] == 202
        child.kill()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "state"], check=True)
        port = free_port()
        child = Child(tmp_path, port)
        assert "must be" in child.wait_for("/-/ready", 503)
        assert child.value('ml_exporter_state_errors_total{fault="read_only"}') >= 1
        subprocess.run(["mount", "-o", "remount,rw", tmp_path / "state"], check=True)
        child.wait_for("/-/ready")
        assert child.value(PREDICTIONS) == 5
        child.kill(signal.SIGTERM)
