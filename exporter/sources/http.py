"""The source behind `POST /v1/events`: tells formats apart and hands every one to the intake as events."""

from collections.abc import Callable

from exporter.events import ARROW_STREAM, Reason
from exporter.intake import Intake
from exporter.sources.base import ARROW_TYPE, Content, IntakeResult, QueueFullError
from exporter.sources.kserve import KServe, Taken, is_cloud_event


class HttpSource:
    """Bodies that were posted, under the source's name. `kserve` holds the CloudEvents that wait."""

    def __init__(self, name: str, intake: Intake, kserve: KServe) -> None:
        self.kserve = kserve
        self.name = name
        self._intake = intake
        self.ensure_room: Callable[[], None] = intake.ensure_room

    async def submit(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> IntakeResult:
        """Take the events of `body`, which arrived at `arrived` (Unix seconds); raises QueueFullError.

        Of CloudEvents the result counts the events that they became, so one that waits for its other half counts
        nothing yet; `errors` number the CloudEvents. Events of models other than `models` are refused; None allows all.
        """
        if is_cloud_event(content):
            return await self._submit_taken(self.kserve.take(content, body, arrived, models), arrived)
        if content.type == ARROW_TYPE and not body.startswith(ARROW_STREAM):
            self._intake.refuse(self.name, ["bad_arrow"])
            return IntakeResult(0, 1, [(1, "bad_arrow")])
        return await self._intake.submit(self.name, body, arrived, models=models)

    def refuse(self, reason: Reason) -> None:
        """Account for a body that was refused unread, as one event."""
        self._intake.refuse(self.name, [reason])

    async def expire(self, now: float) -> None:
        """Count the CloudEvents that have waited too long for their other half; when the queue is full, later."""
        taken = self.kserve.expire(now)
        if taken.lines:
            try:
                await self._submit_taken(taken, now)
            except QueueFullError:
                return

    async def _submit_taken(self, taken: Taken, arrived: float) -> IntakeResult:
        try:
            result = await self._intake.submit(self.name, b"\n".join(taken.lines), arrived)
        except QueueFullError:
            taken.roll_back()
            raise
        self._intake.refuse(self.name, (reason for _, reason in taken.refused))
        errors = [*taken.refused, *((taken.origins[line - 1], reason) for line, reason in result.errors)]
        return IntakeResult(result.accepted, len(errors), sorted(errors))
