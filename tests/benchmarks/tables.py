"""What tables cost beside reading the same file alone: `python -m tests.benchmarks.tables [ROWS]`.

500,000 rows of 20 numeric and 5 categorical features, a score, a label, an id and a time. CPU times of one run, so that
ratios hold on a slow machine, too; pandas takes exact quantiles and counts of the same file, all of it in memory.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mlops_exporter.counting.model import Model
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.judging.drift import fitted_thresholds
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.replay.run import ReplayRequest, replay
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.sources.table import TableSource, mapping_of, reading_of
from mlops_exporter.tables.files import find
from tests.support import workload

ROWS = 500_000
START = 1_780_000_000.0
SECONDS = 4320.0
"""Time that the rows are of: ten million of them would be a day's."""

_MODEL = {"name": "m", "task": "binary", "profile": "m.json", "windows": ["1h", "1d"]}


def write(directory: Path, rows: int = ROWS) -> None:
    """Write the table as Parquet, and what a profile is built of as CSV, too."""
    random = np.random.default_rng(0)
    categories = np.array(workload.CATEGORIES)
    columns = {name: np.round(random.normal(size=rows), 4) for name in workload.NUMERIC}
    columns |= {name: categories[random.integers(0, len(categories), rows)] for name in workload.CATEGORICAL}
    score = random.random(rows)
    columns |= {"score": np.round(score, 4), "label": (random.random(rows) < score).astype(int)}
    training = pa.table(columns)
    pq.write_table(training, directory / "train.parquet")
    pyarrow.csv.write_csv(training, directory / "train.csv")
    ids = pa.array([f"request-{number}" for number in range(rows)])
    times = pa.array(np.sort(START + random.random(rows) * SECONDS))
    pq.write_table(training.append_column("id", ids).append_column("ts", times), directory / "scored.parquet")


def read_parquet(path: Path) -> None:
    """Read as Arrow does alone, with one thread."""
    for _ in pq.ParquetFile(path).iter_batches(16_384, use_threads=False):
        pass


def read_csv(path: Path) -> None:
    """Read as Arrow does alone, with one thread."""
    for _ in pyarrow.csv.open_csv(path, pyarrow.csv.ReadOptions(use_threads=False)):
        pass


def with_pandas(path: Path) -> None:
    """Take exact quantiles and counts of all features."""
    frame = pd.read_parquet(path)
    frame[[*workload.NUMERIC]].quantile(np.arange(1, 10) / 10)
    for name in workload.CATEGORICAL:
        frame[name].value_counts()


def built(path: Path) -> Profile:
    """Build a profile."""
    return build(BuildRequest(path, "binary", label="label", scores={"1": "score"}))[0]


def _settings(directory: Path) -> TableSettings:
    columns = {name: name for name in ("id", "ts", "score", "label")}
    place = str(directory / "scored.parquet")
    return TableSettings.model_validate({"model": "m", "path": place, "columns": columns})


def counted(directory: Path, profile: Profile) -> None:
    """Count the rows as a table source delivers them."""
    settings, profiles = _settings(directory), {"m": profile}
    source = TableSource("batch", settings, mapping_of(settings, profiles), reading_of(settings, profiles))
    model = Model(ModelSettings.model_validate(_MODEL), profile, Limits())
    model.admit({"default"})
    decoder = Decoder(model.schemas)
    for file in find([settings.path]):
        for body, _, _ in source.bodies(file):
            model.count(decoder.decode(body, START + SECONDS).columns["m"], START + SECONDS)


def replayed(directory: Path, profile: Profile) -> None:
    """Replay the rows, sampled every minute."""
    request = ReplayRequest([], directory / "history.om", tables=[_settings(directory)])
    replay(request, Config.model_validate({"models": [_MODEL]}), {"m": profile})


def rates(rows: int = ROWS, tries: int = 3) -> dict[str, float]:
    """Return rows a second of CPU, the best of some tries."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory, rows)
        profile = built(directory / "train.parquet")
        profile.thresholds = fitted_thresholds(profile)
        works: dict[str, Callable[[], object]] = {
            "pyarrow, Parquet alone": partial(read_parquet, directory / "train.parquet"),
            "pyarrow, CSV alone": partial(read_csv, directory / "train.csv"),
            "pandas, Parquet": partial(with_pandas, directory / "train.parquet"),
            "profile build, Parquet": partial(built, directory / "train.parquet"),
            "profile build, CSV": partial(built, directory / "train.csv"),
            "table source": partial(counted, directory, profile),
            "replay": partial(replayed, directory, profile),
        }
        seconds = [[_seconds(work) for work in works.values()] for _ in range(tries)]  # by turns: all wait alike
        return {name: rows / min(each) for name, each in zip(works, zip(*seconds, strict=True), strict=True)}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main(rows: int = ROWS) -> None:
    """Print the rates, beside that of reading the file alone."""
    found = rates(rows)
    for name, rate in found.items():
        alone = found["pyarrow, CSV alone" if "CSV" in name else "pyarrow, Parquet alone"]
        print(f"tables: {name}: {rate / 1e3:,.0f} k rows/s, {rate / alone:.0%} of reading alone")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
