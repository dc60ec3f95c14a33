"""A stand-in for the service where a test is about something else, mostly what is around `App`."""

import asyncio

from mlops_exporter.events.reasons import Reason
from mlops_exporter.ingest.ledgers import LedgersResult
from mlops_exporter.judging.status import Report
from mlops_exporter.sources.base import Content, IntakeResult


class StandIn:
    """Is ready, and takes every body after a moment, as a durable intake does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def ensure_room(self) -> None:
        """There is always room."""

    def refuse(self, reason: Reason) -> None:
        """Nothing is counted."""

    async def submit(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> IntakeResult:
        self.bodies.append(body)
        await asyncio.sleep(0.01)
        return IntakeResult(accepted=body.count(b"\n"))

    async def submit_ledgers(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> LedgersResult:
        return LedgersResult()

    def shares(self, models: frozenset[str] | None) -> bytes:
        return b"\x80"

    def status(self) -> Report:
        return Report("1.2.3", started=0.0, time=1.0)

    def ready(self) -> str | None:
        return None
