"""Partial ledgers of real producers in a real exporter: exactly once through kills, by whoever may send them."""

import json
import os
import random
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import yaml

from mlops_exporter.counting.partial import PartialLedger, encode
from mlops_exporter.ledgers import LedgerCounter, LedgersNotSentError, send_ledgers
from tests.integration.durability import Child, write_profile
from tests.support.exporter import running_exporter
from tests.support.prometheus import free_port

PREDICTIONS = 'ml_model_predictions_total{model="m",version="default"}'
ERRORS = 'ml_model_absolute_error_sum_total{model="m",version="default"}'
MODEL = {
    "name": "m",
    "task": "regression",
    "windows": ["1h"],
    "label_delay": "1h",
    "drift": {"statistics": ["tvd"]},
}


def configuration(directory: Path, http: dict[str, object] | None = None) -> Path:
    """Write the configuration of a child process, for producers."""
    profile = write_profile(directory)
    file = directory / "mlops-exporter.yml"
    content = {
        "models": [{**MODEL, "name": name, "profile": profile.name} for name in ("m", "another")],
        "sources": [{"name": "push", "http": http or {}}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


def counter(file: Path, events: int, now: float) -> LedgerCounter:
    """Count so many events, each off by 1, of the last minutes."""
    lines = [
        {"model": "m", "ts": now - 10.0 - number % 300, "features": {"x": 0.5}, "prediction": 1.5, "label": 0.5}
        for number in range(events)
    ]
    counts = LedgerCounter(file, "m")
    counts.add_events("\n".join(map(json.dumps, lines)).encode())
    assert (counts.accepted, counts.refused) == (events, {})
    return counts


@pytest.mark.parametrize("kills", [15, pytest.param(100, marks=pytest.mark.soak)])
def test_ledgers_count_exactly_once_through_kills(tmp_path: Path, kills: int) -> None:
    rng = random.Random(11)
    port = free_port()
    counts = counter(configuration(tmp_path), 60, time.time())
    epoch = expected = 0
    for kill in range(kills):
        child = Child(tmp_path, port)
        child.wait_for("/-/ready")
        if epoch:
            assert child.value(PREDICTIONS) in (expected, expected + 60), f"after {kill} kills"
        killer = threading.Timer(rng.uniform(0.0, 0.15), os.kill, (child.pid, signal.SIGKILL))
        killer.start()
        try:
            while True:  # what was under way is sent again, and so is what was acknowledged long ago
                body = encode(counts.ledgers("task", str(epoch)))
                for again in range(rng.choice((1, 2))):
                    status, answer = child.post(body, "application/vnd.msgpack", "/v1/ledgers")
                    assert (status, answer["rejected"]) == (202, 0)
                    assert again == 0 or answer["accepted"] == 0
                expected += 60
                epoch += 1
                old = encode(counts.ledgers("task", str(rng.randrange(epoch))))
                assert child.post(old, "application/vnd.msgpack", "/v1/ledgers")[1]["accepted"] == 0
        except (OSError, HTTPException):
            pass
        killer.join()
        assert child.wait() == -signal.SIGKILL
    child = Child(tmp_path, port)
    child.wait_for("/-/ready")
    for each in range(epoch + 1):
        assert child.post(encode(counts.ledgers("task", str(each))), "application/vnd.msgpack", "/v1/ledgers")[0] == 202
    assert epoch > 5
    assert child.value(PREDICTIONS) == child.value(ERRORS) == (epoch + 1) * 60
    assert child.value('ml_model_window_predictions{model="m",version="default",window="1h"}') == (epoch + 1) * 60
    assert child.kill() == -signal.SIGKILL


def test_a_token_opens_the_door_for_its_models_alone(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).write_text(name * 8)
    tokens = [{"file": "mine", "models": ["m"]}, {"file": "other", "models": ["another"]}]
    file = configuration(tmp_path, {"tokens": tokens})
    counts = counter(file, 40, time.time())
    ledgers = list(counts.ledgers("task", "1"))
    with running_exporter(tmp_path) as exporter:
        with pytest.raises(LedgersNotSentError, match="401"):
            send_ledgers(exporter.url, ledgers)
        with pytest.raises(LedgersNotSentError, match=r"403.*forbidden_model"):
            send_ledgers(exporter.url, ledgers, token_file=tmp_path / "other")
        receipt = send_ledgers(exporter.url, ledgers, token_file=tmp_path / "mine")
        assert (receipt.accepted, receipt.repeated) == (len(ledgers), 0)
        again = send_ledgers(exporter.url, ledgers, token_file=tmp_path / "mine")
        assert (again.accepted, again.repeated, again.changed) == (0, len(ledgers), 0)
        assert exporter.value("ml_model_predictions_total", model="m") == 40
        assert exporter.value("ml_exporter_ledgers_total") == len(ledgers)
        assert exporter.value("ml_exporter_events_rejected_total", reason="forbidden_model") == len(ledgers)
        assert exporter.value("ml_exporter_events_rejected_total", reason="unauthorized") == 1


def test_an_exporter_that_is_away_is_waited_for(tmp_path: Path) -> None:
    counts = counter(configuration(tmp_path), 40, time.time())
    with pytest.raises(LedgersNotSentError, match=r"tried for 0\.2 s"):
        send_ledgers("http://127.0.0.1:9", counts.ledgers("task", "1"), wait_seconds=0.2)


def test_tables_and_frames_count_as_the_events_that_they_are(tmp_path: Path) -> None:
    now = time.time()
    file = configuration(tmp_path)
    (expected,) = {each.cells for each in one_pane(counter(file, 60, now))}
    rows = {"at": [now - 10.0 - n % 300 for n in range(60)], "x": [0.5] * 60, "said": [1.5] * 60, "true": [0.5] * 60}
    columns = {"ts": "at", "prediction": "said", "label": "true"}
    for table in (pa.table(rows), *pa.table(rows).to_batches(), pa.table(rows).to_pandas()):
        counts = LedgerCounter(file, "m", columns=columns)
        counts.add(table)
        assert (counts.accepted, counts.refused) == (60, {})
        assert {each.cells for each in one_pane(counts)} == {expected}
    with pytest.raises(ValueError, match="no model 'other'"):
        LedgerCounter(file, "other")
    with pytest.raises(ValueError, match="columns"):
        LedgerCounter(file, "m", columns={"label_": "true"})


def one_pane(counts: LedgerCounter) -> list[PartialLedger]:
    """Return the sum of all ledgers, as one."""
    several = list(counts.ledgers("p", "1"))
    assert len(several) > 1
    cells = np.sum([each.numbers() for each in several], axis=0)
    return [msgspec.structs.replace(several[0], cells=cells.tobytes())]
