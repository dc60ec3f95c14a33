"""The join with ten million predictions waiting: memory, joins per second, the longest pause."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mlops_exporter.counting.join import Join
from mlops_exporter.counting.keys import hash_ids
from mlops_exporter.ingest.store import Store
from mlops_exporter.ingest.trees import pack

BATCH = 2048


def measure(waiting: int, joins: int = 1_000_000) -> dict[str, float]:
    """Fill a join of a binary model with `waiting` predictions, then bring labels for `joins` of them, by their ids."""
    join = Join(2, 16, 30 * 86400.0, waiting + BATCH, 1_000_000)
    outputs = np.random.default_rng(0).uniform(size=(BATCH, 2))
    versions, absent = np.zeros(BATCH, np.intp), np.full(BATCH, np.nan)
    longest = 0.0
    started = time.perf_counter()
    for first in range(0, waiting, BATCH):
        batch_started = time.perf_counter()
        keys = hash_ids([f"prediction-{first + i:012d}" for i in range(BATCH)], 1)
        join.predict(keys, np.full(BATCH, float(first)), versions, outputs, absent)
        longest = max(longest, time.perf_counter() - batch_started)
    filled = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        store.begin()
        writing = time.perf_counter()
        generation = store.begin_checkpoint()
        number = 0
        for number, piece in enumerate(pack(join.state()), 1):
            store.write_piece("join", generation, number, piece)
        store.finish_checkpoint({"join": number}, generation, 0)
        written = time.perf_counter() - writing
        store.close()
    order = np.random.default_rng(1).permutation(waiting)[:joins]
    cpu = time.process_time()
    found = 0
    for start in range(0, joins, BATCH):
        part = order[start : start + BATCH]
        keys = hash_ids([f"prediction-{number:012d}" for number in part], 1)
        found += len(join.label(keys, np.full(len(part), 1.0), np.ones(len(part))).pairs.labels)
    joined = time.process_time() - cpu
    assert found == joins, f"{found} of {joins} labels found their prediction"
    return {
        "waiting": float(join.waiting_predictions.sum() + joins),
        "inserts per second": waiting / filled,
        "joins per second": joins / joined,
        "longest pause of a batch, s": longest,
        "writing a checkpoint, s": written,
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print the figures; the number of waiting predictions may be given."""
    for name, value in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000).items():
        print(f"{name:32} {value:14,.1f}")


if __name__ == "__main__":
    main()
