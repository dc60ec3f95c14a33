"""Watch a batch job: the page's commands, one after the other, as they stand there."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tests.requirements import require_program
from tests.support.pages import Shell, blocks
from tests.support.prometheus import eventually, free_port

PAGE = (Path(__file__).parents[2] / "docs" / "batch-jobs.md").read_text()
ROWS = 2000


def batch(seed: int) -> dict[str, object]:
    """A night's rows, scored and labelled an hour ago."""
    random = np.random.default_rng(seed)
    score = random.random(ROWS)
    now = int(time.time() * 1e6) - 3_600_000_000
    return {
        "request_id": [f"{seed}-{number}" for number in range(ROWS)],
        "scored_at": pa.array([now] * ROWS, pa.timestamp("us", "UTC")),
        "known_at": pa.array([now + 60_000_000] * ROWS, pa.timestamp("us", "UTC")),
        "amount": random.normal(100, 20, ROWS),
        "age": random.integers(18, 80, ROWS),
        "p": score,
        "defaulted": (random.random(ROWS) < score).astype(int),
    }


def test_the_page(tmp_path: Path) -> None:
    require_program("curl")
    for folder in ("training", "scored", "outcomes"):
        (tmp_path / folder).mkdir()
    address = f"127.0.0.1:{free_port()}"
    shell = Shell(tmp_path, MLOPS_EXPORTER_WEB_LISTEN_ADDRESS=address, MLOPS_EXPORTER_URL=f"http://{address}")
    run = shell.run

    build, check, start, push = blocks(PAGE, "sh")
    (settings,) = blocks(PAGE, "yaml")
    for number in (1, 2):
        pq.write_table(pa.table(batch(number)), tmp_path / "training" / f"{number}.parquet")
    assert f"credit.json: {2 * ROWS} rows, 2 features" in run(build)
    (tmp_path / "mlops-exporter.yml").write_text(settings)
    assert "good, 1 model" in run(check)
    night = pa.table(batch(3))
    pq.write_table(night.drop_columns(["defaulted", "known_at"]), tmp_path / "scored" / "night.parquet")
    pyarrow.csv.write_csv(night.select(["request_id", "known_at", "defaulted"]), tmp_path / "outcomes" / "night.csv")
    pq.write_table(pa.table(batch(4)), tmp_path / "tonight.parquet")
    exporter = shell.start(f"exec {start}", tmp_path / "log")
    try:

        def value(name: str) -> float:
            page = run(f"curl -s http://{address}/metrics || true")
            found = re.search(rf'^{name}{{model="credit",version="[^"]*"}} (\S+)$', page, re.MULTILINE)
            return float(found[1]) if found else 0.0

        eventually(lambda: value("ml_model_labels_total") == ROWS)
        for _ in range(2):  # a job that is run again
            assert json.loads(run(push))["accepted"] == ROWS
        assert value("ml_model_predictions_total") == 2 * ROWS
        page = run(f"curl -s http://{address}/metrics")
        assert 'ml_model_batch_deadline_timestamp_seconds{model="credit"}' in page
        assert 'ml_exporter_source_rewritten_files{source="scores"} 0' in page
    finally:
        exporter.kill()
        exporter.wait()
