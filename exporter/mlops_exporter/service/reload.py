"""Loads the configuration anew while the exporter runs: all of it or nothing.

The next assembly is made beside the one in force, in a thread. Only once it is whole, and a checkpoint of what it goes
on from is durable, it takes the place of the former in one step of the event loop. So a scrape sees the one or the
other, and after a crash the journal is replayed against the configuration by which its checkpoint was written.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mlops_exporter.compute.sampler import LASTING, Compute
from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Journal
from mlops_exporter.ingest.store import StoreError
from mlops_exporter.logs import redacted
from mlops_exporter.service.assembly import Assembly, Fixed, assemble, renew_kserve
from mlops_exporter.service.configuration import read
from mlops_exporter.service.thresholds import prepare
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError, Document, Location
from mlops_exporter.settings.loading import Loading
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.sources.base import UnavailableError
from mlops_exporter.sources.pulling import Pulling
from mlops_exporter.web.app import ReloadError

_log = logging.getLogger(__name__)


class Running(Protocol):
    """The exporter that is to be changed."""

    fixed: Fixed
    assembly: Assembly
    intake: Intake
    compute: Compute
    pulling: Pulling
    loading: Loading

    @property
    def journal(self) -> Journal | None: ...  # noqa: D102
    @property
    def unreloadable(self) -> str | None:
        """Why the configuration cannot be loaded anew now, None when it can."""
        ...

    def put(self, assembly: Assembly) -> None:
        """Go on with an assembly."""
        ...


@dataclass(frozen=True, slots=True)
class Difference:
    """What becomes of models and sources. Pairs are (former, next)."""

    added: list[Model] = field(default_factory=list)
    removed: list[Model] = field(default_factory=list)
    continued: list[tuple[Model, Model]] = field(default_factory=list)
    begun: list[tuple[Model, Model]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    """Models that go on where they were when they last were there."""
    other_kind: list[str] = field(default_factory=list)
    """Sources of another kind under a known name, to which its position says nothing."""
    lost: dict[str, int] = field(default_factory=dict)
    """Predictions waiting for their label for which a model that goes on has no place any more."""


def compare(former: Assembly, following: Assembly) -> Difference:
    """Return what differs.

    A model with another task is another model, which begins anew, or where it was when it last was there. Any other
    goes on, version by version.
    """
    difference = Difference()
    for name, model in following.models.items():
        known = former.models.get(name)
        if known is None:
            difference.added.append(model)
        elif known is not model:
            pairs = difference.continued if known.settings.task == model.settings.task else difference.begun
            pairs.append((known, model))
    difference.removed.extend(model for name, model in former.models.items() if name not in following.models)
    difference.stopped.extend(
        name for name, source in former.pulling.items() if following.pulling.get(name) is not source
    )
    difference.started.extend(
        name for name, source in following.pulling.items() if former.pulling.get(name) is not source
    )
    kinds = {source.name: _kind(source) for source in former.config.sources}
    difference.other_kind.extend(
        source.name for source in following.config.sources if kinds.get(source.name, _kind(source)) != _kind(source)
    )
    return difference


def _kind(source: SourceSettings) -> str:
    return next(kind for kind in SourceSettings.model_fields if kind != "name" and getattr(source, kind) is not None)


def give_back_memory() -> None:
    """Free what a former assembly held, and return it to the system.

    It is a few objects in a cycle with megabytes of arrays: too few for the garbage collector to come soon, and their
    place is among other things, where glibc keeps it unless told.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


class Replacement:
    """Puts an assembly in the place of the one in force, in two steps between which the counts are frozen.

    What leaves is part of the state, too: it stays there for when it comes back.
    """

    def __init__(self, running: Running, following: Assembly, difference: Difference, now: Callable[[], float]) -> None:
        self._running = running
        self._following = following
        self._difference = difference
        self._now = now

    def state(self) -> dict[str, Any]:
        """Let the next assembly take over what it goes on from, and return its state."""
        for former, model in self._difference.continued:
            waiting = former.waiting
            model.take_over(former)
            self._difference.lost[model.name] = waiting - model.waiting
        self._running.intake.prepare(self._following.intake, self._difference.other_kind)
        left = [*self._difference.removed, *(former for former, _ in self._difference.begun)]
        return {model.state_name: model.state() for model in left} | self._following.intake.state()

    def apply(self) -> None:
        """Go on with it."""
        for model in self._following.models.values():
            model.expect()
        self._running.intake.become(self._following.intake)
        self._running.compute.become(self._following.watch)
        renew_kserve(self._following)
        self._running.put(self._following)
        count = len(self._following.models)
        self._running.loading = Loading(self._now(), None, self._following.config.broken, count, count)


class Reloader:
    """Reloads, one at a time. `hang_up` is what SIGHUP calls."""

    def __init__(self, running: Running, now: Callable[[], float] = time.time) -> None:
        self._running = running
        self._now = now
        self._turn = asyncio.Lock()
        self._hung_up = asyncio.Event()

    def hang_up(self) -> None:
        """Ask for a reload, as soon as there can be one; asked again before it begins, it is the same one."""
        if self._running.unreloadable is not None:
            _log.info("SIGHUP is heeded later, being now: %s", self._running.unreloadable)
        self._hung_up.set()

    async def run(self) -> None:
        """Reload whenever asked to by `hang_up`, until cancelled; to be begun once it can be done."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            with contextlib.suppress(ReloadError, UnavailableError):  # it is logged
                await self.reload()

    async def reload(self) -> None:
        """Load the configuration anew. Raises ReloadError, with everything as before, UnavailableError at the start.

        Goes on to its end when whoever asked is gone.
        """
        if self._running.unreloadable is not None:
            raise UnavailableError(f"not reloaded: {self._running.unreloadable}")
        error = await asyncio.shield(asyncio.create_task(self._in_turn()))
        if error is not None:
            raise ReloadError(error)

    async def settle(self) -> None:
        """Wait for the reload that is going on."""
        async with self._turn:
            pass

    async def _in_turn(self) -> str | None:
        """Reload when those before have; return why it failed."""
        async with self._turn:
            if self._running.unreloadable is not None:
                return self._running.unreloadable
            try:
                await self._reload()
            except (ConfigError, StoreError) as error:
                message = redacted(str(error))
                _log.error("not reloaded, the former configuration stays in force: %s", message)
            except Exception as error:
                message = redacted(f"internal error: {type(error).__name__}: {error}")
                _log.exception("not reloaded, the former configuration stays in force")
            else:
                give_back_memory()
                return None
            self._running.loading = replace(self._running.loading, error=message)
            return message

    async def _reload(self) -> None:
        running = self._running
        file = running.fixed.config_file
        if file is None:
            raise ConfigError(["there is no configuration file: start with --config.file"])
        following = await asyncio.to_thread(_make, running, file)
        difference = compare(running.assembly, following)
        former = running.assembly
        if running.journal is not None:
            for model in (*difference.added, *(model for _, model in difference.begun)):
                if (state := await running.journal.read(model.state_name)) is not None:
                    await asyncio.to_thread(model.restore, state)
                    difference.back.append(model.name)
        await running.pulling.stop(difference.stopped)
        replacement = Replacement(running, following, difference, self._now)
        try:
            if running.journal is not None:
                await running.journal.change(replacement)
            else:
                running.intake.freeze()
                try:
                    replacement.state()
                    replacement.apply()
                finally:
                    running.intake.thaw()
        except Exception:
            running.pulling.start(former.pulling[name] for name in difference.stopped)
            raise
        running.pulling.start(following.pulling[name] for name in difference.started)
        done = describe(difference, running.journal is not None)
        _log.info("the configuration was loaded anew: %s", "; ".join(done) or "models and sources stay as they are")


def _make(running: Running, file: Path) -> Assembly:
    """Read the configuration and make what follows from it; raises ConfigError. Runs beside the event loop."""
    config, profiles = read(file)
    former = running.assembly
    if faults := list(unchangeable(former.config, config)):
        document = Document.read(file, example="the key models")
        raise ConfigError([document.fault(location, fault) for location, fault in faults])
    watch = running.compute.prepare(config.compute)
    following = assemble(running.fixed, config, profiles, watch, former, running.intake)
    for model in following.models.values():
        for reference in model.references:
            prepare(following.comparisons, reference, config.state.path if config.state else None)
    return following


def unchangeable(former: Config, following: Config) -> Iterator[tuple[Location, str]]:
    """Yield place and fault where a setting differs with which the process has started."""
    before, after = (None if config.state is None else str(config.state.path) for config in (former, following))
    if before != after:
        place = ("state", "path") if after is not None else ("state",)
        yield place, f"was {before or 'absent'} and is {after or 'absent'} now: that needs a restart"
    for key in LASTING:
        before, after = str(getattr(former.compute, key)), str(getattr(following.compute, key))
        if before != after:
            yield ("compute", key), f"was {before} and is {after} now: that needs a restart"


def describe(difference: Difference, kept: bool) -> Iterator[str]:
    """Yield what a reload has done, one by one. `kept` tells whether there is a state in which stays what leaves."""
    fate = "stay in the state for when it comes back" if kept else "are dropped"
    for model in difference.removed:
        yield f"model {model.name} is removed, and {model.waiting} predictions that waited for their label {fate}"
    for former, model in difference.begun:
        begins = "again" if model.name in difference.back else "anew"
        yield (
            f"model {model.name} begins {begins}, and {former.waiting} predictions that waited for their label "
            f"{fate}: its task was {former.settings.task}, and is {model.settings.task} now"
        )
    for _, model in difference.continued:
        lost = difference.lost.get(model.name, 0)
        without = f", without {lost} predictions that waited for their label" if lost > 0 else ""
        yield f"model {model.name} goes on with other settings{without}"
    for model in difference.added:
        yield f"model {model.name} is {'back' if model.name in difference.back else 'added'}"
    restarted = set(difference.stopped) & set(difference.started)
    for name in sorted({*difference.stopped, *difference.started}):
        done = "restarted" if name in restarted else "stopped" if name in difference.stopped else "started"
        yield f"source {name} is {done}"
