"""The running exporter: makes the parts from a configuration, serves them, and stops them in order."""

import asyncio
import gc
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlops_exporter import __version__
from mlops_exporter.compute.sampler import Compute
from mlops_exporter.counting.model import Model
from mlops_exporter.events import clock
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.ingest.intake import SourceCounts
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import Store, StoreError
from mlops_exporter.judging.status import HISTORY_SECONDS, Report, SourceState, source_state
from mlops_exporter.lifecycle.mirror import Mirror
from mlops_exporter.logs import Notice
from mlops_exporter.probing.prober import Prober
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.service.assembly import Assembly, Fixed, assemble
from mlops_exporter.service.configuration import profile_states
from mlops_exporter.service.registry import follow
from mlops_exporter.service.reload import Reloader
from mlops_exporter.service.thresholds import prepare
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.loading import Loading
from mlops_exporter.sources.pulling import Pulling
from mlops_exporter.web import config as web_config
from mlops_exporter.web.auth import Guard
from mlops_exporter.web.config import WebConfig
from mlops_exporter.web.protocol import Connections
from mlops_exporter.web.server import listen, serve
from mlops_exporter.web.tls import ReloadingContext
from mlops_exporter.web.watch import Watched

EXPIRE_SECONDS = 1.0
PROFILES_SECONDS = 20.0
REOPEN_SECONDS = 5.0
MANY_SCRAPES = 4
SHARED_SECONDS = 0.5
"""While events pour in, an exposition is shared for so long if there are so many scrapes within a second."""

_log = logging.getLogger(__name__)

Task = Callable[["Service"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides, rather than the configuration file. `notices` returns the last logged faults.

    `config_file` is read again at a reload; `lifecycle` lets HTTP ask for one, and `hung_up` whether SIGHUP has before
    the service ran.
    """

    listen: tuple[str, ...] = (":10042",)
    telemetry_path: str = "/metrics"
    collectors_off: frozenset[str] = frozenset()
    web_config: Path | None = None
    max_requests: int = 40
    max_connections: int = 512
    reserved_connections: int = 32
    notices: Callable[[], Sequence[Notice]] = tuple
    config_file: Path | None = None
    lifecycle: bool = False
    hung_up: Callable[[], bool] = bool


class Service:
    """One exporter. `tasks` run beside it until it stops. Raises ConfigError for a web configuration of no use."""

    def __init__(
        self, config: Config, profiles: Mapping[str, Profiles | Profile], options: Options, *tasks: Task
    ) -> None:
        self._options = options
        self._tasks = tasks
        self._started = clock.now()
        self.restoring = config.state is not None
        """Whether counts are not yet what they were: Prometheus would take such for a reset, and count them twice."""
        self.faults = Faults()
        self.journal: Journal | None = None
        self.loading = Loading(self._started, None, config.broken, len(config.models))
        self.compute = Compute(config.compute, drivers=() if "gpu" in options.collectors_off else None)
        self._reloader = Reloader(self)
        self.fixed = Fixed(
            self,
            options.telemetry_path,
            options.max_requests,
            options.collectors_off,
            self._reloader.reload if options.lifecycle else None,
            options.config_file,
        )
        self.assembly = assemble(self.fixed, config, profiles, self.compute.watch)
        self.intake = self.assembly.intake
        self.intake.closed = "starting"
        self.pulling = Pulling(self.intake)
        self._awaited = {name: it for name, it in self.assembly.pulling.items() if not it.health.up}
        web = _web_config(options.web_config)
        self.app = Guard(self.assembly.app, web, self.assembly.guarded)
        self._tls = None if web().tls_server_config is None else ReloadingContext(lambda: web().tls_server_config)
        self.known_profiles = self.profile_states()
        """The state of the profiles of versions that are in force, taken before anything slow: what comes while the
        exporter starts is new."""
        self._report: tuple[Hashable, Report] | None = None
        self._asked: deque[float] = deque(maxlen=MANY_SCRAPES)
        self._state_path = config.state.path if config.state is not None else None
        self._helpers: list[asyncio.Task[None]] = []
        self.unreloadable: str | None = "starting"
        """Why the configuration cannot be loaded anew now."""

    @property
    def models(self) -> list[Model]:
        """The models that are watched now."""
        return list(self.assembly.models.values())

    @property
    def registry(self) -> Registry:
        """What makes scrapes now."""
        return self.assembly.registry

    def put(self, assembly: Assembly) -> None:
        """Go on with another assembly, for which intake and compute are ready."""
        self.assembly = assembly
        self.app.renew(assembly.app, assembly.guarded)
        self._awaited = {name: it for name, it in self._awaited.items() if assembly.pulling.get(name) is it}

    @property
    def mirrors(self) -> dict[str, Mirror]:
        """Models that are followed in a registry."""
        return self.assembly.mirrors

    def generation(self) -> Hashable:
        """Whatever a scrape shows is as it was when this was the same: counts, and the second, as windows move on.

        While events pour in, each scrape would find other counts: then the many scrapes of a moment are shown the same.
        """
        now = clock.now()
        moment = int(now / SHARED_SECONDS)
        self._asked.append(now)
        many = len(self._asked) == MANY_SCRAPES and now - self._asked[0] < 1.0
        if many and self.intake.busy:
            return moment, self.loading
        return self.intake.generation, self.compute.generation, int(now), self.loading, self.restoring

    def ready(self) -> str | None:
        """Return None when events are taken, otherwise the reason why not."""
        if self.faults.current is not None:
            return str(self.faults.current)
        if self.intake.closed is not None:
            return self.intake.closed
        self.note_connected()
        waiting = [f"{name} ({source.health.error or 'connecting'})" for name, source in self._awaited.items()]
        return f"not connected yet: {', '.join(waiting)}" if waiting else None

    def note_connected(self) -> None:
        """Wait no longer for the sources that are up now, whatever becomes of them."""
        self._awaited = {name: source for name, source in self._awaited.items() if not source.health.up}

    def status(self) -> Report:
        """Return how everything is; made once for all who ask of one state."""
        generation = self.generation(), self.ready()
        if self._report is None or self._report[0] != generation:
            now = clock.now()
            report = Report(
                __version__,
                self._started,
                now,
                self.ready(),
                [state for observer in self.assembly.observers for state in observer.states(now)],
                [self._source(name, counts) for name, counts in self.intake.sources.items()],
                list(self._options.notices()),
                self.registry.budget.state,
                self.loading,
                bool(self.assembly.config.models),
                self.compute.state(),
            )
            self._report = generation, report
        return self._report[1]

    def _source(self, name: str, counts: SourceCounts) -> SourceState:
        http = self.assembly.http
        source = http if http is not None and http.name == name else self.assembly.pulling.get(name)
        return source_state(name, counts, source.health if source is not None else None)

    def profile_states(self) -> Hashable:
        """Return what changes when the profiles of versions come, change or go."""
        file = self._options.config_file
        return None if file is None else profile_states(self.assembly.config, file.parent)

    def reload_soon(self) -> None:
        """Load the configuration anew, as SIGHUP asks for."""
        self._reloader.hang_up()

    def observe(self, now: float) -> None:
        """Remember how the models are, for the curves of the landing page."""
        self.intake.flush()
        for observer in self.assembly.observers:
            observer.record(now)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ListenError when an address cannot be had, StoreError when locked."""
        store = self._open_store()
        sockets = listen(self._options.listen)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if self._options.config_file is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reloader.hang_up)
            if self._options.hung_up():
                self._reloader.hang_up()
        self.compute.start()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._start(group, store)), group.create_task(_expire(self))]
            scheme = "http" if self._tls is None else "https"
            _log.info("listening on %s (%s)", ", ".join(self._options.listen), scheme)
            connections = Connections(self._options.max_connections, self._options.reserved_connections, self._is_vital)
            await serve(self.app, sockets, stop, self._tls, connections)
            self.unreloadable = "stopping"
            await self._reloader.settle()
            await self.pulling.stop()
            self.intake.closed = "stopping"
            for task in tasks + self._helpers:
                task.cancel()
            if self.journal is not None:
                self.journal.stop()
        self.compute.stop()
        self.intake.flush()
        _log.info("stopped")

    def _is_vital(self, path: str) -> bool:
        """Whether what watches the exporter asks for a path."""
        return path.startswith("/-/") or path == self._options.telemetry_path

    async def _start(self, group: asyncio.TaskGroup, store: Store | None) -> None:
        """Make what models are compared by, restore the state, then take events."""
        await self._prepare()
        if self._state_path is not None:
            while store is None:
                await asyncio.sleep(REOPEN_SECONDS)
                store = self._open_store()
            try:
                await self._restore(store)
            except StoreError as error:
                self.faults.note(error, "events are refused until the state is put right and the exporter restarted")
                self.intake.closed = self.unreloadable = f"state: {error}"
                store.close()
                return
            self.journal = Journal(store, self.intake, self.faults)
            self.intake.keep_in(self.journal)
            group.create_task(self.journal.run())
        for model in self.models:
            model.expect()
        self.restoring = False
        self.intake.closed = None
        self.unreloadable = None
        self.pulling.start(self.assembly.pulling.values())
        self._helpers += [
            group.create_task(task(self)) for task in (_observe, _probe, _watch_profiles, _follow, *self._tasks)
        ]
        self._helpers.append(group.create_task(self._reloader.run()))

    async def _prepare(self) -> None:
        """Make what models are compared by, and tell how far that is."""
        comparisons, reason = self.assembly.comparisons, self.intake.closed
        comparisons.starting = True
        for number, model in enumerate(self.models):
            self.intake.closed = self.unreloadable = f"starting, {number} of {len(self.models)} models"
            for reference in model.references:
                await asyncio.to_thread(prepare, comparisons, reference, self._state_path)
            self.loading = replace(self.loading, ready=number + 1)
        comparisons.starting = False
        self.intake.closed = self.unreloadable = reason

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
            self.intake.closed = self.unreloadable = f"state: {error}"
            return None

    async def _restore(self, store: Store) -> None:
        """Bring the counts to where they were, letting others run meanwhile."""
        started = time.monotonic()
        self.intake.closed = self.unreloadable = "restoring state"
        await asyncio.to_thread(store.verify)
        for part in sorted(store.parts() - self.intake.state().keys()):
            _log.info("the state keeps %s, which is not in use, for when it is configured again", part)
        replayed = 0
        try:
            self.intake.restore(store.read)
            for body in store.journal():
                self.intake.replay(body)
                replayed += 1
                await asyncio.sleep(0)
            self.intake.flush()
        except (StoreError, asyncio.CancelledError):
            raise
        except Exception as error:  # whatever it is, the state means something else than this version reads in it
            raise store.corrupt(error) from error
        self.faults.note_damaged(store.damaged, replayed)
        await asyncio.to_thread(store.begin)
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
        service.intake.expire(clock.now())
        service.note_connected()
        if service.assembly.http is not None:
            await service.assembly.http.expire(clock.now())


async def _observe(service: Service) -> None:
    while True:
        service.observe(clock.now())
        await asyncio.sleep(HISTORY_SECONDS)


async def _watch_profiles(service: Service) -> None:
    """Take up the profiles of versions that have come, changed or gone."""
    known = service.known_profiles
    while True:
        await asyncio.sleep(PROFILES_SECONDS)
        found = await asyncio.to_thread(service.profile_states)
        if found != known:
            _log.info("the profiles of versions have changed")
            service.reload_soon()
        known = found


async def _follow(service: Service) -> None:
    await follow(service, service.reload_soon)


async def _probe(service: Service) -> None:
    """Run the probers of the assembly in force, whichever that is."""
    running: dict[Prober, asyncio.Task[None]] = {}
    try:
        while True:
            wanted = set(service.assembly.probers.values())
            for prober in running.keys() - wanted:
                running.pop(prober).cancel()
            for prober in wanted - running.keys():
                running[prober] = asyncio.create_task(prober.run())
            await asyncio.sleep(EXPIRE_SECONDS)
            for prober, task in running.items():
                if task.done() and (fault := task.exception()) is not None:
                    _log.error("probe %s ended and is started again", prober.settings.name, exc_info=fault)
            running = {prober: task for prober, task in running.items() if not task.done()}
    finally:
        for task in running.values():
            task.cancel()


def collect_garbage_rarely() -> None:
    """Look for cyclic garbage a fiftieth as often as Python does: events make objects by the million, but no cycles."""
    gc.set_threshold(35_000)


def run(config: Config, profiles: Mapping[str, Profiles | Profile], options: Options, *tasks: Task) -> None:
    """Run an exporter until it is stopped."""
    collect_garbage_rarely()
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(Service(config, profiles, options, *tasks).run())
    else:
        uvloop.run(Service(config, profiles, options, *tasks).run())
