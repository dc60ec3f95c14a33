"""The event format read the plain way: one json.loads per event, one `if` per rule, no speed. The decoder's oracle."""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile

BOM = b"\xef\xbb\xbf"
RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|z|[+-]\d\d:?\d\d)",
    re.ASCII,
)


class Event(NamedTuple):
    """One accepted event. `features` are numbers (inf: invalid, None: missing), then cells of categories."""

    model: str
    id: str | None
    time: float
    version: str | None
    features: tuple[float | None, ...] | None
    scores: tuple[float | None, ...]
    prediction: float | None
    label: float | None
    latency: float | None
    error: str | None


class RefusedError(Exception):
    """The event is refused."""


def entries(body: bytes) -> Iterator[tuple[int, bytes | Any]]:
    """Yield number and content of each event of a body: bytes of a line, or the value of an array's element."""
    body = body.removeprefix(BOM)
    start = body.lstrip()[:1]
    try:
        whole = json.loads(body.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        whole = None
    if start == b"[" and isinstance(whole, list):
        yield from enumerate(whole, 1)
    elif start == b"{" and isinstance(whole, dict) and b"\n" in body.strip():
        yield 1, body
    else:
        yield from ((number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip())


def read(content: bytes | Any, profiles: Mapping[str, Profile], now: float) -> Event:
    """Read one event; raises RefusedError."""
    if isinstance(content, bytes):
        try:
            content = json.loads(content.removeprefix(BOM).decode(errors="surrogateescape"))
        except (ValueError, RecursionError):
            raise RefusedError from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), str) or content["model"] not in profiles:
        raise RefusedError
    profile = profiles[content["model"]]
    identifier = _identifier(content.get("id"))
    scores = _scores(content, profile)
    prediction = _outcome(content.get("prediction"), profile)
    label = _outcome(content.get("label"), profile)
    error = _text(content.get("error"))
    features = _features(content.get("features"), profile)
    predicts = features is not None or prediction is not None or scores is not None or error is not None
    if not predicts and (label is None or identifier is None):
        raise RefusedError
    columns = 0 if profile.task == "regression" else 1 if profile.task == "binary" else len(profile.classes)
    version = _version(content.get("version"))
    return Event(
        content["model"],
        identifier,
        _time(content.get("ts"), now),
        version if predicts else None,
        features,
        scores or (None,) * columns,
        prediction,
        label,
        _latency(content.get("latency_seconds")),
        error,
    )


def name(value: Any) -> str | None:
    """The string that a class or category is compared by."""
    if isinstance(value, str):
        if value in ("True", "TRUE", "False", "FALSE"):
            return value.lower()
        return re.sub(r"^([+-]?\d+)\.0+$", r"\1", value) if "\n" not in value else value
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value) or value.is_integer():
            return None if math.isnan(value) else str(int(value))
        single = struct.unpack("f", struct.pack("f", value))[0] if abs(value) < 1e38 else None
        return str(np.float32(value)) if single == value else repr(value)
    raise RefusedError


def _number(value: Any) -> float | None:
    """A number, infinite beyond a float; None for null and NaN. Raises RefusedError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return None if math.isnan(number) else number


def _features(features: Any, profile: Profile) -> tuple[float | None, ...] | None:
    if features is None:
        return None
    if not isinstance(features, dict):
        raise RefusedError
    numbers: list[float | None] = []
    cells: list[float | None] = []
    for feature, variable in profile.features.items():
        value = features.get(feature)
        if value == "" and not (isinstance(variable, CategoricalVariable) and "" in variable.categories):
            value = None
        if isinstance(variable, CategoricalVariable):
            size = len(variable.categories)
            try:
                text = name(value)
            except RefusedError:
                cells.append(size + 1)
                continue
            known = text in variable.categories
            cells.append(size + 2 if text is None else variable.categories.index(text or "") if known else size)
        else:
            try:
                number = _number(value)
            except RefusedError:
                number = math.inf
            numbers.append(math.inf if number == -math.inf else number)
    return (*numbers, *cells)


def _probability(value: Any) -> float | None:
    number = _number(value)
    if number is not None and not -0.005 <= number <= 1.005:
        raise RefusedError
    return number


def _scores(event: dict[str, Any], profile: Profile) -> tuple[float | None, ...] | None:
    if profile.task == "binary":
        score = _probability(event.get("score"))
        return None if score is None else (min(max(score, 0.0), 1.0),)
    scores = event.get("scores")
    if profile.task == "regression" or scores is None:
        return None
    if not isinstance(scores, dict):
        raise RefusedError
    scores = {each if each in profile.classes else name(each): value for each, value in scores.items()}
    if not scores.keys() <= set(profile.classes):
        raise RefusedError
    vector = [_probability(scores.get(each)) or 0.0 for each in profile.classes]
    if abs(sum(vector) - 1) > 0.005 * len(vector) + 1e-7:
        raise RefusedError
    return tuple(min(max(score, 0.0), 1.0) for score in vector)


def _outcome(value: Any, profile: Profile) -> float | None:
    if value == "" and "" not in profile.classes:
        return None
    if profile.task == "regression":
        number = _number(value)
        assert isinstance(profile.label, NumericVariable)
        if number is not None and abs(number) > 1000 * profile.label.edges[-1]:
            raise RefusedError
        return number
    text = name(value)
    if text is None:
        return None
    if text not in profile.classes:
        raise RefusedError
    return profile.classes.index(text)


def _identifier(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RefusedError
    if isinstance(value, float) and not (math.isnan(value) or value.is_integer()):
        raise RefusedError
    text = name(value)
    return None if text is None else _limited(text, 256)


def _version(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RefusedError
    return _limited(value if isinstance(value, str) else name(value) or "", 64)


def _limited(text: str, length: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError from None
    if not 0 < len(text) <= length:
        raise RefusedError
    return text


def _time(value: Any, now: float) -> float:
    if isinstance(value, str):
        match = RFC3339.fullmatch(value)
        if match is None:
            raise RefusedError
        zone = "+00:00" if match[4] in "Zz" else match[4]
        try:
            whole = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}").timestamp()
        except ValueError:
            raise RefusedError from None
        time = whole + float(f"0{match[3] or '.0'}")
    else:
        number = now if value is None else _number(value)
        if number is None or number < 0:
            raise RefusedError
        time = number
    if time > now + 300:
        raise RefusedError
    return min(time, now)


def _latency(value: Any) -> float | None:
    number = _number(value)
    if number is not None and not 0 <= number <= 1e6:
        raise RefusedError
    return number


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RefusedError
    return value
