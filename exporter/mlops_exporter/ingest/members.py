"""Exporters behind one load balancer: whoever gets a body passes each event on to the member that keeps its id.

A sender hears that a body was taken when every member that got a part of it has made that durable. So after any fault
it sends the whole body again, to whichever member, and by their ids, or the body's key, the events count once.
"""

import asyncio
import json
import socket
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
import xxhash

from mlops_exporter.counting.partial import PartialLedger, encode
from mlops_exporter.events.addresses import Addressed, addresses
from mlops_exporter.events.columns import NAMED_REFUSALS, Ignored
from mlops_exporter.events.explain import with_words
from mlops_exporter.events.formats import ARROW_STREAM
from mlops_exporter.events.reasons import Reason, Refused
from mlops_exporter.ingest.ledgers import LedgersResult
from mlops_exporter.settings.sources import MembersSettings
from mlops_exporter.sources.base import (
    ARROW_TYPE,
    MSGPACK_TYPE,
    IntakeResult,
    Passed,
    QueueFullError,
    Repeated,
    UnavailableError,
)
from mlops_exporter.sources.calls import CallError, call, in_thread

PASSED = "mlops-exporter-passed"
"""The header of a body that one member passes to another."""

CONNECTIONS = 4
"""Bodies that may be on their way to one member."""

HELD_BYTES = 64 * 1024 * 1024
"""Of bodies whose parts are being passed on: beyond it, further ones are turned away."""

FAULT_SECONDS = 60.0
"""How long a member that did not answer counts as away, when nothing more was to be passed to it."""

_LINES = "application/x-ndjson"


def here(settings: MembersSettings) -> str | None:
    """Return the address of this exporter among the members; None where none has the name of this machine."""
    if settings.this is not None:
        return settings.this.rstrip("/")
    own = {socket.gethostname(), socket.getfqdn()}
    found = [url for url in settings.urls if own & {host := urlsplit(url).hostname or "", host.partition(".")[0]}]
    return found[0] if len(found) == 1 else None


@dataclass(slots=True)
class Part:
    """What of a body falls to one member: events by their numbers in it (from 1), and their texts, or one of Arrow."""

    numbers: list[int] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    type: str = _LINES

    @property
    def data(self) -> bytes:
        """Return it as a body."""
        return b"\n".join(self.texts)


class Key(NamedTuple):
    """An Idempotency-Key, and the digest of the whole body with which it came."""

    text: str
    whole: int


@dataclass(slots=True)
class Split:
    """A body by members. `unread` is the number of the row from which on it cannot be read, and why."""

    parts: dict[int, Part] = field(default_factory=dict)
    unread: tuple[int, str] | None = None


class _Error(msgspec.Struct):
    line: int
    reason: Reason
    detail: str = ""


class _Answer(msgspec.Struct):
    """What a member answers of a body that was passed to it."""

    accepted: int
    rejected: int
    errors: list[_Error] = []
    ignored: dict[str, Ignored] = {}
    refused: dict[Reason, int] = {}
    repeated: Repeated | None = None


class _LedgerError(msgspec.Struct):
    ledger: int
    reason: Reason
    detail: str = ""


class _LedgersAnswer(msgspec.Struct):
    """What a member answers of ledgers that were passed to it."""

    accepted: int
    repeated: int
    changed: int
    errors: list[_LedgerError] = []


_Kind = TypeVar("_Kind")


@dataclass(slots=True)
class _Waiting:
    """A part that waits to be passed on, and who waits for what becomes of it."""

    part: Part
    models: frozenset[str] | None
    key: Key | None
    result: asyncio.Future[IntakeResult]

    def goes_with(self, other: "_Waiting") -> bool:
        """Whether both may be one body: few enough that each refused event is named."""
        alike = self.models == other.models and self.key is other.key is None
        return alike and self.part.type == other.part.type == _LINES


class Link:
    """The way to one other member: parts that wait while others are under way go as one body."""

    def __init__(self, url: str, settings: MembersSettings, members: str) -> None:
        self.url = url
        self.passed = 0
        """Events that the member has taken or refused."""
        self._settings = settings
        self._members = members
        self._waiting: deque[_Waiting] = deque()
        self._carriers: set[asyncio.Task[None]] = set()
        self._fault: tuple[float, str] | None = None

    @property
    def fault(self) -> str | None:
        """Why the member did not take what was last passed to it, None where it did, or that is long ago."""
        if self._fault is None or time.monotonic() - self._fault[0] > FAULT_SECONDS:
            return None
        return self._fault[1]

    async def send(self, part: Part, models: frozenset[str] | None, key: Key | None) -> IntakeResult:
        """Pass a part on, and return what became of it once it is durable there; raises UnavailableError.

        While the member does not answer, one part at a time tries it, and others are not kept waiting.
        """
        if self._carriers and (fault := self.fault) is not None:
            raise _unavailable(fault)
        waiting = _Waiting(part, models, key, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if len(self._carriers) < CONNECTIONS:
            self._carriers.add(asyncio.create_task(self._carry()))
        return await waiting.result

    async def _carry(self) -> None:
        try:
            while self._waiting:
                await self._carry_group(self._gather())
        finally:  # at once, so that a part which comes now begins a task of its own
            self._carriers = {task for task in self._carriers if task is not asyncio.current_task()}

    async def _carry_group(self, group: Sequence[_Waiting]) -> None:
        try:
            result = await self._pass(group)
        except QueueFullError as fault:
            self._give_up(group, fault)
        except BaseException:
            self._give_up(group, _unavailable("it could not be asked"))
            raise
        else:
            lines = [len(each.part.numbers) for each in group]
            self.passed += sum(lines)
            for each, its in zip(group, _shares(result, lines), strict=True):
                _settle(each, its)

    def _gather(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        lines = len(group[0].part.numbers)
        while self._waiting and self._waiting[0].goes_with(group[0]):
            lines += len(self._waiting[0].part.numbers)
            if lines > NAMED_REFUSALS:
                break
            group.append(self._waiting.popleft())
        return group

    def _give_up(self, group: Sequence[_Waiting], fault: QueueFullError) -> None:
        """Let nobody wait any longer, for this group or for what was to follow it."""
        for each in (*group, *self._waiting):
            _settle(each, fault)
        self._waiting.clear()

    async def _pass(self, group: Sequence[_Waiting]) -> IntakeResult:
        first = group[0]
        body = b"\n".join(each.part.data for each in group)
        said = await self.post("/v1/events", first.part.type, body, first.models, _Answer, first.key)
        return IntakeResult(
            said.accepted,
            said.rejected,
            [(error.line, error.reason) for error in said.errors],
            said.refused,
            said.repeated,
            said.ignored,
            [error.detail for error in said.errors],
        )

    async def post(
        self,
        path: str,
        type_: str,
        body: bytes,
        models: frozenset[str] | None,
        answer: type[_Kind],
        key: Key | None = None,
    ) -> _Kind:
        """Post a body to the member, for a sender who may write `models`; raises UnavailableError."""
        allowed = None if models is None else sorted(models)
        whole = 0 if key is None else key.whole
        headers = {"Content-Type": type_, PASSED: json.dumps([self._members, self.url, allowed, whole])}
        if key is not None:
            headers["Idempotency-Key"] = key.text
        timeout = self._settings.timeout
        ask = partial(call, "POST", self.url + path, self._settings, body=body, headers=headers, timeout=timeout)
        try:
            said = msgspec.json.decode((await in_thread(ask)).body, type=answer)
        except (CallError, msgspec.MsgspecError) as error:
            self._fault = time.monotonic(), str(error)
            raise _unavailable(str(error)) from None
        self._fault = None
        return said


class MemberSet:
    """The set, as seen by the member at `this`. For the event loop alone."""

    def __init__(self, settings: MembersSettings, this: str) -> None:
        self.settings = settings
        urls = sorted(settings.urls)
        self._this = urls.index(this)
        self._url = this
        self._held = 0
        self._seeds = np.array([xxhash.xxh3_64_intdigest(url.encode()) for url in urls], np.uint64)
        self.digest = xxhash.xxh3_64_hexdigest("\n".join(urls).encode())
        self.links = {number: Link(url, settings, self.digest) for number, url in enumerate(urls) if url != this}

    @property
    def passed(self) -> int:
        """How many events were passed to others."""
        return sum(link.passed for link in self.links.values())

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold a body of so many bytes while its parts are passed on; raises QueueFullError for too many."""
        if self._held and self._held + size > HELD_BYTES:
            raise QueueFullError(1.0)
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    @property
    def fault(self) -> str | None:
        """Why others do not take their events, None where all do."""
        return "; ".join(fault for link in self.links.values() if (fault := link.fault)) or None

    def check(self, passed: Passed) -> None:
        """Raise UnavailableError where who passed a body knows of other members than this one."""
        if passed.members != self.digest:
            raise UnavailableError("members differ: sources.http.members.urls must be the same in each")
        if passed.to != self._url:
            said = f"this exporter is {self._url} and not {passed.to}: sources.http.members.this must say which each is"
            raise UnavailableError(said)

    def owners(self, ids: Sequence[str]) -> list[int]:
        """Return which member keeps each id (or series, or producer of ledgers): that with the highest weight.

        So few move when a member comes or goes.

        D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", 1998.
        """
        hashes = np.array([xxhash.xxh3_64_intdigest(id_.encode()) for id_ in ids], np.uint64)
        weights = hashes[:, None] ^ self._seeds
        for shift, factor in _MIXING:
            weights = (weights ^ (weights >> np.uint64(shift))) * np.uint64(factor)
        highest: list[int] = (weights ^ (weights >> np.uint64(31))).argmax(axis=1).tolist()
        return highest

    def _owners_of(self, addresses: Sequence[str | None], remainder: int) -> list[int]:
        named = iter(self.owners([address for address in addresses if address is not None]))
        return [remainder if address is None else next(named) for address in addresses]

    def split(self, body: bytes, key: str, limit: int | None, split: Split) -> Iterator[None]:
        """Sort the events of a body by member, with pauses for others; those that name no id or series stay here.

        Of a body with a key they go by that, so that it is split alike wherever it is sent. Raises TooManyEventsError.
        """
        remainder = self.owners([key])[0] if key else self._this
        if body.startswith(ARROW_STREAM):
            yield from self._split_arrow(body, remainder, limit, split)
            return
        found = Addressed()
        yield from addresses(body, found, limit)
        owners = self._owners_of(found.addresses, remainder)
        for number, text, owner in zip(found.numbers, found.texts, owners, strict=True):
            part = split.parts.setdefault(owner, Part())
            part.numbers.append(number)
            part.texts.append(text)

    def _split_arrow(self, body: bytes, remainder: int, limit: int | None, split: Split) -> Iterator[None]:
        try:
            from mlops_exporter.events.arrow_rows import read  # needs pyarrow, which is optional and slow to load
        except ImportError:
            split.parts[self._this] = Part([1], [body], ARROW_TYPE)  # which refuses it
            return
        stream = yield from read(body, limit)
        owners = np.array(self._owners_of(stream.addresses, remainder), np.int64)
        for owner in np.unique(owners).tolist():
            (rows,) = (owners == owner).nonzero()
            split.parts[owner] = Part((rows + 1).tolist(), [stream.of(rows)], ARROW_TYPE)
            yield
        if stream.fault is not None:
            split.unread = len(owners) + 1, with_words("bad_arrow", stream.fault)

    async def pass_on(
        self, parts: Mapping[int, Part], key: Key | None, models: frozenset[str] | None
    ) -> list[IntakeResult]:
        """Pass the parts of others on, and return what became of each; raises UnavailableError where one cannot be."""
        others = [(number, part) for number, part in parts.items() if number != self._this]
        found = await _together(self.links[number].send(part, models, key) for number, part in others)
        return [numbered(result, part.numbers) for result, (_, part) in zip(found, others, strict=True)]

    async def pass_ledgers(
        self, ledgers: Sequence[tuple[int, PartialLedger]], models: frozenset[str] | None
    ) -> tuple[list[tuple[int, PartialLedger]], LedgersResult]:
        """Pass on the numbered ledgers of others; returns those that fall here, and what became of the rest.

        A producer's fall to one member, so that one that comes again is known there. Raises UnavailableError.
        """
        owners = self.owners([ledger.producer for _, ledger in ledgers])
        own: list[tuple[int, PartialLedger]] = []
        others: dict[int, list[tuple[int, PartialLedger]]] = {}
        for each, owner in zip(ledgers, owners, strict=True):
            (own if owner == self._this else others.setdefault(owner, [])).append(each)
        result = LedgersResult()
        found = await _together(
            self.links[owner].post(
                "/v1/ledgers", MSGPACK_TYPE, encode(ledger for _, ledger in theirs), models, _LedgersAnswer
            )
            for owner, theirs in others.items()
        )
        for said, theirs in zip(found, others.values(), strict=True):
            result.accepted += said.accepted
            result.repeated += said.repeated
            result.changed += said.changed
            result.refused += [(theirs[e.ledger - 1][0], Refused(e.reason, e.detail)) for e in said.errors]
        return own, result

    def is_this(self, member: int) -> bool:
        """Whether a member is this one."""
        return member == self._this

    def own(self, parts: Mapping[int, Part]) -> Part | None:
        """Return the part that falls to this member."""
        return parts.get(self._this)


_MIXING: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""The finalizer of SplitMix64 (G. Steele, D. Lea, C. Flood, 2014)."""


async def _together(work: Iterable[Coroutine[Any, Any, _Kind]]) -> list[_Kind]:
    """Return the results of all; what one of them raises, when all have ended."""
    results: list[_Kind] = []
    for found in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(found, BaseException):
            raise found
        results.append(found)
    return results


def numbered(result: IntakeResult, numbers: Sequence[int]) -> IntakeResult:
    """Return a result whose refused events have the numbers that they have in the whole body."""
    return result._replace(errors=[(numbers[line - 1], reason) for line, reason in result.errors])


def combined(results: Sequence[IntakeResult]) -> IntakeResult:
    """Return what became of a body by what became of its parts."""
    refused = Counter[Reason]()
    ignored: dict[str, Ignored] = {}
    told: list[tuple[tuple[int, Reason], str]] = []
    for result in results:
        refused += Counter(result.refused)
        for model, found in result.ignored.items():
            ignored.setdefault(model, Ignored()).take_in(found)
        details = [*result.details, *[""] * (len(result.errors) - len(result.details))]
        told += zip(result.errors, details, strict=True)
    told = sorted(told)[:NAMED_REFUSALS]
    repeated: Repeated | None = None
    if any(result.repeated == "changed" for result in results):  # also where another has forgotten the key
        repeated = "changed"
    elif results and all(result.repeated for result in results):
        repeated = "same"
    return IntakeResult(
        sum(result.accepted for result in results),
        sum(result.rejected for result in results),
        [error for error, _ in told],
        refused,
        repeated,
        ignored,
        [words for _, words in told],
    )


def _shares(result: IntakeResult, lines: Sequence[int]) -> Iterator[IntakeResult]:
    """Yield what became of each part of a body, by how many lines they have: all is named that was refused."""
    if len(lines) == 1:
        yield result
        return
    first = 0
    told = list(zip(result.errors, result.details, strict=True))
    for count in lines:
        ours = [((line - first, reason), words) for (line, reason), words in told if first < line <= first + count]
        errors = [error for error, _ in ours]
        refused = Counter(reason for _, reason in errors)
        yield IntakeResult(
            count - len(ours), len(ours), errors, refused, ignored=result.ignored, details=[words for _, words in ours]
        )
        first += count


def _unavailable(why: str) -> UnavailableError:
    return UnavailableError(f"another member does not take its events: {why}", 1.0)


def _settle(waiting: _Waiting, result: IntakeResult | Exception) -> None:
    if waiting.result.done():  # its sender has gone
        return
    if isinstance(result, Exception):
        waiting.result.set_exception(result)
    else:
        waiting.result.set_result(result)


def passed_of(text: str) -> Passed | None:
    """Return what the header PASSED says, None where it is none."""
    try:
        members, to, models, whole = msgspec.json.decode(text, type=tuple[str, str, list[str] | None, int])
    except msgspec.MsgspecError:
        return None
    if not 0 <= whole < 2**64:
        return None
    return Passed(members, to, None if models is None else frozenset(models), whole)
