"""Speed of taking events in: from NDJSON bytes to updated ledgers, in CPU time, beside JSON parsers in the same run."""

import asyncio
import json
import time
from collections.abc import Callable

import orjson

from exporter.config import Limits
from exporter.intake import Intake
from tests.benchmarks import workload

BODY_EVENTS = 1000


def measure(bodies: int = 20, rounds: int = 7) -> dict[str, float]:
    """Return events per second of CPU, the best of interleaved rounds."""
    now = time.time()
    batch = workload.bodies(bodies * BODY_EVENTS, BODY_EVENTS, now)
    lines = [line for body in batch for line in body.splitlines()]
    singles = lines[:4000]

    def fresh() -> Intake:  # ids seen before would count as duplicates
        return Intake([workload.model()], ["bench"], Limits())

    async def submit(intake: Intake, some: list[bytes]) -> None:
        for body in some:
            result = await intake.submit("bench", body, now)
            assert result.rejected == 0
        intake.flush()

    runs: dict[str, tuple[int, Callable[[Intake], object]]] = {
        "json.loads, line by line": (len(lines), lambda _: [json.loads(line) for line in lines]),
        "orjson.loads, line by line": (len(lines), lambda _: [orjson.loads(line) for line in lines]),
        "pipeline, bodies of 1000": (len(lines), lambda intake: asyncio.run(submit(intake, batch))),
        "pipeline, bodies of 1": (len(singles), lambda intake: asyncio.run(submit(intake, singles))),
    }
    best = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, (count, run) in runs.items():
            intake = fresh()
            start = time.process_time()
            run(intake)
            best[name] = max(best[name], count / (time.process_time() - start))
    return best


def main() -> None:
    """Print the table."""
    best = measure()
    orjson_rate = best["orjson.loads, line by line"]
    for name, rate in best.items():
        print(f"{name:32} {rate:>10,.0f} events/s  {rate / orjson_rate:5.2f} x orjson")


if __name__ == "__main__":
    main()
