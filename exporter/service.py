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
from exporter.collectors import DataCollector, IntakeCollector, ModelCollector
from exporter.config import Config
from exporter.intake import HttpSource, Intake
from exporter.logs import Notice
from exporter.model import Model
from exporter.profile.profile import Profile
from exporter.registry import Registry
from exporter.samples import Collector
from exporter.state import HISTORY_SECONDS, Observer, Report, source_state
from exporter.web import config as web_config
from exporter.web.app import App
from exporter.web.auth import Guard
from exporter.web.config import WebConfig
from exporter.web.server import listen, serve
from exporter.web.tls import ReloadingContext
from exporter.web.tokens import Tokens
from exporter.web.watch import Watched

EXPIRE_SECONDS = 1.0

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
        self.models = [
            Model(settings, profiles[settings.name], versions=limits.versions, pending=limits.pending_predictions)
            for settings in config.models
        ]
        self.intake = Intake(self.models, [source.name for source in config.sources], limits)
        data = DataCollector(self.models)
        self._observers = [Observer(model, data.comparisons[model.name]) for model in self.models]
        collectors: list[Collector] = [
            ModelCollector(self.models),
            data,
            IntakeCollector(self.intake, self._started),
        ]
        self.registry = Registry(
            [collector for collector in collectors if collector.name not in options.collectors_off], self._generation
        )
        http, accepted = next((source.name, source.http) for source in config.sources if source.http is not None)
        app = App(
            self.registry,
            HttpSource(http, self.intake),
            self,
            telemetry_path=options.telemetry_path,
            body_limit=limits.body_bytes,
            tokens=Tokens(accepted.tokens) if accepted.tokens else None,
            max_requests=options.max_requests,
        )
        web = Watched(options.web_config, web_config.read) if options.web_config else WebConfig
        self.app = Guard(app, web, {"/v1/events"} if accepted.tokens else ())
        self._tls = None if web().tls_server_config is None else ReloadingContext(lambda: web().tls_server_config)
        self._ready = False
        self._report: tuple[Hashable, Report] | None = None

    def _generation(self) -> Hashable:
        """Whatever a scrape shows is as it was when this was the same: counts, and the second, as windows move on."""
        return self.intake.generation, int(time.time())

    def ready(self) -> str | None:
        """Return None when events are taken, otherwise the reason why not."""
        return None if self._ready else "starting or stopping"

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
                [source_state(name, counts) for name, counts in self.intake.sources.items()],
                list(self._options.notices()),
            )
            self._report = generation, report
        return self._report[1]

    def observe(self, now: float) -> None:
        """Remember how the models are, for the curves of the landing page."""
        self.intake.flush()
        for observer in self._observers:
            observer.record(now)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ListenError when an address cannot be had."""
        sockets = listen(self._options.listen)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(task(self)) for task in (_expire, _observe, *self._tasks)]
            self._ready = True
            scheme = "http" if self._tls is None else "https"
            _log.info("listening on %s (%s)", ", ".join(self._options.listen), scheme)
            await serve(self.app, sockets, stop, self._tls)
            self._ready = False
            for helper in helpers:
                helper.cancel()
        self.intake.flush()
        _log.info("stopped")


async def _expire(service: Service) -> None:
    while True:
        await asyncio.sleep(EXPIRE_SECONDS)
        service.intake.expire(time.time())


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
