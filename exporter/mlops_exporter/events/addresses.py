"""What the events of a body find each other by, beside each event's own text, which is read no further.

That is the id, or the series of a forecast whose series and time stand for one. So an event can be passed on, as it
came, to whoever keeps what it belongs to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mlops_exporter.events.arrays import Elements
from mlops_exporter.events.formats import BYTE_ORDER_MARK, in_utf16
from mlops_exporter.events.reasons import MAX_EVENT_BYTES, Refused
from mlops_exporter.events.schema import read_id
from mlops_exporter.events.texts import are_json, count_lines, hold, is_one_object, lines_of, parse, runs

STEP_EVENTS = 500
"""Events that are read between two pauses."""


class _Event(msgspec.Struct, gc=False):
    id: Any = None
    series: Any = None


@dataclass(slots=True)
class Addressed:
    """The events of a body: numbers (from 1), texts, each on one line, and what they are found by, None for nothing."""

    numbers: list[int] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    addresses: list[str | None] = field(default_factory=list)

    def add(self, numbers: Iterable[int], texts: Sequence[bytes], *, typed: bool) -> None:
        """Take in events; `typed` where each line surely is one object."""
        self.numbers += numbers
        self.texts += texts
        self.addresses += _addresses(texts, typed=typed)


_event = msgspec.json.Decoder(_Event)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def addresses(body: bytes, found: Addressed, limit: int | None = None) -> Iterator[None]:
    """Find the events of a body of JSON, in the forms in which events are decoded, with pauses for others.

    An event that cannot be read has no address: it is refused wherever it is passed to.
    Raises TooManyEventsError for more than `limit`.
    """
    if in_utf16(body):
        found.add([1], [body], typed=False)
        return
    body = body.removeprefix(BYTE_ORDER_MARK)
    text = body.lstrip()
    if text[:1] == b"[":
        elements = Elements(text, limit)
        yield from elements.find()
        hold(elements.count, limit)
        if elements.whole and (yield from are_json(text, elements)):
            for first, places in runs(elements):
                cut = [_on_one_line(text[place]) for place in places]
                found.add(range(first, first + len(cut)), cut, typed=True)
                yield
            return
    elif text[:1] == b"{" and is_one_object(text):
        found.add([1], [_on_one_line(text)], typed=True)
        return
    if not text:
        return
    hold(count_lines(body), limit)
    _, regular = lines_of(body)
    lines = body.split(b"\n")
    for first in range(0, len(lines), STEP_EVENTS):
        some = [
            (number, line) for number, line in enumerate(lines[first : first + STEP_EVENTS], first + 1) if line.strip()
        ]
        if some:
            numbers, texts = zip(*some, strict=True)
            found.add(numbers, texts, typed=regular)
        yield


def _on_one_line(text: bytes) -> bytes:
    """Return JSON without line ends, which stand only between its tokens."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def _addresses(texts: Sequence[bytes], *, typed: bool) -> Iterable[str | None]:
    if typed:
        try:
            events = _event.decode_lines(b"\n".join(texts))
        except _UNREADABLE:
            pass
        else:
            if len(events) == len(texts):
                return [address(event.id, event.series) for event in events]
    return map(_address_of, texts)


def _address_of(text: bytes) -> str | None:
    try:
        event = parse(text) if len(text) <= MAX_EVENT_BYTES else None
    except Refused:
        return None
    return address(event.get("id"), event.get("series")) if isinstance(event, dict) else None


def address(id_: Any, series: Any) -> str | None:
    """Return what an event with this id, or of this series, is found by; None for neither, or one of no use."""
    try:
        found = read_id(id_)
        return read_id(series) if found is None else found
    except Refused:
        return None
