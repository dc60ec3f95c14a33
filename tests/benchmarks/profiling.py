"""Rate of building a profile from a CSV file of 25 features."""

import tempfile
import time
from pathlib import Path

import numpy as np

from mlops_exporter.profiling.build import BuildRequest, build
from tests.support import workload


def measure(rows: int = 40_000) -> tuple[float, float]:
    """Return rows and megabytes a second of CPU."""
    random = np.random.default_rng(0)
    numeric = np.round(random.normal(size=(rows, len(workload.NUMERIC))), 4).astype(str)
    categories = np.array(workload.CATEGORIES)[random.integers(0, 8, (rows, len(workload.CATEGORICAL)))]
    score = random.random(rows)
    outcome = np.stack([np.round(score, 4).astype(str), (random.random(rows) < score).astype(int).astype(str)], axis=1)
    header = ",".join([*workload.NUMERIC, *workload.CATEGORICAL, "score", "label"])
    lines = [",".join(row) for row in np.concatenate([numeric, categories, outcome], axis=1).tolist()]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "train.csv"
        path.write_text("\n".join([header, *lines, ""]))
        size = path.stat().st_size
        start = time.process_time()
        build(BuildRequest(path, "binary", label="label", scores={"positive": "score"}))
        seconds = time.process_time() - start
    return rows / seconds, size / seconds / 1e6


def main() -> None:
    """Print the rate."""
    rows, megabytes = measure()
    print(f"profile build: {rows:,.0f} rows/s of 25 features, {megabytes:.1f} MB/s")


if __name__ == "__main__":
    main()
