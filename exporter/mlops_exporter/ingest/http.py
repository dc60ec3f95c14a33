"""The source behind `POST /v1/events` and `POST /v1/ledgers`: tells formats apart and hands every one to the intake."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import msgspec

from mlops_exporter.events.columns import NAMED_REFUSALS, Ignored
from mlops_exporter.events.explain import with_words
from mlops_exporter.events.formats import ARROW_STREAM
from mlops_exporter.events.reasons import Reason
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.deliveries import position_of
from mlops_exporter.ingest.intake import Intake, let_others_run
from mlops_exporter.ingest.ledgers import LEDGERS, LedgersResult
from mlops_exporter.sources.base import ARROW_TYPE, Content, IntakeResult, QueueFullError, UnavailableError
from mlops_exporter.sources.kserve import KServe, Reading, is_cloud_event

KSERVE = "kserve"
"""Name of KServe's format in the journal, and of what waits in the checkpoint."""


_NO_STREAMS = {
    b"ARROW1": "it is an Arrow file: write an IPC stream",
    b"PAR1": "it is Parquet: send it with `mlops-exporter push`",
}
"""What a body that says it is Arrow may be, by its beginning."""


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
            found = next((words for begin, words in _NO_STREAMS.items() if body.startswith(begin)), "")
            details = [with_words("bad_arrow", found)]
            return IntakeResult(0, 1, [(1, "bad_arrow")], {"bad_arrow": 1}, details=details)
        position = position_of(self.name, models, content.key, body) if content.key else None
        result = await self._intake.take(Body(self.name, body, arrived, position, models), self._limit)
        return result._replace(details=self._intake.explain(body, result, models)) if result.errors else result

    async def submit_ledgers(
        self, body: bytes, arrived: float, *, models: frozenset[str] | None = None
    ) -> LedgersResult:
        """Take the partial ledgers of `body`, which arrived at `arrived` (Unix seconds). Raises QueueFullError.

        Ledgers of models other than `models` are refused; None allows all.
        """
        return await self._intake.take_ledgers(Body(self.name, body, arrived, None, models, LEDGERS))

    def shares(self, models: frozenset[str] | None = None) -> bytes:
        """Return what is counted of `models`, None for all, as `GET /v1/ledgers` answers."""
        self.ensure_room()
        return self._intake.shares(models)

    async def _take_parts(self, reading: Reading, arrived: float) -> IntakeResult:
        """Take what was read, in parts, so that others have their turn. Once one is taken, the others wait for room."""
        taken, refused, told = 0, Counter[Reason](), list[tuple[tuple[int, Reason], str]]()
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
            told += zip(result.errors, result.details, strict=True)
            for model, found in result.ignored.items():
                ignored.setdefault(model, Ignored()).take_in(found)
        told = sorted(told)[:NAMED_REFUSALS]
        errors, details = [error for error, _ in told], [words for _, words in told]
        return IntakeResult(taken, refused.total(), errors, refused, ignored=ignored, details=details)

    def refuse(self, reason: Reason) -> None:
        """Account for a body that was refused unread, as one event."""
        self._intake.refuse(self.name, [reason])

    async def expire(self, now: float) -> None:
        """Count the CloudEvents that have waited too long for their other half; when the queue is full, later."""
        if (expiry := self.kserve.expiry(now)) is not None:
            with suppress(QueueFullError):
                await self._intake.translate(Body(self.name, expiry, now, format=KSERVE))
