"""The pulling sources of a configuration."""

import asyncio
from collections.abc import Collection, Iterable

from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.sources.base import Sink, Source, persist
from mlops_exporter.sources.file import FileSource
from mlops_exporter.sources.stdin import StdinSource


def make(settings: SourceSettings) -> Source | None:
    """Return the source that `settings` describe, None when events are pushed to it."""
    if settings.file is not None:
        return FileSource(settings.name, str(settings.file.path))
    if settings.stdin is not None:
        return StdinSource(settings.name)
    if settings.redis is not None:
        from mlops_exporter.sources.redis import RedisSource

        return RedisSource(settings.name, settings.redis)
    if settings.kafka is not None:
        from mlops_exporter.sources.kafka import KafkaSource

        return KafkaSource(settings.name, settings.kafka)
    return None


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
