"""The partial ledger: the sums of some events of one version and one pane, as a thing that travels.

Whoever can count makes one, and an exporter adds it to the version's own. docs/partial-ledgers.md describes the format.
A body is a msgpack array of them.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import xxhash

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.reference import Reference
from mlops_exporter.counting.rhythm import Rhythm
from mlops_exporter.counting.windows import PANES, first_shown
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS, Refused
from mlops_exporter.settings.models import ModelSettings

FORMAT = 1
MOST_LEDGERS = 200
"""In a body: they are examined and counted at one time, in less than a tenth of a second."""

LATEST = 1e11
"""Unix seconds that no pane reaches."""

SHORTEST = 1e-3
"""Seconds of a pane."""

MOST_EVENTS = 1_000_000_000
"""In a ledger: beyond it a number says nothing, and would take the digits of later ones from the sums it enters."""

_ROUNDING = 1e-9
"""How far sums of fractions may lie beyond their bounds, relatively."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Origin = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Digest = Annotated[str, msgspec.Meta(max_length=64)]


class Pane(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of time: `start` in Unix seconds, a multiple of its `width` in seconds."""

    start: float
    width: float

    @property
    def number(self) -> int:
        """How many such panes there are from 1970 to its start."""
        return round(self.start / self.width)

    @property
    def end(self) -> float:
        """Where the next one starts, in Unix seconds."""
        return self.start + self.width


class PartialLedger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sums of events of one version, counted by the profile and the layout with these digests.

    `cells` are little-endian doubles. By (`producer`, `epoch`, pane) it is known when it comes again. `last_prediction`
    and `last_label` are the times of the newest that the producer has counted, in Unix seconds.
    """

    format: int
    model: Annotated[str, msgspec.Meta(min_length=1)]
    version: _Name
    profile: _Digest
    layout: _Digest
    pane: Pane
    producer: _Origin
    epoch: _Origin
    last_prediction: float | None = None
    last_label: float | None = None
    cells: bytes

    @property
    def key(self) -> bytes:
        """Return what is the same of the same ledger, whatever its cells."""
        pane = self.pane
        named = (self.model, self.version, self.producer, self.epoch, pane.number, round(pane.width, 6))
        return xxhash.xxh3_128_digest(msgspec.msgpack.encode(named))

    @property
    def digest(self) -> bytes:
        """Return what is the same of ledgers of the same key and cells."""
        return xxhash.xxh3_64_digest(self.cells)

    def numbers(self) -> Floats:
        """Return the cells, for reading only."""
        return np.frombuffer(self.cells, "<f8")

    def plus(self, other: "PartialLedger") -> "PartialLedger":
        """Return the ledger of the events of both, which have the same key."""
        return msgspec.structs.replace(
            self,
            cells=(self.numbers() + other.numbers()).tobytes(),
            last_prediction=_later(self.last_prediction, other.last_prediction),
            last_label=_later(self.last_label, other.last_label),
        )


def _later(one: float | None, other: float | None) -> float | None:
    return max((time for time in (one, other) if time is not None), default=None)


_decoder = msgspec.msgpack.Decoder(PartialLedger)
_parts_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_SMALLEST: Final = 100
"""Fewer bytes no ledger has."""
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_TOLD = 300
"""Characters of what is said of a ledger that cannot be read: it may repeat what is in it."""


def encode(ledgers: Iterable[PartialLedger]) -> bytes:
    """Return a body of ledgers."""
    return msgspec.msgpack.encode(list(ledgers))


def decode(body: bytes) -> "list[PartialLedger | Refused]":
    """Return the ledgers of a body, and in the place of each that is none why; a body of another kind is one of those.

    Nothing of it depends on what is configured.
    """
    count = _length(body)
    if count is None or count * _SMALLEST > len(body):
        return [Refused("bad_ledger", "the body is not a msgpack array of ledgers")]
    if count > MOST_LEDGERS:
        return [Refused("bad_ledger", f"the body holds {count} ledgers: send {MOST_LEDGERS} at most")]
    try:
        parts = _parts_decoder.decode(body)
    except _UNREADABLE as error:
        return [Refused("bad_ledger", f"the body is not a msgpack array of ledgers: {error}"[:_TOLD])]
    return [_decoded(part) for part in parts]


def _length(body: bytes) -> int | None:
    """Return how many elements a msgpack array says it has, None for what is none: before any is read."""
    first = body[0] if body else 0
    if 0x90 <= first <= 0x9F:
        return first - 0x90
    size = {0xDC: 2, 0xDD: 4}.get(first)
    return None if size is None or len(body) < 1 + size else int.from_bytes(body[1 : 1 + size])


def _decoded(part: msgspec.Raw) -> PartialLedger | Refused:
    try:
        ledger = _decoder.decode(part)
    except _UNREADABLE as error:
        return Refused("bad_ledger", str(error)[:_TOLD])
    if ledger.format != FORMAT:
        return Refused("bad_ledger", f"it is of format {ledger.format}, and this exporter reads format {FORMAT}")
    pane = ledger.pane
    if not (0 <= pane.start < LATEST and SHORTEST <= pane.width < LATEST):
        return Refused("bad_pane", f"it starts at {pane.start!r} and is {pane.width!r} wide: write Unix seconds")
    if len(ledger.cells) % 8:
        return Refused("bad_cells", f"{len(ledger.cells)} bytes are no whole number of doubles")
    return ledger


def examine(ledger: PartialLedger, reference: Reference, arrived: float, oldest: float) -> None:
    """Raise Refused unless a ledger that arrived then can be added to a version that is counted by the reference.

    Panes that ended by `oldest` are too old. All that is looked at here is the same after a restart.
    """
    if ledger.profile != reference.digest:
        raise Refused(
            "other_profile", f"it is counted by profile {ledger.profile}, and here by profile {reference.digest}"
        )
    if ledger.layout != reference.layout_digest:
        raise Refused(
            "other_layout",
            f"its cells are those of layout {ledger.layout}, and here of layout {reference.layout_digest}: settings of "
            "the model differ, or the versions of mlops-exporter",
        )
    _examine_pane(ledger.pane, reference.settings, arrived, oldest)
    for name, time in (("last_prediction", ledger.last_prediction), ("last_label", ledger.last_label)):
        if time is not None and not 0 <= time <= arrived + CLOCK_SKEW_SECONDS:
            raise Refused("bad_pane", f"{name} {time:.3f} is no time in the past")
    if (why := _fault(ledger.numbers(), reference)) is not None:
        raise Refused("bad_cells", why)


def narrowest(windows: Sequence[float]) -> float:
    """Return the width of the panes that a ledger has unless it says otherwise, in seconds."""
    return min(windows) / PANES


def _examine_pane(pane: Pane, settings: ModelSettings, arrived: float, oldest: float) -> None:
    windows = settings.windows
    widths = [window / PANES for window in windows]
    if (rhythm := Rhythm.of(settings)) is not None:
        _examine_pane_of_a_job(pane, widths[0], rhythm)
    shorter = None
    for window, width in zip(windows, widths, strict=True):
        if math.isclose(width, pane.width, rel_tol=1e-9):
            break
        shorter = window
    else:
        allowed = ", ".join(f"{width:g}" for width in widths)
        raise Refused("bad_pane", f"it is {pane.width:g} s wide: panes of this model are {allowed} s wide")
    if not math.isclose(pane.start, pane.number * width, rel_tol=0, abs_tol=1e-3 * width):
        raise Refused("bad_pane", f"it starts at {pane.start!r}, which is no multiple of its width, {width:g} s")
    if pane.start > arrived + CLOCK_SKEW_SECONDS:
        raise Refused("future_pane", f"it starts {pane.start - arrived:.0f} s ahead of the exporter's clock")
    if pane.end <= oldest:
        raise Refused("pane_too_old", f"it ended {arrived - pane.end:.0f} s ago (limits.ledger_age)")
    if shorter is not None and pane.end > first_shown(shorter, arrived):
        raise Refused(
            "bad_pane",
            f"it is {width:g} s wide, and the window of {shorter:g} s shows some of it: send panes of {widths[0]:g} s",
        )


def _examine_pane_of_a_job(pane: Pane, narrowest: float, rhythm: Rhythm) -> None:
    """Raise Refused for a pane that may put a batch into the place of another: batches may be off by an eighth."""
    if narrowest > rhythm.pause / 8:
        raise Refused(
            "bad_pane",
            f"panes of this model are {narrowest:g} s wide, more than an eighth of the {rhythm.pause:g} s between two "
            "batches of its cadence: give it a window of the last batch",
        )
    if pane.width > narrowest * (1 + 1e-9):
        raise Refused(
            "bad_pane",
            f"it is {pane.width:g} s wide, and windows of a model with a cadence hold batches: send panes of "
            f"{narrowest:g} s",
        )


def _fault(cells: Floats, reference: Reference) -> str | None:
    """Return why no events add up to these cells, None where some may."""
    layout, bounds = reference.layout, reference.bounds
    if len(cells) != layout.size:
        return f"there are {len(cells)} cells, and the layout has {layout.size}"
    if (place := _first(~np.isfinite(cells), layout)) is not None:
        return f"{place} is NaN or infinite"
    predictions, labels = float(cells[layout.predictions.start]), float(cells[layout.labels.start])
    events = max(predictions, labels)
    if not 0 < events <= MOST_EVENTS:
        return f"it holds {events:g} events, which are not 1 to {MOST_EVENTS}"
    if (place := _first(bounds.whole & (cells != np.floor(cells)), layout)) is not None:
        return f"{place} is a count, and no whole number"
    slack = 1.0 + _ROUNDING
    if (place := _first(cells < events * bounds.least * slack, layout)) is not None:
        return f"{place} is less than {events:g} events can add up to"
    if (place := _first(cells > events * bounds.most * slack, layout)) is not None:
        return f"{place} is more than {events:g} events can add up to"
    for of, most in ((layout.of_predictions, predictions), (layout.of_labels, labels)):
        for name, section in of.items():
            if (total := float(cells[section].sum())) > most:
                return f"{name!r} counts {total:g} of {most:g}"
    return None


def _first(wrong: Any, layout: Layout) -> str | None:
    """Return which cell is the first that is wrong, None if none is."""
    if not wrong.any():
        return None
    cell = int(wrong.argmax())
    name, section = next((name, it) for name, it in layout.sections.items() if it.start <= cell < it.stop)
    return f"cell {cell} ({cell - section.start} of {name!r})"
