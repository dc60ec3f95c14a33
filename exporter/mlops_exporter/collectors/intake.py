"""What came in, and what became of it and of the state."""

from collections.abc import Callable, Iterator, Mapping
from typing import Self

from mlops_exporter.collectors.family import Family, or_absent
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.events.reasons import REASONS
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.ingest.http import HttpSource
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.sources.base import Health, Source
from mlops_exporter.sources.kserve import KServe


class IntakeCollector:
    """What came in, from where, and what was refused."""

    name = "intake"
    about = "what came in, from where, and what was refused"
    by_default = True
    of_counts = True

    def __init__(self, intake: Intake, pulling: Mapping[str, Source], http: HttpSource | None) -> None:
        self._intake = intake
        self._sources: dict[str, Source | HttpSource] = {**pulling, **({} if http is None else {http.name: http})}
        self._http = http
        self._family = Family()

    @classmethod
    def of(cls, parts: Parts) -> Self | None:
        """Return the collector of these parts."""
        return None if (it := parts.running) is None else cls(it.intake, it.pulling, it.http)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        family, sources = self._family, self._intake.sources
        counts = sources.values()
        yield family(catalogue.EVENTS, [count.accepted for count in counts], sources)
        rejected = [number for count in counts for number in count.rejected.values()]
        yield family(catalogue.EVENTS_REJECTED, rejected, sources, REASONS)
        yield family(catalogue.LEDGERS, [count.ledgers for count in counts], sources)
        yield family(catalogue.LEDGERS_REJECTED, [count.ledgers_rejected for count in counts], sources)
        yield family(catalogue.EVENTS_LATE, [count.late for count in counts], sources)
        models = self._intake.models
        yield family(catalogue.FEATURES_IGNORED, [self._intake.features_ignored[name] for name in models], models)
        health = [self._sources[name].health if name in self._sources else Health(True) for name in sources]
        yield family(catalogue.SOURCE_UP, [float(source.up) for source in health], sources)
        yield family(catalogue.SOURCE_LAG, [or_absent(source.lag_events) for source in health], sources)
        yield family(catalogue.SOURCE_REWRITTEN, [or_absent(source.rewritten) for source in health], sources)
        yield family(catalogue.SOURCE_REFILL, [or_absent(source.refill) for source in health], sources)
        if self._http is not None and self._http.members is not None:
            yield family(catalogue.EVENTS_PASSED, [self._http.members.passed], [self._http.name])
        yield family(catalogue.SOURCE_LAST_EVENT, [or_absent(count.last_event) for count in counts], sources)
        yield family(catalogue.QUEUE_EVENTS, [self._intake.waiting])
        yield family(catalogue.QUEUE_CAPACITY, [self._intake.capacity])


class CloudEventCollector:
    """What became of the CloudEvents of KServe's inference logger."""

    name = "cloudevents"
    about = "what became of the CloudEvents of KServe's inference logger"
    by_default = True
    of_counts = True

    def __init__(self, source: str, kserve: KServe) -> None:
        self._kserve = kserve
        self._family = Family(source)

    @classmethod
    def of(cls, parts: Parts) -> Self | None:
        """Return the collector of these parts."""
        return None if (it := parts.running) is None or it.http is None else cls(it.http.name, it.http.kserve)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        counts = self._kserve.counts
        yield self._family(catalogue.CLOUD_EVENTS, counts.values(), counts)
        yield self._family(catalogue.CLOUD_EVENTS_WAITING, [self._kserve.waiting])


class StateCollector:
    """Checkpoints, and what went wrong with the state."""

    name = "state"
    about = "checkpoints, and faults of the state"
    by_default = True
    of_counts = False

    def __init__(self, faults: Faults, journal: Callable[[], Journal | None]) -> None:
        self._faults = faults
        self._journal = journal
        self._family = Family()

    @classmethod
    def of(cls, parts: Parts) -> Self | None:
        """Return the collector of these parts."""
        return None if (it := parts.running) is None else cls(it.faults, it.journal)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        faults, damaged, journal = self._faults.counts, self._faults.damaged, self._journal()
        yield self._family(catalogue.STATE_ERRORS, faults.values(), faults)
        if damaged:
            yield self._family(catalogue.STATE_DAMAGED, damaged.values(), damaged)
        if journal is not None:
            yield self._family(catalogue.CHECKPOINT_LAST_SUCCESS, [or_absent(journal.last_checkpoint)])
            yield self._family(catalogue.CHECKPOINT_DURATION, [or_absent(journal.checkpoint_seconds)])
