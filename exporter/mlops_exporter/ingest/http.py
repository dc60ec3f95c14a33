"""The source behind `POST /v1/events`: tells formats apart and hands every one to the intake as events."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import msgspec

from mlops_exporter.events.columns import NAMED_REFUSALS, Ignored
from mlops_exporter.events.decoder import ARROW_STREAM
from mlops_exporter.events.reasons import Reason
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.deliveries import position_of
from mlops_exporter.ingest.intake import Intake, let_others_run
from mlops_exporter.sources.base import ARROW_TYPE, Content, IntakeResult, QueueFullError, UnavailableError
from mlops_exporter.sources.kserve import KServe, Reading, is_cloud_event

KSERVE = "kserve"
"""Name of KServe's format in the journal, and of what waits in the checkpoint."""

EXPLAINED_REFUSALS = 10
"""Refused events of a body of which the answer says more than the reason."""


class HttpSource:
    """Bodies that were posted, under the source's name. `kserve` holds the CloudEvents that wait.

    The intake has `kserve` among its translators, as KSERVE. Bodies of more than `limit` events are refused.
    """

    def __init__(self, name: str, intake: Intake, kserve: KServe, limit: int | None = None) -> None:
        self._limit = limit
        self.kserve = kserve
        self.name = name
        self._intake = intake
        self.ensure_room: Callable[[], None] = intake.ensure_room

    async def submit(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> IntakeResult:
        """Take the events of `body`, which arrived at `arrived` (Unix seconds).

        Raises QueueFullError or TooManyEventsError.

        Of CloudEvents the result counts the events that they became, so one that waits for its other half counts
        nothing yet; `errors` number the CloudEvents. Events of models other than `models` are refused; None allows all.
        """
        if is_cloud_event(content):
            reading = Reading()
            await let_others_run(self.kserve.read_steps(content, body, reading, models, self._limit))
            return await self._take_parts(reading, arrived)
        if content.type == ARROW_TYPE and not body.startswith(ARROW_STREAM):
            self._intake.refuse(self.name, ["bad_arrow"])
            return IntakeResult(0, 1, [(1, "bad_arrow")], {"bad_arrow": 1})
        position = position_of(self.name, models, content.key, body) if content.key else None
        result = await self._intake.take(Body(self.name, body, arrived, position, models), self._limit)
        if result.errors and not body.startswith(ARROW_STREAM):
            return result._replace(details=self._intake.explain(body, result.errors[:EXPLAINED_REFUSALS], models))
        return result

    async def _take_parts(self, reading: Reading, arrived: float) -> IntakeResult:
        """Take what was read, in parts, so that others have their turn. Once one is taken, the others wait for room."""
        taken, refused, errors = 0, Counter[Reason](), list[tuple[int, Reason]]()
        ignored: dict[str, Ignored] = {}
        for number, part in enumerate(reading.parts()):
            body = Body(self.name, msgspec.msgpack.encode(part), arrived, format=KSERVE)
            while True:
                try:
                    result = await self._intake.translate(body)
                    break
                except QueueFullError as full:
                    if not number or isinstance(full, UnavailableError):
                        raise
                    await asyncio.sleep(full.retry_after / 10)
            taken, refused = taken + result.accepted, refused + Counter(result.refused)
            errors += result.errors
            for model, found in result.ignored.items():
                ignored.setdefault(model, Ignored()).take_in(found)
        return IntakeResult(taken, refused.total(), sorted(errors)[:NAMED_REFUSALS], refused, ignored=ignored)

    def refuse(self, reason: Reason) -> None:
        """Account for a body that was refused unread, as one event."""
        self._intake.refuse(self.name, [reason])

    async def expire(self, now: float) -> None:
        """Count the CloudEvents that have waited too long for their other half; when the queue is full, later."""
        if (expiry := self.kserve.expiry(now)) is not None:
            with suppress(QueueFullError):
                await self._intake.translate(Body(self.name, expiry, now, format=KSERVE))
