"""An exporter that is killed in the middle of files, while partitions are rewritten and tables sent again.

Each life finds a new partition and an earlier one rewritten, with all its rows in another order and some more, and ends
by SIGKILL at a random row of what is left to read. Beside it a job sends a table of its own twice, through the kills.
"""

import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_exporter import cli
from mlops_exporter.client import Monitor
from mlops_exporter.profile.profile import save
from tests.models import profiles
from tests.support.exporter import write_config
from tests.support.pipeline import Exposition
from tests.support.prometheus import eventually, free_port

ROWS = 30_000
MORE = 1_000
SENT = 20_000
COUNTRIES = ("DE", "FR", "1")


def rows(first: int, count: int, random_: np.random.Generator) -> pa.Table:
    """Rows whose cells follow from their numbers, in a random order."""
    numbers = first + random_.permutation(count)
    return pa.table(
        {
            "request": pa.array([f"r{number}" for number in numbers]),
            "amount": numbers % 30 + 0.5,
            "country": np.array(COUNTRIES)[numbers % 3],
            "p": numbers % 4 / 4,
            "y": numbers % 2,
        }
    )


def serve(directory: Path, port: int) -> None:
    """Be the exporter of a directory."""
    os.chdir(directory)
    with Path("log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    cli.main(["run", f"--web.listen-address=127.0.0.1:{port}"])


class Lives:
    """The lives of an exporter, each a process of its own; forked with its modules loaded, so that it starts fast."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory, self._port = directory, port
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "mlops_exporter.service.service"])
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start one, and wait until it takes events."""
        self._process = self._context.Process(target=serve, args=(self._directory, self._port))
        self._process.start()
        eventually(self._is_ready, 60)

    def end(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def value(self, name: str, version: str = "default", **labels: str) -> int:
        """The value of one of the model's series now, 0 where it is absent."""
        return int(Exposition(self._get("metrics").text).value(name, model="credit", version=version, **labels) or 0)

    def _get(self, page: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self._port}/{page}", timeout=30, trust_env=False)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.is_alive(), (self._directory / "log").read_text()
        try:
            return self._get("-/ready").status_code == 200
        except httpx.TransportError:
            return False


class Partitions:
    """A table of which each day has a partition, some rewritten: what is there now, and what was ever."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._random = np.random.default_rng(seed)
        self.counts: list[int] = []

    @property
    def total(self) -> int:
        return sum(self.counts)

    def add(self) -> None:
        """Write the next day's."""
        self.counts.append(ROWS)
        self._write(len(self.counts) - 1)

    def rewrite(self) -> None:
        """Write one of those that are there again, with more rows."""
        day = int(self._random.integers(len(self.counts)))
        self.counts[day] += MORE
        self._write(day)

    def _write(self, day: int) -> None:
        directory = self._path / f"day={day}"
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / ".writing"
        pq.write_table(rows(1_000_000 * day, self.counts[day], self._random), made, row_group_size=7_000)
        made.rename(directory / "scored.parquet")

    def of_country(self, index: int) -> int:
        """Return how many rows have a country: the numbers of a day's rows follow each other."""
        return sum(
            int(np.count_nonzero((1_000_000 * day + np.arange(count)) % 3 == index))
            for day, count in enumerate(self.counts)
        )


class Job(threading.Thread):
    """A batch job that sends a table without ids for each life, and everything once more at the end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._monitor = Monitor(url, model="credit", version="sent", timeout=10)
        self._table = rows(0, SENT, np.random.default_rng(5)).drop_columns(["request", "y"])
        self._stopped = threading.Event()
        self.receipts: list[Any] = []

    def send(self, run: str) -> Any:
        return self._monitor.send_table(self._table, columns={"score": "p"}, run=run, wait_seconds=300)

    def run(self) -> None:
        while not self._stopped.is_set():
            run = f"night {len(self.receipts)}"
            self.receipts.append((self.send(run), self.send(run)))

    def stop(self) -> None:
        self._stopped.set()
        self.join(300)


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.soak)])
def test_counts_are_exact_through_kills_in_the_middle_of_files(tmp_path: Path, kills: int) -> None:
    save(profiles()["credit"], tmp_path / "credit.json")
    table = {
        "path": "scored",
        "model": "credit",
        "settle": "0s",
        "interval": "1s",
        "rewritten": "again",
        "columns": {"id": "request", "score": "p", "label": "y", "features": ["amount", "country"]},
    }
    write_config(
        tmp_path,
        {"name": "credit", "task": "binary", "profile": "credit.json"},
        state={"path": "state"},
        limits={"remembered_labels": 10_000_000},  # all of them: ids that are forgotten would count again
        sources=[{"name": "push", "http": {}}, {"name": "scored", "table": table}],
    )
    chance, port = random.Random(kills), free_port()
    partitions, exporter = Partitions(tmp_path / "scored", kills), Lives(tmp_path, port)
    job = Job(f"http://127.0.0.1:{port}")
    counted = cut = 0
    try:
        for life in range(kills):
            partitions.add()
            if life:
                partitions.rewrite()
            exporter.start()
            if not life:
                job.start()
            end = counted + chance.uniform(0.05, 0.6) * (partitions.total - counted)
            deadline = time.monotonic() + 60
            while counted < end:  # without a pause, so that the kill comes in the middle
                assert time.monotonic() < deadline, f"{counted} rows of {partitions.total}"
                counted = exporter.value("ml_model_predictions_total")
            exporter.end()
            cut += counted < partitions.total
        exporter.start()
        eventually(lambda: exporter.value("ml_model_labels_total") >= partitions.total, 120)
        job.stop()
        runs = len(job.receipts)
        again = [job.send(f"night {run}") for run in range(runs)]

        assert cut >= int(0.8 * kills), "kills came when all was read"
        assert exporter.value("ml_model_predictions_total") == partitions.total
        assert exporter.value("ml_model_labels_total") == partitions.total
        for index, country in enumerate(COUNTRIES):
            counts = exporter.value("ml_feature_values_total", feature="country", bin=country)
            assert counts == partitions.of_country(index), country
        assert exporter.value("ml_model_predictions_total", "sent") == SENT * runs
        assert [receipt.accepted for pair in job.receipts for receipt in pair] == [SENT] * 2 * runs
        assert [receipt.repeated for receipt in again] == [SENT] * runs
        print(f"{kills} kills, {cut} with rows left to read; {partitions.total} rows, {runs} runs sent twice")
    finally:
        exporter.end()
