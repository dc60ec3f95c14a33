"""Spark for tests: sessions, generated rows, and jobs that are processes of their own, to be killed."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mlops_exporter import spark
from mlops_exporter.counting.fleet import ModelShare, Ring, Shares
from mlops_exporter.counting.windows import PANES
from mlops_exporter.ledgers import Recipe
from mlops_exporter.profile.profile import save
from tests.support import workload

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MODEL, ONE = "credit", "one"
"""The model that Spark counts, and its like that gets the events."""

COLUMNS = {name: name for name in ("id", "ts", "version", "score", "prediction")}
LABELS = {"id": "id", "ts": "at", "label": "truth"}
FILES = 4

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""A JVM that starts quickly; it would run faster after a while without."""


def session(master: str = "local[2]", **settings: str) -> "SparkSession":
    """Return a small session."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    defaults = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "600m",
        "spark.executor.memory": "700m",
        "spark.task.maxFailures": "50",
        "spark.driver.extraJavaOptions": QUICK,
        "spark.executor.extraJavaOptions": QUICK,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.files.maxPartitionBytes": "1m",
        "spark.sql.files.openCostInBytes": "1m",
    }
    builder = SparkSession.builder.master(master)
    for key, value in (defaults | settings).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def write_configuration(directory: Path) -> Path:
    """Write the configuration of both models with their profile."""
    save(workload.profile(), directory / "credit.json")
    settings: dict[str, Any] = {"task": "binary", "profile": "credit.json", "label_ttl": "1h", "label_delay": "10m"}
    file = directory / "mlops-exporter.yml"
    models = [{"name": name, "windows": ["15m", "1h", "24h"], **settings} for name in (MODEL, ONE)]
    file.write_text(yaml.safe_dump({"models": models, "state": {"path": "state"}}))
    return file


def rows(count: int, start: float, seconds: float, seed: int = 1) -> Any:
    """Return a table of predictions within so many seconds from `start`, with what becomes known `late` seconds after.

    Features have missing values, and categories that the profile lacks.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: rng.normal(size=count).round(4) for name in workload.NUMERIC}
    columns["num_00"] = pa.array(columns["num_00"], mask=rng.random(count) < 0.1)
    names = np.array([*workload.CATEGORIES, "new"])
    for name in workload.CATEGORICAL:
        columns[name] = pa.DictionaryArray.from_arrays(rng.integers(0, len(names), count), names).dictionary_decode()
    scores = rng.uniform(size=count).round(4)
    columns |= {
        "id": [f"{seed}-{number}" for number in range(count)],
        "ts": _times(np.sort(start + rng.uniform(0, seconds, count))),
        "version": np.where(rng.random(count) < 0.7, "3", "4"),
        "score": scores,
        "prediction": (scores >= 0.5).astype(np.int64),
        "truth": (rng.uniform(size=count) < scores).astype(np.int64),
        "late": rng.uniform(1, 600, count),
    }
    return pa.table(columns)


def _times(seconds: Any) -> Any:
    return pa.array((seconds * 1e6).astype(np.int64), pa.timestamp("us", "UTC"))


def labels_of(table: Any) -> Any:
    """Return the labels of the rows that get one, as a table of their own."""
    kept = table.filter(pa.array(np.arange(table.num_rows) % 5 != 0))
    at = kept["ts"].cast(pa.int64()).to_numpy() / 1e6 + kept["late"].to_numpy()
    return pa.table({"id": kept["id"], "at": _times(at), "truth": kept["truth"]})


def write(table: Any, directory: Path, files: int = FILES) -> Path:
    """Write the rows of a table into so many Parquet files."""
    directory.mkdir(parents=True)
    step = -(-table.num_rows // files)
    for number in range(files):
        pq.write_table(table.slice(number * step, step), directory / f"{number}.parquet", row_group_size=5000)
    return directory


def events(table: Any, config: Path, columns: dict[str, str]) -> list[bytes]:
    """Return the rows of a table as bodies of events of the model that Spark does not count."""
    from mlops_exporter.tables.mapping import Mapping

    recipe = Recipe.read(config, ONE, columns=columns)
    mapping = Mapping(ONE, recipe.columns, "UTC", recipe.features, recipe.numeric)
    return [mapping.events(batch) for batch in table.combine_chunks().to_batches(max_chunksize=5000)]


def post_events(url: str, bodies: list[bytes]) -> None:
    """Send bodies of events."""
    for body in bodies:
        kind = {"content-type": "application/vnd.apache.arrow.stream"}
        answer = httpx.post(f"{url}/v1/events", content=body, headers=kind, timeout=60, trust_env=False)
        assert answer.status_code == 202, answer.text


def shares(url: str) -> dict[str, ModelShare]:
    """Return what an exporter has counted, by model."""
    answer = httpx.get(f"{url}/v1/ledgers", timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return msgspec.msgpack.decode(answer.content, type=Shares).models


def assert_equal(url: str) -> int:
    """Hold what Spark has counted against what one exporter has, cell by cell; returns how many cells that were.

    Counts are equal. Sums of fractions are, but for the order in which they were added.
    """
    models = shares(url)
    found, expected = models[MODEL], models[ONE]
    now = time.time()
    assert found.versions.keys() == expected.versions.keys() == {"3", "4"}
    cells = 0
    for name, one in expected.versions.items():
        spark_ = found.versions[name]
        pairs = [(np.frombuffer(spark_.lifetime), np.frombuffer(one.lifetime))]
        for window in one.windows:
            numbers, ours = _shown(spark_.windows[window], float(window), now)
            of_one, theirs = _shown(one.windows[window], float(window), now)
            assert numbers == of_one, window
            pairs.append((ours, theirs))
        for ours, theirs in pairs:
            if not len(theirs):  # a window that shows no pane any more
                continue
            whole = theirs == np.floor(theirs)
            assert (ours[whole] == theirs[whole]).mean() > 0.999  # a sum of fractions may be whole by chance
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-6)
            cells += len(theirs)
        assert (spark_.last_prediction, spark_.last_label) == (one.last_prediction, one.last_label)
    return cells


def _shown(ring: Ring, length: float, now: float) -> tuple[list[int], Any]:
    """Return the numbers and cells of the panes that a window of so many seconds shows, one after the other."""
    first = now // (length / PANES) - PANES + 1
    cells = np.frombuffer(ring.panes).reshape(len(ring.numbers), -1)
    shown = np.array(ring.numbers) >= first
    return np.array(ring.numbers)[shown].tolist(), cells[shown].ravel()


class Job:
    """A driver in a process of its own, which runs `main` below."""

    def __init__(self, kind: str, directory: Path, url: str, master: str) -> None:
        log = directory / "driver.log"
        log.touch()
        self._said = len(log.read_text(errors="replace"))
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.spark", kind, str(directory), url, master],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._log = log

    def wait_for(self, words: str) -> int | None:
        """Wait until it has said this; returns the exit status where it ends before."""
        while self._process.poll() is None:
            if words in self._log.read_text(errors="replace")[self._said :]:
                return None
            time.sleep(0.05)
        return self._process.returncode

    def executors(self) -> list[psutil.Process]:
        """Return the executors of its own cluster."""
        found = []
        for child in psutil.Process(self._process.pid).children(recursive=True):
            try:
                if any("CoarseGrainedExecutorBackend" in word for word in child.cmdline()):
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self) -> None:
        """Kill the driver, and whatever it has started."""
        try:
            others = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            others = []
        self._process.kill()
        for process in others:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, None if it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")


def main(kind: str, directory: str, url: str, master: str) -> None:
    """Count the rows in a directory by a batch, or those of a stream until there is nothing new."""
    place = Path(directory)
    spark_session = session(master)
    config = place / "mlops-exporter.yml"
    began = time.monotonic()
    print("begun", flush=True)
    if kind == "batch":
        frame = spark_session.read.parquet(str(place / "predictions"))
        columns = {**COLUMNS, "label": "truth"}
        sent = spark.batch(frame, to=url, config=config, model=MODEL, epoch=place.name, columns=columns)
        print(f"batch: {sent}, {time.monotonic() - began:.1f} s", flush=True)
    else:
        reader = spark_session.readStream.option("maxFilesPerTrigger", 1)
        made, known = (
            reader.schema(spark_session.read.parquet(str(place / name)).schema).parquet(str(place / name))
            for name in ("predictions", "labels")
        )
        query = spark.stream(
            made,
            known,
            to=url,
            config=config,
            model=MODEL,
            checkpoint=str(place / "checkpoint"),
            columns=COLUMNS,
            label_columns=LABELS,
            trigger={"availableNow": True},
        )
        query.awaitTermination()
        print(f"stream: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
