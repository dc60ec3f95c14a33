"""Random bodies: events that are right, nearly right, wrong in every known way, and then damaged byte by byte."""

import json
from random import Random
from typing import Any

from tests.models import NOW

_FINE_NUMBERS = ["0", "-0", "0.0", "-0.0", "1", "5.5", "12", "25.25", "1e1", "3E-1", "29.999", "1.0", "3e4", "-3e4"]
_ODD_NUMBERS = ["1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e308", "5e-324", "18446744073709551617", "1e51"]
_ODD_NUMBERS += [
    "9223372036854775808",
    "-9223372036854775809",
    "9" * 60,
    "9" * 400,
    "01",
    "+1",
    "1.",
    ".5",
    "0x1",
    "1_0",
]
_STRINGS = [
    '"DE"',
    '"FR"',
    '"1"',
    '"1.0"',
    '"01"',
    '"1.50"',
    '""',
    '"true"',
    '"True"',
    '"é"',
    '"\\u00e9"',
    '"\\ud83d\\ude00"',
]
_ODD_STRINGS = ['"\\ud800"', '"a\\u0000b"', '"\\x"', '"\x01"', '"\t"', '"', "'a'", '"' + "x" * 300 + '"', '"1.0\\n"']
_OTHER = ["null", "true", "false", "[]", "{}", "[1]", '{"a":1}', "[[[]]]", "nul", "undefined", ""]
_ANY = [*_FINE_NUMBERS, *_ODD_NUMBERS, *_STRINGS, *_ODD_STRINGS, *_OTHER]
_CLASSES = {
    "credit": ["0", "1", '"0"', '"1"', "1.0", "0.0", '"1.0"', "-0.0", "null"],
    "iris": ['"setosa"', '"versicolor"', '"virginica"', "null"],
    "price": [*_FINE_NUMBERS, "null"],
    "truth": ["true", "false", '"true"', '"false"', "null"],
}
_TIMES = [
    "null",
    str(NOW),
    str(int(NOW)),
    str(NOW - 1e6),
    str(NOW + 100),
    "0",
    '"2023-11-14T22:13:20Z"',
    '"2023-11-14T22:13:20.25Z"',
    '"2023-11-14T22:13:20.123456789+00:00"',
    '"2023-11-14T23:13:20+01:00"',
    '"2023-11-14 22:13:20Z"',
    '"2023-11-14t22:13:20z"',
    '"1969-12-31T23:59:59Z"',
    '"0001-01-01T00:00:00+23:59"',
]
_BAD_TIMES = [
    str(NOW * 1000),
    "-1",
    '"2023-11-14T22:13:20"',
    '"2023-11-14"',
    '"2023-02-30T00:00:00Z"',
    '"9999-12-31T23:59:59-23:59"',
    '"2023-11-14T22:13:60Z"',
    '"2023-11-14T24:00:00Z"',
    '"1700000000"',
]
_FEATURES: dict[str, dict[str, list[str]]] = {
    "credit": {
        "amount": [*_FINE_NUMBERS, "null"],
        "country": [*_STRINGS, "1", "1.0", "null"],
        "age": _FINE_NUMBERS,
        "member": ["true", "false", '"true"', "null"],
        "reference": ["18446744073709551617", '"18446744073709551617"', "18446744073709551616", '"DE"'],
    },
    "iris": {"width": _FINE_NUMBERS, "length": _FINE_NUMBERS},
    "price": {"rooms": _FINE_NUMBERS, "area": ['"north"', '"south"', '"east"']},
    "truth": {"flag": ["true", "false", "1", '"maybe"', '"true"']},
}
_SCORES = {
    "credit": ("score", ["0", "1", "0.5", "0.25", "null"]),
    "iris": ("scores", ['{"setosa":0.5,"versicolor":0.5}', '{"setosa":1,"virginica":0}', "null"]),
    "price": ("scores", ["null"]),
    "truth": ("score", ["0.75", "1.0"]),
}
_BAD_SCORES = [
    "1.5",
    "-0.1",
    '{"setosa":1.5}',
    '{"setosa":null,"virginica":1}',
    '{"rose":1}',
    '{"setosa":0.2}',
    "0.5",
    "{}",
]
_SPACES = ["", "", "", " ", "\t", "\r", "  "]
_LINE_ENDS = ["\n", "\n", "\n", "\r\n", "\n\n", "\n \n", ""]
_PIECES = [
    b"\n",
    b"\r",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"e9",
    b" ",
]


def body(random: Random) -> bytes:
    """Return a random body."""
    events = [_event(random) for _ in range(random.choice([1, 1, 2, 3, 6]))]
    kind = random.random()
    if kind < 0.12:
        made = "[" + ",".join(events) + "]" + random.choice(_SPACES)
    elif kind < 0.18:
        made = _pretty(events[0])
    else:
        ends = _LINE_ENDS if random.random() < 0.3 else ["\n"]
        made = "".join(event + random.choice(ends) for event in events)
        if random.random() < 0.3:
            made = made.rstrip("\n")
    data = made.encode(errors="surrogatepass")
    if random.random() < 0.05:
        data = random.choice([b"\xef\xbb\xbf", b"\n", b" " * 70]) + data
    while random.random() < 0.2:
        data = _damaged(random, data)
    return data


def _event(random: Random) -> str:
    model = random.choice([*_FEATURES])
    odd = random.random() < 0.35  # then every member is odd with a chance of one in six

    def pick(fine: list[str], bad: list[str] = _ANY) -> str:
        return random.choice(bad if odd and random.random() < 0.17 else fine)

    members: list[tuple[str, str]] = [("model", pick([f'"{model}"'], [*_ANY, '"unknown"']))]
    if random.random() < 0.8:
        features = [
            (f'"{feature}"', pick(values)) for feature, values in _FEATURES[model].items() if random.random() < 0.9
        ]
        if random.random() < 0.1:
            features.append(('"extra"', pick(_STRINGS)))
        members.append(("features", pick([_object(random, features)])))
    if random.random() < 0.7:
        members.append(("prediction", pick(_CLASSES[model])))
    if random.random() < 0.5:
        score, fine = _SCORES[model]
        members.append((score, pick(fine, [*_BAD_SCORES, *_ANY])))
    if random.random() < 0.3:
        members.append(("label", pick(_CLASSES[model])))
    if random.random() < 0.7:
        members.append(("id", pick(['"a1"', "7", '"é"', "-3"])))
    if random.random() < 0.6:
        members.append(("ts", pick(_TIMES, [*_BAD_TIMES, *_ANY])))
    if random.random() < 0.4:
        members.append(("version", pick(['"3"', "3", "3.0", '"3.0"', "2.5"], [*_ANY, "1e300"])))
    if random.random() < 0.3:
        members.append(("latency_seconds", pick(["0", "0.25", "null", "1e6", "1000001"])))
    if random.random() < 0.1:
        members.append(("error", pick(['"boom"', "null"])))
    if random.random() < 0.1:
        members.append(("comment", pick(_ANY)))
    if random.random() < 0.05:
        members.append((random.choice(members)[0], random.choice(_ANY)))  # the same key again
    random.shuffle(members)
    return _object(random, [(f'"{key}"', value) for key, value in members])


def _object(random: Random, members: list[tuple[str, str]]) -> str:
    if random.random() < 0.8:
        return "{" + ",".join(f"{key}:{value}" for key, value in members) + "}"
    space = random.choice(_SPACES)
    return (
        f"{{{space}" + f"{space},".join(f"{key}{space}:{space}{value}" for key, value in members) + f"{space}}}{space}"
    )


def _pretty(event: str) -> str:
    try:
        value: Any = json.loads(event)
    except ValueError:
        return event
    return json.dumps(value, indent=1)


def _damaged(random: Random, data: bytes) -> bytes:
    if not data:
        return random.choice(_PIECES)
    start = random.randrange(len(data))
    end = min(len(data), start + random.choice([0, 1, 1, 2, 8, 40]))
    how = random.random()
    if how < 0.3:
        return data[:start] + random.choice(_PIECES) + data[start:]
    if how < 0.6:
        return data[:start] + data[end:]
    if how < 0.8:
        return data[:start] + random.choice(_PIECES) + data[end:]
    if how < 0.9:
        return data[:end]
    return data + data[start:end]
