"""Millions of rows of Parquet: a profile is built of them, and an exporter counts each once, in bounded memory."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile, load
from tests.support.exporter import ENVIRONMENT, Exporter, command, running_exporter, write_config
from tests.support.pipeline import Exposition
from tests.support.workload import CATEGORICAL, CATEGORIES, NUMERIC

FILE_ROWS = 250_000
PERIOD = 1009
"""A prime: so every numeric feature takes as many values, each in another order."""

PROFILE_MIB, EXPORTER_MIB = 381, 1024  # the first is 400 MB
USED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
"""Runs a command and prints its seconds of CPU and its peak in MiB."""


Numbers = NDArray[np.int64]


def residues(numbers: Numbers, place: int) -> Numbers:
    """What a numeric feature is of some rows, times PERIOD."""
    return numbers * (2 * place + 3) % PERIOD


def write(path: Path, first: int, start: float, seconds: float) -> None:
    """Write rows whose cells follow from their numbers."""
    numbers = np.arange(first, first + FILE_ROWS)
    categories = np.array(CATEGORIES)
    columns: dict[str, Any] = {name: residues(numbers, place) / PERIOD for place, name in enumerate(NUMERIC)}
    columns |= {name: categories[(numbers + place) % len(CATEGORIES)] for place, name in enumerate(CATEGORICAL)}
    columns |= {"p": numbers % 4 / 4 + 0.1, "y": numbers % 2, "at": start + seconds * numbers}
    pq.write_table(pa.table(columns).append_column("request", pa.array([f"r{n}" for n in numbers])), path)


def seen(profile: Profile, rows: int, shown: Exposition) -> None:
    """Hold all counts of features and labels against those that follow from the numbers of the rows."""
    numbers = np.arange(rows)
    for place, name in enumerate(NUMERIC):
        variable = profile.features[name]
        assert isinstance(variable, NumericVariable)
        values = np.arange(PERIOD) / PERIOD
        bins = np.searchsorted([variable.edges[index] for index in variable.exported[1:]], values, side="right")
        expected = np.bincount(bins, np.bincount(residues(numbers, place), minlength=PERIOD))
        counts = [
            shown.value("ml_feature_values_total", model="m", feature=name, bin=bin_, range=range_)
            for bin_, range_ in variable.exported_labels
        ]
        assert counts == [*expected, 0, 0], name
    for place, name in enumerate(CATEGORICAL):
        variable = profile.features[name]
        assert isinstance(variable, CategoricalVariable)
        expected = np.bincount((numbers + place) % len(CATEGORIES))
        for category, count in zip(CATEGORIES, expected, strict=True):
            assert shown.value("ml_feature_values_total", model="m", feature=name, bin=category) == count
    for predicted in (0, 1):
        for actual in (0, 1):
            count = np.count_nonzero((numbers % 4 // 2 == predicted) & (numbers % 2 == actual))
            labels = {"model": "m", "predicted": str(predicted), "actual": str(actual)}
            assert shown.value("ml_model_confusion_total", **labels) == count


def counted(exporter: Exporter) -> float:
    return exporter.value("ml_model_labels_total", model="m") or 0.0


@pytest.mark.parametrize(
    "rows", [pytest.param(500_000, marks=pytest.mark.slow), pytest.param(10_000_000, marks=pytest.mark.soak)]
)
def test_each_of_many_rows_counts_once_in_bounded_memory(tmp_path: Path, rows: int) -> None:
    table = tmp_path / "scored"
    table.mkdir()
    for first in range(0, rows, FILE_ROWS):
        write(table / f"{first:09}.parquet", first, time.time() - 3600, 3000 / rows)

    build = ["profile", "build", "--data", "scored", "--task", "binary", "--label", "y", "--score", "p"]
    build += ["--exclude", "request,at", "--output", "m.json"]
    begin = time.perf_counter()
    # A process begins with the peak of the one that started it: here a small one, not the tests.
    used = subprocess.run(
        [sys.executable, "-c", USED, *command(*build)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.split()
    seconds, memory = float(used[-2]), float(used[-1])
    print(
        f"profile build: {rows:,} rows: {rows / seconds / 1e3:,.0f} k rows/s of CPU with its start, "
        f"{rows / (time.perf_counter() - begin) / 1e3:,.0f} k rows/s by the clock, {memory:,.0f} MiB at most"
    )
    assert memory < PROFILE_MIB
    profile = load(tmp_path / "m.json")
    assert profile.rows == rows

    columns = {"id": "request", "ts": "at", "score": "p", "label": "y"}
    source = {"path": "scored", "model": "m", "settle": "0s", "interval": "1s", "columns": columns}
    write_config(
        tmp_path,
        {"name": "m", "task": "binary", "profile": "m.json"},
        state={"path": "state"},
        limits={"remembered_labels": 1_000_000},
        sources=[{"name": "scored", "table": source}],
    )
    begin = time.perf_counter()
    with running_exporter(tmp_path) as exporter:
        running = psutil.Process(exporter.process.pid)
        before = running.cpu_times()
        deadline = time.monotonic() + 60 + rows / 5_000
        while (so_far := counted(exporter)) < rows:
            assert time.monotonic() < deadline, f"{so_far:,.0f} of {rows:,} rows"
            time.sleep(1)
        elapsed, after = time.perf_counter() - begin, running.cpu_times()
        shown = exporter.scrape()
        peak = int(Path(f"/proc/{running.pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    seconds = after.user + after.system - before.user - before.system
    print(
        f"table source: {rows:,} rows counted, journalled, scraped every second: {rows / seconds / 1e3:,.0f} k rows/s "
        f"of CPU, {rows / elapsed / 1e3:,.0f} k rows/s by the clock, {peak:,.0f} MiB at most"
    )
    assert shown.value("ml_model_predictions_total", model="m") == rows
    assert shown.value("ml_model_labels_total", model="m") == rows
    seen(profile, rows, shown)
    assert peak < EXPORTER_MIB
