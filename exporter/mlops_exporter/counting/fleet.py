"""The sums of several exporters as those of one: what an exporter tells of a model, and how such shares add up.

A share is all that is counted of a model so far, so it replaces the former share of the same exporter.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.model import COUNTS, Model
from mlops_exporter.counting.rhythm import Rhythm
from mlops_exporter.counting.version import Version
from mlops_exporter.counting.windows import Window

FORMAT = 1

_LATEST_PANE = 2**62


class Ring(msgspec.Struct, frozen=True):
    """The panes of a window that hold anything: their numbers, ascending, and their cells, as doubles."""

    first: int
    numbers: list[int]
    panes: bytes


class VersionShare(msgspec.Struct, frozen=True):
    """What is counted of a version; windows are named by their length in seconds."""

    profile: str
    layout: str
    lifetime: bytes
    windows: dict[str, Ring]
    coverage: dict[str, Ring]
    last_prediction: float | None
    last_label: float | None
    begun: float | None
    unlabelled: int
    waiting: int


class ModelShare(msgspec.Struct, frozen=True):
    """What is counted of a model."""

    versions: dict[str, VersionShare]
    counts: dict[str, int]
    given_up: dict[str, int]
    late: dict[str, dict[str, int]] = {}


class Shares(msgspec.Struct, frozen=True):
    """What an exporter has counted, by model."""

    format: int
    models: dict[str, ModelShare]


def share_of(model: Model) -> ModelShare:
    """Return what is counted of a model; it is not changed by what is counted later."""
    versions = {}
    for version in model.versions.counted:
        reference = model.reference_of(version.name)
        state = version.state()
        versions[version.name] = VersionShare(
            profile=reference.digest,
            layout=reference.layout_digest,
            lifetime=version.lifetime.astype("<f8").tobytes(),
            windows={name: _ring(ring) for name, ring in state["windows"].items()},
            coverage={name: _ring(ring) for name, ring in state["coverage"].items()},
            last_prediction=version.last_prediction,
            last_label=version.last_label,
            begun=version.begun,
            unlabelled=version.unlabelled,
            waiting=model.waiting_predictions(version.name),
        )
    return ModelShare(
        versions,
        {name: getattr(model, name) for name in COUNTS},
        dict(model.given_up),
        {outcome: dict(tally.counts) for outcome, tally in model.late.tallies.items()},
    )


def _ring(state: Mapping[str, Any]) -> Ring:
    numbers: Floats = state["numbers"]
    used = np.flatnonzero(numbers >= 0)
    used = used[np.argsort(numbers[used])]
    return Ring(state["first"], numbers[used].tolist(), state["panes"][used].astype("<f8").tobytes())


def check(model: Model, share: ModelShare) -> None:
    """Raise ValueError, which says what differs, unless a share can be added to others of this model."""
    for name, version in share.versions.items():
        reference = model.reference_of(name)
        told = f"model {model.name}, version {name}"
        if version.profile != reference.digest:
            raise ValueError(f"{told}: it counts by profile {version.profile}, and here is profile {reference.digest}")
        if version.layout != reference.layout_digest:
            raise ValueError(f"{told}: settings of the model differ, or the versions of mlops-exporter")
        if not _fits(model, name, version):
            raise ValueError(f"{told}: windows or label_delay differ")
        size, blank = reference.layout.size, _blank(model, name)
        for rings, windows, cells in ((version.windows, blank.rings, size), (version.coverage, blank.coverage, 2)):
            for window in windows:
                if not _is_whole(rings[window.name], len(window.numbers), cells):
                    raise ValueError(f"{told}: the window of {window.length:g} s is damaged")
        if len(version.lifetime) != size * 8 or not _is_finite(version.lifetime):
            raise ValueError(f"{told}: its sums are damaged")
    if share.counts.keys() != set(COUNTS):
        raise ValueError(f"model {model.name}: another version of mlops-exporter")


def _is_whole(ring: Ring, most: int, cells: int) -> bool:
    """Whether a ring is one of `most` panes of so many cells."""
    numbers = ring.numbers
    ascends = all(a < b for a, b in pairwise([-1, *numbers, _LATEST_PANE])) and ring.first < _LATEST_PANE
    return ascends and len(numbers) <= most and len(ring.panes) == len(numbers) * cells * 8 and _is_finite(ring.panes)


def _is_finite(cells: bytes) -> bool:
    return bool(np.isfinite(np.frombuffer(cells)).all())


class Fleet:
    """The last shares of several exporters, by who they are, and what is left of exporters that began anew."""

    def __init__(self) -> None:
        self._shares: dict[str, Shares] = {}
        self._before: dict[tuple[str, ...], Floats] = {}
        """By model, version and what its cells mean, the lifetimes of exporters that began anew: counters never go
        back."""

    def __contains__(self, exporter: str) -> bool:
        return exporter in self._shares

    def put(self, exporter: str, shares: Shares) -> None:
        """Take the newest shares of an exporter."""
        known = self._shares.get(exporter)
        for model, share in known.models.items() if known else ():
            for name, version in share.versions.items():
                now = shares.models[model].versions.get(name) if model in shares.models else None
                if now is None or _events(now) < _events(version):
                    key = (model, name, version.profile, version.layout)
                    self._before[key] = np.frombuffer(version.lifetime) + self._before.get(key, 0.0)
        self._shares[exporter] = shares

    def keep(self, exporters: Sequence[str]) -> None:
        """Forget all other exporters."""
        self._shares = {name: shares for name, shares in self._shares.items() if name in exporters}

    def add_up(self, model: Model, now: float) -> None:
        """Let a model have counted what all exporters have, but for shares from before it was configured anew."""
        shares = [it.models[model.name] for it in self._shares.values() if model.name in it.models]
        of_versions: dict[str, list[VersionShare]] = {}
        for share in shares:
            for name, version in share.versions.items():
                if _fits(model, name, version):
                    of_versions.setdefault(name, []).append(version)
        refused = model.admit(
            {name: max(each.last_prediction or -math.inf for each in several) for name, several in of_versions.items()},
            now,
        )
        for name in of_versions.keys() - refused:
            several, here = of_versions[name], model.versions[name]
            key = (model.name, name, several[0].profile, several[0].layout)
            state = _sum(several, here, self._before.get(key))
            here.restore(state | {"seen": now}, [(slice(None), slice(None))])
            model.waiting_elsewhere[name] = sum(each.waiting for each in several)
        for count in COUNTS:
            setattr(model, count, sum(share.counts[count] for share in shares))
        for outcome, tally in model.late.tallies.items():
            told = [share.late.get(outcome, {}) for share in shares]
            tally.counts = {name: sum(each.get(name, 0) for each in told) for name in tally.counts}
        model.given_up = {}
        for share in shares:
            for name, number in share.given_up.items():
                model.given_up[name] = model.given_up.get(name, 0) + number


def _fits(model: Model, name: str, version: VersionShare) -> bool:
    """Whether the cells and windows of a version mean what they do here."""
    reference, blank = model.reference_of(name), _blank(model, name)
    return (
        (version.profile, version.layout) == (reference.digest, reference.layout_digest)
        and version.windows.keys() == {window.name for window in blank.rings}
        and version.coverage.keys() == {window.name for window in blank.coverage}
    )


def _blank(model: Model, name: str) -> Version:
    """Return a version that has counted nothing."""
    return Version(
        name,
        model.reference_of(name).layout,
        model.settings.windows,
        model.settings.label_delay,
        rhythm=Rhythm.of(model.settings),
    )


def _events(version: VersionShare) -> float:
    return float(np.frombuffer(version.lifetime)[:3].sum())


def _sum(several: Sequence[VersionShare], version: Version, before: Floats | None) -> dict[str, Any]:
    """Return the state of a version that has counted what several have."""
    lifetime = np.sum([np.frombuffer(each.lifetime) for each in several], axis=0)
    if before is not None:
        lifetime = lifetime + before
    begun = [each.begun for each in several if each.begun is not None]
    return {
        "lifetime": lifetime,
        "windows": {w.name: _sum_of_rings(w, [each.windows[w.name] for each in several]) for w in version.rings},
        "coverage": {w.name: _sum_of_rings(w, [each.coverage[w.name] for each in several]) for w in version.coverage},
        "last_prediction": max((each.last_prediction or 0.0 for each in several), default=0.0) or None,
        "last_label": max((each.last_label or 0.0 for each in several), default=0.0) or None,
        "begun": min(begun, default=None),
        "unlabelled": sum(each.unlabelled for each in several),
    }


def _sum_of_rings(window: Window, rings: Sequence[Ring]) -> dict[str, Any]:
    whole = Window(window.length, window.panes.shape[1], len(window.numbers))
    for ring in rings:
        numbers = np.array(ring.numbers, np.intp)
        whole.add_panes(numbers, np.frombuffer(ring.panes).reshape(len(numbers), -1), held=False)
    whole.first = max(ring.first for ring in rings)
    return whole.state()
