import json

import pytest

from mlops_exporter.sources import lines
from mlops_exporter.sources.lines import MALFORMED, lines_of, ndjson

A, B = b'{"model":"m","id":1}', b'{"model":"m","id":2}'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (A, [A]),
        (b" " + A + b"\r\n", [A]),
        (A + b"\n" + B, [A, B]),
        (A + b"\n\n" + B + b"\n", [A, B]),
        (b"[" + A + b",\n" + B + b"]", [A, B]),
        (b"[]", []),
        (b"[[1]]", [MALFORMED]),
        (b"[" + A, [MALFORMED]),
        (b"", [MALFORMED]),
        (b" \n", [MALFORMED]),
        (b"\xff\x00", [b"\xff\x00"]),
        (A + b"\n[" + B + b"]", [A, B]),
        (A + b"\n[broken\n" + B, [A, MALFORMED, B]),
        (b'{"model":\n' + B, [b'{"model":', B]),
    ],
)
def test_a_message_becomes_lines(value: bytes, expected: list[bytes]) -> None:
    assert lines_of(value) == expected


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pretty_printed_event_keeps_its_content_on_one_line(wrapped: bool) -> None:
    event = {"model": "m", "id": "a\nb", "features": {"x": [1, 2], "y": {"z": None}}}
    (line,) = lines_of(json.dumps([event] if wrapped else event, indent=2).encode())
    assert b"\n" not in line
    assert json.loads(line) == event


def test_a_message_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", len(A) - 1)
    assert lines_of(A) == [MALFORMED]


def test_plain_lines_pass_untouched() -> None:
    chunk = A + b"\n" + B + b"\n"
    assert ndjson(chunk) is chunk


@pytest.mark.parametrize(
    "chunk", [b"[" + A + b"," + B + b"]\n", b"\n[" + A + b"]\n" + B, b"  [" + A + b"]\n" + B + b"\n"]
)
def test_an_array_on_a_line_is_laid_out(chunk: bytes) -> None:
    assert ndjson(chunk).split(b"\n") == [A, B]


def test_a_bracket_at_the_beginning_spoils_one_line_only() -> None:
    assert ndjson(b"[oops\n" + A + b"\n" + B + b"\n").split(b"\n") == [MALFORMED, A, B]
