"""An intake that only remembers: bodies and positions are kept together, as the interface demands of a real one."""

import asyncio
import json
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from mlops_exporter.sources.base import IntakeResult, Origins, QueueFullError, Source


class RecordingSink:
    """Keeps what it was given. Its memory outlives sources, as a state on disk outlives the exporter."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.positions: dict[str, bytes] = {}
        self.refusals = 0
        self.delay = 0.0
        self.refills: float | None = 3600.0
        self.refilled: list[bytes] = []
        self.kept: set[str] = set()

    async def submit(
        self, source: str, body: bytes, arrived: float, position: bytes | None = None, *, origins: Origins = ()
    ) -> IntakeResult:
        if self.refusals:
            self.refusals -= 1
            raise QueueFullError(0.05)
        await asyncio.sleep(self.delay)
        self.bodies.append(body)
        if position is not None:
            self.positions[source] = position
        return IntakeResult(accepted=body.count(b"\n"))

    async def forget(self, source: str, kept: Collection[str], position: bytes) -> None:
        self.kept = set(kept)
        self.positions[source] = position

    async def refill(self, source: str, body: bytes, arrived: float, origins: Origins) -> None:
        self.refilled.append(body)

    async def hold(self, source: str, position: bytes) -> None:
        self.positions[source] = position

    async def add_up(self, shares: Mapping[str, bytes]) -> Mapping[str, str]:
        return {}

    def position(self, source: str) -> bytes | None:
        return self.positions.get(source)

    @property
    def lines(self) -> list[bytes]:
        """Every line delivered."""
        return [line for body in self.bodies for line in body.split(b"\n") if line.strip()]

    @property
    def ids(self) -> list[Any]:
        """The `id` of every event delivered, None for what is no event."""
        return [json.loads(line)["id"] if line.startswith(b"{") else None for line in self.lines]


def event(identity: int, **more: Any) -> bytes:
    """One event on one line, without its line end."""
    return json.dumps({"model": "m", "id": identity, "prediction": 1, **more}).encode()


def events(*identities: int) -> bytes:
    """Events as NDJSON."""
    return b"".join(event(identity) + b"\n" for identity in identities)


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait until `condition` holds; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def running(source: Source, sink: RecordingSink, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `source` while `scenario` goes on, then cancel it; a source that fails fails the test."""
    task = asyncio.create_task(source.run(sink))
    story = asyncio.create_task(scenario())
    try:
        await asyncio.wait({task, story}, return_when=asyncio.FIRST_COMPLETED)
        if not story.done():
            await task  # it failed, or its input ended before the story
        await story
    finally:
        for one in (task, story):
            one.cancel()
        await asyncio.wait({task, story})
