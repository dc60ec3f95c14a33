"""The running exporter: makes the parts from a configuration, serves them, and stops them in order."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter import __version__
from exporter.budget import Budget
from exporter.collectors import (
    CloudEventCollector,
    DataCollector,
    IntakeCollector,
    StateCollector,
)
from exporter.compute.sampler import Compute
from exporter.config import Config
from exporter.intake import Intake, SourceCounts
from exporter.journal import Faults, Journal
from exporter.logs import Notice
from exporter.model import Model
from exporter.model_collectors import model_collectors
from exporter.profile.profile import Profile
from exporter.registry import Registry
from exporter.samples import Collector
from exporter.sources.http import HttpSource
from exporter.sources.kserve import KServe
from exporter.sources.pulling import make, supervise
from exporter.state import HISTORY_SECONDS, Observer, Report, SourceState, source_state
from exporter.store import Store, StoreError
from exporter.web import config as web_config
from exporter.web.app import App
from exporter.web.auth import Guard
from exporter.web.config import WebConfig
from exporter.web.server import listen, serve
from exporter.web.tls import ReloadingContext
from exporter.web.tokens import Tokens
from exporter.web.watch import Watched

EXPIRE_SECONDS = 1.0
REOPEN_SECONDS = 5.0
SHARED_SECONDS = 0.25
"""How long scrapes share an exposition while events pour in."""

_log = logging.getLogger(__name__)

Task = Callable[["Service"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides, rather than the configuration file. `notices` returns the last logged faults."""

    listen: tuple[str, ...] = (":10042",)
    telemetry_path: str = "/metrics"
    collectors_off: frozenset[str] = frozenset()
    web_config: Path | None = None
    max_requests: int = 40
    notices: Callable[[], Sequence[Notice]] = tuple


class Service:
    """One exporter. `tasks` run beside it until it stops. Raises ConfigError for a web configuration of no use."""

    def __init__(self, config: Config, profiles: dict[str, Profile], options: Options, *tasks: Task) -> None:
        self._options = options
        self._tasks = tasks
        self._started = time.time()
        limits = config.limits
        self.models = [Model(settings, profiles[settings.name], limits) for settings in config.models]
        self.faults = Faults()
        self.intake = Intake(self.models, [source.name for source in config.sources], limits)
        data = DataCollector(self.models)
        self._observers = [Observer(model, data.comparisons[model.name]) for model in self.models]
        self.compute = Compute(config.compute, drivers=() if "gpu" in options.collectors_off else None)
        self.http = next(
            (
                HttpSource(source.name, self.intake, KServe(source.http.kserve, profiles))
                for source in config.sources
                if source.http is not None
            ),
            None,
        )
        made = [make(source) for source in config.sources]
        self.pulling = {source.name: source for source in made if source is not None}
        self._awaited = dict(self.pulling)
        collectors: list[Collector] = [
            *model_collectors(self.models, data),
            IntakeCollector(self.intake, self.pulling, self._started),
            *([CloudEventCollector(self.http.name, self.http.kserve)] if self.http is not None else []),
            StateCollector(self.faults, lambda: self.journal),
            *self.compute.collectors,
        ]
        self.registry = Registry(
            [collector for collector in collectors if collector.name not in options.collectors_off],
            self._generation,
            budget=Budget(limits.series),
        )
        tokens = next((source.http.tokens for source in config.sources if source.http is not None), [])
        app = App(
            self.registry,
            self.http,
            self,
            telemetry_path=options.telemetry_path,
            body_limit=limits.body_bytes,
            tokens=Tokens(tokens) if tokens else None,
            max_requests=options.max_requests,
        )
        web = _web_config(options.web_config)
        self.app = Guard(app, web, {"/v1/events"} if tokens else ())
        self._tls = None if web().tls_server_config is None else ReloadingContext(lambda: web().tls_server_config)
        self._report: tuple[Hashable, Report] | None = None
        self._moment = -1
        self._seen: Hashable = None
        self._state_path = config.state.path if config.state is not None else None
        self._helpers: list[asyncio.Task[None]] = []
        self._pullers: list[asyncio.Task[None]] = []
        self.journal: Journal | None = None
        self.intake.closed = "starting"

    def _generation(self) -> Hashable:
        """Whatever a scrape shows is as it was when this was the same: counts, and the second, as windows move on.

        While events pour in, each scrape would find other counts: then all scrapes of a moment are shown the same.
        """
        now = time.time()
        moment = int(now / SHARED_SECONDS)
        if not self.intake.busy or moment != self._moment:
            self._moment = moment
            self._seen = self.intake.generation, self.compute.generation, int(now)
        return self._seen

    def ready(self) -> str | None:
        """Return None when events are taken, otherwise the reason why not."""
        if self.faults.current is not None:
            return str(self.faults.current)
        if self.intake.closed is not None:
            return self.intake.closed
        for name in [name for name, source in self._awaited.items() if source.health.up]:
            del self._awaited[name]
        waiting = [f"{name} ({source.health.error or 'connecting'})" for name, source in self._awaited.items()]
        return f"not connected yet: {', '.join(waiting)}" if waiting else None

    def status(self) -> Report:
        """Return how everything is; made once for all who ask of one state."""
        generation = self._generation(), self.ready()
        if self._report is None or self._report[0] != generation:
            now = time.time()
            report = Report(
                __version__,
                self._started,
                now,
                self.ready(),
                [state for observer in self._observers for state in observer.states(now)],
                [self._source(name, counts) for name, counts in self.intake.sources.items()],
                list(self._options.notices()),
                self.registry.budget.state,
            )
            self._report = generation, report
        return self._report[1]

    def _source(self, name: str, counts: SourceCounts) -> SourceState:
        return source_state(name, counts, self.pulling[name].health if name in self.pulling else None)

    def observe(self, now: float) -> None:
        """Remember how the models are, for the curves of the landing page."""
        self.intake.flush()
        for observer in self._observers:
            observer.record(now)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ListenError when an address cannot be had, StoreError when locked."""
        store = self._open_store()
        sockets = listen(self._options.listen)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self.compute.start()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._start(group, store)), group.create_task(_expire(self))]
            scheme = "http" if self._tls is None else "https"
            _log.info("listening on %s (%s)", ", ".join(self._options.listen), scheme)
            await serve(self.app, sockets, stop, self._tls)
            await self._stop_pulling()
            self.intake.closed = "stopping"
            for task in tasks + self._helpers:
                task.cancel()
            if self.journal is not None:
                self.journal.stop()
        self.compute.stop()
        self.intake.flush()
        _log.info("stopped")

    async def _start(self, group: asyncio.TaskGroup, store: Store | None) -> None:
        """Restore the state, trying again while it cannot be opened, then take events."""
        if self._state_path is not None:
            while store is None:
                await asyncio.sleep(REOPEN_SECONDS)
                store = self._open_store()
            await self._restore(store)
            self.journal = Journal(store, self.intake, self.faults)
            self.intake.keep_in(self.journal)
            group.create_task(self.journal.run())
        for model in self.models:
            model.expect()
        self.intake.closed = None
        self._helpers += [group.create_task(task(self)) for task in (_observe, *self._tasks)]
        self._pullers = [group.create_task(supervise(source, self.intake)) for source in self.pulling.values()]

    async def _stop_pulling(self) -> None:
        """Stop the sources while the intake still takes the body that each has at hand."""
        for puller in self._pullers:
            puller.cancel()
        if self._pullers:
            await asyncio.wait(self._pullers)

    def _open_store(self) -> Store | None:
        """Open the store if there is one; what is wrong with it shows, and may pass, unless another process has it."""
        if self._state_path is None:
            return None
        try:
            return Store(self._state_path)
        except StoreError as error:
            if error.fault == "locked":
                raise
            self.faults.note(error, "events are refused until the state can be opened")
            self.intake.closed = f"state: {error}"
            return None

    async def _restore(self, store: Store) -> None:
        """Bring the counts to where they were, letting others run meanwhile."""
        started = time.monotonic()
        self.intake.closed = "restoring state"
        self.intake.restore(store.read)
        replayed = 0
        for entry in store.journal():
            self.intake.replay(entry)
            replayed += 1
            await asyncio.sleep(0)
        self.intake.flush()
        _log.info("restored in %.1f s, %d bodies from the journal", time.monotonic() - started, replayed)


def _web_config(path: Path | None) -> Callable[[], WebConfig]:
    """Return what gives the web configuration of the moment."""
    if path is not None:
        return Watched(path, web_config.read)
    open_to_all = WebConfig()
    return lambda: open_to_all


async def _expire(service: Service) -> None:
    while True:
        await asyncio.sleep(EXPIRE_SECONDS)
        service.intake.expire(time.time())
        if service.http is not None:
            await service.http.expire(time.time())


async def _observe(service: Service) -> None:
    while True:
        service.observe(time.time())
        await asyncio.sleep(HISTORY_SECONDS)


def run(config: Config, profiles: dict[str, Profile], options: Options, *tasks: Task) -> None:
    """Run an exporter until it is stopped."""
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(Service(config, profiles, options, *tasks).run())
    else:
        uvloop.run(Service(config, profiles, options, *tasks).run())
