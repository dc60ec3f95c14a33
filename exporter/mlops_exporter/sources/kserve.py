"""KServe's inference logger: CloudEvents in, this product's own events out.

The logger sends the request and the response of one inference as two CloudEvents that share an id and differ in type.
Whichever comes first waits here for the other; together they are one event per row. Payloads are those of the
inference protocols V1 (`instances`, `predictions`) and V2 (`inputs`, `outputs`; also with its binary tensors, which
follow the JSON). An event's id is that of the V2 payload, which the caller knows, or else the CloudEvent's.

The SDK of Azure ML's data collector posts the same two halves, in other words.
"""

import base64
import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from mlops_exporter.events.arrays import STEP_BYTES, Elements, parse_steps
from mlops_exporter.events.columns import EXPLAINED_REFUSALS
from mlops_exporter.events.explain import named, shown
from mlops_exporter.events.formats import in_utf16
from mlops_exporter.events.reasons import (
    MAX_CLOUD_EVENT_BYTES,
    MAX_CLOUD_EVENT_ROWS,
    MAX_EVENT_BYTES,
    Reason,
    Refused,
    TooManyEventsError,
)
from mlops_exporter.events.schema import DEFAULT_VERSION
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles, as_profiles
from mlops_exporter.profile.values import canonical
from mlops_exporter.settings.sources import KServeModel, KServeSettings
from mlops_exporter.sources.base import Content, Translated

Kind = Literal["request", "response"]
Outcome = Literal["joined", "request_alone", "response_alone", "evicted", "duplicate", "ignored"]

OUTCOMES: Final[dict[Outcome, str]] = {
    "joined": "its other half was there, and both became events",
    "request_alone": "a request whose response did not come within `wait`: counted by its features alone",
    "response_alone": "a response whose request did not come within `wait`: counted by its prediction alone",
    "evicted": "counted alone before its time, because too many others wait",
    "duplicate": "the same id and type came before: dropped",
    "ignored": "from another component than the mapping names (a transformer, an explainer): dropped",
}

_KINDS: Final[dict[str, Kind]] = {
    "org.kubeflow.serving.inference.request": "request",
    "org.kubeflow.serving.inference.response": "response",
    "io.seldon.serving.inference.request": "request",
    "io.seldon.serving.inference.response": "response",
    "azureml.inference.model_inputs": "request",
    "azureml.inference.model_outputs": "response",
}
_OF_AZURE = "azureml"
"""What the types of Azure ML's SDK begin with, and the service that it stands for, since it names none."""

_MAX_MEMBERS = MAX_EVENT_BYTES // len('"a":1,')
"""Members of a row; with more of them, the event of it is too large."""

_MAX_DIMENSIONS = 32
"""Of a tensor, as in NumPy before 2.0: their sizes are multiplied."""

_STEP_ROWS = 64
"""Rows that are made between two pauses."""

_STEP_VALUES = 16 * 1024
"""Values of a tensor that are looked at between two pauses."""

PART_ROWS = 2048
"""Rows of a body that are joined and counted at a time."""

_STRUCTURED = "application/cloudevents+json"
_BATCHED = "application/cloudevents-batch+json"
_UNMAPPED = KServeModel()
_ALONE: Final[dict[Kind, Outcome]] = {"request": "request_alone", "response": "response_alone"}

_DTYPES: Final = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip

_Key = tuple[str, str, str]
_Row = dict[str, Any]
_Rows = Generator[None, None, Iterator[_Row]]
_Read = Generator[None, None, "_CloudEvent"]


class Half(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A request or response, the `number`th CloudEvent (from 1) of its body.

    `key` is model, version and id by the CloudEvent; `rows` are the members that it gives to the event of each row, as
    JSON objects. `id` and `version` are those of a V2 payload, if it has them.
    """

    key: _Key
    kind: Kind
    time: str | None
    number: int
    rows: list[bytes]
    id: str | None = None
    version: str | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds while it waits."""
        return sum(map(len, self.rows))


class Reading(msgspec.Struct, array_like=True):
    """A body of CloudEvents as it is journalled: what it says by itself, whatever came before.

    `refused` are the numbers and reasons of CloudEvents that cannot be used, `told` is what was found in some of them,
    `ignored` is how many need not be. First of all, halves that arrived at `expired` or before are given out alone.
    """

    halves: list[Half] = []
    refused: list[tuple[int, Reason]] = []
    ignored: int = 0
    expired: float = -math.inf
    told: dict[int, str] = {}

    def refuse(self, number: int, refused: Refused) -> None:
        """Note that a CloudEvent cannot be used."""
        self.refused.append((number, refused.reason))
        if refused.told and len(self.told) < EXPLAINED_REFUSALS:
            self.told[number] = refused.told

    def parts(self) -> Iterator["Reading"]:
        """Yield it in parts of a moment's work: of PART_ROWS rows, or of one half that has more."""
        part = Reading(refused=self.refused, ignored=self.ignored, expired=self.expired, told=self.told)
        rows = 0
        for half in self.halves:
            if rows and rows + len(half.rows) > PART_ROWS:
                yield part
                part, rows = Reading(), 0
            part.halves.append(half)
            rows += len(half.rows)
        yield part


class _Waiting(NamedTuple):
    """A half that arrived at `arrived` (Unix seconds)."""

    half: Half
    arrived: float


class _Stored(msgspec.Struct, array_like=True):
    """A half that waits, as it is stored."""

    kind: Kind
    time: str | None
    arrived: float
    rows: list[bytes]
    id: str | None = None
    version: str | None = None


class _State(msgspec.Struct, array_like=True):
    """As it is stored: halves that wait by their keys, and what is remembered."""

    waiting: list[tuple[_Key, _Stored]]
    remembered: list[tuple[str, str, str, Kind]]
    counts: dict[Outcome, int] = {}


def is_cloud_event(content: Content) -> bool:
    """Return whether a body holds CloudEvents: structured, batched, or binary (its attributes in headers)."""
    return content.type in (_STRUCTURED, _BATCHED) or "type" in content.attributes


class KServe:
    """Joins requests and responses. For the event loop alone; `counts` say what became of every CloudEvent taken.

    What depends on one body alone is done by `read`, and what depends on those before it by `translate`, which a
    restart repeats in the order of the journal.
    """

    def __init__(self, settings: KServeSettings, profiles: Mapping[str, Profiles | Profile]) -> None:
        self._settings = settings
        self._profiles = profiles
        self._waiting: dict[_Key, _Waiting] = {}
        self._waiting_bytes = 0
        self._remembered: dict[tuple[str, str, str, Kind], None] = {}
        self.counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)

    def renew(self, settings: KServeSettings, profiles: Mapping[str, Profiles | Profile]) -> None:
        """Go on with other settings; what waits, waits by them."""
        self._settings = settings
        self._profiles = profiles

    @property
    def waiting(self) -> int:
        """Number of requests and responses that wait for their other half."""
        return len(self._waiting)

    def read(self, content: Content, body: bytes, models: frozenset[str] | None = None) -> bytes:
        """Return a body of CloudEvents, of `models` only unless that is None, as `translate` takes it."""
        reading = Reading()
        for _ in self.read_steps(content, body, reading, models):
            pass
        return msgspec.msgpack.encode(reading)

    def read_steps(
        self,
        content: Content,
        body: bytes,
        reading: Reading,
        models: frozenset[str] | None = None,
        limit: int | None = None,
    ) -> Iterator[None]:
        """Read a body into `reading`, as `read` does, pausing after each little so that a caller can let others run.

        Raises TooManyEventsError for more than `limit` CloudEvents, or rows in all of them.
        """
        rows, number = 0, 0
        try:
            for event in _cloud_events(content, body, limit):
                if event is None:
                    yield
                    continue
                number += 1
                try:
                    half = yield from self._read_one(event, number, models)
                except Refused as refused:
                    reading.refuse(number, refused)
                else:
                    if half is None:
                        reading.ignored += 1
                    else:
                        reading.halves.append(half)
                        rows += len(half.rows)
                        if limit is not None and rows > limit:
                            raise TooManyEventsError(limit)
                yield
        except Refused as refused:
            reading.refuse(1, refused)

    def translate(self, body: bytes, arrived: float) -> Translated:
        """Take what `read` or `expiry` returned, at `arrived` (Unix seconds)."""
        made = Translated()
        reading = msgspec.msgpack.decode(body, type=Reading)
        while (oldest := self._oldest(reading.expired)) is not None:
            self._give_alone(oldest, _ALONE[self._waiting[oldest].half.kind], 1, made)
        made.refused += reading.refused
        made.told |= reading.told
        self.counts["ignored"] += reading.ignored
        for half in reading.halves:
            try:
                self._join(half, arrived, made)
            except Refused as refused:
                made.refused.append((half.number, refused.reason))
                made.told[half.number] = refused.told
        made.refused.sort()
        return made

    def expiry(self, now: float) -> bytes | None:
        """Return for `translate` that halves have waited long enough by `now`, None when there are none."""
        expired = now - self._settings.wait
        return None if self._oldest(expired) is None else msgspec.msgpack.encode(Reading(expired=expired))

    def state(self) -> bytes:
        """Return what waits, what is remembered and what was counted, for `restore` after a restart."""
        waiting = [
            (key, _Stored(w.half.kind, w.half.time, w.arrived, w.half.rows, w.half.id, w.half.version))
            for key, w in self._waiting.items()
        ]
        return msgspec.msgpack.encode((waiting, list(self._remembered), self.counts))

    def restore(self, state: bytes) -> None:
        """Go on from a `state`."""
        stored = msgspec.msgpack.decode(state, type=_State)
        self._waiting = {
            key: _Waiting(Half(key, half.kind, half.time, 1, half.rows, half.id, half.version), half.arrived)
            for key, half in stored.waiting
        }
        self._waiting_bytes = sum(waiting.half.size for waiting in self._waiting.values())
        self._remembered = dict.fromkeys(stored.remembered)
        self.counts.update(stored.counts)

    def _read_one(
        self, event: "_CloudEvent | Refused", number: int, models: frozenset[str] | None
    ) -> Generator[None, None, Half | None]:
        """Return a half, None for a component that does not matter; raises Refused."""
        if isinstance(event, Refused):
            raise event
        kind = _KINDS[event.attributes["type"]]
        service, namespace = event.attributes["inferenceservicename"], event.attributes.get("namespace", "")
        mappings = self._settings.models
        mapping = mappings.get(f"{namespace}/{service}") or mappings.get(service) or _UNMAPPED
        model = mapping.model or service
        if models is not None and model not in models:
            raise Refused("forbidden_model", shown({"inferenceservicename": service}))
        if model not in self._profiles:
            known = named(name for name in self._profiles if models is None or name in models)
            raise Refused("unknown_model", f"{shown({'inferenceservicename': service})}; known are {known}")
        if event.attributes.get("component", mapping.component) != mapping.component:
            return None
        key = (model, event.attributes.get(mapping.version) or DEFAULT_VERSION, event.attributes["id"])
        if kind == "request":
            made = yield from _request(event.data, mapping)
        else:
            profiles = as_profiles(self._profiles[model])
            made = yield from _response(event.data, mapping, profiles.of(key[1]) or profiles.newest)
        rows: list[bytes] = []
        while some := [_encode(row) for row in islice(made, _STEP_ROWS)]:
            rows += some
            if len(rows) > MAX_CLOUD_EVENT_ROWS:
                raise Refused("event_too_large")
            yield
        members = event.data if isinstance(event.data, dict) else {}
        return Half(
            key,
            kind,
            event.attributes.get("time"),
            number,
            rows,
            _name_in(members, "id"),
            _name_in(members, "model_version"),
        )

    def _join(self, half: Half, arrived: float, made: Translated) -> None:
        key = half.key
        if (*key, half.kind) in self._remembered:
            self.counts["duplicate"] += 1
            return
        waiting = self._waiting.get(key)
        if waiting is not None and (there := len(waiting.half.rows)) != len(half.rows):
            raise Refused("rows_differ", f"the {half.kind} has {len(half.rows)}, its other half {there}")
        self._remember((*key, half.kind))
        if waiting is None:
            self._wait(half, arrived, made)
            return
        other = self._stop_waiting(key)
        request, response = (half, other) if half.kind == "request" else (other, half)
        joined = [_merged(asked, answered) for asked, answered in zip(request.rows, response.rows, strict=True)]
        _give(response, request, joined, half.number, made)
        self.counts["joined"] += 2

    def _wait(self, half: Half, arrived: float, made: Translated) -> None:
        self._waiting[half.key] = _Waiting(half, arrived)
        self._waiting_bytes += half.size
        settings = self._settings
        while len(self._waiting) > settings.waiting_events or self._waiting_bytes > settings.waiting_bytes:
            self._give_alone(next(iter(self._waiting)), "evicted", half.number, made)

    def _oldest(self, time: float) -> _Key | None:
        """Return the key of what has waited longest, if it arrived at `time` or before."""
        key = next(iter(self._waiting), None)
        return None if key is None or self._waiting[key].arrived > time else key

    def _give_alone(self, key: _Key, outcome: Outcome, number: int, made: Translated) -> None:
        half = self._stop_waiting(key)
        _give(half, half, half.rows, number, made)
        self.counts[outcome] += 1

    def _stop_waiting(self, key: _Key) -> Half:
        half = self._waiting.pop(key).half
        self._waiting_bytes -= half.size
        return half

    def _remember(self, half: tuple[str, str, str, Kind]) -> None:
        self._remembered[half] = None
        if len(self._remembered) > self._settings.remembered_events:
            del self._remembered[next(iter(self._remembered))]


def _merged(first: bytes, second: bytes) -> bytes:
    """Return one JSON object with the members of two."""
    return first[:-1] + b"," + second[1:]


def _give(first: Half, second: Half, rows: Sequence[bytes], number: int, made: Translated) -> None:
    """Turn the rows of one or both halves into lines. A single row keeps the id, several have `id/0`, `id/1`, …."""
    model, version, identifier = first.key
    identifier = first.id or second.id or identifier
    if version == DEFAULT_VERSION:
        version = first.version or second.version or version
    time = second.time or first.time
    for row, members in enumerate(rows):
        event = {"model": model, "version": version, "id": identifier if len(rows) == 1 else f"{identifier}/{row}"}
        if time is not None:
            event["ts"] = time
        made.lines.append(_merged(msgspec.json.encode(event), members))
        made.origins.append(number)


def _name_in(payload: Mapping[str, Any], member: str) -> str | None:
    """Return a member of a V2 payload that names something, None where it does not."""
    value = payload.get(member)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not isinstance(value, str):
        return canonical(value)
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON may escape half a surrogate pair
        return None
    return value or None


class _CloudEvent(NamedTuple):
    """Attributes (required ones and extensions) and data of a CloudEvent."""

    attributes: Mapping[str, str]
    data: Any


def _cloud_events(content: Content, body: bytes, limit: int | None) -> Iterator["_CloudEvent | Refused | None"]:
    """Yield the CloudEvents of a body, or why one is none, and None for a pause.

    Raises Refused when the body as a whole cannot be read.
    """
    if content.type == _BATCHED:
        yield from _batch(body.strip(), limit)
        return
    value = yield from _parse_steps(body)
    if content.type == _STRUCTURED:
        yield (yield from _structured(value))
    else:
        yield _checked(*_as_of_kserve(content.attributes, value))


def _batch(body: bytes, limit: int | None) -> Iterator["_CloudEvent | Refused | None"]:
    """Yield the CloudEvents of a batch. Each is read alone: all of them as Python objects would take too much."""
    if not body.startswith(b"["):
        yield from _parse_steps(body)
        raise Refused("not_an_object")
    elements = Elements(body, limit)
    yield from elements.find()
    if limit is not None and elements.count > limit:
        raise TooManyEventsError(limit)
    if not elements.whole:
        raise Refused("malformed_json")
    for _, places in elements.chunks(MAX_CLOUD_EVENT_BYTES):
        for place in places:
            try:
                value = yield from _parse_steps(body[place])
                yield (yield from _structured(value))
            except Refused as refused:
                yield refused


def _structured(event: Any) -> _Read:
    if not isinstance(event, dict):
        raise Refused("not_an_object")
    data = event.get("data")
    if "data_base64" in event:
        try:
            data = base64.b64decode(event["data_base64"], validate=True)
        except (TypeError, ValueError):
            raise Refused("bad_cloud_event") from None
    if isinstance(data, bytes | str):  # a string, too, is what some brokers make of JSON
        try:
            data = data.encode() if isinstance(data, str) else data
        except UnicodeEncodeError:  # JSON may escape half a surrogate pair
            raise Refused("malformed_json") from None
        data = yield from _parse_steps(data)
    return _checked(*_as_of_kserve({name: value for name, value in event.items() if isinstance(value, str)}, data))


def _as_of_kserve(attributes: Mapping[str, str], data: Any) -> tuple[Mapping[str, str], Any]:
    """Return what Azure ML's SDK posts, and its data collector stores, as KServe's logger would send it.

    Its data are rows alone, and the SDK's times are Unix seconds.
    """
    kind = _KINDS.get(attributes.get("type", ""))
    if kind is None or not attributes["type"].startswith(f"{_OF_AZURE}."):
        return attributes, data
    identifier = attributes.get("x-request-id") or attributes.get("correlationid", "")
    version = attributes.get("model-version") or attributes.get("modelversion")
    known = {"inferenceservicename": _OF_AZURE, **attributes, "id": identifier}
    with suppress(ValueError, OverflowError, OSError):
        known["time"] = datetime.fromtimestamp(float(attributes.get("time", "")), UTC).isoformat()
    member = "instances" if kind == "request" else "predictions"
    return known, {member: data, "model_version": version}


def _checked(attributes: Mapping[str, str], data: Any) -> _CloudEvent:
    if attributes.get("type") and attributes["type"] not in _KINDS:
        raise Refused("unknown_cloud_event_type", shown({"type": attributes["type"]}))
    lacking = [f"`{name}`" for name in ("id", "type", "inferenceservicename") if not attributes.get(name)]
    if lacking or data is None:
        raise Refused("bad_cloud_event", f"it lacks {', '.join(lacking or ['`data`'])}")
    try:
        "".join(attributes.values()).encode()
    except UnicodeEncodeError:  # JSON may escape half a surrogate pair
        raise Refused("bad_cloud_event") from None
    return _CloudEvent(attributes, data)


def _request(payload: Any, mapping: KServeModel) -> _Rows:
    """Return the features of each row of a request."""
    payload = _members(payload)
    if isinstance(instances := payload.get("instances"), list):
        _hold(len(instances))
        return ({"features": _named(instance, mapping.features)} for instance in instances)
    columns: dict[str, Sequence[Any]] = {}
    for name, width, values in (yield from _tensors(payload.get("inputs"))):
        if width == 1:
            columns[name] = values
        elif width == len(mapping.features):
            columns.update((feature, values[column::width]) for column, feature in enumerate(mapping.features))
        else:
            raise _unnamed(width, mapping.features)
    return ({"features": dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True))


def _named(instance: Any, names: Sequence[str]) -> _Row:
    if isinstance(instance, dict):
        if len(instance) > _MAX_MEMBERS:
            raise Refused("event_too_large")
        return {name: _single(value) for name, value in instance.items()}
    values = instance if isinstance(instance, list) else [instance]
    if len(values) != len(names):
        raise _unnamed(len(values), names)
    return dict(zip(names, values, strict=True))


def _unnamed(columns: int, names: Sequence[str]) -> Refused:
    return Refused("unnamed_columns", f"the rows have {columns}, and it names {len(names)}")


def _response(payload: Any, mapping: KServeModel, profile: Profile) -> _Rows:
    """Return what the model said of each row, as members of an event."""
    payload = _members(payload)
    rows: Iterator[_Row]
    if isinstance(predictions := payload.get("predictions"), list):
        _hold(len(predictions))
        rows = (row if isinstance(row, dict) else {"predictions": row} for row in predictions)
    else:
        outputs = {
            name: values if width == 1 else [values[start : start + width] for start in range(0, len(values), width)]
            for name, width, values in (yield from _tensors(payload.get("outputs")))
        }
        rows = (dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True))
    return (_said(row, mapping, profile) for row in rows)


def _hold(rows: int) -> None:
    if rows > MAX_CLOUD_EVENT_ROWS:
        raise Refused("event_too_large")


def _said(outputs: Mapping[str, Any], mapping: KServeModel, profile: Profile) -> _Row:
    """Return one row's outputs as `prediction`, `score` and `scores`."""
    roles = mapping.outputs or (dict.fromkeys(outputs, "prediction") if len(outputs) == 1 else {})
    members: _Row = {}
    for name, role in roles.items():
        if name not in outputs:
            continue
        value = _single(outputs[name])
        if role == "scores":
            classes = mapping.classes or profile.classes
            if not isinstance(value, list) or len(value) != len(classes):
                has = len(value) if isinstance(value, list) else 1
                raise Refused("unmapped_outputs", f"{named([name])} has {has} values for {len(classes)} classes")
            scores = dict(zip(classes, value, strict=True))
            members.update({"score": scores[profile.positive]} if profile.task == "binary" else {"scores": scores})
        elif isinstance(value, list):
            raise Refused("unmapped_outputs", f"{named([name])} is a vector of {len(value)}")
        else:
            members[role] = value
    if not members:
        raise Refused("unmapped_outputs", f"the outputs are {named(outputs)}" if outputs else "there is no output")
    return members


def _tensors(tensors: Any) -> Generator[None, None, list[tuple[str, int, list[Any]]]]:
    """Return name, width (values per row) and row-major values of the tensors of one V2 payload."""
    if not isinstance(tensors, list) or not tensors:
        raise Refused("bad_payload", "there are no `instances`, `predictions`, `inputs` or `outputs`")
    read = []
    for tensor in tensors:
        if not isinstance(tensor, dict) or not isinstance(name := tensor.get("name"), str):
            raise Refused("bad_payload", "a tensor has no `name`")
        shape, data = tensor.get("shape"), tensor.get("data")
        if not isinstance(shape, list) or not 0 < len(shape) <= _MAX_DIMENSIONS or not all(map(_is_size, shape)):
            raise Refused("bad_payload", f"the tensor {named([name])} has no `shape`")
        _hold(min(shape[0], len(data) if isinstance(data, list) else 0))
        values = (yield from _flat(data, len(shape))) if isinstance(data, list) else []
        width = math.prod(shape[1:])
        if not width or len(values) != shape[0] * width:
            told = f"the tensor {named([name])} has {len(values)} values, by its shape {shape[0] * width}"
            raise Refused("bad_payload", told)
        read.append((name, width, values))
    if len({len(values) // width for _, width, values in read}) > 1:
        raise Refused("bad_payload", "its tensors have different numbers of rows")
    return read


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_CLOUD_EVENT_BYTES


def _flat(data: list[Any], dimensions: int) -> Generator[None, None, list[Any]]:
    """Return the values of a tensor whose data may be nested as its shape is, or flat already."""
    for _ in range(dimensions - 1):
        values: list[Any] = []
        for start in range(0, len(data), _STEP_VALUES):
            for row in data[start : start + _STEP_VALUES]:
                if not isinstance(row, list):
                    return data
                values += row
            yield
        data = values
    return data


def _single(value: Any) -> Any:
    """Return the only value of a list of one; anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _members(payload: Any) -> dict[str, Any]:
    if not isinstance(payload, dict):
        raise Refused("bad_payload")
    return payload


def _parse_steps(data: bytes) -> Generator[None, None, Any]:
    """Return a JSON value, pausing while it is read; also a V2 payload whose tensors follow its JSON. Raises Refused.

    Python servers send NaN and infinities, which JSON lacks.
    """
    if len(data) > MAX_CLOUD_EVENT_BYTES:
        raise Refused("event_too_large")
    if len(data) <= STEP_BYTES:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return msgspec.json.decode(data)
    text = data.lstrip()
    if not text.startswith(b"{"):
        return (yield from parse_steps(data, _parse))
    elements = Elements(text)
    yield from elements.find()
    if elements.end < 0 or elements.whole:
        return (yield from parse_steps(data, _parse))
    payload = yield from parse_steps(text[: elements.end + 1], _parse)
    _put_tensors(payload, text[elements.end + 1 :])
    return payload


def _parse(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Refused("malformed_json", "it is in UTF-16: send UTF-8" if in_utf16(text) else "") from None


def _put_tensors(payload: Any, data: bytes) -> None:
    """Put binary tensors, which followed a V2 payload (the protocol's binary data extension), where they belong.

    Raises Refused where there are none, or they do not fit what the JSON says of them.
    """
    tensors = [
        tensor
        for member in ("inputs", "outputs")
        for tensor in _list_in(payload, member)
        if isinstance(tensor, dict) and isinstance(tensor.get("parameters"), dict)
    ]
    sized = [tensor for tensor in tensors if type(tensor["parameters"].get("binary_data_size")) is int]
    if not sized:
        raise Refused("malformed_json")
    end = 0
    for tensor in sized:
        size = tensor["parameters"]["binary_data_size"]
        if not 0 <= size <= len(data) - end:
            raise Refused("bad_payload")
        tensor["data"] = _binary(str(tensor.get("datatype")), data[end : end + size])
        end += size
    if end != len(data):
        raise Refused("bad_payload")


def _list_in(payload: Any, member: str) -> list[Any]:
    value = payload.get(member) if isinstance(payload, dict) else None
    return value if isinstance(value, list) else []


def _binary(datatype: str, data: bytes) -> list[Any]:
    """Return the values of a binary tensor; raises Refused."""
    try:
        if datatype == "BYTES":
            return list(_texts(data))
        if datatype == "BF16":  # the upper half of a FP32
            halves = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            return list(halves.view(np.float32).tolist())
        values: list[Any] = np.frombuffer(data, _DTYPES[datatype]).tolist()
    except (KeyError, ValueError):
        raise Refused("bad_payload") from None
    return values


def _texts(data: bytes) -> Iterator[str]:
    """Yield texts, each after its length in four bytes; raises ValueError."""
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        if end > len(data):
            raise ValueError("cut short")
        yield data[4:end].decode()
        data = data[end:]


def _encode(event: _Row) -> bytes:
    try:
        return msgspec.json.encode(event)
    except (ValueError, OverflowError, RecursionError):
        pass
    try:
        return json.dumps(event).encode()  # takes half a surrogate pair, and integers beyond 64 bits
    except RecursionError:
        raise Refused("malformed_json") from None
