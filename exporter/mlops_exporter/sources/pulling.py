"""The pulling sources of a configuration."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles, as_profiles
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.settings.tables import SqlSettings, TableSettings
from mlops_exporter.sources.base import Sink, Source, persist
from mlops_exporter.sources.file import FileSource
from mlops_exporter.sources.stdin import StdinSource
from mlops_exporter.tables.reading import DEFAULT, Reading

if TYPE_CHECKING:
    from mlops_exporter.tables.mapping import Mapping as Rows


def make(settings: SourceSettings, profiles: Mapping[str, Profiles | Profile] | None = None) -> Source | None:
    """Return the source that `settings` describe, None when events are pushed to it.

    `profiles` tell, by model, which features a table may have, and which of them are numbers.
    """
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
    if settings.table is not None:
        from mlops_exporter.sources.table import TableSource

        known = _profiles(settings.table, profiles or {})
        reading = Reading(tuple(known[0].missing)) if known else DEFAULT
        return TableSource(settings.name, settings.table, _mapping(settings.table, profiles or {}), reading)
    if settings.sql is not None:
        from mlops_exporter.sources.sql import SqlSource

        return SqlSource(settings.name, settings.sql, _mapping(settings.sql, profiles or {}))
    return None


def _profiles(settings: TableSettings | SqlSettings, profiles: Mapping[str, Profiles | Profile]) -> list[Profile]:
    """Return the profiles of the model whose events the rows are, the newest first."""
    found = profiles.get(settings.model)
    return [] if found is None else list(as_profiles(found))


def _mapping(settings: TableSettings | SqlSettings, profiles: Mapping[str, Profiles | Profile]) -> "Rows":
    """Return what rows mean: the features are those of any version."""
    from mlops_exporter.tables.mapping import Mapping as Rows

    known = _profiles(settings, profiles)
    names = dict.fromkeys(name for profile in known for name in (*profile.features, *profile.embeddings))
    numeric = [
        name
        for profile in known
        for name, variable in profile.features.items()
        if isinstance(variable, NumericVariable)
    ]
    return Rows(settings.model, settings.columns, settings.timezone, list(names), numeric)


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
