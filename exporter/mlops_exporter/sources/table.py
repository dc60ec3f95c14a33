"""Files of rows as a source: each is taken up once, from where an interrupted delivery had come.

A file is told by its place, its size and when it was changed. How many of its rows are durable is stored with them, so
that after a crash nothing is lost and nothing is counted twice.
"""

import asyncio
import hashlib
import logging
import time
from collections import abc
from collections.abc import Iterator

import msgspec

from mlops_exporter.events import clock
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles, as_profiles
from mlops_exporter.settings.sources import SourceSettings
from mlops_exporter.settings.tables import SqlSettings, TableSettings
from mlops_exporter.sources.base import Health, Sink, deliver, finish
from mlops_exporter.tables.captured import batches, paired
from mlops_exporter.tables.errors import TableError
from mlops_exporter.tables.files import File, find
from mlops_exporter.tables.mapping import Mapping
from mlops_exporter.tables.reading import DEFAULT, Reading

BODY_ROWS = 4096
"""Rows of a body: few enough for the intake's queue, many enough to be counted together."""

_log = logging.getLogger(__name__)


class FileProgress(msgspec.Struct, array_like=True):
    """What is remembered of a file: which it was when begun, how many rows are durable, and whether that is all."""

    mark: str
    rows: int = 0
    done: bool = False


ProfilesByModel = abc.Mapping[str, Profiles | Profile]


def make(settings: SourceSettings, profiles: ProfilesByModel) -> "TableSource":
    """Return the source of a configuration."""
    table = settings.table
    assert table is not None
    return TableSource(settings.name, table, mapping_of(table, profiles), reading_of(table, profiles))


def reading_of(settings: TableSettings, profiles: ProfilesByModel) -> Reading:
    """Return how cells are read: as the model's newest profile says."""
    known = _profiles(settings, profiles)
    missing = tuple(known[0].missing) if known else DEFAULT.missing
    inputs = settings.inputs or (list(known[0].features) if known else [])
    if settings.captured is not None:
        return Reading(missing, captured=settings.captured, inputs=tuple(inputs))
    required = frozenset(settings.columns.named)
    features = [] if settings.columns.features is not None else _features(known)
    return Reading(missing, columns=required | {*features}, required=required)


def mapping_of(settings: TableSettings | SqlSettings, profiles: ProfilesByModel) -> Mapping:
    """Return what rows mean: the features are those of any version."""
    known = _profiles(settings, profiles)
    names = _features(known)
    numeric = [
        name
        for profile in known
        for name, variable in profile.features.items()
        if isinstance(variable, NumericVariable)
    ]
    task = known[0].task if known else None
    return Mapping(settings.model, settings.columns, settings.timezone, names, numeric, task)


def _features(known: list[Profile]) -> list[str]:
    return list(dict.fromkeys(name for profile in known for name in (*profile.features, *profile.embeddings)))


def _profiles(settings: TableSettings | SqlSettings, profiles: ProfilesByModel) -> list[Profile]:
    """Return the profiles of the model whose events the rows are, the newest first."""
    found = profiles.get(settings.model)
    return [] if found is None else list(as_profiles(found))


class TableSource:
    """The rows of all files of a table, the files in the order of their paths."""

    def __init__(self, name: str, settings: TableSettings, mapping: Mapping, reading: Reading = DEFAULT) -> None:
        self.name = name
        self.health = Health(False, None, "not started")
        self._settings = settings
        self._mapping = mapping
        self._reading = reading
        self._rewritten: set[str] = set()
        """Places of files that changed after they had been read, and are not read again."""

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled."""
        position = sink.position(self.name)
        known = msgspec.json.decode(position, type=dict[str, FileProgress]) if position else {}
        while True:
            fault = None
            try:
                files = await finish(asyncio.to_thread(self._files))
                known = {file.place: known[file.place] for file in files if file.place in known}
                self._look_for_rewritten(files, known)
                for file in files:
                    if file.place not in self._rewritten:
                        await self._take(file, known, sink)
            except TableError as error:
                fault = str(error)
                if fault != self.health.error:
                    _log.warning("source %s: %s", self.name, fault)
            self.health = Health(fault is None, None, fault, len(self._rewritten))
            await asyncio.sleep(self._settings.interval)

    def _files(self) -> list[File]:
        try:
            files = find([self._settings.path])
        except TableError as error:
            if "no file matches" in str(error) or "no such file" in str(error):
                return []  # there is none yet
            raise
        latest = time.time() - self._settings.settle
        settled = [file for file in files if not file.is_local or file.modified <= latest]
        return paired(settled, self._settings.captured)

    def _look_for_rewritten(self, files: list[File], known: dict[str, FileProgress]) -> None:
        """Note which files changed after they had been read, where they are not read again, and tell of new ones."""
        if self._settings.rewritten == "again":
            return
        found = {file.place for file in files if file.place in known and known[file.place].mark != _mark(file)}
        for place in sorted(found - self._rewritten):
            _log.warning("%s was changed after it had been read; it is not read again", place)
        self._rewritten = found

    async def _take(self, file: File, known: dict[str, FileProgress], sink: Sink) -> None:
        mark = _mark(file)
        progress = known.get(file.place)
        if progress is not None and progress.mark != mark:
            _log.info("%s was changed after it had been read; it is read again", file.place)
            progress = None
        if progress is None:
            progress = known[file.place] = FileProgress(mark)
        if progress.done:
            return
        bodies = self.bodies(file, progress.rows)
        while (made := await finish(asyncio.to_thread(next, bodies, None))) is not None:
            body, rows, last = made
            after = FileProgress(mark, progress.rows + rows, last)
            position = msgspec.json.encode({**known, file.place: after})
            await deliver(sink, self.name, body, clock.now(), position)
            progress = known[file.place] = after
            self.health = Health(True, None, None, len(self._rewritten))
        progress.done = True

    def bodies(self, file: File, skipped: int = 0) -> Iterator[tuple[bytes, int, bool]]:
        """Yield bodies, how many rows they have, and whether they are the last, from a number of rows on."""
        waiting: tuple[bytes, int] | None = None
        read = 0
        for batch in batches(file, self._reading):
            first, read = read + 1, read + batch.num_rows
            if skipped >= batch.num_rows:
                skipped -= batch.num_rows
                continue
            for start in range(skipped, batch.num_rows, BODY_ROWS):
                rows = batch.slice(start, BODY_ROWS)
                if waiting is not None:
                    yield *waiting, False
                try:
                    waiting = self._mapping.events(rows, first + start), rows.num_rows
                except TableError as error:
                    raise TableError(f"{file.place}: {error}") from error
            skipped = 0
        if waiting is not None:
            yield *waiting, True


def _mark(file: File) -> str:
    said = f"{file.size} {file.modified!r}"
    if file.companion is not None:
        said += f" {file.companion.size} {file.companion.modified!r}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
