"""From a log to the answers of a real Prometheus that was filled with its history."""

import asyncio
import gzip
import json
import math
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import accuracy_score, roc_auc_score

from mlops_exporter import cli
from mlops_exporter.collectors.kinds import made_of
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.exposition.text import render
from mlops_exporter.profile.profile import save
from tests.requirements import require_program
from tests.support.exporter import write_config
from tests.support.pipeline import Event, Exposition, profile, reference_rows, service
from tests.support.prometheus import Prometheus, eventually, running_prometheus

STEP = 300
HOURS = 5
LENGTHS = {"15m": 900, "1h": 3600}


def history(begin: float) -> tuple[list[Event], list[Event]]:
    """Predictions over five hours, with a pause in the third, and their labels ten minutes later."""
    rows = reference_rows("binary", 2000, seed=3)
    random = np.random.default_rng(1)
    times = np.sort(begin + random.uniform(0, HOURS * 3600, len(rows)))
    times = times[(times < begin + 2.2 * 3600) | (times > begin + 2.8 * 3600)].round(3)
    predictions: list[Event] = []
    labels: list[Event] = []
    for number, (moment, row) in enumerate(zip(times.tolist(), rows, strict=False)):
        features = {name: row[name] for name in ("amount", "rooms", "age", "country", "owner")}
        event = {"model": "binary", "version": "7", "id": f"e{number}", "features": features, "score": row["p_yes"]}
        predictions.append(event | {"ts": moment})
        labels.append({"model": "binary", "id": f"e{number}", "label": row["y"], "ts": moment + 600})
    return predictions, labels


def as_lines(events: list[Event]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the configuration of one model, and current."""
    save(profile("binary"), tmp_path / "binary.json")
    model = {
        "name": "binary",
        "task": "binary",
        "profile": "binary.json",
        "windows": list(LENGTHS),
        "min_samples": {"performance": 30, "drift": 30},
    }
    write_config(tmp_path, model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replayed(*arguments: str) -> None:
    assert cli.main(["replay", *arguments]) == 0


def value(server: Prometheus, expression: str, moment: float) -> float | None:
    result = server.api("query", query=expression, time=f"{moment}")["result"]
    assert len(result) <= 1
    return float(result[0]["value"][1]) if result else None


def window(times: np.ndarray[Any, Any], now: float, length: float) -> np.ndarray[Any, Any]:
    """Which events a window of 60 panes holds."""
    panes = np.floor(times / (length / 60))
    return (panes > now // (length / 60) - 60) & (times <= now)


def test_prometheus_answers_what_a_live_exporter_would_have_shown(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promtool = require_program("promtool")
    begin = math.floor(time.time() / 7200) * 7200 - (HOURS + 3) * 3600.0
    predictions, labels = history(begin)
    half = len(predictions) // 2
    (directory / "predictions-1.ndjson.gz").write_bytes(gzip.compress(as_lines(predictions[:half])))
    (directory / "predictions-2.ndjson").write_bytes(as_lines(predictions[half:]) + b'{"model":"binary"}\nno\n')
    stamped = [label | {"ts": datetime.fromtimestamp(label["ts"], UTC).isoformat()} for label in labels]
    (directory / "labels.ndjson").write_bytes(as_lines(stamped))
    replayed(
        "--events", "predictions-*", "labels.ndjson", "--output", "history.om", f"--step={STEP}s", "--label=team=risk"
    )  # fmt: skip
    said = capsys.readouterr()
    assert f"history.om: {2 * len(predictions)} events" in said.out
    assert "1 events refused as malformed_json" in said.err
    assert "1 events refused as bad_timestamp" in said.err
    assert "out of order" not in said.err
    assert sorted(path.name for path in directory.iterdir() if path.name.startswith(("replay-", "history"))) == [
        "history.om"
    ]

    blocks = [promtool, "tsdb", "create-blocks-from", "openmetrics", "history.om", "data"]
    made = subprocess.run(blocks, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr
    times = np.array([event["ts"] for event in predictions])
    scores = np.array([event["score"] for event in predictions])
    truth = np.array([label["label"] == "yes" for label in labels])
    with running_prometheus({}, directory) as server:
        series = 'job="mlops-exporter",instance="replay",team="risk"'
        eventually(lambda: value(server, f"ml_model_predictions_total{{{series}}}", begin + 3600) is not None)
        compared = 0
        for moment in np.arange(begin + STEP, begin + HOURS * 3600, 4 * STEP).tolist():
            counted = value(server, "ml_model_predictions_total", moment)
            assert counted == np.count_nonzero(times <= moment)
            joined = value(server, "ml_model_labels_total", moment)
            assert joined == np.count_nonzero(times + 600 <= moment)
            for name, length in LENGTHS.items():
                mine = window(times + 600, moment, length)
                expected = np.count_nonzero(mine)
                assert value(server, f'ml_model_window_labels{{window="{name}"}}', moment) == expected
                if expected < 30:
                    continue
                compared += 1
                where = f'window="{name}",metric'
                accuracy = value(server, f'ml_model_performance{{{where}="accuracy"}}', moment)
                assert accuracy == pytest.approx(accuracy_score(truth[mine], scores[mine] >= 0.5))
                auc = value(server, f'ml_model_performance{{{where}="roc_auc"}}', moment)
                assert auc == pytest.approx(roc_auc_score(truth[mine], scores[mine]))
        assert compared > 10
        assert value(server, "ml_model_predictions_total", begin) == 0  # before the first
        increase = value(server, "increase(ml_model_predictions_total[1h])", begin + 2 * 3600)
        expected = np.count_nonzero((times > begin + 3600) & (times <= begin + 2 * 3600))
        assert increase == pytest.approx(expected, rel=0.05)
        end = begin + (HOURS - 1) * 3600
        live = live_exposition(predictions, labels, end)
        for metric in ("ml_feature_drift", "ml_feature_values_total", "ml_model_performance_lower"):
            answered = {
                frozenset(one["metric"].items() - added(metric)): float(one["value"][1])
                for one in server.api("query", query=metric, time=f"{end}")["result"]
            }
            shown = {
                frozenset(pair for pair in labels if pair[1]): number  # to Prometheus an empty label is none
                for labels, number in live.series(metric).items()
            }
            assert answered == pytest.approx(shown)
            assert len(answered) > 3


def added(metric: str) -> set[tuple[str, str]]:
    """Labels that the exporter itself does not give."""
    return {("__name__", metric), ("job", "mlops-exporter"), ("instance", "replay"), ("team", "risk")}


def live_exposition(predictions: list[Event], labels: list[Event], now: float) -> Exposition:
    """What an exporter shows at a moment, having taken each event when it happened."""
    running = service("binary", windows=list(LENGTHS), min_samples={"performance": 30, "drift": 30}, drift={})

    async def feed() -> None:
        for event in sorted(predictions + labels, key=lambda event: event["ts"]):
            if event["ts"] <= now:
                await running.intake.submit("push", json.dumps(event).encode(), event["ts"])
        running.intake.flush()

    asyncio.run(feed())
    collectors = made_of(Parts(running.models))
    samples = [samples for collector in collectors for samples in collector.collect(now)]
    return Exposition(render(samples, openmetrics=False).decode())


def test_a_long_pause_has_no_samples(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does one wrong time of decades ago cost millions of them."""
    now = time.time() - 3600
    event = {"model": "binary", "score": 0.5}
    (directory / "log").write_bytes(as_lines([event | {"ts": 1e9}, event | {"ts": now}, event | {"ts": now - 5}]))
    replayed("--events=log", "--output=history.om", "--step=6h", "--lateness=1s")
    said = capsys.readouterr()
    assert "3 events" in said.out
    assert "1 events were more than --lateness=1s out of order" not in said.err
    lines = (directory / "history.om").read_text().splitlines()
    counts = [line.split()[1:] for line in lines if line.startswith("ml_model_predictions_total")]
    assert len(counts) < 50
    assert [number for number, _ in counts][-1] == "3.0"
    assert float(counts[-1][1]) >= now


def test_versions_that_come_one_after_the_other_have_one_history_each(directory: Path) -> None:
    begin = time.time() - 86400
    events = [
        {"model": "binary", "version": str(number // 100), "score": 0.5, "ts": begin + 60 * number}
        for number in range(300)
    ]
    (directory / "log").write_bytes(as_lines(events))
    replayed("--events=log", "--output=history.om", "--step=5m")
    counts: dict[str, list[tuple[float, float]]] = {}
    for line in (directory / "history.om").read_text().splitlines():
        if line.startswith("ml_model_predictions_total{"):
            labels, count, stamp = line.split()
            counts.setdefault(labels.split('version="')[1][0], []).append((float(stamp), float(count)))
    for version in range(3):
        times, values = zip(*counts[str(version)], strict=True)
        assert list(times) == [times[0] + 300 * step for step in range(len(times))]
        assert times[0] == pytest.approx(begin + 6000 * version, abs=600)
        assert np.diff(values[:20]).tolist() == [5] * 19
        assert values[-1] == 100


@pytest.mark.parametrize(
    ("log", "arguments", "message"),
    [
        ("", ["--events", "none-*"], "no file matches none-*"),
        ("", ["--events", "log"], "no event has a usable ts: there is none"),
        ('{"model":"binary"}', ["--events", "log"], "no event has a usable ts: bad_timestamp 1"),
        ('{"model":"other","ts":1}', ["--events", "log"], "every event was refused: unknown_model 1"),
        ('{"model":"binary","ts":1}', ["--events", "log", "--output=none/history.om"], "none"),
        ("", ["--events", "log", "--step=5"], "'5' is not a duration"),
        ("", ["--events", "log", "--label=a"], "'a': write NAME=VALUE"),
    ],
)
def test_nothing_to_replay_says_why(
    directory: Path, capsys: pytest.CaptureFixture[str], log: str, arguments: list[str], message: str
) -> None:
    (directory / "log").write_text(log)
    before = sorted(directory.iterdir())
    try:
        status = cli.main(["replay", "--output=history.om", *arguments])
    except SystemExit as exit_:
        status = int(str(exit_.code))
    assert status in (1, 2)
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert sorted(directory.iterdir()) == before


@pytest.mark.parametrize("kind", ["parquet", "csv", "source"])
def test_tables_give_the_history_that_their_events_give(
    directory: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    begin = math.floor(time.time() / 3600) * 3600 - (HOURS + 3) * 3600.0
    predictions, labels = history(begin)
    (directory / "events.ndjson").write_bytes(as_lines(predictions) + b'{"model":"binary","id":"x","label":"yes"}\n')
    (directory / "labels.ndjson").write_bytes(as_lines(labels))
    replayed("--events", "events.ndjson", "labels.ndjson", "--output", "expected.om", f"--step={STEP}s")
    capsys.readouterr()
    rows = pd.DataFrame([event["features"] for event in predictions])
    rows["rid"], rows["p"], rows["ts"] = ([event[name] for event in predictions] for name in ("id", "score", "ts"))
    rows.insert(len(rows.columns) - 1, "version", "7")
    rows["ts"] = pd.to_datetime(rows["ts"], unit="s")
    rows.loc[len(rows)] = [*rows.iloc[-1][:-1], pd.NaT]
    shuffled = rows.iloc[np.argsort(np.arange(len(rows)) + np.random.default_rng(1).uniform(0, 8, len(rows)))]
    truth = pd.DataFrame([{"rid": event["id"], "label": event["label"], "ts": event["ts"]} for event in labels])
    if kind == "csv":
        shuffled.to_csv(directory / "scored.csv", index=False)
        truth.to_csv(directory / "truth.csv", index=False)
    else:
        (directory / "scored").mkdir()
        shuffled.iloc[:900].to_parquet(directory / "scored" / "1.parquet", row_group_size=100)
        shuffled.iloc[900:].to_parquet(directory / "scored" / "2.parquet")
        truth.to_parquet(directory / "truth.parquet")
    if kind == "source":
        columns = {"id": "rid", "ts": "ts", "version": "version", "score": "p"}
        config = yaml.safe_load((directory / "mlops-exporter.yml").read_text())
        tables = {"scores": ("scored", columns), "truth": ("truth.parquet", {"id": "rid", "ts": "ts", "label": "label",
                                                                           "features": {}})}  # fmt: skip
        config["sources"] = [
            {"name": name, "table": {"path": path, "model": "binary", "columns": meaning}}
            for name, (path, meaning) in tables.items()
        ]
        (directory / "mlops-exporter.yml").write_text(yaml.safe_dump(config))
        given = ["--source", "scores", "--source", "truth"]
    else:
        places = ["scored.csv", "truth.csv"] if kind == "csv" else ["scored/*.parquet", "truth.parquet"]
        given = ["--events", *places, "--column", "id=rid", "--column", "score=p"]
    replayed(*given, "--output", "history.om", f"--step={STEP}s")
    said = capsys.readouterr()
    assert f"history.om: {2 * len(predictions)} events" in said.out
    assert "1 events refused as bad_timestamp" in said.err
    # A change is looked for in the order of the delivery, and a delay is at the edge of a bucket but for rounding.
    changing = ("ml_model_change_evidence", "ml_model_label_delay")
    expected, found = (
        [line for line in (directory / name).read_text().splitlines() if not line.startswith(changing)]
        for name in ("expected.om", "history.om")
    )
    differing = [(a, b) for a, b in zip(expected, found, strict=True) if a != b and not _nearly(a, b)]
    assert not differing, differing[:5]


def _nearly(one: str, other: str) -> bool:
    """Whether two samples differ in the last digits alone: sums, some in single precision, were added otherwise."""
    (series, value, moment), (its, another, when) = one.rsplit(" ", 2), other.rsplit(" ", 2)
    return (series, moment) == (its, when) and math.isclose(float(value), float(another), rel_tol=1e-5, abs_tol=1e-9)


def test_tables_that_say_too_little_are_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"amount": [1.0], "score": [0.5]}).to_parquet(directory / "scored.parquet")
    assert cli.main(["replay", "--events", "scored.parquet", "--output", "history.om"]) == 1
    assert "no column ts, which a replay goes by: --column ts=COLUMN names another" in capsys.readouterr().err
    assert cli.main(["replay", "--source", "nobody", "--output", "history.om"]) == 1
    assert "--source nobody: no source of that name with a table is configured" in capsys.readouterr().err
    assert cli.main(["replay", "--output", "history.om"]) == 1
    assert "nothing to replay" in capsys.readouterr().err
