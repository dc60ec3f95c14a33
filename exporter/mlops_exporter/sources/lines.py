"""From what a source pulled to NDJSON that the intake takes line by line, so that no event can spoil its neighbours."""

import json
import re

import msgspec

from mlops_exporter.events.arrays import Elements
from mlops_exporter.events.formats import BYTE_ORDER_MARK, FRAME, in_utf16

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest event. A longer one is refused unread."""

_FRAME_BYTES = 5
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # no JSON has these
MAX_MESSAGE_EVENTS = 100_000
"""Events of one message. One that holds more is refused as a whole."""

MALFORMED = b"?"
"""A line that the intake counts as `malformed_json`: it stands for what cannot be handed over as it is."""


def lines_of(value: bytes) -> list[bytes]:
    """Return the events of a message, one line each: one object, a JSON array of them, or NDJSON.

    What is no JSON yields one line that the intake refuses, also where it has line ends: they are none of binary data.
    No line begins with a bracket: a body that did would be read as one array. JSON behind the frame of a schema
    registry (a zero and the four bytes of the schema's id) is read.
    """
    if value[:1] == b"{" and value[-1:] == b"}" and b"\n" not in value and len(value) <= MAX_LINE_BYTES:
        return [value]  # as nearly all are
    if in_utf16(value):
        return [MALFORMED]
    if value.startswith(FRAME):
        value = value[_FRAME_BYTES:]
        if not value.lstrip().startswith((b"{", b"[")):
            return [FRAME]
    value = value.removeprefix(BYTE_ORDER_MARK).strip()
    if not value or len(value) > MAX_LINE_BYTES:
        return [MALFORMED]
    if value.startswith(b"["):
        return _elements(value)
    if value.count(b"\n") >= MAX_MESSAGE_EVENTS:
        return [MALFORMED]
    if b"\n" not in value:
        return [value]
    if not _is_text(value):
        return [MALFORMED]
    if value.startswith(b"{") and not value[: value.index(b"\n")].rstrip().endswith(b"}") and _is_json(value):
        return [_on_one_line(value)]
    return [event for line in value.split(b"\n") if line.strip() for event in lines_of(line)]


def ndjson(chunk: bytes) -> bytes:
    """Return whole lines with every line that is an array laid out as one line per element."""
    if not (chunk[:1].isspace() or chunk.startswith((b"[", BYTE_ORDER_MARK)) or b"\n[" in chunk):
        return chunk
    return b"\n".join(event for line in chunk.split(b"\n") if line.strip() for event in lines_of(line))


def _elements(value: bytes) -> list[bytes]:
    found = Elements(value, MAX_MESSAGE_EVENTS)
    for _ in found.find():
        pass
    if found.count > MAX_MESSAGE_EVENTS:
        return [MALFORMED]
    try:
        elements = msgspec.json.decode(value, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return [MALFORMED]
    return [MALFORMED if element.startswith(b"[") else _on_one_line(element) for element in map(bytes, elements)]


def _is_text(value: bytes) -> bool:
    """Whether a message may be lines of text: one that begins as JSON does is read as leniently as any."""
    if _BINARY.search(value):
        return False
    if value.startswith((b"{", b"[")):
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def _on_one_line(value: bytes) -> bytes:
    """Return a JSON value without line ends, which JSON has between tokens only."""
    return value.replace(b"\n", b" ")
