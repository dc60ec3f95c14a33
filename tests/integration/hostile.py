"""Bodies that somebody who means harm, or a broken client, might post: as they are, with their headers."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' or 1=1 --",
    "line\nfeed\r\n",
    'quote" and back\\slash \\n',
    "nul\x00 and \x1b[31mred",
    "\u202eright to left\u2066",
    "\ufeffmark \u2028 \u00a0",
    "e\u0301\U0001f600" * 8,
    "%s %(x)s {0} ${HOME} {{ .Value }}",
    'x"} 1\nml_model_predictions_total{model="forged"} 1e9',
    ",feature=",
    " ",
]
"""Strings that break out of whatever does not escape them; the longest are short enough for a version."""

NUMBERS = ["NaN", "Infinity", "-Infinity", "1e308", "-1e308", "5e-324", "-0.0", "1e999", "9" * 400, "1" + "0" * 5000]
TIMES = ["0", "1", "-1", "-1e18", "1e308", "4070908800", "1e12", "NaN", '"1970-01-01T00:00:00Z"']
TIMES += [
    '"2099-01-01T00:00:00Z"',
    '"0001-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59Z"',
    '"\\ud800"',
    '"yesterday"',
    "{}",
]
LONG = "x" * 10_000_000


class Body(NamedTuple):
    """A body, with the headers that tell what it is."""

    content: bytes
    headers: dict[str, str]


def ndjson(*lines: str, **headers: str) -> Body:
    """Return lines as a body; a lone surrogate becomes bytes that are no UTF-8."""
    content = "\n".join(lines).encode(errors="surrogatepass")
    return Body(content, {"content-type": "application/x-ndjson", **headers})


def bodies(number: Iterator[int]) -> Iterator[Body]:
    """Yield every kind of hostile body; `number` makes values that never come twice."""
    yield from (names(number), numbers(number), times(number), types())
    yield from structures(number)
    yield from packed()


def names(number: Iterator[int]) -> Body:
    """Strings where names belong, each with a number of its own."""
    lines = []
    for evil in [*EVIL, "a", "\ud800"]:
        for text in (f"{evil}{next(number)}", evil):
            credit: dict[str, Any] = {"model": "credit", "version": "3", "score": 0.5, "features": {"country": text}}
            lines += [
                json.dumps({**credit, "model": text}),
                json.dumps({**credit, "version": text}),
                json.dumps({**credit, "id": text}),
                json.dumps({**credit, "id": text, "label": text}),
                json.dumps({**credit, "groups": {"sex": text, text: text}}),
                json.dumps({**credit, "error": text, text: text}),
                json.dumps({"model": "iris", "prediction": text, "label": text, "scores": {text: 1.0}}),
                json.dumps({**credit, "features": {text: 1, "amount": text, "member": [text], "country": {}}}),
            ]
    return ndjson(*lines)


def numbers(number: Iterator[int]) -> Body:
    """Numbers at and beyond the ends of what a float holds, wherever a number belongs."""
    lines = []
    for value in [*NUMBERS, *(f"-{next(number)}e300" for _ in range(3))]:
        lines += [
            f'{{"model":"price","version":"3","prediction":{value},"label":{value}}}',
            f'{{"model":"price","version":"3","prediction":1,"label":{value},"features":{{"rooms":{value}}}}}',
            f'{{"model":"price","version":"3","prediction":{value},"label":1}}',
            f'{{"model":"price","version":"3","prediction":30000,"label":-30000,"latency_seconds":{value}}}',
            f'{{"model":"credit","version":"3","score":{value},"features":{{"amount":{value},"country":{value}}}}}',
            f'{{"model":"credit","version":{value},"score":0.5,"id":{value}}}',
            f'{{"model":"iris","version":"3","scores":{{"setosa":{value},"virginica":{value}}}}}',
        ]
    return ndjson(*lines)


def times(number: Iterator[int]) -> Body:
    """Times of long ago, of the future, and of no calendar."""
    lines = []
    for time in TIMES:
        key = f"time {next(number)}"
        lines += [
            f'{{"model":"credit","version":"3","id":"{key}","score":0.5,"ts":{time}}}',
            f'{{"model":"credit","id":"{key}","label":1,"ts":{time}}}',
        ]
    return ndjson(*lines)


def types() -> Body:
    """Every kind of JSON value wherever a value belongs, and on its own."""
    values = ["null", "true", "[]", "{}", "[[]]", '{"a":{}}', "7", '""', '"text"', "-1.5"]
    members = ["model", "version", "id", "ts", "features", "groups", "score", "prediction", "label", "error"]
    good = {"model": '"credit"', "version": '"3"', "score": "0.5"}
    events = [{**good, member: value} for member in members for value in values]
    events += [{"model": '"credit"'}, {"model": '"credit"', "label": "1"}]
    return ndjson(*values, *("{" + ",".join(f'"{name}":{value}' for name, value in e.items()) + "}" for e in events))


def structures(number: Iterator[int]) -> Iterator[Body]:
    """Yield JSON that is too deep, too long, too wide, or says a thing twice."""
    deep = "[" * 100_000
    closed = deep + "]" * 100_000
    objects = '{"a":' * 100_000 + "1" + "}" * 100_000
    good = f'{{"model":"credit","version":"3","id":"good {next(number)}","score":0.5}}'
    yield ndjson(deep, closed, objects, good)
    yield ndjson(closed)
    yield ndjson(*(f'{{"model":"credit","version":"3","score":0.5,"{key}":{closed}}}' for key in ("features", "more")))
    yield ndjson(f'{{"model":"credit","version":"3","score":0.5,"features":{{"amount":{objects}}}}}', good)
    yield ndjson(f'{{"model":"{LONG}","score":0.5}}')
    yield ndjson(f'{{"model":"credit","version":"3","id":"{LONG}","score":0.5}}')
    yield ndjson(f'{{"model":"credit","version":"{LONG}","score":0.5}}')
    yield ndjson(f'{{"model":"credit","version":"3","error":"{LONG}","features":{{"country":"{LONG[:5_000_000]}"}}}}')
    yield ndjson(LONG)
    yield ndjson('{"model":"credit","version":"3","features":{"amount":[' + "1," * 1_000_000 + "1]}}")
    yield Body(b"[" + b"{}," * 100_000 + b"{}]", {"content-type": "application/json"})
    yield ndjson('{"model":"nobody","model":"credit","version":"x","version":"3","score":2,"score":0.5}')
    yield Body(b'{"model":\n"credit",' * 1000, {"content-type": "application/json"})
    yield Body(b"\xff\xfe\x00\x01" * 1000, {"content-type": "application/x-ndjson"})
    yield Body(b"\xff\xff\xff\xff" + b"\x7f" * 1000, {"content-type": "application/vnd.apache.arrow.stream"})
    yield Body(b"\n" * 1_000_000, {"content-type": "application/x-ndjson"})
    yield ndjson(good, **{"content-type": "text/plain"})


def packed() -> Iterator[Body]:
    """Yield bodies that grow when they are unpacked, or are not what they say."""
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64)) + compressor.flush()
    event = b'{"model":"credit","version":"3","score":0.5}'
    nested = gzip.compress(gzip.compress(gzip.compress(event)))
    for content in (bomb, nested, gzip.compress(event)[:-3], event, gzip.compress(b"") * 1000):
        yield Body(content, {"content-type": "application/x-ndjson", "content-encoding": "gzip"})
