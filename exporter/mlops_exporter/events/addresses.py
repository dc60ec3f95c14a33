"""What the events of a body find each other by, beside each event's own text, which is read no further.

That is the id, or the series of a forecast whose series and time stand for one. So an event can be passed on, as it
came, to whoever keeps what it belongs to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mlops_exporter.events.arrays import Elements
from mlops_exporter.events.forecasts import read_target
from mlops_exporter.events.formats import BYTE_ORDER_MARK, FRAME, in_utf16
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
        if typed and (known := _addresses(texts)) is not None:
            self.texts += texts
            self.addresses += known
        else:
            for line, address_ in map(_line, texts):
                self.texts.append(line)
                self.addresses.append(address_)


_NO_JSON, _NO_OBJECT = b"?", b"0"
_event = msgspec.json.Decoder(_Event)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def addresses(body: bytes, found: Addressed, limit: int | None = None) -> Iterator[None]:
    """Find the events of a body of JSON, in the forms in which events are decoded, with pauses for others.

    An event that cannot be read has no address: it is refused wherever it is passed to.
    Raises TooManyEventsError for more than `limit`.
    """
    if in_utf16(body):
        found.add([1], [_NO_JSON], typed=False)
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


def _addresses(texts: Sequence[bytes]) -> list[str | None] | None:
    """Return the addresses of events, each one object on one line; None where one is something else."""
    try:
        events = _event.decode_lines(b"\n".join(texts))
    except _UNREADABLE:
        return None
    return [address(event.id, event.series) for event in events] if len(events) == len(texts) else None


def _line(text: bytes) -> tuple[bytes, str | None]:
    """Return a line, and its address.

    What is no event is made such that it is refused for the same reason, whatever lines it stands among: by itself, an
    array is a body of events, and so is an object that lines make up.
    """
    if len(text) > MAX_EVENT_BYTES:
        return _NO_JSON + text[1:], None
    try:
        event = parse(text)
    except Refused:
        return (text if text.startswith(FRAME) else _NO_JSON + text), None
    if not isinstance(event, dict):
        return _NO_OBJECT, None
    return text, address(event.get("id"), event.get("series"))


def address(id_: Any, series: Any) -> str | None:
    """Return what an event with this id, or of this series, is found by; None for neither, or one of no use."""
    try:
        found = read_id(id_)
        return read_target(series, None)[0] if found is None else found
    except Refused:
        return None
