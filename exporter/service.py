"""The running exporter: makes the parts from a configuration, serves them, and stops them in order."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any

from exporter import __version__
from exporter.collectors import (
    CloudEventCollector,
    DataCollector,
    IntakeCollector,
    ModelCollector,
    StateCollector,
    benchmark_bounds,
)
from exporter.compute.sampler import Compute
from exporter.config import Config
from exporter.intake import Intake
from exporter.journal import Faults, Journal
from exporter.model import Model
from exporter.profile.profile import Profile
from exporter.registry import Registry
from exporter.samples import Collector
from exporter.sources.base import Health
from exporter.sources.http import HttpSource
from exporter.sources.kserve import KServe
from exporter.sources.pulling import make, supervise
from exporter.store import Store, StoreError
from exporter.web.app import App
from exporter.web.server import listen, serve

EXPIRE_SECONDS = 1.0
KSERVE_STATE = "kserve"
REOPEN_SECONDS = 5.0

_log = logging.getLogger(__name__)

Task = Callable[["Service"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides, rather than the configuration file."""

    listen: tuple[str, ...] = (":10042",)
    telemetry_path: str = "/metrics"
    collectors_off: frozenset[str] = frozenset()


class Service:
    """One exporter. `tasks` run beside it until it stops."""

    def __init__(self, config: Config, profiles: dict[str, Profile], options: Options, *tasks: Task) -> None:
        self._options = options
        self._tasks = tasks
        self._started = time.time()
        limits = config.limits
        self.models = [Model(settings, profiles[settings.name], limits) for settings in config.models]
        self.faults = Faults()
        self.intake = Intake(self.models, [source.name for source in config.sources], limits)
        self.compute = Compute(config.compute, drivers=() if "gpu" in options.collectors_off else None)
        self.http = next(
            (
                HttpSource(source.name, self.intake, KServe(source.http.kserve, profiles))
                for source in config.sources
                if source.http is not None
            ),
            None,
        )
        if self.http is not None:
            self.intake.parts[KSERVE_STATE] = self.http.kserve
        made = [make(source) for source in config.sources]
        self.pulling = {source.name: source for source in made if source is not None}
        self._awaited = dict(self.pulling)
        collectors: list[Collector] = [
            ModelCollector(self.models),
            DataCollector(self.models),
            IntakeCollector(self.intake, self.pulling, self._started),
            *([CloudEventCollector(self.http.name, self.http.kserve)] if self.http is not None else []),
            StateCollector(self.faults, lambda: self.journal),
            *self.compute.collectors,
        ]
        self.registry = Registry(
            [collector for collector in collectors if collector.name not in options.collectors_off], self._generation
        )
        self.app = App(
            self.registry,
            self.http,
            self,
            telemetry_path=options.telemetry_path,
            body_limit=limits.body_bytes,
        )
        self._state_path = config.state.path if config.state is not None else None
        self._helpers: list[asyncio.Task[None]] = []
        self._pullers: list[asyncio.Task[None]] = []
        self.journal: Journal | None = None
        self.intake.closed = "starting"

    def _generation(self) -> Hashable:
        """Whatever a scrape shows is as it was when this was the same: counts, and the second, as windows move on."""
        return self.intake.generation, self.compute.generation, int(time.time())

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

    def status(self) -> dict[str, Any]:
        """Return what an operator asks first, as JSON-able data."""
        self.intake.flush()
        return {
            "version": __version__,
            "started": self._started,
            "models": [
                {
                    "model": model.name,
                    "version": version.name,
                    "task": model.profile.task,
                    "profile_hash": model.profile.digest,
                    "predictions": int(version.lifetime[model.layout.predictions.start]),
                    "labels": int(version.lifetime[model.layout.labels.start]),
                    "pending": int(model.join.waiting_predictions[code]),
                    "last_prediction": version.last_prediction,
                    "last_label": version.last_label,
                    "benchmarks": ", ".join(benchmark_bounds(model)),
                }
                for model in self.models
                for code, version in enumerate(model.versions.values())
            ],
            "sources": [
                {
                    "source": name,
                    "accepted": counts.accepted,
                    "rejected": sum(counts.rejected.values()),
                    "late": counts.late,
                    "last_event": counts.last_event,
                    **self._connection(name),
                }
                for name, counts in self.intake.sources.items()
            ],
        }

    def _connection(self, name: str) -> dict[str, Any]:
        health = self.pulling[name].health if name in self.pulling else Health(True)
        return {"up": health.up, "lag_events": health.lag_events, "error": health.error}

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
            _log.info("listening on %s", ", ".join(self._options.listen))
            await serve(self.app, sockets, stop)
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
        self.intake.closed = None
        self._helpers += [group.create_task(task(self)) for task in self._tasks]
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


async def _expire(service: Service) -> None:
    while True:
        await asyncio.sleep(EXPIRE_SECONDS)
        service.intake.expire(time.time())
        if service.http is not None:
            await service.http.expire(time.time())


def run(config: Config, profiles: dict[str, Profile], options: Options, *tasks: Task) -> None:
    """Run an exporter until it is stopped."""
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(Service(config, profiles, options, *tasks).run())
    else:
        uvloop.run(Service(config, profiles, options, *tasks).run())
