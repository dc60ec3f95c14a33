"""The versions of a model: who is there, who may come, and who goes when nothing refers to them any more."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Set

from mlops_exporter.counting.version import Version

_log = logging.getLogger(__name__)


class Versions(Mapping[str, Version]):
    """The versions of one model by name, each at a place of its own, by which the join knows it.

    `begin` makes a version by its name, place and time; `shows` tells whether a window shows anything of one, `waits`
    whether a prediction of one waits. Those `kept` never go.
    """

    def __init__(
        self,
        model: str,
        limit: int,
        begin: Callable[[str, int, float], Version],
        shows: Callable[[Version, float], bool],
        waits: Callable[[Version], bool],
        kept: Collection[str] = (),
    ) -> None:
        self._model = model
        self._limit = limit
        self._begin = begin
        self._shows = shows
        self._waits = waits
        self._kept = kept
        self._places: list[Version | None] = []
        self._by_name: dict[str, Version] = {}
        self._expected: str | None = None
        """The version that is there before its first event."""
        self.gone: list[Version] = []
        """Versions whose place has become free; who empties the list lets go of what belonged to them."""

    def __getitem__(self, name: str) -> Version:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def places(self) -> list[Version | None]:
        """The version at each place, None where there is none."""
        return self._places

    @property
    def counted(self) -> Iterator[Version]:
        """Those of which there may be counts, all but one that is merely expected."""
        return (version for version in self.values() if version.name != self._expected)

    def place(self, name: str) -> int:
        """Return a version's place; an absent one's differs from all."""
        return self._by_name[name].place if name in self._by_name else -2

    def expect(self, name: str) -> None:
        """Let a version be there, at zero, before its first event, until another one comes first.

        Otherwise Prometheus would not see what the first events add.
        """
        if not self._by_name:
            self._expected = name
            self.put(name)

    def admit(self, newest: Mapping[str | None, float], now: float) -> Set[str | None]:
        """Begin the versions of a body that are new `now`, and return those for which there is no place left.

        `newest` has the time of each version's newest event. Where places are few, those of late events come first.
        """
        names = newest.keys()
        if self._expected is not None and names != {None}:
            if self._expected not in names:
                self._remove(self._by_name[self._expected])
            self._expected = None
        for name in names & self._by_name.keys():
            self._by_name[str(name)].seen = now
        new = {name: time for name, time in newest.items() if name is not None and name not in self._by_name}
        waiting = deque(sorted(new, key=lambda name: (-new[name], name)))
        while waiting and (len(self) < self._limit or self._make_room(waiting[0], now)):
            self.put(waiting.popleft(), now)
        for name, time in newest.items():
            if (version := self._by_name.get(str(name))) is not None and name is not None:
                version.newest = max(version.newest, time)
        return frozenset(waiting)  # where one finds no place, no later one does

    def need_room(self, names: Set[str | None]) -> bool:
        """Whether one of these would take the place of another."""
        return len(self) >= self._limit and bool(names - self.keys() - {None})

    def put(self, name: str, seen: float = 0.0, place: int | None = None) -> Version:
        """Begin a version, at the first place that is free unless one is given."""
        if place is None:
            place = self._places.index(None) if None in self._places else len(self._places)
        self._places += [None] * (place + 1 - len(self._places))
        version = self._begin(name, place, seen)
        self._places[place] = version
        self._by_name = {each.name: each for each in self._places if each is not None}
        return version

    def retire(self, retired: Callable[[Version], bool], now: float) -> bool:
        """Let go of the versions that are `retired` and not in use any more; returns whether there were any."""
        gone = [version for version in self.values() if retired(version) and self._is_unused(version, now)]
        for version in gone:
            _log.info("model %s: version %s is gone: nothing refers to it any more", self._model, version.name)
            self._remove(version)
        return bool(gone)

    def _make_room(self, name: str, now: float) -> bool:
        """Let go of the version unseen for longest of those that nothing shows; False if there is none.

        One for which nothing waits goes first.
        """
        gone = [version for version in self.values() if self._is_hidden(version, now)]
        if not gone:
            return False
        oldest = min(gone, key=lambda version: (self._waits(version), version.seen))
        _log.info(
            "model %s: version %s takes the place of %s, of which no window holds anything%s",
            self._model,
            name,
            oldest.name,
            ": what waits for its label there is given up (limits.versions)" if self._waits(oldest) else "",
        )
        self._remove(oldest)
        return True

    def _is_hidden(self, version: Version, now: float) -> bool:
        """Whether nothing shows a version of which no event is in the body at hand, which arrived `now`."""
        return version.name not in self._kept and version.seen != now and not self._shows(version, now)

    def _is_unused(self, version: Version, now: float) -> bool:
        return self._is_hidden(version, now) and not self._waits(version)

    def _remove(self, version: Version) -> None:
        self._places[version.place] = None
        del self._by_name[version.name]
        self.gone.append(version)
