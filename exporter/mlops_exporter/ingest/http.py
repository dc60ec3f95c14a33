"""The source behind `POST /v1/events` and `POST /v1/ledgers`: tells formats apart and hands every one to the intake."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter

import msgspec

from mlops_exporter.counting.partial import decode, encode
from mlops_exporter.events.columns import NAMED_REFUSALS, Ignored
from mlops_exporter.events.explain import with_words
from mlops_exporter.events.formats import ARROW_STREAM
from mlops_exporter.events.reasons import Reason, Refused
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.deliveries import digest_of, position_of
from mlops_exporter.ingest.intake import Intake, let_others_run
from mlops_exporter.ingest.ledgers import LEDGERS, LedgersResult
from mlops_exporter.ingest.members import Key, MemberSet, Part, Split, combined, numbered
from mlops_exporter.sources.base import ARROW_TYPE, Content, Health, IntakeResult, QueueFullError, UnavailableError
from mlops_exporter.sources.kserve import KServe, Reading, is_cloud_event

KSERVE = "kserve"
"""Name of KServe's format in the journal, and of what waits in the checkpoint."""


_ONE_EXPORTER = (
    "a CloudEvent's other half may reach another member of this set: let KServe's logger send to an exporter of its own"
)
_NO_STREAMS = {
    b"ARROW1": "it is an Arrow file: write an IPC stream",
    b"PAR1": "it is Parquet: send it with `mlops-exporter push`",
}
"""What a body that says it is Arrow may be, by its beginning."""


class HttpSource:
    """Bodies that were posted, under the source's name. `kserve` holds the CloudEvents that wait.

    The intake has `kserve` among its translators, as KSERVE. Bodies of more than `limit` events are refused.
    With `members`, each event is taken by the one that keeps its id.
    """

    def __init__(
        self, name: str, intake: Intake, kserve: KServe, limit: int | None = None, members: MemberSet | None = None
    ) -> None:
        self._limit = limit
        self.members = members
        self.kserve = kserve
        self.name = name
        self._intake = intake
        self.ensure_room: Callable[[], None] = intake.ensure_room

    async def submit(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> IntakeResult:
        """Take the events of `body`, which arrived at `arrived` (Unix seconds).

        Raises QueueFullError, UnavailableError or TooManyEventsError.

        Of CloudEvents the result counts the events that they became, so one that waits for its other half counts
        nothing yet; `errors` number the CloudEvents. Events of models other than `models` are refused; None allows all.
        """
        if (members := self.members) is not None:
            if is_cloud_event(content):
                return self._refused("unsupported_type", _ONE_EXPORTER)
            if content.passed is None:
                return await self._share(members, body, arrived, content, models)
            members.check(content.passed)
            models = _both(models, content.passed.models)
            key = Key(content.key, content.passed.whole) if content.key else None
        elif content.passed is not None:
            raise UnavailableError("this exporter is no member of a set: give it sources.http.members")
        else:
            key = _key_of(content, body)
        if is_cloud_event(content):
            reading = Reading()
            await let_others_run(self.kserve.read_steps(content, body, reading, models, self._limit))
            return await self._take_parts(reading, arrived)
        if content.type == ARROW_TYPE and not body.startswith(ARROW_STREAM):
            found = next((words for begin, words in _NO_STREAMS.items() if body.startswith(begin)), "")
            return self._refused("bad_arrow", with_words("bad_arrow", found))
        return await self._take(body, arrived, key, models)

    async def _take(self, body: bytes, arrived: float, key: Key | None, models: frozenset[str] | None) -> IntakeResult:
        position = None if key is None else position_of(self.name, models, *key)
        result = await self._intake.take(Body(self.name, body, arrived, position, models), self._limit)
        return result._replace(details=self._intake.explain(body, result, models)) if result.errors else result

    async def _share(
        self, members: MemberSet, body: bytes, arrived: float, content: Content, models: frozenset[str] | None
    ) -> IntakeResult:
        """Pass on what falls to others, and then take what falls here: what has no id counts once, or not at all.

        Of a body with a key, the member that keeps the key comes first, with a part of nothing if need be: it knows
        whether another body came with this key, and then nobody takes any of it.
        """
        split, key, results = Split(), _key_of(content, body), list[IntakeResult]()
        with members.holding(len(body)):
            await let_others_run(members.split(body, content.key, self._limit, split))
            if key is not None:
                (keeper,) = members.owners([key.text])
                first = split.parts.pop(keeper, Part())
                if members.is_this(keeper):
                    results.append(await self._take_own(first, arrived, key, models))
                else:
                    results += await members.pass_on({keeper: first}, key, models)
                if results[0].repeated == "changed":
                    return IntakeResult(0, repeated="changed")
            results += await members.pass_on(split.parts, key, models)
        if (own := members.own(split.parts)) is not None:
            results.append(await self._take_own(own, arrived, key, models))
        if split.unread is not None:
            number, why = split.unread
            results.append(self._refused("bad_arrow", why, number))
        return combined(results)

    async def _take_own(
        self, part: Part, arrived: float, key: Key | None, models: frozenset[str] | None
    ) -> IntakeResult:
        return numbered(await self._take(part.data, arrived, key, models), part.numbers)

    def _refused(self, reason: Reason, why: str, number: int = 1) -> IntakeResult:
        """Account for what is refused of a body, as one event."""
        self._intake.refuse(self.name, [reason])
        return IntakeResult(0, 1, [(number, reason)], {reason: 1}, details=[why])

    async def submit_ledgers(
        self, body: bytes, arrived: float, content: Content, *, models: frozenset[str] | None = None
    ) -> LedgersResult:
        """Take the partial ledgers of `body`, which arrived at `arrived` (Unix seconds).

        Ledgers of models other than `models` are refused; None allows all. Raises QueueFullError or UnavailableError.
        """
        if (members := self.members) is not None:
            if content.passed is None:
                return await self._share_ledgers(members, body, arrived, models)
            members.check(content.passed)
            models = _both(models, content.passed.models)
        elif content.passed is not None:
            raise UnavailableError("this exporter is no member of a set: give it sources.http.members")
        return await self._intake.take_ledgers(Body(self.name, body, arrived, None, models, LEDGERS))

    async def _share_ledgers(
        self, members: MemberSet, body: bytes, arrived: float, models: frozenset[str] | None
    ) -> LedgersResult:
        parts = list(enumerate(decode(body), 1))
        readable = [(number, part) for number, part in parts if not isinstance(part, Refused)]
        own, result = await members.pass_ledgers(readable, models)
        if own:
            taken = await self._intake.take_ledgers(
                Body(self.name, encode(ledger for _, ledger in own), arrived, None, models, LEDGERS)
            )
            result.accepted += taken.accepted
            result.repeated += taken.repeated
            result.changed += taken.changed
            result.refused += [(own[number - 1][0], refused) for number, refused in taken.refused]
        unreadable = [(number, part) for number, part in parts if isinstance(part, Refused)]
        self._intake.refuse_ledgers(self.name, [part.reason for _, part in unreadable])
        result.refused = sorted([*result.refused, *unreadable], key=itemgetter(0))
        return result

    def shares(self, models: frozenset[str] | None = None) -> bytes:
        """Return what is counted of `models`, None for all, as `GET /v1/ledgers` answers."""
        self.ensure_room()
        return self._intake.shares(models)

    @property
    def health(self) -> Health:
        """Whether all members take the events that fall to them."""
        fault = None if self.members is None else self.members.fault
        return Health(fault is None, None, fault)

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


def _key_of(content: Content, body: bytes) -> Key | None:
    return Key(content.key, digest_of(body)) if content.key else None


def _both(some: frozenset[str] | None, others: frozenset[str] | None) -> frozenset[str] | None:
    """Return the models that both allow; None allows all."""
    return others if some is None else some if others is None else some & others
