"""The replay: events of a log counted in the order of their own time, and sampled at every step of it."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlops_exporter.collectors.kinds import made_of
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.events.reasons import Reason
from mlops_exporter.ingest.body import Body
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.replay.log import Merge, RowsInOrder
from mlops_exporter.replay.spool import Spool
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.tables import TableSettings
from mlops_exporter.tables.files import find, needs_pyarrow

_SOURCE = "replay"


class ReplayError(Exception):
    """There is nothing to replay, or nowhere to put it; the message says why."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay: logs, where to, the seconds between samples, and by how many seconds a log may be out of order.

    `tables` are rows of a model's events: where they are, and what they mean. `labels` are what a scrape would have
    added. `told` hears now and then how many events were counted.
    """

    events: Sequence[Path]
    output: Path
    step: float = 60.0
    lateness: float = 300.0
    labels: Mapping[str, str] | None = None
    tables: Sequence[TableSettings] = ()
    told: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of it. `begin` and `end` are the times of the first and the last sample; `late` came out of order."""

    accepted: int
    refused: Mapping[Reason, int]
    late: int
    begin: float
    end: float
    series: int
    samples: int


def replay(request: ReplayRequest, settings: Config, profiles: Mapping[str, Profiles | Profile]) -> Summary:
    """Write the history of the logs as OpenMetrics. Raises ReplayError, having left nothing half written."""
    try:
        with TemporaryDirectory(prefix="replay-", dir=request.output.parent) as directory:
            spool = Spool(Path(directory), request.labels or {})
            accepted, refused, late, begin, end = asyncio.run(_sample(request, settings, profiles, spool))
            unfinished = Path(directory) / "history"
            with unfinished.open("wb") as output:
                series, samples = spool.write(output)
            unfinished.replace(request.output)
    except (OSError, EOFError) as error:
        raise ReplayError(str(error)) from error
    return Summary(accepted, refused, late, begin, end, series, samples)


async def _sample(
    request: ReplayRequest, settings: Config, profiles: Mapping[str, Profiles | Profile], spool: Spool
) -> tuple[int, Mapping[Reason, int], int, float, float]:
    """Count and sample. It never awaits: the intake wants an event loop, whose clock then plays no part."""
    models = [Model(model, profiles[model.name], settings.limits) for model in settings.models]
    intake = Intake(models, [_SOURCE], settings.limits)
    collectors = made_of(Parts(models))
    quiet = max(model.horizon + model.settings.label_delay for model in models)
    merge = Merge(request.events, request.lateness, time.time())
    merge.add(_rows(request, profiles, merge.refused))
    if merge.next == math.inf:
        raise ReplayError(f"no event has a usable ts: {_listed(merge.refused)}")

    def sample(now: float) -> None:
        for collector in collectors:
            for samples in collector.collect(now):
                spool.add(samples, now)

    number = math.floor(merge.next / request.step)
    begin = number * request.step
    for model in models:
        model.expect()
    sample(begin)  # the counters before anything is counted, so that increase() sees the first events too
    while merge.next < math.inf:
        if merge.next > number * request.step + quiet:  # all windows are empty: nothing to see until the next event
            number = math.floor(merge.next / request.step)
        number += 1
        now = number * request.step
        for body in merge.bodies(now):
            intake.replay(Body(_SOURCE, body, now))
        intake.flush()
        intake.expire(now)
        sample(now)
        if request.told is not None:
            request.told(intake.sources[_SOURCE].accepted)
    counts = intake.sources[_SOURCE]
    refused = merge.refused + Counter(counts.rejected)
    if not counts.accepted:
        raise ReplayError(f"every event was refused: {_listed(refused)}")
    return counts.accepted, refused, merge.late, begin, number * request.step


def _rows(
    request: ReplayRequest, profiles: Mapping[str, Profiles | Profile], refused: "Counter[Reason]"
) -> Iterator[RowsInOrder]:
    """Yield the files of all tables; raises TableError."""
    if not request.tables:
        return
    needs_pyarrow()
    from mlops_exporter.replay.rows import RowLog  # which needs it, as what it imports does
    from mlops_exporter.sources.table import mapping_of, reading_of
    from mlops_exporter.tables.captured import paired

    for table in request.tables:
        mapping, reading = mapping_of(table, profiles), reading_of(table, profiles)
        for file in paired(find([table.path]), table.captured):
            yield RowLog(file, mapping, reading, request.lateness, time.time(), refused)


def _listed(refused: "Counter[Reason]") -> str:
    return ", ".join(f"{reason} {count}" for reason, count in refused.most_common()) or "there is none"
