"""How a body or message begins tells its format."""

import re

ARROW_STREAM = b"\xff\xff\xff\xff"
"""How an Arrow IPC stream begins, and no JSON does."""

FRAME = b"\x00"
"""How a message begins that a client of a schema registry has framed; alone, it stands for one that holds no JSON."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_UNMARKED = re.compile(rb"((?:[\t\n\r -~]\0){2}|(?:[\t\n\r -~]\0{3}){2})|(?:\0[\t\n\r -~]){2}|(?:\0{3}[\t\n\r -~]){2}")
"""JSON begins with two characters of ASCII at least; in UTF-16 and UTF-32 zeros stand between them."""


def in_utf16(body: bytes) -> bool:
    """Tell whether a body is a text in UTF-16 or UTF-32, with or without a mark of byte order, and none in UTF-8."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in body[:8]:
        little = body.startswith(b"\xff")
    elif found := _UNMARKED.match(body):
        little = found[1] is not None
    else:
        return False
    line_end = b"\n\0" if little else b"\0\n"
    return body.count(b"\n") == body.count(line_end)  # of all lines, so that no good one is lost
