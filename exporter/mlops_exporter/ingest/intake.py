"""Takes in batches of events: decodes at once, so that the sender hears what was refused, and counts in larger batches.

Counting one event through NumPy costs as much as counting fifty, so decoded events are gathered over requests until
there are many, a moment has passed, or somebody wants to see them.
"""

import asyncio
import logging
import math
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any, Protocol, TypeVar

import msgspec

from mlops_exporter.counting.fleet import FORMAT as SHARES
from mlops_exporter.counting.fleet import Fleet, Shares, check, share_of
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.partial import PartialLedger, decode
from mlops_exporter.events import clock
from mlops_exporter.events.columns import (
    EXPLAINED_REFUSALS,
    NAMED_IGNORED,
    NAMED_REFUSALS,
    Columns,
    Decoded,
    Ignored,
    by_schema,
    newest_by_version,
)
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.explain import explained, with_words
from mlops_exporter.events.reasons import REASONS, Reason, Refused
from mlops_exporter.ingest.body import ORIGINS, Body, origins_told, with_origins
from mlops_exporter.ingest.deliveries import Deliveries, is_key
from mlops_exporter.ingest.journal import Journal
from mlops_exporter.ingest.ledgers import LEDGERS, Ledgers, LedgersResult
from mlops_exporter.ingest.origins import OriginCodes
from mlops_exporter.ingest.store import StoreError
from mlops_exporter.settings.models import Limits
from mlops_exporter.sources.base import (
    IntakeResult,
    Origins,
    QueueFullError,
    Repeated,
    Translated,
    UnavailableError,
)

BATCH_EVENTS = 2048
BATCH_SECONDS = 0.1
BUSY_BATCHES = 16

TYPICAL_EVENT_BYTES = 256
"""By which the events in a body are estimated before it is decoded."""

SLICE_SECONDS = 0.005
"""How long a body is decoded before others have their turn."""

INTAKE_STATE = "intake"
REFUSED = "refused"
"""In the journal, the format of a body of which nothing was accepted: how many were refused, by reason."""

REFUSED_LEDGERS = "refused ledgers"
"""The same of a body of partial ledgers."""

REFUSALS_TOLD_SECONDS = 60.0
"""How long after one refusal was logged another one of the same reason and source is not."""

IGNORED_TOLD_SECONDS = 3600.0
"""How long after ignored features of a source and model were logged others are not."""

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@dataclass(slots=True)
class SourceCounts:
    """What one source has delivered. `last_event` is an arrival time, None before the first accepted event."""

    accepted: int = 0
    ledgers: int = 0
    ledgers_rejected: int = 0
    """These are among the `rejected`, too."""
    late: int = 0
    ignored: dict[str, list[str]] = field(default_factory=dict)
    """Features that models do not know, by model: the first names since the start."""
    rejected: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    last_event: float | None = None


async def let_others_run(steps: Iterator[None]) -> None:
    """Take steps to their end, letting others run every few milliseconds."""
    began = time.perf_counter()
    for _ in steps:
        if time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()


class Translator(Protocol):
    """Makes events of bodies in another format, and remembers between bodies: so it reads them as journalled, once."""

    def translate(self, body: bytes, arrived: float) -> Translated:
        """Return the events of a body that arrived at `arrived` (Unix seconds); never fails."""
        ...

    def state(self) -> bytes:
        """Return what `restore` needs."""
        ...

    def restore(self, state: bytes) -> None:
        """Go on from a state."""
        ...


class Intake:
    """Decodes bodies and counts their events in the models. For the event loop alone.

    With a journal, a body counts once it is durable there.
    """

    def __init__(
        self,
        models: Iterable[Model],
        sources: Iterable[str],
        limits: Limits,
        seed: int | None = None,
        translators: Mapping[str, Translator] | None = None,
    ) -> None:
        self.models = {model.name: model for model in models}
        self.sources = {name: SourceCounts() for name in sources}
        self._limits = limits
        self.closed: str | None = None
        """Why no body is taken now."""
        self.translators = dict(translators or {})
        """By the names of their formats."""
        self._journal: Journal | None = None
        self._decoder = self._make_decoder()
        self.features_ignored: Counter[str] = Counter()
        """Values of features that a model does not know, by model."""
        self._told_refusals: dict[tuple[str, str], float] = {}
        self._queued = 0
        self._gathered: dict[str, list[Columns]] = {}
        self._gathered_events = 0
        self._arrived = -math.inf
        """When the last body arrived of what is gathered."""
        self._timer: asyncio.TimerHandle | None = None
        self._filled: deque[float] = deque(maxlen=BUSY_BATCHES)
        self._changes = 0
        self._frozen = False
        self._positions: dict[str, bytes] = {}
        self._deliveries = Deliveries()
        self._ledgers = Ledgers()
        self._origins = OriginCodes()
        self._fleet = Fleet()
        self._seed = secrets.randbits(63) if seed is None else seed
        for model in self.models.values():
            model.seed = self._seed

    def _make_decoder(self) -> Decoder:
        return Decoder([schema for model in self.models.values() for schema in model.schemas])

    def keep_in(self, journal: Journal) -> None:
        """Make every body durable in a journal from now on."""
        self._journal = journal

    @property
    def seed(self) -> int:
        """Seed of the hash of ids."""
        return self._seed

    def prepare(self, following: "Intake", renamed: Collection[str]) -> None:
        """Let `following`, which has taken nothing yet, know of the sources what is known here, all but `renamed`.

        Positions are kept of sources that it lacks, too: one that comes back goes on where it was.
        """
        following.sources = {name: self.sources.get(name, counts) for name, counts in following.sources.items()}
        following._deliveries = self._deliveries
        following._ledgers = self._ledgers
        following._fleet = self._fleet
        following._positions = {name: at for name, at in self._positions.items() if name not in renamed}

    def become(self, following: "Intake") -> None:
        """Go on with the models, sources, limits and translators of one that was `prepare`d; what is frozen stays so.

        Bodies that were decoded for the former models and are not yet counted are decoded again.
        """
        self.models, self.sources, self.translators = following.models, following.sources, following.translators
        self._limits = following._limits
        self._decoder = self._make_decoder()
        self._positions = following._positions
        self._fleet = following._fleet
        self._changes += 1

    @property
    def capacity(self) -> int:
        """How many events may wait."""
        return self._limits.queue_events

    @property
    def waiting(self) -> int:
        """Number of events received and not yet counted (of bodies, an estimate)."""
        return self._queued + self._gathered_events

    @property
    def busy(self) -> bool:
        """Whether events pour in: so many batches were full within the last second."""
        return len(self._filled) == BUSY_BATCHES and time.monotonic() - self._filled[0] < 1.0

    @property
    def generation(self) -> int:
        """A number that changes with every change of a count; what is gathered is counted first."""
        if self._gathered_events < 4 * BATCH_EVENTS:  # else some are counted at a time, so that nobody waits
            self.flush()
        return self._changes

    def position(self, source: str) -> bytes | None:
        """Return the position that came with the last counted body of a source."""
        return self._positions.get(source)

    def stand(self, source: str, position: bytes) -> None:
        """Let a source go on at `position`."""
        self._positions[source] = position

    def ensure_room(self) -> None:
        """Raise QueueFullError when no further body can be taken now."""
        if self.closed is not None:
            raise UnavailableError(self.closed)
        if self._queued >= self.capacity:
            raise QueueFullError(1.0)

    async def submit(
        self,
        source: str,
        body: bytes,
        arrived: float,
        position: bytes | None = None,
        *,
        models: frozenset[str] | None = None,
        origins: Origins = (),
    ) -> IntakeResult:
        """Take the events of `body`, which arrived at `arrived` (Unix seconds); returns once they are durable.

        Events of models other than `models` are refused; None allows all.
        Raises QueueFullError, having taken nothing. A body larger than the whole queue is taken when it is alone.
        """
        return await self.take(Body(source, body, arrived, position, models, origins=origins))

    @property
    def refills(self) -> float | None:
        """How long anything waits for its label, in seconds; None where what waits is not kept over a restart."""
        if self._journal is None:
            return None
        return max((model.settings.label_ttl for model in self.models.values()), default=0.0)

    async def forget(self, source: str, kept: Collection[str], position: bytes) -> None:
        """Forget what waits for its label of all origins of a source but those `kept`; it goes on at `position`."""
        await self._thawed()
        self.flush()
        self._positions[source] = position
        codes = self._origins.others(source, kept)
        for model in list(self.models.values()) if len(codes) else ():
            for _ in model.forget(codes):
                await asyncio.sleep(0)
                await self._thawed()
        self._changes += 1

    async def refill(self, source: str, body: bytes, arrived: float, origins: Origins) -> None:
        """Let what others have counted wait for its label here, or for its prediction; it is durable with `hold`."""
        decoder, decoded = self._decoder, Decoded()
        await let_others_run(decoder.decode_steps(body, arrived, decoded, None))
        await self._thawed()
        if decoder is not self._decoder:
            decoded = self._decoder.decode(body, arrived)
        whole = Body(source, body, arrived, origins=origins)
        self._admit(decoded, whole)
        self._origins.mark(decoded, whole)
        self.flush()
        for name, parts in decoded.parts.items():
            for columns in by_schema(parts):
                self.models[name].refill(columns)
        self._changes += 1

    async def hold(self, source: str, position: bytes) -> None:
        """Make durable what was refilled, and that the source goes on at `position`; raises UnavailableError."""
        await self._thawed()
        for model in self.models.values():
            model.put_in_order()
        if self._journal is None:
            self._positions[source] = position
            return
        try:
            await self._journal.change(_GoingOn(self, source, position))
        except StoreError as error:
            raise UnavailableError(f"not durable: {error}") from error

    async def _thawed(self) -> None:
        """Wait until counts may change."""
        while self._frozen:
            await asyncio.sleep(SLICE_SECONDS)

    async def take(self, body: Body, limit: int | None = None) -> IntakeResult:
        """Take the events of a body that holds events, as `submit` does; one whose key is known, not again.

        Raises TooManyEventsError for more than `limit` of them.
        """
        if body.position is None or not is_key(body.position):
            return await self._take_new(body, limit)
        known = await self._deliveries.begin(body.position)
        if known is not None:
            outcome, same = known
            repeated: Repeated = "same" if same else "changed"
            return IntakeResult(
                outcome.accepted, sum(outcome.refused.values()), refused=outcome.refused, repeated=repeated
            )
        try:
            result = await self._take_new(body, limit)
            # It is durable, and while a checkpoint is written not counted yet: who sends it again now must be told.
            self._deliveries.note(body.position, result.accepted, dict(result.refused))
            return result
        finally:
            self._deliveries.end(body.position)

    async def _take_new(self, body: Body, limit: int | None) -> IntakeResult:
        events = self._reserve(body)
        try:
            decoder, decoded = self._decoder, Decoded()
            await let_others_run(decoder.decode_steps(body.data, body.arrived, decoded, limit))
            while (self._frozen or self._gathered_events >= BATCH_EVENTS) and self._needs_room(decoded):
                await asyncio.sleep(SLICE_SECONDS)  # what is written now must not change
            if decoder is not self._decoder:
                decoder, decoded = self._decoder, self._decoder.decode(body.data, body.arrived)
            self._admit(decoded, body)
            accepted, refusals = decoded.accepted, decoded.refused
            if refusals:
                self._tell_refusals(body, decoded)
            result = IntakeResult(
                accepted,
                refusals.total,
                sorted(refusals),
                dict(refusals.counts),
                ignored=decoded.ignored if accepted else {},
                evidence=decoded.evidence,
            )
            if self._journal is None:
                self._take(decoded, body)
            elif accepted:
                kept = with_origins(body) if body.origins else body
                await self._journal.commit(kept, partial(self._take_durable, body, decoder, decoded))
            else:
                await self._journal.commit(_refusals_of(body, decoded), partial(self._take, decoded, body))
            await self.settle()
            return result
        finally:
            self._queued -= events

    def _tell_refusals(self, body: Body, decoded: Decoded) -> None:
        """Log the first event that was refused for each reason, if none was of this source in the last minute."""
        refusals = decoded.refused
        for line, reason in self._untold(body, refusals):
            decoder = self._decoder
            (why,) = explained([(line, reason)], body.data, decoder.classes, decoded.evidence, decoder.rankings)
            count = refusals.counts[reason]
            _log.warning("%s refused %d as %s, as in line %d: %s", body.source, count, reason, line, why)

    def _untold(self, body: Body, refusals: Iterable[tuple[int, Reason]]) -> Iterator[tuple[int, Reason]]:
        """Yield the first event of each reason that was not told of in the last minute, of this source."""
        for line, reason in sorted(refusals):
            key = (body.source, reason)
            if body.arrived - self._told_refusals.get(key, -math.inf) >= REFUSALS_TOLD_SECONDS:
                self._told_refusals[key] = body.arrived
                yield line, reason

    def explain(self, body: bytes, result: IntakeResult, models: frozenset[str] | None = None) -> list[str]:
        """Return why the first events of a body were refused; only of `models` their sender hears, None means all."""
        classes = self._decoder.classes
        if models is not None:
            classes = {name: known for name, known in classes.items() if name in models}
        refusals = result.errors[:EXPLAINED_REFUSALS]
        return list(explained(refusals, body, classes, result.evidence, self._decoder.rankings))

    def _take_durable(self, body: Body, decoder: Decoder, decoded: Decoded) -> None:
        """Count a body that became durable; if `decoder` is a former one, as a restart would."""
        if decoder is self._decoder:
            self._take(decoded, body)
        else:
            self.replay(body)

    async def translate(self, body: Body) -> IntakeResult:
        """Take what the translator of the body's format makes of it; returns once it is durable and counted.

        `errors` number the parts of the body. Raises QueueFullError, having taken nothing.
        """
        assert body.format is not None
        translator = self.translators[body.format]
        events = self._reserve(body)
        try:

            def count() -> IntakeResult:
                result = self._take_translated(body, translator)
                for number, reason in self._untold(body, result.errors):
                    why = result.details[result.errors.index((number, reason))]
                    times = result.refused[reason]
                    _log.warning("%s refused %d as %s, as number %d: %s", body.source, times, reason, number, why)
                return result

            return await self._counted(body, count)
        finally:
            self._queued -= events

    async def take_ledgers(self, body: Body) -> LedgersResult:
        """Add the ledgers of a body that were not added before; returns once they are durable and counted.

        Raises QueueFullError, having taken nothing.
        """
        events = self._reserve(body)
        try:
            parts, found = decode(body.data), LedgersResult()
            await let_others_run(self._screen(parts, body, found))
            if found.refused:
                self._tell_refused_ledgers(body, found)
            if not found.accepted:
                await self._refuse_durably(body, found)
                return found
            return await self._counted(body, partial(self._count_ledgers, parts, body))
        finally:
            self._queued -= events

    async def _counted(self, body: Body, count: Callable[[], _Result]) -> _Result:
        """Return what `count` finds of a body, which counts it once it is durable."""
        if self._journal is None:
            return count()
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()

        def count_durable() -> None:
            result = count()
            if not done.done():  # its sender may have gone
                done.set_result(result)

        await self._journal.commit(body, count_durable)
        return await done

    def shares(self, models: frozenset[str] | None) -> bytes:
        """Return what is counted, for an exporter that adds up several; only of `models`, None means all."""
        self.flush()
        wanted = {name: model for name, model in self.models.items() if models is None or name in models}
        return msgspec.msgpack.encode(Shares(SHARES, {name: share_of(model) for name, model in wanted.items()}))

    async def add_up(self, shares: Mapping[str, bytes]) -> Mapping[str, str]:
        """Take what other exporters have counted, by who they are; returns why those that cannot be taken cannot.

        Nothing is added up before each of them has been taken once: what is missing would look like a loss.
        """
        faults: dict[str, str] = {}
        self._fleet.keep(list(shares))
        for exporter, data in shares.items():
            if not data:
                continue
            try:
                found = msgspec.msgpack.decode(data, type=Shares)
                if found.format != SHARES:
                    raise ValueError(f"its sums are of format {found.format}, here of {SHARES}")
                for name, share in found.models.items():
                    if name in self.models:
                        check(self.models[name], share)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                faults[exporter] = str(error)
            else:
                self._fleet.put(exporter, found)
            await asyncio.sleep(0)
        if not all(exporter in self._fleet for exporter in shares):
            return faults
        for model in list(self.models.values()):
            while self._frozen:
                await asyncio.sleep(SLICE_SECONDS)
            if self.models.get(model.name) is model:
                self._fleet.add_up(model, clock.now())
                self._changes += 1
            await asyncio.sleep(0)
        return faults

    def _screen(self, parts: list[PartialLedger | Refused], body: Body, found: LedgersResult) -> Iterator[None]:
        """Note step by step what would become of the ledgers of a body."""
        for number, part in self._ledgers.screen(parts, body, self.models, self._limits):
            self._note_ledger(found, number, part, parts)
            found.accepted += isinstance(part, PartialLedger)
            yield

    def _note_ledger(
        self,
        found: LedgersResult,
        number: int,
        part: PartialLedger | Refused | None,
        parts: list[PartialLedger | Refused],
    ) -> None:
        """Note a ledger that is not counted."""
        if isinstance(part, Refused):
            found.refused.append((number, part))
        elif part is None:
            ledger = parts[number - 1]
            assert isinstance(ledger, PartialLedger)
            found.repeated += 1
            found.changed += self._ledgers.is_changed(ledger)

    async def _refuse_durably(self, body: Body, found: LedgersResult) -> None:
        """Account for ledgers of which none is to be counted."""
        if not found.refused:
            return
        decoded = Decoded()
        decoded.refused.counts.update(found.reasons)
        if self._journal is None:
            self._take_refused_ledgers(decoded, body)
        else:
            kept = _refusals_of(body, decoded, REFUSED_LEDGERS)
            await self._journal.commit(kept, partial(self._take_refused_ledgers, decoded, body))

    def _take_refused_ledgers(self, decoded: Decoded, body: Body) -> None:
        self._counts_of(body.source).ledgers_rejected += decoded.refused.total
        self._take(decoded, body)

    def _count_ledgers(self, parts: list[PartialLedger | Refused], body: Body) -> LedgersResult:
        """Add those of the ledgers of a body to which nothing is opposed, as they are in the journal."""
        self.flush()  # what is shown of versions must not depend on when they were counted
        self._ledgers.forget(body.arrived, self._limits.ledger_age)
        counts, found = self._counts_of(body.source), LedgersResult()
        for number, part in self._ledgers.screen(parts, body, self.models, self._limits):
            if not isinstance(part, PartialLedger):
                self._note_ledger(found, number, part, parts)
                continue
            model = self.models[part.model]
            if model.admit({part.version: min(part.pane.end, body.arrived)}, body.arrived):
                found.refused.append((number, Refused("too_many_versions")))
                continue
            added = model.add(part, body.arrived)
            self._ledgers.note(part)
            found.accepted += 1
            counts.accepted += added
            counts.late += added if part.pane.end <= body.arrived - model.horizon else 0
        self.refuse_ledgers(body.source, found.reasons)
        if found.accepted:
            counts.ledgers += found.accepted
            counts.last_event = body.arrived
        self._changes += 1
        return found

    def _tell_refused_ledgers(self, body: Body, found: LedgersResult) -> None:
        """Log the first ledger that was refused for each reason, if none was of this source in the last minute."""
        refused = dict(found.refused)
        for number, reason in self._untold(body, ((number, each.reason) for number, each in found.refused)):
            why = with_words(reason, refused[number].told)
            _log.warning("%s refused a ledger as %s, number %d: %s", body.source, reason, number, why)

    def _reserve(self, body: Body) -> int:
        """Return the room in the queue that a body takes, having taken it; raises QueueFullError."""
        if self.closed is not None:
            raise UnavailableError(self.closed)
        events = 1 + len(body.data) // TYPICAL_EVENT_BYTES
        if self._queued and self._queued + events > self.capacity:
            raise QueueFullError(1.0)
        self._queued += events
        return events

    def replay(self, body: Body) -> None:
        """Count a body that is in the journal already."""
        if body.format == ORIGINS:
            body = origins_told(body)
        if body.format in (REFUSED, REFUSED_LEDGERS):
            decoded = Decoded()
            decoded.refused.counts.update(msgspec.json.decode(body.data, type=dict[Reason, int]))
            (self._take_refused_ledgers if body.format == REFUSED_LEDGERS else self._take)(decoded, body)
            return
        if body.format == LEDGERS:
            self._count_ledgers(decode(body.data), body)
            return
        if body.format is not None:
            translator = self.translators.get(body.format)
            if translator is None:
                _log.warning("a body of format %s is lost: no source takes that format any more", body.format)
            else:
                self._take_translated(body, translator)
            return
        decoded = self._decoder.decode(body.data, body.arrived)
        self._admit(decoded, body)
        self._take(decoded, body)

    def freeze(self) -> None:
        """Count what is gathered, and then leave all counts as they are until `thaw`."""
        self.flush()
        self._frozen = True

    def thaw(self) -> None:
        """Let counts change again."""
        self._frozen = False

    def refuse(self, source: str, reasons: Iterable[Reason]) -> None:
        """Account for what a source refused before it could become an event."""
        for reason in reasons:
            self._counts_of(source).rejected[reason] += 1
            self._changes += 1

    def refuse_ledgers(self, source: str, reasons: Collection[Reason]) -> None:
        """Account for partial ledgers that are refused."""
        self._counts_of(source).ledgers_rejected += len(reasons)
        self.refuse(source, reasons)

    def flush(self) -> None:
        """Count what is gathered."""
        if self._frozen:
            return
        gathered, self._gathered, self._gathered_events = self._gathered, {}, 0
        for name, parts in gathered.items():
            for columns in by_schema(parts):
                self.models[name].count(columns, self._arrived)

    def expire(self, now: float) -> None:
        """Give up predictions that have waited too long for their label."""
        if self._frozen:
            return
        for model in self.models.values():
            if any(reference.retired for reference in model.references):
                self.flush()
            references = model.references
            self._changes += model.expire(now)
            if model.references is not references:
                self._decoder = self._make_decoder()

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, by name of the part: trees of live arrays, to be written while frozen."""
        sources = {
            name: {
                "accepted": c.accepted,
                "ledgers": c.ledgers,
                "ledgers_rejected": c.ledgers_rejected,
                "late": c.late,
                "rejected": c.rejected,
                "last_event": c.last_event,
            }
            for name, c in self.sources.items()
        }
        intake = {
            "sources": sources,
            "positions": self._positions,
            "origins": self._origins.state(),
            "seed": self._seed,
            "deliveries": self._deliveries.state(),
            "ledgers": self._ledgers.state(),
            "features_ignored": dict(self.features_ignored),
        }
        return {
            INTAKE_STATE: intake,
            **{model.state_name: model.state() for model in self.models.values()},
            **{name: translator.state() for name, translator in self.translators.items()},
        }

    def restore(self, read: Callable[[str], Any]) -> None:
        """Take over the parts of a state that `read` gives by their names, None for those it lacks."""
        intake = read(INTAKE_STATE)
        if intake is not None:
            self._seed = intake["seed"]
            self._positions = intake["positions"]
            self._origins.restore(intake.get("origins", []))
            if "deliveries" in intake:
                self._deliveries.restore(intake["deliveries"])
            if "ledgers" in intake:
                self._ledgers.restore(intake["ledgers"])
            self.features_ignored.update(intake.get("features_ignored", {}))
            for name, stored in intake["sources"].items():
                counts = self._counts_of(name)
                counts.accepted, counts.late, counts.last_event = (
                    stored["accepted"], stored["late"], stored["last_event"]
                )  # fmt: skip
                counts.ledgers, counts.ledgers_rejected = stored.get("ledgers", 0), stored.get("ledgers_rejected", 0)
                counts.rejected.update(stored["rejected"])
        for model in self.models.values():
            model.seed = self._seed
            state = next((state for name in model.state_names if (state := read(name)) is not None), None)
            if state is not None:
                model.restore(state)
        self._decoder = self._make_decoder()
        for name, translator in self.translators.items():
            if (state := read(name)) is not None:
                translator.restore(state)
        self._changes += 1

    def _admit(self, decoded: Decoded, body: Body) -> None:
        """Refuse events of models that the sender may not write, and of more versions than a model may have."""
        if self._needs_room(decoded):
            self.flush()  # what is shown of the others must not depend on when they were counted
        for name in () if body.models is None else decoded.parts.keys() - body.models:
            for columns in decoded.parts.pop(name):
                decoded.refused += ((line, "forbidden_model") for line in columns.lines)
        for name, parts in decoded.parts.items():
            model = self.models[name]
            newest = newest_by_version(parts)
            overflow = model.admit(newest, body.arrived)
            for place, columns in enumerate(parts):
                if not overflow.isdisjoint(columns.versions):
                    fits = [version not in overflow for version in columns.versions]
                    decoded.refused += (
                        (line, "too_many_versions") for line, kept in zip(columns.lines, fits, strict=True) if not kept
                    )
                    parts[place] = columns.keep(fits, model.schema_of(columns))

    def _needs_room(self, decoded: Decoded) -> bool:
        """Whether a version of these events would take the place of another."""
        for name, parts in decoded.parts.items():
            model = self.models.get(name)
            if model is not None and any(model.need_room(columns.version_names) for columns in parts):
                return True
        return False

    def _counts_of(self, source: str) -> SourceCounts:
        """Return the counts of a source; those of one that is not configured any more are shown nowhere."""
        return self.sources.get(source) or SourceCounts()

    def _take(self, decoded: Decoded, body: Body) -> None:
        """Account for the decoded events of a body and gather them."""
        counts = self._counts_of(body.source)
        accepted = decoded.accepted
        self._origins.mark(decoded, body)
        self._arrived = body.arrived
        for name, parts in decoded.parts.items():
            horizon = body.arrived - self.models[name].horizon
            counts.late += sum(columns.older_than(horizon) for columns in parts)
            gathered = self._gathered.setdefault(name, [])
            for columns in parts:
                if not (gathered and gathered[-1].take_in(columns)):
                    gathered.append(columns)
        self._gathered_events += accepted
        for reason, count in decoded.refused.counts.items():
            counts.rejected[reason] += count
        if accepted:
            counts.accepted += accepted
            counts.last_event = body.arrived
            self._note_ignored(decoded.ignored, counts, body)
        if body.position is not None and is_key(body.position):
            self._deliveries.note(body.position, accepted, dict(decoded.refused.counts))
        elif body.position is not None:
            self._positions[body.source] = body.position
        self._changes += 1
        if self._gathered_events >= BATCH_EVENTS:
            self._filled.append(time.monotonic())
            self._count_some()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if accepted and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._time_is_up)

    def _note_ignored(self, ignored: Mapping[str, Ignored], counts: SourceCounts, body: Body) -> None:
        """Account for features that models do not know, and log them once in a while: they may be meant."""
        for model, found in ignored.items():
            self.features_ignored[model] += found.values
            names = counts.ignored.setdefault(model, [])
            names += [name for name in found.names if name not in names][: NAMED_IGNORED - len(names)]
            key = (body.source, f"features of {model}")
            if body.arrived - self._told_refusals.get(key, -math.inf) >= IGNORED_TOLD_SECONDS:
                self._told_refusals[key] = body.arrived
                said = ", ".join(map(repr, found.names))
                _log.info("%s: %s does not know these features, which are ignored: %s", body.source, model, said)

    def _count_some(self) -> None:
        """Count as many of what is gathered as takes a moment, and soon the others."""
        if self._frozen:
            return
        for name, parts in list(self._gathered.items()):
            some: list[Columns] = []
            while parts and (not some or sum(map(len, some)) + len(parts[0]) <= 2 * BATCH_EVENTS):
                some.append(parts.pop(0))
            if not parts:
                del self._gathered[name]
            if some:
                self._gathered_events -= sum(map(len, some))
                for columns in by_schema(some):
                    self.models[name].count(columns, self._arrived)
                break
        self._changes += 1
        if self._gathered_events >= BATCH_EVENTS:
            asyncio.get_running_loop().call_soon(self._count_some)

    async def settle(self) -> None:
        """Wait until what is left to be counted takes but a moment."""
        while self._gathered_events >= BATCH_EVENTS and not self._frozen:
            await asyncio.sleep(0)

    def _time_is_up(self) -> None:
        if self._gathered_events >= BATCH_EVENTS:  # some at a time, so that nobody waits
            self._count_some()
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._time_is_up)
        else:
            self._timer = None
            self.flush()

    def _take_translated(self, body: Body, translator: Translator) -> IntakeResult:
        """Account for a body in another format and gather its events."""
        translated = translator.translate(body.data, body.arrived)
        events = body._replace(data=b"\n".join(translated.lines), models=None, format=None)
        decoded = self._decoder.decode(events.data, events.arrived)
        self._admit(decoded, events)
        self.refuse(body.source, (reason for _, reason in translated.refused))
        self._take(decoded, events)
        told = [
            (number, reason, with_words(reason, translated.told.get(number, "")))
            for number, reason in translated.refused
        ]
        why = chain(explained(decoded.refused[:EXPLAINED_REFUSALS], events.data, self._decoder.classes), repeat(""))
        for (line, reason), words in zip(decoded.refused, why, strict=False):
            told.append((translated.origins[line - 1], reason, words or REASONS[reason]))
        told = sorted(told)[:NAMED_REFUSALS]
        refused = Counter(reason for _, reason in translated.refused) + Counter(decoded.refused.counts)
        return IntakeResult(
            decoded.accepted,
            refused.total(),
            [(number, reason) for number, reason, _ in told],
            refused,
            ignored=decoded.ignored,
            details=[words for _, _, words in told],
        )


def _refusals_of(body: Body, decoded: Decoded, format_: str = REFUSED) -> Body:
    """Return what is journalled of a body of which nothing was accepted: how many were refused, and why."""
    return body._replace(data=msgspec.json.encode(decoded.refused.counts), models=None, format=format_, origins=())


class _GoingOn:
    """The change after which a source goes on at another position, with all that waits by then."""

    def __init__(self, intake: Intake, source: str, position: bytes) -> None:
        self._intake = intake
        self._source = source
        self._position = position

    def state(self) -> dict[str, Any]:
        """Return all there is, with the position to be."""
        state = self._intake.state()
        intake = state[INTAKE_STATE]
        positions = intake["positions"] | {self._source: self._position}
        return state | {INTAKE_STATE: intake | {"positions": positions}}

    def apply(self) -> None:
        """Take the position for the source's own."""
        self._intake.stand(self._source, self._position)
