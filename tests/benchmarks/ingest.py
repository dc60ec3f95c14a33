"""Speed of taking events in: from NDJSON bytes to updated ledgers, in CPU time, beside JSON parsers in the same run."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine

import orjson

from mlops_exporter.ingest.intake import Intake
from mlops_exporter.service.service import collect_garbage_rarely
from mlops_exporter.settings.models import Limits
from tests.support import workload

BODY_EVENTS = 1000
ORJSON_GOAL = 0.7
"""As a share of orjson's rate. Three times the rate of json.loads, the other goal of old, was 0.68 of it on the machine
where both were set; orjson takes 3.1 to 4.4 times as many as json.loads, by the machine, so only one of the two can be
a yardstick.
"""

RATE_OF_GOALS = 260_000
"""Events a second that the pipeline took on the machine for which goals in seconds were set."""


def measure(bodies: int = 8, rounds: int = 20) -> dict[str, float]:
    """Return events per second of CPU, the best of many short interleaved rounds: some fall into quiet moments.

    The intake is warm: it goes on where the round before left off, and no id comes twice.
    """
    now = time.time()
    stock = workload.bodies((rounds + 4) * bodies * BODY_EVENTS, BODY_EVENTS, now)
    intake = Intake([workload.model()], ["bench"], Limits())

    async def submit(some: list[bytes]) -> None:
        for body in some:
            result = await intake.submit("bench", body, now)
            assert result.rejected == 0
        intake.flush()

    collect_garbage_rarely()
    with asyncio.Runner() as runner:
        return _interleaved(runner, submit, stock, bodies, rounds)


def slowness() -> float:
    """Return how many times as long this machine takes as the one for which goals in seconds were set, at least 1."""
    return max(1.0, RATE_OF_GOALS / measure(rounds=6)["pipeline, bodies of 1000"])


def _interleaved(
    runner: asyncio.Runner,
    submit: Callable[[list[bytes]], Coroutine[None, None, None]],
    stock: list[bytes],
    bodies: int,
    rounds: int,
) -> dict[str, float]:
    runner.run(submit(stock[-4 * bodies : -bodies]))
    singles = [line for body in stock[-bodies:] for line in body.splitlines()]
    runs: dict[str, Callable[[list[bytes], list[bytes]], object]] = {
        "json.loads, line by line": lambda _, lines: [json.loads(line) for line in lines],
        "orjson.loads, line by line": lambda _, lines: [orjson.loads(line) for line in lines],
        "pipeline, bodies of 1000": lambda batch, _: runner.run(submit(batch)),
    }
    best = dict.fromkeys(runs, 0.0)
    for number in range(rounds):
        batch = stock[number * bodies : (number + 1) * bodies]
        lines = [line for body in batch for line in body.splitlines()]
        for name, run in runs.items():
            start = time.process_time()
            run(batch, lines)
            best[name] = max(best[name], len(lines) / (time.process_time() - start))
    start = time.process_time()
    runner.run(submit(singles))
    best["pipeline, bodies of 1"] = len(singles) / (time.process_time() - start)
    return best


def main() -> None:
    """Print the table."""
    best = measure()
    orjson_rate = best["orjson.loads, line by line"]
    for name, rate in best.items():
        print(f"ingest {name}: {rate:,.0f} events/s, {rate / orjson_rate:.2f} x orjson (goal {ORJSON_GOAL:g})")


if __name__ == "__main__":
    main()
