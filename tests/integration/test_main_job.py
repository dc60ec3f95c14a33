"""What the exporter is for, with everything real: its process, its command line, HTTP, and Debian's Prometheus."""

import gzip
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.requirements import require_program
from tests.support.exporter import ENVIRONMENT, Exporter, command, run, running_exporter, write_config
from tests.support.prometheus import Prometheus, eventually, running_prometheus, scrape_job

Event = dict[str, Any]


def events(size: int, seed: int, shift: float = 0.0, prefix: str = "e") -> list[Event]:
    """Predictions of a model whose reference has no shift; each with the label that follows."""
    random = np.random.default_rng(seed)
    amount = random.normal(100 + shift, 10, size)
    score = random.random(size).round(4)
    label = (random.random(size) < score).astype(int)
    country = random.choice(["DE", "FR"], size, p=[0.8, 0.2])
    return [
        {
            "model": "credit",
            "version": "3",
            "id": f"{prefix}-{seed}-{number}",
            "features": {"amount": float(amount[number]), "country": str(country[number])},
            "score": float(score[number]),
            "label": int(label[number]),
        }
        for number in range(size)
    ]


def body(rows: list[Event]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a profile made by the command line."""
    path = tmp_path_factory.mktemp("main-job")
    rows = events(3000, seed=0)
    lines = ["amount,country,score,label"]
    lines += [",".join(map(str, (*row["features"].values(), row["score"], row["label"]))) for row in rows]
    (path / "train.csv").write_text("\n".join(lines) + "\n")
    build = ["profile", "build", "--data", "train.csv", "--task", "binary", "--label", "label", "--score", "score"]
    result = run(*build, "--model-version", "3", "--output", "credit.json", directory=path)
    assert result.returncode == 0, result.stderr
    write_config(
        path,
        {
            "name": "credit",
            "task": "binary",
            "profile": "credit.json",
            "windows": ["4s", "1h"],
            "benchmarks": {"roc_auc": {"max_drop": 0.03}},
        },
    )
    result = run("check", "mlops-exporter.yml", directory=path)
    assert (result.returncode, result.stderr) == (0, "")
    return path


@pytest.fixture
def exporter(directory: Path) -> Iterator[Exporter]:
    with running_exporter(directory, "run") as running:
        yield running


@pytest.fixture
def watched(exporter: Exporter, tmp_path: Path) -> Iterator[tuple[Exporter, Prometheus]]:
    """The exporter and a Prometheus that scrapes it every second."""
    config = {"scrape_configs": [scrape_job("mlops", exporter.address)]}
    with running_prometheus(config, tmp_path) as prometheus:
        eventually(lambda: prometheus.query('up{job="mlops"} == 1'))
        yield exporter, prometheus


def value(prometheus: Prometheus, query: str) -> float | None:
    rows = prometheus.query(query)
    assert len(rows) <= 1, rows
    return float(rows[0]["value"][1]) if rows else None


def test_every_form_of_a_body_is_counted(exporter: Exporter) -> None:
    rows = events(40, seed=1)
    answers = [
        exporter.post(body(rows[:10])),
        exporter.post(json.dumps(rows[10:20]).encode(), **{"content-type": "application/json"}),
        exporter.post(json.dumps(rows[20], indent=2).encode(), **{"content-type": "application/json"}),
        exporter.post(gzip.compress(body(rows[21:])), **{"content-encoding": "gzip"}),
        exporter.post(body([rows[0] | {"model": "other"}, rows[0] | {"id": "again"}]) + b"{oops\n"),
    ]
    assert [answer.json()["accepted"] for answer in answers] == [10, 10, 1, 19, 1]
    last = answers[-1].json()
    assert (last["accepted"], last["rejected"]) == (1, 2)
    assert [(e["line"], e["reason"]) for e in last["errors"]] == [(1, "unknown_model"), (3, "malformed_json")]
    assert '`model` is "other"; known are ' in last["errors"][0]["detail"]
    shown = exporter.scrape()
    assert shown.value("ml_model_predictions_total") == 41
    assert shown.value("ml_exporter_events_total") == 41
    assert shown.value("ml_exporter_events_rejected_total", reason="malformed_json") == 1


def test_drift_performance_and_late_labels_reach_prometheus(watched: tuple[Exporter, Prometheus]) -> None:
    exporter, prometheus = watched
    rows = events(1000, seed=2)
    predictions = [{key: row[key] for key in row if key != "label"} for row in rows]
    labels = [{"model": "credit", "id": row["id"], "label": row["label"]} for row in rows]
    exporter.post(body(predictions))
    hour = '{model="credit",version="3",window="1h"'
    eventually(lambda: value(prometheus, f"ml_model_window_predictions{hour}}}") == 1000)
    assert prometheus.query("ml_model_performance") == []
    assert prometheus.query("ml_feature_drift > ml_feature_drift_threshold") == []

    exporter.post(body(labels))
    eventually(lambda: value(prometheus, f"ml_model_window_labels{hour}}}") == 1000)
    area = value(prometheus, f'ml_model_performance{hour},metric="roc_auc"}}')
    reference = value(prometheus, 'ml_model_performance_reference{metric="roc_auc"}')
    floor = value(prometheus, 'ml_model_benchmark_min{metric="roc_auc"}')
    assert area is not None
    assert reference is not None
    assert area == pytest.approx(reference, abs=0.05)
    assert floor == pytest.approx(reference - 0.03)
    assert value(prometheus, 'ml_model_pending_predictions{version="3"}') == 0
    assert value(prometheus, 'ml_model_label_delay_seconds_count{version="3"}') == 1000

    exporter.post(body(events(1000, seed=3, shift=15.0)))
    drifted = eventually(lambda: prometheus.query("ml_feature_drift > ml_feature_drift_threshold"))
    assert {row["metric"]["feature"] for row in drifted} == {"amount"}
    assert value(prometheus, f"ml_model_drifted_features{hour}}}") == 1

    # Rules of a fleet use the counters: here the same drift as total variation, in PromQL alone.
    shares = (
        'ml_feature_values_total{feature="amount",bin!~"missing|invalid"} / ignoring(bin, range) group_left '
        'sum without (bin, range) (ml_feature_values_total{feature="amount",bin!~"missing|invalid"})'
    )
    distance = value(prometheus, f"sum(abs({shares} - ml_feature_reference_ratio)) / 2")
    assert distance is not None
    assert 0.2 < distance < 0.4


def test_short_windows_empty_when_traffic_stops_and_counters_stay(watched: tuple[Exporter, Prometheus]) -> None:
    exporter, prometheus = watched
    exporter.post(body(events(200, seed=4)))
    short = 'ml_model_performance{window="4s",metric="accuracy"}'
    eventually(lambda: value(prometheus, short) is not None)
    eventually(lambda: value(prometheus, 'ml_model_window_predictions{window="4s"}') == 0, seconds=12)
    eventually(lambda: value(prometheus, short) is None, seconds=6)
    assert value(prometheus, 'ml_model_performance{window="1h",metric="accuracy"}') is not None
    assert value(prometheus, 'ml_model_predictions_total{version="3"}') == 200


def test_promtool_finds_nothing_to_complain_of(exporter: Exporter) -> None:
    promtool = require_program("promtool")
    exporter.post(body(events(500, seed=5)))
    scraped = httpx.get(f"{exporter.url}/metrics", trust_env=False).content
    assert b"ml_feature_drift{" in scraped
    result = subprocess.run([promtool, "check", "metrics"], input=scraped, capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_seconds_and_without_error(number: signal.Signals, directory: Path) -> None:
    with running_exporter(directory, "run") as exporter:
        exporter.post(body(events(100, seed=6)))
        with socket.create_connection(exporter.address.split(":")):  # type: ignore[arg-type]
            begin = time.monotonic()  # a client that keeps its connection must not hold it up
            exporter.process.send_signal(number)
            assert exporter.process.wait(timeout=10) == 0
            assert time.monotonic() - begin < 5
        log = exporter.log.read_text()
        assert "msg=stopped" in log
        assert "Traceback" not in log


def test_a_port_in_use_is_an_error_that_says_so(exporter: Exporter, directory: Path) -> None:
    result = run("run", f"--web.listen-address={exporter.address}", directory=directory)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("mlops-exporter: ")
    assert exporter.address in last
    assert "in use" in last


def test_healthcheck_of_a_running_exporter(exporter: Exporter, directory: Path) -> None:
    result = run("healthcheck", f"--web.listen-address={exporter.address}", directory=directory)
    assert result.returncode == 0, result.stderr


def test_the_demonstration_shows_drift_and_a_broken_benchmark(tmp_path: Path) -> None:
    """At twice its speed: the cars of 1974 and later come after twenty seconds instead of forty.

    Much faster, a window would hold the whole story of the demonstration, and could not tell a change from a rhythm.
    """
    with running_exporter(tmp_path, "demo", "--demo.speed=2") as exporter:
        config = {"scrape_configs": [scrape_job("demo", exporter.address)]}
        with running_prometheus(config, tmp_path) as prometheus:
            mpg = '{model="mpg",window="1m"'
            eventually(lambda: value(prometheus, f'ml_model_performance{mpg},metric="mae"}}') is not None, seconds=10)
            drift = f'ml_feature_drift{mpg},feature="horsepower",statistic="psi"}}'
            worse = 'ml_model_performance_lower{metric="mae",window="1m"} > on (model, metric) group_left '
            assert prometheus.query(f"{worse} ml_model_benchmark_max") == []
            eventually(lambda: prometheus.query(f"{drift} > ml_feature_drift_threshold"), seconds=60)
            found = eventually(lambda: prometheus.query(f"{worse} ml_model_benchmark_max"), seconds=60)
            assert [row["metric"]["model"] for row in found] == ["mpg"]
        log = exporter.log.read_text()
    assert "Traceback" not in log


def test_the_demonstration_needs_nothing_from_its_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("demo", "--web.listen-address=127.0.0.1:0"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mlops-exporter demo: two models on real data")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert list(tmp_path.iterdir()) == []
