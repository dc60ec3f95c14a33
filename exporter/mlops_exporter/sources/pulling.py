"""The pulling sources of a configuration."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from importlib import import_module

from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.sources.base import Sink, Source, persist


def make(settings: SourceSettings, profiles: Mapping[str, Profiles | Profile] | None = None) -> Source | None:
    """Return the source that `settings` describe, None when events are pushed to it.

    `profiles` tell, by model, which features a table may have, and which of them are numbers. Only the module of the
    source's kind is loaded, since it may need a package that is not there.
    """
    if settings.http is not None:
        return None
    source: Source = import_module(f"mlops_exporter.sources.{settings.kind}").make(settings, profiles or {})
    return source


class Pulling:
    """The pulling sources that run, each in a task of its own."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, sources: Iterable[Source]) -> None:
        """Let sources deliver."""
        for source in sources:
            self._tasks[source.name] = asyncio.create_task(supervise(source, self._sink))

    async def stop(self, names: Collection[str] | None = None) -> None:
        """Stop the named sources, all when None; each delivers the body that it has at hand."""
        tasks = [self._tasks.pop(name) for name in list(self._tasks) if names is None or name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def supervise(source: Source, sink: Sink) -> None:
    """Run a source until it is cancelled or its input ends; what it did not expect is logged, and it starts again."""
    await persist(source, lambda: source.run(sink), (Exception,), traceback=True)
