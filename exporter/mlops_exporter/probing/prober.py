"""One probe: sends its rows at its pace, one request at a time, and keeps what the last pass found."""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple, get_args

import numpy as np

from mlops_exporter.counting import buckets
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.probing.protocols import ProtocolError, Reply, reply, request
from mlops_exporter.probing.rows import Block, Rows, RowsError, gather
from mlops_exporter.probing.verdict import Performance, changed, performance, said
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles, as_profiles
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import ProbeSettings
from mlops_exporter.settings.tables import QuerySettings
from mlops_exporter.sources.calls import LARGEST_ANSWER, CallError, call, in_thread

FAILURES = ("connection", "timeout", "http_status", "answer", "credentials", "rows")
Failure = Literal["connection", "timeout", "http_status", "answer", "credentials", "rows"]
"""Why a request, or a pass before its first one, failed."""

UNKNOWN_VERSION = "unknown"
HEADER = "X-Mlops-Exporter-Probe"
"""Header of every request of a probe, so that servers and logs can tell it from users."""

LONGEST_START_SECONDS = 30.0
JITTER = 0.1
_MISFIT_STATUS = (400, 422, 500)
"""Answers of servers to rows without a column that their model needs, or with one too many."""
_REMEMBERED_VERSIONS = 16
_ANSWER_BYTES, _ROW_BYTES = 1 << 20, 1 << 16
"""How large an answer may be, and how much more for each row of the request."""

Stamp = tuple[float, int]

Read = Callable[[str | QuerySettings], tuple[Iterable[Block], bool]]
"""Reads the rows: their blocks, and whether cells have types."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one pass found of a version that answered `rows` of its rows. `changed` is None with nothing to compare."""

    version: str
    rows: int
    performance: dict[str, Performance]
    changed: float | None


@dataclass(slots=True)
class Latency:
    """Seconds of requests in the buckets of `buckets.LATENCY`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(buckets.LATENCY) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one request."""
        self.counts[bisect_left(buckets.LATENCY, seconds)] += 1
        self.sum += seconds


class _Read(NamedTuple):
    """A table as it was read: what changes with it, its columns, and its rows as they were sent."""

    stamp: Stamp | None
    columns: tuple[str, ...]
    rows: Rows


@dataclass(slots=True)
class Course:
    """How a probe went so far: what outlasts a release, so that no counter goes back."""

    requests: int = 0
    passes: int = 0
    failed_in_a_row: int = 0
    last_run: float | None = None
    last_success: float | None = None
    error: str | None = None
    failures: dict[Failure, int] = field(default_factory=lambda: dict.fromkeys(get_args(Failure), 0))
    latency: Latency = field(default_factory=Latency)
    served: str | None = None
    """The version that answered last."""
    misfits: int = 0
    """Passes that failed since then: the endpoint may serve a version that has other features."""
    read: _Read | None = None
    first: dict[str, tuple[Rows, Outputs]] = field(default_factory=dict)
    """What each version said when it was first asked, of which rows."""


class _FailedError(Exception):
    """A request or the rows failed; the message says why."""

    def __init__(self, failure: Failure, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.may_misfit = failure == "answer" or status in _MISFIT_STATUS
        """Whether the rows may have been those of another version."""


class Prober:
    """Runs one probe of a model. What it shows of itself is of its last pass, and absent when that failed.

    A pass stops after `stop_after` failed requests in a row, and after the first one when the last pass failed, too.
    Versions may have other features: rows are sent as the version that answered last has them; after a failed pass as
    the next one has them of which the table has all features. `former` is a prober of the same probe that this goes on
    from.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        model: ModelSettings,
        profiles: Profiles | Profile,
        read: Read,
        *,
        former: "Prober | None" = None,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.profiles = as_profiles(profiles)
        self.course: Course = Course() if former is None else former.course
        self.results: tuple[ProbeResult, ...] = () if former is None else former.results
        self._read = read
        self._now = now
        self._random = random or Random()  # nosec B311: chooses rows and pauses
        self._profile = self.profiles.newest
        """By which the rows of the pass at hand are sent and read."""

    def profile_of(self, version: str) -> Profile:
        """Return the profile by which a version is judged; one that nobody knows, by that by which it was asked."""
        return self.profiles.of(version) or self._profile

    def _candidates(self) -> list[Profile]:
        """Return the profiles by which rows may be sent, the likeliest first: one for each set of features."""
        pinned = self.settings.pinned
        named = (self.course.served, self.settings.version, pinned.version if pinned else None)
        known = [profile for name in named if name and (profile := self.profiles.by_version.get(name))]
        found: dict[tuple[str, ...], Profile] = {}
        for profile in [*known, *self.profiles]:
            found.setdefault(tuple(profile.features), profile)
        return list(found.values())

    def _choose(self, columns: Collection[str]) -> Profile:
        """Return the profile by which the rows of a table with these columns are sent."""
        candidates = self._candidates()
        fitting = [profile for profile in candidates if profile.features.keys() <= set(columns)]
        return fitting[self.course.misfits % len(fitting)] if fitting else candidates[0]

    async def run(self) -> None:
        """Probe until cancelled: every now and then, never exactly on time, so that probes spread."""
        every = self.settings.every
        await asyncio.sleep(self._random.uniform(0, min(every, LONGEST_START_SECONDS)))
        while True:
            began = time.monotonic()
            await self.probe()
            pause = every * self._random.uniform(1 - JITTER, 1 + JITTER)
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))

    async def probe(self) -> None:
        """Make one pass."""
        course = self.course
        course.last_run = self._now()
        try:
            rows = await in_thread(self._load)
            answered = await self._pass(rows)
        except _FailedError as error:
            self.results = ()
            course.failed_in_a_row += 1
            course.misfits += error.may_misfit
            if str(error) != course.error:
                _log.warning("probe %s fails: %s", self.settings.name, error)
            course.error = str(error)
            return
        if course.error is not None:
            _log.info("probe %s works again", self.settings.name)
        self.results = await in_thread(lambda: tuple(self._judged(rows, answered)))
        course.error = None
        course.failed_in_a_row = 0
        if self.profiles.by_version.get(answered[0][0]) is self._profile:
            course.served, course.misfits = answered[0][0], 0
        course.passes += 1
        course.last_success = self._now()

    def _load(self) -> Rows:
        """Return the rows; a golden set is read again when its file changes, a sample each time."""
        place = self.settings.place
        try:
            stamp = _stamp(self.settings.rows)
            known = self.course.read if self.settings.sample is None else None
            if known is not None and stamp is not None and known.stamp == stamp:
                self._profile = self._choose(known.columns)
                if tuple(self._profile.features) == tuple(known.rows.features):
                    return known.rows
            found, typed = self._read(self.settings.rows)
            blocks = iter(found)
            first = next(blocks, {})
            self._profile = self._choose(first)
            rows = gather(chain([first] if first else [], blocks), typed, self.settings, self._profile, self._random)
        except Exception as error:  # whatever is wrong with a table
            self.course.failures["rows"] += 1
            raise _FailedError("rows", f"{error}" if isinstance(error, RowsError) else f"{place}: {error}") from error
        if known is not None and rows.same_as(known.rows):
            rows = known.rows
        self.course.read = _Read(stamp, tuple(first), rows)
        return rows

    async def _pass(self, rows: Rows) -> list[tuple[str, slice, Outputs]]:
        """Ask of all rows, and return which version said what of which. Raises _FailedError."""
        settings = self.settings
        pause = 1.0 / settings.requests_per_second
        patience = 1 if self.course.failed_in_a_row else settings.stop_after
        answered: list[tuple[str, slice, Outputs]] = []
        failure: _FailedError | None = None
        misses = 0
        for number, where in enumerate(rows.batches(settings.batch)):
            if number:
                await asyncio.sleep(pause)
            try:
                answered.append(await in_thread(lambda where=where: self._ask(rows, where)))  # type: ignore[misc]
                misses = 0
            except _FailedError as error:
                self.course.failures[error.failure] += 1
                failure = error
                misses += 1
                if misses >= patience:
                    break
        if failure is not None:
            raise failure
        if all(np.isnan(outputs.prediction).all() and np.isnan(outputs.scores).all() for _, _, outputs in answered):
            self.course.failures["answer"] += 1
            raise _FailedError("answer", f"{settings.endpoint.url}: no output has a value, of any row")
        return answered

    def _ask(self, rows: Rows, where: slice) -> tuple[str, slice, Outputs]:
        """Send one batch and read its answer."""
        settings = self.settings
        endpoint = settings.endpoint
        body = request(endpoint, self._profile, rows.batch(where))
        headers = {"Content-Type": "application/json", HEADER: settings.name}
        self.course.requests += 1
        began = time.perf_counter()
        try:
            answer = call(
                "POST",
                endpoint.url,
                endpoint,
                body=body,
                headers=headers,
                timeout=settings.timeout,
                largest=min(LARGEST_ANSWER, _ANSWER_BYTES + _ROW_BYTES * (where.stop - where.start)),
            )
            self.course.latency.observe(time.perf_counter() - began)
            found: Reply = reply(endpoint, answer.body, answer.headers, where.stop - where.start)
            outputs = said(found.outputs, settings.outputs, self._profile)
        except CallError as error:
            raise _FailedError(error.fault, str(error), error.status) from None
        except ProtocolError as error:
            raise _FailedError("answer", f"{endpoint.url}: {error}") from None
        return found.version or settings.version or UNKNOWN_VERSION, where, outputs

    def _judged(self, rows: Rows, answered: list[tuple[str, slice, Outputs]]) -> Iterable[ProbeResult]:
        """Yield the verdict on each version that answered: behind a canary there are two."""
        for version in dict.fromkeys(version for version, _, _ in answered):
            mine = [(where, outputs) for name, where, outputs in answered if name == version]
            places = np.concatenate([np.arange(where.start, where.stop) for where, _ in mine])
            outputs = Outputs(*(np.concatenate(parts) for parts in zip(*(said for _, said in mine), strict=True)))
            found = performance(outputs, rows.labels[places], self._profile, self.model)
            yield ProbeResult(version, len(places), found, self._changed(version, rows, places, outputs))

    def _changed(
        self, version: str, rows: Rows, places: "np.ndarray[tuple[int], np.dtype[np.intp]]", outputs: Outputs
    ) -> float | None:
        """Return the share of outputs that are not the pinned ones, or those that the version gave at first."""
        pinned = rows.pinned if self._is_pinned(version) else None
        if pinned is None:
            answers = self.course.first
            first = answers.get(version)
            if first is None or first[0] is not rows:
                if len(places) == len(rows) and self.settings.sample is None:
                    if len(answers) >= _REMEMBERED_VERSIONS:
                        del answers[next(iter(answers))]
                    answers[version] = rows, outputs
                return None
            pinned = first[1]
        return changed(outputs, pinned.rows(places), self.model, self.settings.tolerance)

    def _is_pinned(self, version: str) -> bool:
        pinned = self.settings.pinned
        return pinned is not None and pinned.version in (None, version)

    def origin(self, version: str) -> Literal["rows", "first_answer", "none"]:
        """Return where the outputs come from with which those of a version are compared."""
        if self._is_pinned(version):
            return "rows"
        return "first_answer" if version in self.course.first else "none"


def _stamp(rows: str | QuerySettings) -> Stamp | None:
    """Return what changes when a local file does; None where only reading tells."""
    path = Path(rows) if isinstance(rows, str) else None
    if path is None or not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime, status.st_size
