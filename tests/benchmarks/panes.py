"""Events that lie in panes of their own, as those of a backfill do, beside the same events in one pane."""

import json
import time

import numpy as np

from mlops_exporter.events.columns import Columns
from mlops_exporter.events.decoder import Decoder
from tests.support import workload

BATCH = 4096


def measure(events: int = 20_000, rounds: int = 3) -> dict[str, float]:
    """Return seconds of CPU to decode and count, the best of interleaved rounds, by the seconds between two events."""
    now = time.time()
    lines = workload.events(events, now)
    bodies = {f"{step:g} s apart": _spread(lines, now, step) for step in (0.0, 16.0, 130.0)}
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, body in bodies.items():
            best[name] = min(best.get(name, np.inf), seconds(body, now))
    return best


def _spread(lines: list[bytes], now: float, step: float) -> bytes:
    count = len(lines)
    return b"\n".join(
        json.dumps(json.loads(line) | {"ts": round(now - (count - number) * step, 3)}).encode()
        for number, line in enumerate(lines)
    )


def seconds(body: bytes, now: float) -> float:
    """Return seconds of CPU to decode and count a body."""
    model = workload.model()
    began = time.process_time()
    gathered: list[Columns] = []
    for part in Decoder(list(model.schemas)).decode(body, now).parts["credit"]:
        model.admit(set(part.versions), now)
        gathered.append(part)
        if sum(map(len, gathered)) >= BATCH:
            model.count(Columns.joined(gathered), now)
            gathered = []
    if gathered:
        model.count(Columns.joined(gathered), now)
    return time.process_time() - began


def main() -> None:
    """Print the table."""
    best = measure()
    for name, taken in best.items():
        print(f"{name:16} {taken:6.3f} s  {taken / best['0 s apart']:.1f} x")


if __name__ == "__main__":
    main()
