"""Rows a second and core in Spark beside one process, on the same files, in turns: `make spark` runs it.

Rows are divided by the CPU time of all processes that took part, Spark's JVM among them: it does not matter what else a
machine does. What both have counted is held against each other, cell by cell.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pyarrow.parquet as pq

from mlops_exporter import spark
from mlops_exporter.ledgers import LedgerCounter, send_ledgers
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.tables.table import Table
from tests.support import spark as support
from tests.support.exporter import running_exporter

ROWS_OF_A_FILE = 250_000
COLUMNS = {**{name: name for name in ("ts", "version", "score", "prediction")}, "label": "truth"}


def cpu_seconds() -> float:
    """Return the CPU time that this process and those that it has started have used."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def write(directory: Path, rows: int) -> None:
    """Write files of so many rows of the last hour together; each second file is the first one again."""
    directory.mkdir()
    files = max(rows // ROWS_OF_A_FILE, 2)
    start = time.time() - 3600
    for seed in range(2):
        table = support.rows(rows // files, start, 3500, seed)
        pq.write_table(table, directory / f"{seed:05d}.parquet")
    for number in range(2, files):
        (directory / f"{number:05d}.parquet").hardlink_to(directory / f"{number % 2:05d}.parquet")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    with TemporaryDirectory() as name:
        measure(Path(name), parser.parse_args().rows)


def measure(directory: Path, rows: int) -> None:
    """Print the figures of so many rows."""
    config = support.write_configuration(directory)
    write(directory / "rows", rows)
    usual = {"spark.sql.files.maxPartitionBytes": "64m", "spark.driver.extraJavaOptions": ""}
    session = support.session("local[2]", **usual)
    frame = session.read.parquet(str(directory / "rows"))
    with running_exporter(directory) as exporter:
        how: dict[str, Any] = {"to": exporter.url, "config": config, "model": support.MODEL, "columns": COLUMNS}
        small = session.read.parquet(str(directory / "rows" / "00000.parquet"))
        spark.batch(small, epoch="first", wait_seconds=600.0, **{**how, "model": support.ONE})  # starts what must start
        before = psutil.Process().memory_info().rss
        counter = LedgerCounter(config, support.ONE, columns=COLUMNS)
        spent = {"one process": 0.0, "Spark": 0.0}
        files = sorted((directory / "rows").iterdir())
        began, wall = cpu_seconds(), time.monotonic()
        sent = spark.batch(frame, epoch="1", **how)
        wall = time.monotonic() - wall
        spent["Spark"] = cpu_seconds() - began
        after = psutil.Process().memory_info().rss
        began = time.process_time()
        for batch in Table.at([str(file) for file in files]).batches():
            counter.add(batch)
        spent["one process"] = time.process_time() - began
        counted = frame.count()
        assert sent.counted == counter.accepted == counted
        for each, seconds in spent.items():
            print(f"{each}: {counted:,} rows, {counted / seconds:,.0f} a second and core")
        print(
            f"Spark in {wall:.0f} s of two cores that others use, too; the driver grew by {(after - before) >> 20} MiB"
        )
        send_ledgers(exporter.url, counter.ledgers("one", "1"))
        first = spark.batch(small, epoch="first", **how)
        print(f"{support.assert_equal(exporter.url):,} cells equal, of {counted + first.counted:,} rows")
    request = BuildRequest(
        data=[str(directory / "rows")], task="binary", label="truth", scores={"positive": "score"}, positive="1",
        exclude=("id", "ts", "late", "version"),
    )  # fmt: skip
    began, wall = cpu_seconds(), time.monotonic()
    there, _ = spark.build_profile(request)
    spent_there, wall = cpu_seconds() - began, time.monotonic() - wall
    began = time.process_time()
    here, _ = build(request)
    spent_here = time.process_time() - began
    assert {name: each.counts for name, each in here.features.items()} == {
        name: each.counts for name, each in there.features.items()
    }
    print(
        f"profile build: {here.rows / spent_here:,.0f} rows a second and core in one process, "
        f"{there.rows / spent_there:,.0f} with --engine spark ({wall:.0f} s); counts equal"
    )
    session.stop()


if __name__ == "__main__":
    main()
