"""The pulling sources of a configuration."""

from exporter.config import SourceSettings
from exporter.sources.base import Sink, Source, persist
from exporter.sources.file import FileSource
from exporter.sources.stdin import StdinSource


def make(settings: SourceSettings) -> Source | None:
    """Return the source that `settings` describe, None when events are pushed to it."""
    if settings.file is not None:
        return FileSource(settings.name, str(settings.file.path))
    if settings.stdin is not None:
        return StdinSource(settings.name)
    if settings.redis is not None:
        from exporter.sources.redis import RedisSource

        return RedisSource(settings.name, settings.redis)
    if settings.kafka is not None:
        from exporter.sources.kafka import KafkaSource

        return KafkaSource(settings.name, settings.kafka)
    return None


async def supervise(source: Source, sink: Sink) -> None:
    """Run a source until it is cancelled or its input ends; what it did not expect is logged, and it starts again."""
    await persist(source, lambda: source.run(sink), (Exception,), traceback=True)
