"""Memory stays where it is, however many events come, once as many pairs are remembered as may be."""

import subprocess
import sys

import pytest

from tests.support.exporter import ENVIRONMENT

_SCRIPT = """
import asyncio, time, psutil
from tests.support import pipeline

MILLION = 1_000_000
service = pipeline.service("binary", drift={"statistics": ["tvd"]}, limits={"remembered_labels": 100_000})
kinds = [
    b'{"model":"binary","id":"%s","score":0.5,"features":{"amount":1.5,"country":"DE"}}',
    b'{"model":"binary","id":"%s","label":"yes"}',
    b'{"model":"binary","prediction":"no","label":"yes","features":{"country":"nobody has %s"}}',
    b'{"model":"binary","score":2,"id":"refused %s"}',
]

async def run():
    memory, sent = [], 0
    while sent < 5 * MILLION:
        start = sent // 2
        body = b"\\n".join(kinds[i % 4] % (b"%d" % ((start + i) // 4)) for i in range(4000))
        await service.intake.submit("push", body, time.time())
        sent += 4000
        if sent % (MILLION // 10) == 0:
            await service.registry.scrape(openmetrics=False, gzipped=False)
        if sent % MILLION == 0:
            memory.append(psutil.Process().memory_info().rss)
    print(*memory)

asyncio.run(run())
"""


@pytest.mark.soak
def test_five_million_events_take_no_more_memory_than_one() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr
    memory = list(map(int, result.stdout.split()))
    assert len(memory) == 5
    assert memory[-1] < 1.05 * memory[0], [f"{each / 1e6:.0f} MB" for each in memory]
