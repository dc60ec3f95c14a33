"""The series budget: what scrapes leave out when there would be more series than the limit, the finest detail first.

What counts against the limit is every series that may get a value, not only those that have one now. So a decision
falls when a version appears, not when its windows fill, and it holds as long as the budget does: a counter that is
left out stays out. Only gauges of single features take each other's place, when a hidden one drifts further.

The model with the most series of a detail gives first, so that none suffers from another's size.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeVar, get_args
from weakref import WeakKeyDictionary

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.settings.models import DEFAULT_SERIES

Detail = Literal["bins", "groups", "classes", "features"]
DETAILS: Final[tuple[Detail, ...]] = get_args(Detail)
"""In the order in which they are left out; a metric of none of them stays."""


MARGIN = 1.25
"""How many times further than the least drifted feature shown a hidden one must drift to take its place."""

QUALITY_EXCESS = 0.1
"""Share of missing, invalid, unlisted or outlying values above the reference's that weighs as much as drift at its
threshold."""

_NAMED = 5  # of what one line of the log tells

_WITH_BINS = (catalogue.FEATURE_OUT_OF_RANGE, catalogue.FEATURE_REFERENCE_VALUES)
"""They say nothing without the bins, and a counter must not come and go with its feature."""

_CLASSES = frozenset({"class", "predicted", "actual", "horizon"})

_READ_BY_ALERTS = (
    catalogue.SEGMENT_WORSE,
    catalogue.SEGMENT_ESTIMATED_WORSE,
    catalogue.SEGMENT_DRIFTED,
    catalogue.CLASS_WORSE,
)

_REFERENCE: Final = catalogue.FEATURE_REFERENCE.name
_QUALITY: Final[Mapping[str, str]] = {
    catalogue.FEATURE_MISSING.name: "missing",
    catalogue.FEATURE_INVALID.name: "invalid",
    catalogue.FEATURE_UNSEEN.name: "other",
    catalogue.FEATURE_OUT_OF_RANGE_RATIO.name: "",
}
"""The bin with the reference's share. Alerts on quality read it, so it stays as long as its feature does."""

_THRESHOLDS: Final[Mapping[str, str]] = {
    metric.name: threshold.name
    for metric, threshold in (
        (catalogue.FEATURE_DRIFT, catalogue.FEATURE_DRIFT_THRESHOLD),
        (catalogue.EMBEDDING_DRIFT, catalogue.EMBEDDING_DRIFT_THRESHOLD),
    )
}
_JUDGED = frozenset({*_THRESHOLDS, *_THRESHOLDS.values(), *_QUALITY})

_log = logging.getLogger(__name__)

Key = TypeVar("Key")


def detail_of(metric: Metric) -> Detail | None:
    """Return the detail that a metric is, None for one that is never left out."""
    if "bin" in metric.labels or metric in _WITH_BINS:
        return "bins"
    if metric in _READ_BY_ALERTS:
        return None
    if "group" in metric.labels or "slice" in metric.labels:
        return "groups"
    if "feature" in metric.labels:
        return "features"
    return "classes" if _CLASSES & set(metric.labels) and metric is not catalogue.POSITIVE_CLASS else None


_DETAILS: Final = {metric.name: detail for metric in catalogue.all_metrics() if (detail := detail_of(metric))}


class Owner(NamedTuple):
    """Whose series they are; `of` tells the bins of features from those of scores, and the groups of an attribute."""

    model: str
    version: str
    of: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A detail of a version that is left out; `features` names those that are, if not all."""

    detail: Detail
    model: str
    version: str
    of: str = ""
    features: list[str] = field(default_factory=list)


class _Part(NamedTuple):
    """Series of one metric that are left out together: `rows` of them, in the order of the text."""

    detail: Detail
    owner: Owner
    rows: Ints


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The last scrape: its series, their limit, how many of each detail it lacks that have a value, and whose."""

    exposed: int = 0
    limit: int = DEFAULT_SERIES
    dropped: dict[Detail, int] = field(default_factory=lambda: dict.fromkeys(DETAILS, 0))
    left_out: list[LeftOut] = field(default_factory=list)


class Budget:
    """Keeps scrapes within `limit` series. What one scrape leaves out, every later one leaves out too."""

    def __init__(self, limit: int = DEFAULT_SERIES) -> None:
        self._limit = limit
        self._exposed = 0
        self._exhausted = False
        self._counts = dict.fromkeys(DETAILS, 0)
        self._parts: WeakKeyDictionary[Rows, list[_Part]] = WeakKeyDictionary()
        self._dropped: dict[tuple[Detail, Owner], None] = {}
        self._features: dict[Owner, _Features] = {}
        self._own = [
            Rows(catalogue.EXPORTER_SERIES, [()]),
            Rows(catalogue.EXPORTER_SERIES_LIMIT, [()]),
            Rows(catalogue.EXPORTER_SERIES_DROPPED, [(detail,) for detail in DETAILS]),
        ]

    @property
    def state(self) -> SeriesState:
        """How the last scrape was."""
        dropped = [LeftOut(detail, *owner) for detail, owner in self._dropped]
        hidden = [
            LeftOut("features", *owner, features=names)
            for owner, features in self._features.items()
            if (names := features.hidden_names())
        ]
        return SeriesState(self._exposed, self._limit, dict(self._counts), dropped + hidden)

    def fit(self, samples: Iterable[Samples], further: int = 0) -> list[Samples]:
        """Return what of a scrape's samples is within the limit, and the metrics that tell how many series there are.

        `further` is the number of series that the scrape has besides. A metric of which only some series are left out
        comes with their values NaN.
        """
        kept = [group for group in samples if len(group.values)]
        further += sum(map(len, self._own))
        self._counts = dict.fromkeys(DETAILS, 0)
        possible = further + sum(len(group.values) for group in kept)
        if possible > self._limit or self._dropped or self._features:
            self._follow_drift(kept)
            hidden = sum(len(rows) for group in kept for _, rows in self._hidden(group.rows))
            hideable = sum(len(part.rows) for group in kept for part in self._parts_of(group.rows))
            excess = possible - hidden - self._limit
            if excess > 0 and hidden < hideable:
                self._tighten(kept, excess)
            elif excess > 0 and not self._exhausted:
                self._exhausted = True
                _log.warning("limits.series of %d is too low: nothing more can be left out", self._limit)
            kept = [group for group in map(self._reduced, kept) if group is not None]
        values = np.concatenate([group.values for group in kept]) if kept else np.empty(0)
        self._exposed = further + len(values) - int(np.count_nonzero(np.isnan(values)))
        numbers = ([self._exposed], [self._limit], list(self._counts.values()))
        own = (Samples(rows, np.array(value, np.float64)) for rows, value in zip(self._own, numbers, strict=True))
        return [*kept, *own]

    def _reduced(self, group: Samples) -> Samples | None:
        """Return samples without what is left out, None when that is all of them, and count it."""
        hidden = self._hidden(group.rows)
        if not hidden:
            return group
        values = group.values.copy()
        for detail, rows in hidden:
            self._counts[detail] += len(rows) - int(np.count_nonzero(np.isnan(values[rows])))
            values[rows] = np.nan
        return Samples(group.rows, values) if sum(len(rows) for _, rows in hidden) < len(values) else None

    def _hidden(self, rows: Rows) -> list[tuple[Detail, Ints]]:
        """Return which rows are left out, by detail."""
        hidden = []
        for part in self._parts_of(rows):
            if (part.detail, part.owner) in self._dropped:
                hidden.append((part.detail, part.rows))
            elif part.detail == "features" and part.owner in self._features:
                mine = self._features[part.owner].hidden_rows(rows, part.rows)
                if len(mine):
                    hidden.append((part.detail, mine))
        return hidden

    def _parts_of(self, rows: Rows) -> Sequence[_Part]:
        detail = _DETAILS.get(rows.metric.name)
        if detail is None:
            return ()
        parts = self._parts.get(rows)
        if parts is None:
            parts = self._parts[rows] = list(_parts(rows, detail))
        return parts

    def _tighten(self, samples: Sequence[Samples], excess: int) -> None:
        """Leave out `excess` more series, or all that may be."""
        told: list[str] = []
        for detail in DETAILS[:-1]:
            sizes: dict[Owner, int] = {}
            for part in self._shown_parts(samples, detail):
                sizes[part.owner] = sizes.get(part.owner, 0) + len(part.rows)
            while excess > 0 and sizes:
                owner = _next_to_go(sizes)
                excess -= sizes.pop(owner)
                self._dropped[detail, owner] = None
                told.append(f"{detail} of {owner}")
        if excess > 0:
            told += self._narrow(samples, excess)
        if told:
            _log.warning("limits.series: more than %d series; left out from now on: %s", self._limit, _listed(told))

    def _narrow(self, samples: Sequence[Samples], excess: int) -> list[str]:
        """Show fewer features; returns of which versions."""
        for group in samples:
            for part in self._parts_of(group.rows):
                if part.detail == "features":
                    self._features.setdefault(part.owner, _Features()).learn(group, part.rows)
        self._judge(samples)
        sizes = {owner: features.size for owner, features in self._features.items()}
        models: dict[str, int] = {}
        for owner, size in sizes.items():
            models[owner.model] = models.get(owner.model, 0) + size
        told = []
        for model, share in _level(models, sum(models.values()) - excess).items():
            versions = {owner: size for owner, size in sizes.items() if owner.model == model}
            for owner, allowed in _level(versions, share).items():
                if self._features[owner].restrict(allowed):
                    told.append(f"{self._features[owner]} of {owner}")
        return told

    def _shown_parts(self, samples: Iterable[Samples], detail: Detail) -> Iterable[_Part]:
        for group in samples:
            for part in self._parts_of(group.rows):
                if part.detail == detail and (detail, part.owner) not in self._dropped:
                    yield part

    def _follow_drift(self, samples: Iterable[Samples]) -> None:
        """Let hidden features that drift take the place of others that do not."""
        self._judge(samples)
        for owner, features in self._features.items():
            if names := features.exchange():
                _log.info("features of %s shown in place of less drifted ones: %s", owner, _listed(names))

    def _judge(self, samples: Iterable[Samples]) -> None:
        found: dict[Owner, dict[str, tuple[Rows, Ints, Floats]]] = {}
        for group in samples:
            if self._features and group.rows.metric.name in _JUDGED:
                for part in self._parts_of(group.rows):
                    values = group.values[part.rows]
                    found.setdefault(part.owner, {})[group.rows.metric.name] = (group.rows, part.rows, values)
        for owner, by_metric in found.items():
            if owner in self._features:
                self._features[owner].judge(by_metric)


class _Features:
    """Which features of one version are shown, in `allowed` series: those that drift most, once any does.

    `_codes` holds the feature of each row, by the first one's text and their number; `_score` how far each feature
    drifts: 1 is at its threshold.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._codes: dict[tuple[str, int], Ints] = {}
        self._sizes = np.empty(0, np.intp)
        self._hidden = np.empty(0, np.bool_)
        self._score = np.empty(0)
        self._reference: dict[str, Floats] = {}
        self._allowed: int | None = None

    def __str__(self) -> str:
        return f"{int(self._hidden.sum())} of {len(self._names)} features"

    @property
    def size(self) -> int:
        """Number of series shown."""
        return int(self._sizes[~self._hidden].sum())

    def hidden_names(self) -> list[str]:
        """Names of the features that are not shown."""
        return [name for name, hidden in zip(self._names, self._hidden.tolist(), strict=True) if hidden]

    def hidden_rows(self, rows: Rows, mine: Ints) -> Ints:
        """Return which of the rows `mine` are not shown."""
        return mine[self._hidden[self._code(rows, mine)]]

    def learn(self, group: Samples, mine: Ints) -> None:
        """Take in a metric, of which `mine` are the rows to show or hide."""
        codes = self._code(group.rows, mine)
        if group.rows.metric.name == _REFERENCE:
            bins = group.rows.label_values("bin", mine)
            for row, code, name in zip(mine.tolist(), codes.tolist(), bins, strict=True):
                self._reference.setdefault(name, np.zeros(len(self._names)))[code] = group.values[row]

    def _code(self, rows: Rows, mine: Ints) -> Ints:
        """Return the feature of each of the rows; one that is new is hidden where others are."""
        key = rows.prefixes[mine[0]], len(mine)
        codes = self._codes.get(key)
        if codes is not None:
            return codes
        labels = rows.label_values("feature", mine)
        codes = np.array([self._names.setdefault(label, len(self._names)) for label in labels], np.intp)
        new = len(self._names) - len(self._sizes)
        self._sizes = np.pad(self._sizes, (0, new)) + np.bincount(codes, minlength=len(self._names))
        self._hidden = np.pad(self._hidden, (0, new), constant_values=self._allowed is not None)
        self._score = np.pad(self._score, (0, new))
        self._reference = {name: np.pad(shares, (0, new)) for name, shares in self._reference.items()}
        self._codes[key] = codes
        return codes

    def judge(self, found: Mapping[str, tuple[Rows, Ints, Floats]]) -> None:
        """Note how far features drift, from the metrics that tell: their rows and values."""
        coded = {name: (self._code(rows, mine), values) for name, (rows, mine, values) in found.items()}
        score = np.zeros(len(self._names))
        for name, (codes, values) in coded.items():
            if name in _THRESHOLDS and _THRESHOLDS[name] in coded:
                with np.errstate(divide="ignore", invalid="ignore"):
                    np.fmax.at(score, codes, values / coded[_THRESHOLDS[name]][1])
            elif name in _QUALITY:
                reference = self._reference.get(_QUALITY[name], np.zeros(len(score)))
                np.fmax.at(score, codes, (values - reference[codes]) / QUALITY_EXCESS)
        self._score = score

    def restrict(self, allowed: int) -> bool:
        """Hide the least drifted features, so that no more than `allowed` series remain; tells whether any was."""
        self._allowed = allowed
        over = self.size - allowed
        if over <= 0:
            return False
        falling = self._least_drifted()
        self._hidden[falling[: 1 + int(np.searchsorted(np.cumsum(self._sizes[falling]), over))]] = True
        return True

    def exchange(self) -> list[str]:
        """Show hidden features that drift in place of less drifted ones; returns their names."""
        rising = np.flatnonzero(self._hidden & (self._score > 1))
        if not len(rising) or self._allowed is None:
            return []
        names = list(self._names)
        shown: list[str] = []
        falling = iter(self._least_drifted().tolist())
        leaving: list[int] = []
        room = self._allowed - self.size
        for code in rising[np.argsort(-self._score[rising], kind="stable")].tolist():
            while room < self._sizes[code]:
                least = next(falling, None)
                if least is None or self._score[code] <= MARGIN * self._score[least]:
                    return shown
                leaving.append(least)
                room += int(self._sizes[least])
            self._hidden[leaving] = True
            self._hidden[code] = False
            room -= int(self._sizes[code])
            leaving.clear()
            shown.append(names[code])
        return shown

    def _least_drifted(self) -> Ints:
        """Return the features shown, the least drifted first, among equals the last of the profile first."""
        shown = np.flatnonzero(~self._hidden)[::-1]
        return shown[np.argsort(self._score[shown], kind="stable")]


def _parts(rows: Rows, detail: Detail) -> Iterable[_Part]:
    """Take a metric's series apart, which are of one model."""
    labels = rows.metric.labels
    models, versions = rows.label_values("model"), rows.label_values("version")
    if detail == "bins":
        of = ["features" if "feature" in labels else "scores"] * len(rows)
    else:
        of = next((rows.label_values(name) for name in ("attribute", "segment") if name in labels), [""] * len(rows))
    details: list[Detail] = [detail] * len(rows)
    if rows.metric.name == _REFERENCE:
        for row, (name, range_) in enumerate(zip(rows.label_values("bin"), rows.label_values("range"), strict=True)):
            if not range_ and name in _QUALITY.values():
                details[row], of[row] = "features", ""
    members: dict[tuple[Detail, Owner], list[int]] = {}
    for row, (each, *owner) in enumerate(zip(details, models, versions, of, strict=True)):
        members.setdefault((each, Owner(*owner)), []).append(row)
    return (_Part(each, owner, np.array(mine, np.intp)) for (each, owner), mine in members.items())


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def _next_to_go(sizes: Mapping[Owner, int]) -> Owner:
    """Return the largest of the model that has most; among equals the oldest version's."""
    models: dict[str, int] = {}
    for owner, size in sizes.items():
        models[owner.model] = models.get(owner.model, 0) + size
    model = max(models, key=models.__getitem__)
    return max((owner for owner in sizes if owner.model == model), key=sizes.__getitem__)


def _level(sizes: Mapping[Key, int], total: int) -> dict[Key, int]:
    """Cut the largest down to one level, so that all add up to no more than `total`, 0 at least."""
    levels: dict[Key, int] = {}
    left = max(total, 0)
    for place, (key, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        levels[key] = min(size, left // (len(sizes) - place))
        left -= levels[key]
    return levels
