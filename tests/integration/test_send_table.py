"""Whole tables sent by a batch job: waited for, told what became of them, and counted once however often it runs."""

import json
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mlops_exporter.client import Monitor, TableNotSentError
from tests.support.exporter import Exporter, command, run, running_exporter, start_exporter, write_config
from tests.support.prometheus import eventually

ROWS = 30_000


def frame(rows: int = ROWS, first: int = 0) -> pd.DataFrame:
    rng, prefix = np.random.default_rng(first), uuid.uuid4()
    return pd.DataFrame(
        {
            "id": [f"{prefix} {number}" for number in range(rows)],
            "amount": rng.normal(15, 5, rows),
            "country": rng.choice(["DE", "FR"], rows),
            "score": rng.random(rows),
            "ts": pd.Timestamp.now("UTC"),
        }
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    directory = tmp_path_factory.mktemp("exporter")
    write_config(directory, state={"path": "state"})
    with running_exporter(directory) as running:
        yield running


def counted(service: Exporter, version: str, what: str = "predictions") -> float:
    return service.value(f"ml_model_{what}_total", model="credit", version=version) or 0


def test_every_row_is_taken_or_refused_with_its_reason(service: Exporter) -> None:
    rows = frame()
    rows.loc[[5, ROWS - 1], "score"] = 7.0
    receipt = Monitor(service.url, model="credit").send_table(rows, version="frame")
    assert (receipt.rows, receipt.accepted, receipt.refused) == (ROWS, ROWS - 2, {"bad_score": 2})
    assert receipt.errors == [(6, "bad_score"), (ROWS, "bad_score")]
    assert receipt.complete
    assert receipt.repeated == 0
    assert counted(service, "frame") == ROWS - 2
    assert service.value("ml_feature_values_total", version="frame", feature="country", bin="missing") == 0


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow", "table", "dataset"])
def test_it_may_be_a_file_or_a_table(service: Exporter, tmp_path: Path, kind: str) -> None:
    table = pa.Table.from_pandas(frame(3000), preserve_index=False)
    path = tmp_path / f"scored.{kind}"
    sent: Any = path
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=700)
    elif kind == "csv":
        pyarrow.csv.write_csv(table, path)
    elif kind == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, 700)
    elif kind == "table":
        sent = table
    else:
        (path / "day=1").mkdir(parents=True)
        (path / "day=2").mkdir()
        pq.write_table(table.slice(0, 1000), path / "day=1" / "a.parquet")
        pq.write_table(table.slice(1000), path / "day=2" / "a.parquet")
    receipt = Monitor(service.url, model="credit", version=kind).send_table(sent)
    assert (receipt.accepted, receipt.refused) == (3000, {})
    assert counted(service, kind) == 3000
    shown = service.scrape()
    assert shown.value("ml_feature_values_total", version=kind, feature="amount", bin="invalid") == 0
    assert shown.value("ml_feature_values_total", version=kind, feature="amount", bin="missing") == 0


def test_columns_of_other_names(service: Exporter) -> None:
    rows = frame(500).rename(columns={"id": "request", "amount": "eur", "score": "p"})
    rows["ts"] = rows["ts"].dt.tz_localize(None)
    columns = {"id": "request", "score": "p", "features": {"amount": "eur", "country": "country"}, "ts": "ts"}
    monitor = Monitor(service.url, model="credit", version="named")
    assert monitor.send_table(rows, columns=columns).accepted == 500
    assert service.value("ml_feature_values_total", version="named", feature="amount", bin="missing") == 0
    with pytest.raises(ValueError, match="no column 'score_' for score; there are request"):
        monitor.send_table(rows, columns={"score": "score_"})
    with pytest.raises(ValueError, match="there are id, ts, version"):
        monitor.send_table(rows, columns={"identity": "request"})
    with pytest.raises(ValueError, match="not a readable table"):
        monitor.send_table("nowhere.parquet")


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ("rubbish", "'rubbish' is no time: write all as 2026"),
        ("2026-11-01T12:00:00", "'2026-11-01T12:00:00' is no time"),
        ("1793523090.5", "'1793523090.5' is no time"),
    ],
)
def test_what_is_no_time_is_named_by_row_and_value(service: Exporter, odd: str, says: str) -> None:
    rows = frame(20_000)
    rows["at"] = "2026-11-01T12:00:00Z"
    rows.loc[0, "at"] = None
    rows.loc[17_000, "at"] = odd
    monitor = Monitor(service.url, model="credit", version="untimely")
    with pytest.raises(ValueError, match=f"^row 17001, column 'at': {says}"):
        monitor.send_table(rows.drop(columns="ts"), columns={"ts": "at"})


def test_labels_beside_the_rows_and_in_a_table_of_their_own(service: Exporter) -> None:
    rows, truth = frame(2000, 10_000), np.arange(2000) % 2
    monitor = Monitor(service.url, model="credit")
    assert monitor.send_table(rows, truth, version="beside").accepted == 2000
    assert counted(service, "beside", "labels") == 2000
    later = frame(2000, 20_000)
    labels = pd.DataFrame({"request": later["id"], "label": truth, "amount": 1.0})
    receipt = monitor.send_table(later, labels.rename(columns={"request": "id"}), version="joined")
    assert (receipt.accepted, receipt.chunks) == (4000, 2)
    assert (counted(service, "joined"), counted(service, "joined", "labels")) == (2000, 2000)
    with pytest.raises(ValueError, match="3 labels for 2000 rows"):
        monitor.send_table(rows, [1, 0, 1])


def test_a_job_that_is_run_again_counts_once(service: Exporter) -> None:
    """Without ids, so that nothing but the run and the number of the chunk tells."""
    rows = frame().drop(columns="id")
    monitor = Monitor(service.url, model="credit", version="again")
    first = monitor.send_table(rows, run="nightly 2026-11-28")
    again = monitor.send_table(rows, run="nightly 2026-11-28")
    assert (first.accepted, first.repeated) == (again.accepted, 0) == (ROWS, 0)
    assert (again.repeated, again.changed) == (ROWS, 0)
    assert counted(service, "again") == ROWS
    changed = monitor.send_table(rows.assign(amount=1.0), run="nightly 2026-11-28")
    assert (changed.repeated, changed.changed) == (ROWS, ROWS)
    assert monitor.send_table(rows).repeated == 0  # of another name, which is a digest of the rows
    assert monitor.send_table(rows).repeated == ROWS
    assert counted(service, "again") == 2 * ROWS


def test_it_counts_once_across_kills_of_the_exporter(tmp_path: Path) -> None:
    write_config(tmp_path, state={"path": "state"})
    exporter = start_exporter(tmp_path)
    port = int(exporter.address.rpartition(":")[2])
    rows = frame(200_000).drop(columns="id")
    receipts: list[Any] = []
    sending = threading.Thread(
        target=lambda: receipts.append(
            Monitor(exporter.url, model="credit", version="1", timeout=10).send_table(rows, run="nightly")
        )
    )
    try:
        eventually(exporter.is_ready)
        sending.start()
        for _ in range(3):
            time.sleep(0.7)
            exporter.process.send_signal(signal.SIGKILL)
            exporter.process.wait()
            exporter = start_exporter(tmp_path, port=port)
        sending.join(120)
        assert receipts[0].accepted == 200_000
        eventually(exporter.is_ready)
        assert Monitor(exporter.url, model="credit", version="1").send_table(rows, run="nightly").repeated == 200_000
        assert counted(exporter, "1") == 200_000
    finally:
        exporter.process.kill()
        exporter.process.wait()


def test_what_cannot_be_sent_ends_with_the_receipt_so_far(tmp_path: Path) -> None:
    monitor = Monitor("http://127.0.0.1:1", model="credit")
    with pytest.raises(TableNotSentError, match="tried for 1 s") as caught:
        monitor.send_table(frame(10), wait_seconds=1)
    assert not caught.value.receipt.complete
    assert caught.value.receipt.rows == 0


def test_a_small_body_limit_halves_the_chunks(tmp_path: Path) -> None:
    write_config(tmp_path, limits={"body_bytes": 100 * 1024})
    with running_exporter(tmp_path) as service:
        monitor = Monitor(service.url, model="credit", version="1")
        rows = frame(20_000).drop(columns="id")
        receipts = [monitor.send_table(rows) for _ in range(2)]
        assert [receipt.accepted for receipt in receipts] == [20_000] * 2
        assert receipts[0].chunks > 8
        assert counted(service, "1") == 20_000


def test_push_tells_what_became_of_a_table(service: Exporter, tmp_path: Path) -> None:
    rows = frame(1000, 50_000)
    rows.loc[3, "score"] = -1.0
    rows.rename(columns={"id": "request"}).to_csv(tmp_path / "scored.csv", index=False)
    labels = rows[["id"]].rename(columns={"id": "request"}).assign(label=1)
    labels.to_json(tmp_path / "truth.ndjson", orient="records", lines=True)
    push = ["push", "--table", "scored.csv", "--model", "credit", "--model-version", "pushed", "--url", service.url]
    done = run(*push, "--labels", "truth.ndjson", "--column", "id=request", directory=tmp_path)
    receipt = json.loads(done.stdout)
    assert done.returncode == 3, done.stderr
    assert (receipt["accepted"], receipt["refused"], receipt["complete"]) == (1999, {"bad_score": 1}, True)
    assert (counted(service, "pushed"), counted(service, "pushed", "labels")) == (999, 999)
    again = run(*push, "--labels", "truth.ndjson", "--column", "id=request", directory=tmp_path)
    assert json.loads(again.stdout)["repeated"] == 2000
    assert counted(service, "pushed") == 999
    away = run(*push[:-1], "http://127.0.0.1:1", "--wait", "1s", directory=tmp_path)
    assert (away.returncode, json.loads(away.stdout)["complete"]) == (1, False)
    assert "not all was sent: tried for 1 s" in away.stderr
    absent = subprocess.run(
        command("push", "--table", "absent.csv", "--model", "credit"), cwd=tmp_path, capture_output=True, check=False
    )
    assert absent.returncode == 1
    assert b"absent.csv: no such file" in absent.stderr
    secured = [*push[:-1], "https://127.0.0.1:1"]
    for lost in ("--token-file", "--ca-file", "--cert-file"):
        done = run(*secured, lost, "lost.pem", directory=tmp_path)
        assert done.returncode == 1, lost
        assert "lost.pem: " in done.stderr
        assert "No such file or directory" in done.stderr
        assert "Traceback" not in done.stderr


def test_push_and_replay_take_lists_with_the_scores_of_their_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    shown = []
    for number in range(400):
        items = [f"i{item}" for item in rng.choice(90, 5, replace=False)]
        of_items = {"items": items, "said": np.sort(rng.random(5))[::-1].tolist(), "kinds": ["hats"] * 5}
        shown.append({"request": f"l{number}", **of_items, "clicked": items[: number % 2], "at": time.time() - 60})
    pq.write_table(pa.Table.from_pylist(shown), tmp_path / "shown.parquet")
    columns = ["--column", "prediction=items", "--column", "label=clicked", "--column", "categories=kinds"]
    columns += ["--column", "id=request", "--column", "ts=at", "--scores", "said"]
    build = ["profile", "build", "--data", "shown.parquet", "--task", "ranking", "--prediction", "items"]
    build += ["--score", "said", "--categories", "kinds", "--label", "clicked", "--exclude", "request,at"]
    run(*build, "--output", "shop.json", directory=tmp_path)
    model = {"name": "shop", "task": "ranking", "profile": "shop.json", "label_ttl": "1s"}
    config = write_config(tmp_path, model)
    with running_exporter(tmp_path) as exporter:
        push = ["push", "--table", "shown.parquet", "--model", "shop", "--url", exporter.url, *columns]
        receipt = json.loads(run(*push, directory=tmp_path).stdout)
        assert (receipt["accepted"], receipt["refused"]) == (400, {})
        scores = {"feature": "item_score", "model": "shop"}
        values = exporter.scrape().series("ml_feature_values_total", **scores)
        assert sum(values.values()) == 400  # one item of each list
        assert exporter.value("ml_feature_values_total", bin="missing", **scores) == 0
    replay = [
        "replay",
        f"--config.file={config}",
        "--events",
        "shown.parquet",
        "--model",
        "shop",
        "--output",
        "shop.om",
    ]
    run(*replay, *columns, directory=tmp_path)
    found = [line for line in (tmp_path / "shop.om").read_text().splitlines() if 'feature="item_score"' in line]
    assert any(line.startswith("ml_feature_values_total") for line in found)
