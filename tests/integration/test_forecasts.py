"""Forecasts by every way in: bodies, a client, tables and a replay, over kills, as utilsforecast counts them."""

import re
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_exporter.client import Monitor
from mlops_exporter.profile.profile import save
from tests.support import pipeline
from tests.support.exporter import Exporter, run, running_exporter, start_exporter, write_config
from tests.support.prometheus import eventually
from tests.support.temperatures import HORIZONS, NAMES, built, forecasts_of, later, oracle, reference

MODEL = {
    "name": "temperature",
    "task": "forecast",
    "profile": "temperature.json",
    "windows": ["15m", "1h"],
    "min_samples": {"performance": 1},
}
LEVELS = ",".join(f"{level}={column}" for level, column in NAMES.items())
AHEAD = [
    *("--column", "prediction=p", "--column", "horizon=ahead", "--column", "naive=naive"),
    *("--column", "series=series", "--column", "target_ts=target", "--quantiles", LEVELS),
]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Forecasts of a time that the reference does not know, in another order."""
    return later().sample(frac=1, random_state=1)


def holds(exporter: Exporter, rows: pd.DataFrame) -> None:
    """Hold what a scrape shows of these forecasts to what utilsforecast makes of them."""
    found = exporter.scrape()
    for horizon in HORIZONS:
        of_horizon = rows[rows.ahead == horizon]
        assert found.value("ml_horizon_labels_total", horizon=horizon) == len(of_horizon)
        for name, wanted in oracle(of_horizon).items():
            of = {"window": "1h", "metric": name, "horizon": horizon}
            assert found.value("ml_horizon_performance", **of) == pytest.approx(wanted, abs=1e-9), name
    for name, wanted in oracle(rows).items():
        assert found.value("ml_model_performance", window="1h", metric=name) == pytest.approx(wanted, abs=1e-9), name
    assert found.value("ml_model_pending_predictions") == 0


@pytest.mark.slow
def test_every_way_in_leads_to_the_same_numbers_over_kills(tmp_path: Path, rows: pd.DataFrame) -> None:
    """By JSON, by frames and by a command; a kill after each; the actual values come as files."""
    reference().to_csv(tmp_path / "reference.csv", index=False)
    made = run(
        *("profile", "build", "--data", "reference.csv", "--task", "forecast", "--label", "y", "--prediction", "p"),
        *("--horizon", "ahead", "--naive", "naive", "--quantiles", LEVELS, "--exclude", "n,series,target"),
        *("--output", "temperature.json"),
        directory=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "actual").mkdir()
    columns = {"series": "series", "target_ts": "target", "label": "y"}
    table = {"model": "temperature", "path": "actual", "settle": "0", "interval": "1s", "columns": columns}
    sources = [{"name": "push", "http": {}}, {"name": "actual", "table": table}]
    write_config(tmp_path, MODEL, state={"path": "state"}, sources=sources)
    thirds = [rows.iloc[start::3] for start in range(3)]

    def send_json(exporter: Exporter) -> None:
        exporter.post(pipeline.ndjson(forecasts_of(thirds[0])))

    def send_frame(exporter: Exporter) -> None:
        named = {"prediction": "p", "horizon": "ahead", "naive": "naive", "series": "series", "target_ts": "target"}
        columns = {**named, "quantiles": NAMES, "features": {}}
        receipt = Monitor(exporter.url, model="temperature").send_table(
            thirds[1].drop(columns=["y", "n"]), version="3", columns=columns
        )
        assert (receipt.accepted, receipt.refused) == (len(thirds[1]), {})

    def send_file(exporter: Exporter) -> None:
        thirds[2].drop(columns=["y", "n"]).to_csv(tmp_path / "later.csv", index=False)
        sent = run(
            *("push", "--url", exporter.url, "--table", "later.csv", "--model", "temperature", "--model-version", "3"),
            *AHEAD,
            directory=tmp_path,
        )
        assert sent.returncode == 0, sent.stderr

    actual = rows.drop_duplicates(["series", "target"])[["series", "target", "y"]]
    read = 0
    for number, send in enumerate((send_json, send_frame, send_file)):
        came = pa.Table.from_pandas(actual.iloc[number::3], preserve_index=False)
        read += len(came)
        exporter = start_exporter(tmp_path)
        with exporter.process as process:
            try:
                eventually(exporter.is_ready)
                send(exporter)
                pq.write_table(came, tmp_path / "actual" / f"{number}.parquet")
                eventually(partial(has_taken, exporter, read))
            finally:
                process.kill()
    with running_exporter(tmp_path) as exporter:
        holds(exporter, rows)
        exporter.post(pipeline.ndjson(forecasts_of(thirds[1])))  # again
        holds(exporter, rows)
        assert exporter.value("ml_model_predictions_duplicate_total") == len(thirds[1])


def has_taken(exporter: Exporter, rows: int) -> bool:
    """Whether so many actual values were taken since the beginning."""
    return exporter.value("ml_exporter_events_total", source="actual") == rows


@pytest.mark.slow
def test_a_replay_of_a_table_counts_its_forecasts(tmp_path: Path, rows: pd.DataFrame) -> None:
    save(built(), tmp_path / "temperature.json")
    write_config(tmp_path, MODEL)
    begin = pd.Timestamp("2026-11-01T00:00:00Z")
    made = rows.assign(ts=[begin + pd.Timedelta(seconds=10 * number) for number in range(len(rows))], label=rows.y)
    made.drop(columns=["y", "n"]).to_parquet(tmp_path / "later.parquet")
    done = run(
        *("replay", "--config.file=mlops-exporter.yml", "--events", "later.parquet", "--output", "history.om"),
        *AHEAD,
        directory=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    samples = re.findall(
        r'^ml_horizon_labels_total\{.*horizon="(\w+)".*\} (\S+) ', (tmp_path / "history.om").read_text(), re.M
    )
    assert {horizon: float(value) for horizon, value in samples} == dict(rows.ahead.value_counts())  # the last of each


@pytest.mark.slow
def test_a_table_of_forecasts_and_one_of_actual_values_are_sent_at_once(tmp_path: Path, rows: pd.DataFrame) -> None:
    save(built(), tmp_path / "temperature.json")
    write_config(tmp_path, MODEL)
    rows.drop(columns=["y", "n"]).to_csv(tmp_path / "later.csv", index=False)
    actual = rows.drop_duplicates(["series", "target"])[["series", "target", "y"]]
    actual.rename(columns={"y": "label"}).to_parquet(tmp_path / "actual.parquet")
    with running_exporter(tmp_path) as exporter:
        sent = run(
            *("push", "--url", exporter.url, "--table", "later.csv", "--labels", "actual.parquet"),
            *("--model", "temperature", "--model-version", "3", *AHEAD),
            directory=tmp_path,
        )
        assert sent.returncode == 0, sent.stderr
        eventually(lambda: exporter.value("ml_model_pending_predictions") == 0)
        holds(exporter, rows)
