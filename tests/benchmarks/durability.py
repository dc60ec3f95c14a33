"""What durability costs: events per second of wall time through 128 senders at once, with and without state."""

import asyncio
import tempfile
import time
from pathlib import Path

from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import Store
from mlops_exporter.settings.models import Limits
from tests.support import workload

BODY_EVENTS = 1000
SENDERS = 128


async def _send(intake: Intake, bodies: list[bytes], now: float) -> float:
    """Return the seconds until all bodies are answered."""
    waiting = iter(bodies)

    async def sender() -> None:
        for body in waiting:
            result = await intake.submit("bench", body, now)
            assert result.rejected == 0

    started = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return time.perf_counter() - started


async def _run(bodies: list[bytes], now: float, directory: Path | None) -> float:
    intake = Intake([workload.model()], ["bench"], Limits(queue_events=10_000_000))
    if directory is None:
        return await _send(intake, bodies, now)
    journal = Journal(Store(directory), intake, Faults())
    intake.keep_in(journal)
    task = asyncio.create_task(journal.run())
    seconds = await _send(intake, bodies, now)
    journal.stop()
    await task
    return seconds


def measure(events: int = 100_000, rounds: int = 3) -> dict[str, float]:
    """Return events per second, the best of interleaved rounds, for bodies of 1000 events and of one."""
    now = time.time()
    large = workload.bodies(events, BODY_EVENTS, now)
    small = workload.bodies(events // 20, 1, now)
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, bodies, count in (("1000", large, events), ("1", small, events // 20)):
            with tempfile.TemporaryDirectory() as directory:
                for kind, place in (("memory only", None), ("durable", Path(directory))):
                    key = f"{kind}, bodies of {name}"
                    best[key] = max(best.get(key, 0.0), count / asyncio.run(_run(bodies, now, place)))
    return best


def main() -> None:
    """Print the table."""
    best = measure()
    for size in ("1000", "1"):
        without, durable = best[f"memory only, bodies of {size}"], best[f"durable, bodies of {size}"]
        print(
            f"bodies of {size:4} memory only {without:>9,.0f}/s, durable {durable:>9,.0f}/s: {durable / without:.2f} x"
        )


if __name__ == "__main__":
    main()
