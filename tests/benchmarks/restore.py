"""The memory that restoring waiting predictions takes, beside what they take while the exporter runs."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mlops_exporter.counting.join import Join, Transfer
from mlops_exporter.counting.keys import hash_ids
from mlops_exporter.ingest.store import Store
from mlops_exporter.ingest.trees import pack

BATCH = 2048
WAITING = 3_000_000


def _join(waiting: int) -> Join:
    return Join(2, 16, 30 * 86400.0, max(waiting, 10_000_000), 1_000_000)


def fill(directory: Path, waiting: int) -> None:
    """Let predictions wait, and keep them in a state."""
    join = _join(waiting)
    outputs = np.random.default_rng(0).uniform(size=(BATCH, 2))
    for first in range(0, waiting, BATCH):
        keys = hash_ids([f"prediction-{first + i:012d}" for i in range(BATCH)], 1)
        join.predict(keys, np.full(BATCH, float(first)), np.zeros(BATCH, np.intp), outputs, np.full(BATCH, np.nan))
    store = Store(directory)
    store.begin()
    pieces = 0
    generation = store.begin_checkpoint()
    for pieces, piece in enumerate(pack(join.state()), 1):
        store.write_piece("join", generation, pieces, piece)
    store.finish_checkpoint({"join": pieces}, generation, 0)
    store.close()


def restore(directory: Path, waiting: int) -> None:
    """Restore them, and take one batch more."""
    store = Store(directory)
    store.verify()
    join = _join(waiting)
    join.restore(store.read("join"), Transfer({0: [0, 1]}))
    assert join.waiting_predictions.sum() >= waiting
    store.close()


def measure(waiting: int = WAITING) -> dict[str, float]:
    """Return the peaks in MB of processes that import, fill and restore."""
    return {step: peak for step, (peak, _) in _measured(waiting).items()}


def _measured(waiting: int) -> dict[str, tuple[float, float]]:
    """Return peak (MB) and processor time (s) of each process."""
    with tempfile.TemporaryDirectory() as directory:
        return {step: _cost(step, directory, waiting) for step in ("import", "fill", "restore")}


def _cost(step: str, directory: str, waiting: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.benchmarks.restore", step, directory, str(waiting)]
    peak, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(peak), float(seconds)


def main() -> None:
    """Print the table, or take the step that the command line names and print this process' peak and time."""
    if len(sys.argv) == 4:
        step, directory, waiting = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
        if step != "import":
            (fill if step == "fill" else restore)(directory, waiting)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_maxrss / 1024, used.ru_utime + used.ru_stime)
        return
    costs = _measured(WAITING)
    for step, (peak, seconds) in costs.items():
        print(f"{step:8} {peak:7.0f} MB {seconds:6.1f} s of processor time")
    (_, imported), (filled, _), (restored, seconds) = costs.values()
    print(
        f"restoring {WAITING:,} waiting predictions: {restored / filled:.2f} times the memory of running, "
        f"{seconds - imported:.1f} s of processor time"
    )


if __name__ == "__main__":
    main()
