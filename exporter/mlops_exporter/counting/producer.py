"""Counts events into partial ledgers: what an exporter counts of them, pane by pane, to be added up elsewhere."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.partial import FORMAT, Pane, PartialLedger, narrowest
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import PANES
from mlops_exporter.events.columns import Columns
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.profile.values import floats
from mlops_exporter.settings.models import Limits, ModelSettings


class _Sums(Version):
    """A version whose panes are all kept, however old."""

    def __init__(self, name: str, layout: Layout, width: float) -> None:
        super().__init__(name, layout, [width * PANES], 0.0)
        self.width = width
        self.panes: dict[int, Floats] = {}

    def add(self, delta: Floats, time: float, arrived: float = -math.inf) -> None:
        """Add the counts of events of one pane."""
        number = int(time // self.width)
        self.panes[number] = self.panes[number] + delta if number in self.panes else delta

    def cover(self, times: Floats, *, labelled: bool) -> None:
        """Count nothing: the exporter knows from the cells how many predictions have their label."""


class Producer(Model):
    """A model of which the sums are kept by version and pane; without a `width` (seconds) panes are its narrowest.

    Predictions with and without label count as in an exporter. Ids are not looked at: each row is an event, and whoever
    makes the rows has joined labels to predictions. What needs an order of events, or pairs of them, is not counted.
    """

    def __init__(
        self, settings: ModelSettings, profiles: Profiles | Profile, limits: Limits, width: float | None = None
    ) -> None:
        alone = settings.model_copy(update={"challenge": None})
        super().__init__(alone, profiles, limits)
        self.width = narrowest(settings.windows) if width is None else width
        self._only_labels = False

    def _begin(self, name: str, place: int, seen: float) -> Version:
        reference = self.reference_of(name)
        version = _Sums(name, reference.layout, self.width)
        version.place, version.seen = place, seen
        reference.versions[name] = version
        return version

    def _shows(self, version: Version, now: float) -> bool:
        return True

    def _panes(self, times: Floats) -> tuple[Floats, Ints]:
        numbers, which = np.unique(times // self.width, return_inverse=True)
        return (numbers + 0.5) * self.width, which.reshape(-1)

    def take(self, columns: Columns, read: float) -> Counter[str]:
        """Count decoded events that were read at that time; returns how many of them were not counted, by reason.

        One without a time, or ahead of the clock, has the time at which it was read. The same rows would be other
        ledgers when they are read again, so it is not counted.
        """
        columns, refused = self._timely(columns, read, "label_alone")
        columns.ids = [None] * len(columns)
        self.count(columns, read)
        return refused

    def take_late(self, predictions: Iterable[Columns], labels: Iterable[Columns], read: float) -> Counter[str]:
        """Count labels whose predictions were counted when they were made, and are told again: ids bring them together.

        Returns how many labels were not counted, by reason.
        """
        refused = Counter[str]()
        waiting = self.joins.main.waiting_labels
        self._only_labels = True
        for columns in predictions:
            timely, _ = self._timely(columns, read, "label_alone")
            self.count(timely, read)
        for columns in labels:
            timely, untimely = self._timely(columns, read, None)
            self.count(timely, read)
            refused += untimely
        self._only_labels = False
        refused["label_alone"] += self.joins.main.waiting_labels - waiting
        return +refused

    def _timely(self, columns: Columns, read: float, alone: str | None) -> tuple[Columns, Counter[str]]:
        """Return the events that are counted, and how many are not, by reason; `alone` is that of labels by themselves.

        Labels by themselves are counted where it is None.
        """
        overflow = self.admit(columns.version_names - {None}, read)
        reasons = [
            ("bad_timestamp", floats(columns.times) >= read),
            ("too_many_versions", np.array([version in overflow for version in columns.versions])),
        ]
        if alone is not None:
            reasons.insert(0, (alone, np.array([version is None for version in columns.versions])))
        refused, kept = Counter[str](), np.ones(len(columns), np.bool_)
        for reason, flags in reasons:
            refused[reason] += int(np.count_nonzero(flags & kept))
            kept &= ~flags
        return columns if kept.all() else columns.keep(kept.tolist(), self.schema_of(columns)), +refused

    def _count_predictions(self, *arguments: Any) -> None:
        if not self._only_labels:
            super()._count_predictions(*arguments)

    @property
    def panes(self) -> int:
        """Of how many panes there is a ledger."""
        return sum(len(version.panes) for version in self._sums())

    def clear(self) -> None:
        """Forget what was counted."""
        for version in self._sums():
            version.panes.clear()

    def _sums(self) -> Iterator[_Sums]:
        for reference in self.references:
            for version in reference.versions.values():
                assert isinstance(version, _Sums)
                yield version

    def ledgers(self, producer: str, epoch: str) -> Iterator[PartialLedger]:
        """Yield what was counted as ledgers of this producer and epoch, the oldest pane of each version first."""
        for reference in self.references:
            for version in reference.versions.values():
                assert isinstance(version, _Sums)
                for number, cells in sorted(version.panes.items()):
                    yield PartialLedger(
                        format=FORMAT,
                        model=self.name,
                        version=version.name,
                        profile=reference.digest,
                        layout=reference.layout_digest,
                        pane=Pane(number * self.width, self.width),
                        producer=producer,
                        epoch=epoch,
                        last_prediction=version.last_prediction,
                        last_label=version.last_label,
                        cells=cells.astype("<f8").tobytes(),
                    )
