"""What collectors are made of, and what a kind of collector says of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from mlops_exporter.counting.model import Model
from mlops_exporter.exposition.samples import Collector
from mlops_exporter.ingest.http import HttpSource
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.judging.drift import Comparisons
from mlops_exporter.probing.prober import Prober
from mlops_exporter.settings.loading import Loading
from mlops_exporter.sources.base import Source


class Followed(Protocol):
    """A registered model that is followed. `up` is None before it was first asked for."""

    model: str
    up: bool | None
    last_success: float | None
    failures: int
    versions: Sequence[str]
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """What there is only while an exporter runs."""

    intake: Intake
    pulling: Mapping[str, Source]
    http: HttpSource | None
    probers: Sequence[Prober]
    followed: Sequence[Followed]
    faults: Faults
    journal: Callable[[], Journal | None]
    loading: Callable[[], Loading]


@dataclass(frozen=True, slots=True)
class Parts:
    """What samples are of; `running` is None where past events are replayed."""

    models: Sequence[Model]
    comparisons: Comparisons | None = None
    running: Running | None = None


class Switched(Protocol):
    """What can be switched off: by `--no-collector.NAME`, or on where it is not `by_default`."""

    name: ClassVar[str]
    about: ClassVar[str]
    """What it gives, for the command line and the documentation."""
    by_default: ClassVar[bool]


class Kind(Switched, Protocol):
    """A class of collectors in this folder, in which `kinds` finds it."""

    of_counts: ClassVar[bool]
    """Whether its samples are of what is restored at the start, and so not to be shown before that is done."""

    def of(self, parts: Parts) -> Collector | None:
        """Return the collector of these parts, None where they give it nothing to collect."""
        ...
