"""Decode events to columns: JSON text in, plain Python lists per model out, every bad event refused with its reason.

The fast way is one msgspec decoder for all models, whose types are made from the profiles and told apart by the tag
`model`; it decodes and validates a chunk of lines in C. A chunk that it refuses is decoded line by line, and a line
that it refuses is read leniently by hand, which either repairs it (a number where a category is expected, NaN) or
finds the reason.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, compress
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, Union

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import astuple
from numpy.typing import NDArray

from exporter.attributes import Attribute, Attributes
from exporter.embeddings import to_vectors
from exporter.profile.bins import CategoricalVariable, NumericVariable, encode
from exporter.profile.profile import Profile
from exporter.values import INVALID, Category, Codes, canonical, floats

CHUNK_BYTES = 256 * 1024
"""Text decoded at a time: less makes more calls, more leaves the cache."""

CLOCK_SKEW_SECONDS = 300.0
"""How far ahead of this clock a `ts` may be; it then counts as now."""

MAX_ID_LENGTH = 256

# Beyond these a number says nothing, and would take the digits of every later one from the sums it enters.
LONGEST_LATENCY = 1e6
"""Seconds."""

OUTCOME_RANGE = 1000.0
"""How many times the largest number of the reference a prediction or label of a regression may be."""

DEFAULT_VERSION = "default"

ARROW_STREAM = b"\xff\xff\xff\xff"
"""How an Arrow IPC stream begins, and no JSON does."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Reason = Literal[
    "malformed_json",
    "not_an_object",
    "missing_model",
    "unknown_model",
    "forbidden_model",
    "missing_id",
    "bad_id",
    "bad_version",
    "too_many_versions",
    "bad_timestamp",
    "future_timestamp",
    "bad_features",
    "bad_groups",
    "bad_score",
    "bad_prediction",
    "bad_label",
    "unknown_class",
    "bad_latency",
    "bad_error",
    "nothing_to_count",
    "bad_cloud_event",
    "unknown_cloud_event_type",
    "bad_payload",
    "unnamed_columns",
    "unmapped_outputs",
    "rows_differ",
    "bad_arrow",
    "unauthorized",
    "unsupported_type",
    "body_too_large",
    "body_stalled",
    "bad_gzip",
]

REASONS: Final[dict[Reason, str]] = {
    "malformed_json": "the line is not JSON",
    "not_an_object": "the JSON value is not an object",
    "missing_model": "there is no `model`",
    "unknown_model": "`model` is not in the configuration",
    "forbidden_model": "the token of the sender does not open `model`",
    "missing_id": "a label without a prediction in the same event has no `id` to find its prediction by",
    "bad_id": f"`id` is neither a string of 1 to {MAX_ID_LENGTH} characters nor an integer",
    "bad_version": "`version` is neither a string of 1 to 64 characters nor a number",
    "too_many_versions": "the model already has as many versions as `limits.versions` allows, all of them in use",
    "bad_timestamp": "`ts` is neither RFC 3339 with a time zone nor Unix seconds",
    "future_timestamp": f"`ts` is more than {CLOCK_SKEW_SECONDS:.0f} s ahead of the exporter's clock "
    "(milliseconds instead of seconds?)",
    "bad_features": "`features` is not an object",
    "bad_groups": "`groups` is not an object",
    "bad_score": "`score` (or a member of `scores`) is not a probability between 0 and 1, or `scores` do not add up "
    "to 1, or name a class that the profile lacks",
    "bad_prediction": "`prediction` is not a number within a thousand times the reference's largest (regression), or "
    "not a class",
    "bad_label": "`label` is not a number within a thousand times the reference's largest (regression), or not a class",
    "unknown_class": "`prediction` or `label` is a class that the profile lacks",
    "bad_latency": f"`latency_seconds` is not a number from 0 to {LONGEST_LATENCY:.0f}",
    "bad_error": "`error` is not a string",
    "nothing_to_count": "there are no features, no prediction, no score, no error and no label",
    "bad_cloud_event": "the CloudEvent lacks `id`, `type` or `inferenceservicename`, or has no data",
    "unknown_cloud_event_type": "the CloudEvent's `type` is not org.kubeflow.serving.inference.request or .response",
    "bad_payload": "the CloudEvent's data is neither the V1 nor the V2 inference protocol, or the shapes of its "
    "tensors do not fit each other or their data",
    "unnamed_columns": "the rows are lists, and `kserve.models.NAME.features` does not name just as many columns",
    "unmapped_outputs": "the response has several outputs or vectors, and `kserve.models.NAME.outputs` does not say "
    "which is the prediction, the score, or the scores (one per class)",
    "rows_differ": "request and response of this id have different numbers of rows",
    "bad_arrow": "the body is not an Arrow IPC stream, or a column is not of the type that its name calls for",
    "unauthorized": "the request lacks a valid token (one for each body, as of here)",
    "unsupported_type": "the body is of a type or coding that is not taken",
    "body_too_large": "the body is over `limits.body_bytes`, before or after decompression",
    "body_stalled": "the body stopped coming",
    "bad_gzip": "the body is damaged gzip, or cut short",
}


Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class Refused(Exception):  # noqa: N818 - it is the verdict on one event, not a failure
    """One event is refused."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Encoded(NamedTuple):
    """Feature values of n events: numbers (F, n), NaN missing and infinity invalid, and category codes (C, n).

    `vectors` are the embeddings one below the other, (all their dimensions, n); NaN missing or invalid.
    """

    numeric: NDArray[np.float64]
    codes: NDArray[np.intp]
    vectors: NDArray[np.float32]

    def of(self, events: list[bool]) -> "Encoded":
        """Return the values of the events whose flag is set."""
        return Encoded(self.numeric[:, events], self.codes[:, events], self.vectors[:, events])


class Features:
    """The feature values of events, of those that have any in order.

    Large chunks are encoded at once, while they are in the cache; the odd single event waits as the decoder left it
    until many can be encoded together.
    """

    __slots__ = ("_parts", "present")

    def __init__(self, present: list[bool], *parts: "Encoded | list[Any]") -> None:
        self.present = present
        self._parts = parts

    @classmethod
    def joined(cls, several: Sequence["Features"]) -> "Features":
        """Return the values of all events in order."""
        parts = chain.from_iterable(each._parts for each in several)
        return cls(list(chain.from_iterable(each.present for each in several)), *parts)

    def take_in(self, other: "Features") -> bool:
        """Append the values of other events if those of both wait to be encoded; False when they do not."""
        (waiting, *more), (others, *others_more) = self._parts, other._parts
        if more or others_more or not (isinstance(waiting, list) and isinstance(others, list)):
            return False
        self.present += other.present
        waiting += others
        return True

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Which events have features."""
        return np.frombuffer(bytes(self.present), np.bool_)

    def keep(self, kept: list[bool], schema: "Schema") -> "Features":
        """Return the values of the events whose flag is set."""
        columns = list(compress(kept, self.present))
        return Features(list(compress(self.present, kept)), self.encoded(schema).of(columns))

    def encoded(self, schema: "Schema") -> Encoded:
        """Return the values as arrays."""
        parts = [schema.encode(part) if isinstance(part, list) else part for part in self._parts]
        if len(parts) == 1:
            return parts[0]
        return Encoded(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


@dataclass(slots=True)
class Columns:
    """Valid events of one model, one list (or array of numbers, NaN for absent) per field, all of one length.

    `lines` are line numbers in the body, `ids` as they came, `times` Unix seconds, `groups` the codes of what events
    say, (n, attributes), `scores` a probability (binary) or a decoded struct of them (multiclass); `predictions` and
    `labels` are class codes or numbers. None is absent; `versions` is None for a label alone, which belongs to the
    version of its prediction.
    """

    features: Features
    lines: Sequence[int]
    ids: list[str | int | None]
    times: "list[float] | Floats"
    versions: list[str | None]
    groups: Ints
    scores: "list[Any] | Floats"
    predictions: "list[float | None] | Floats"
    labels: "list[float | None] | Floats"
    latencies: "list[float | None] | Floats"
    errors: list[str | None]

    def __len__(self) -> int:
        return len(self.times)

    def take_in(self, other: "Columns") -> bool:
        """Append the events of `other` if both are few; False when they are not."""
        if not self.features.take_in(other.features):
            return False
        self.groups = np.concatenate([self.groups, other.groups])
        for name in self.__slots__:
            if name not in ("features", "groups"):
                getattr(self, name).extend(getattr(other, name))
        return True

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """Return the events of all parts in order."""
        if len(parts) == 1:
            return parts[0]
        features = Features.joined([part.features for part in parts])
        names = [name for name in cls.__slots__ if name not in ("features", "groups")]
        lists = {name: list(chain.from_iterable(getattr(part, name) for part in parts)) for name in names}
        return cls(features=features, groups=np.concatenate([part.groups for part in parts]), **lists)

    def older_than(self, time: float) -> int:
        """Return how many events are older."""
        if isinstance(self.times, list):
            return sum(each < time for each in self.times) if min(self.times, default=time) < time else 0
        return int(np.count_nonzero(self.times < time))

    def keep(self, kept: list[bool], schema: "Schema") -> "Columns":
        """Return the events whose flag is set."""
        names = [name for name in self.__slots__ if name not in ("features", "groups")]
        lists = {name: list(compress(getattr(self, name), kept)) for name in names}
        return Columns(features=self.features.keep(kept, schema), groups=self.groups[kept], **lists)


@dataclass(slots=True)
class Decoded:
    """The outcome of one body: valid events per model, in parts as they were decoded; (line, reason) of the others.

    Lines count from 1.
    """

    parts: dict[str, list[Columns]] = field(default_factory=dict)
    refused: list[tuple[int, Reason]] = field(default_factory=list)

    @property
    def columns(self) -> dict[str, Columns]:
        """The valid events of each model."""
        return {model: Columns.joined(parts) for model, parts in self.parts.items()}

    @property
    def accepted(self) -> int:
        """Number of valid events."""
        return sum(map(len, chain.from_iterable(self.parts.values())))

    def add(self, model: str, columns: Columns) -> None:
        """Take in valid events."""
        self.parts.setdefault(model, []).append(columns)


_INTEGER = Annotated[int, Meta(ge=-(10**18), le=10**18)]  # any other one is read by hand, whatever its length
_ID = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)] | _INTEGER
_VERSION = Annotated[str, Meta(min_length=1, max_length=64)] | _INTEGER
_TIME = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0)]
_PROBABILITY = Annotated[float, Meta(ge=0, le=1)]

_ENCODED_AT_ONCE = 32
"""From so many events on, encoding them at once is worth the overhead of NumPy calls."""

SUM_TOLERANCE = 0.01
"""How far from 1 the probabilities of all classes may add up, after rounding by the model server."""


class Schema:
    """How the events of one model are typed, from its profile: the decoder's type and the codes of its classes."""

    def __init__(self, model: str, profile: Profile, attributes: Attributes | None = None) -> None:
        self.model = model
        self.profile = profile
        self.attributes = attributes
        self.numeric: list[str] = []
        self.categorical: list[str] = []
        self._decoded: list[int] = []
        """Which of the categorical features the typed decoder turns into codes."""
        self.codes: list[Codes] = []
        fields: list[tuple[str, Any, None]] = []
        renamed: dict[str, str] = {}
        for number, (name, variable) in enumerate(profile.features.items()):
            attribute = f"f{number}"
            renamed[attribute] = name
            if isinstance(variable, CategoricalVariable):
                if variable.codes.only_texts:
                    self._decoded.append(len(self.categorical))
                    fields.append((attribute, Category.of(variable.codes) | None, None))
                else:
                    fields.append((attribute, _category_type(variable.codes), None))
                self.categorical.append(attribute)
                self.codes.append(variable.codes)
            else:
                self.numeric.append(attribute)
                fields.append((attribute, float | None, None))
        self._missing = np.array([[self.codes[row][None]] for row in self._decoded]).reshape(-1, 1)
        embeddings = {f"e{number}": name for number, name in enumerate(profile.embeddings)}
        renamed |= embeddings
        fields += ((attribute, list[float] | None, None) for attribute in embeddings)
        self._embeddings = list(embeddings)
        self._feature_names = renamed
        self._places = {attribute: place for place, attribute in enumerate(renamed)}
        self._features = msgspec.defstruct("Features", fields, rename=renamed, gc=False)

        carried = [a for a in attributes.carried.values() if a.from_groups] if attributes else []
        carried.sort(key=lambda attribute: len(attribute.edges) > 0)
        self._group_fields = {f"g{i}": a for i, a in enumerate(carried)}  # numeric ones last
        self._group_codes_of = [
            (attrgetter(name), _group_table(a)) for name, a in self._group_fields.items() if not a.edges
        ]
        self._groups = msgspec.defstruct(
            "Groups",
            [
                (name, float | None if a.edges else _category_type(profile.groups[a.name].codes), None)
                for name, a in self._group_fields.items()
            ],
            rename={name: a.name for name, a in self._group_fields.items()},
            gc=False,
        )

        k = len(profile.classes)
        self.classes = Codes(profile.classes, other=k, invalid=k, missing=-1)
        self._scores: type[msgspec.Struct] | None = None
        score_type: Any = _PROBABILITY | None if profile.task == "binary" else None
        if profile.task == "multiclass":
            renamed = {f"p{number}": name for number, name in enumerate(profile.classes)}
            self._scores = msgspec.defstruct(
                "Scores",
                [(attribute, _PROBABILITY, 0.0) for attribute in renamed],
                rename=renamed,
                gc=False,
                forbid_unknown_fields=True,
            )
            score_type = self._scores | None
        self.largest_outcome = _largest_outcome(profile)
        number_type: Any = Annotated[float, Meta(ge=-self.largest_outcome, le=self.largest_outcome)]
        outcome_type: Any = number_type | None if profile.task == "regression" else _category_type(self.classes)
        self.event = msgspec.defstruct(
            "Event",
            [
                ("id", _ID | None, None),
                ("ts", _TIME | None, None),
                ("version", _VERSION | None, None),
                ("features", self._features | None, None),
                ("groups", self._groups | None, None),
                ("scores", score_type, None),
                ("prediction", outcome_type, None),
                ("label", outcome_type, None),
                ("latency_seconds", Annotated[float, Meta(ge=0, le=LONGEST_LATENCY)] | None, None),
                ("error", str | None, None),
            ],
            tag_field="model",
            tag=model,
            rename={"scores": "score"} if profile.task == "binary" else None,
            gc=False,
        )

    def columns(
        self, events: Sequence[Any], lines: Sequence[int], now: float
    ) -> tuple[Columns, list[tuple[int, Reason]]]:
        """Return decoded events as columns, and those refused that typing alone could not tell."""
        ids, times, versions, features, groups, scores, predictions, labels, latencies, errors = map(
            list, zip(*map(astuple, events), strict=True)
        )
        columns = Columns(
            self._features_of(features),
            list(lines),
            ids,
            times,
            _versions(versions),
            self._group_codes(groups),
            scores,
            predictions,
            labels,
            latencies,
            errors,
        )
        return self._check(columns, now)

    def _check(self, columns: Columns, now: float) -> tuple[Columns, list[tuple[int, Reason]]]:
        """Encode the classes, and refuse events row by row only if some column as a whole shows a fault."""
        reasons: dict[int, Reason] = {}
        if not _all_before(columns.times, now):
            given: Iterable[Any] = columns.times
            columns.times = [now if t is None else t if type(t) is float else t.timestamp() for t in given]
            for row, time in enumerate(columns.times):
                if time > now + CLOCK_SKEW_SECONDS:
                    reasons[row] = "future_timestamp"
                elif time > now:
                    columns.times[row] = now
        if self.profile.task != "regression":
            unknown, missing = self.classes.other, self.classes[None]
            for outcomes in (columns.predictions, columns.labels):
                codes: list[int | None] = list(map(self.classes.__getitem__, outcomes))
                which = set(codes)
                if unknown in which:
                    reasons.update((row, "unknown_class") for row, code in enumerate(codes) if code == unknown)
                outcomes[:] = [None if code == missing else code for code in codes] if missing in which else codes
        if not all(columns.features.present):
            for row in range(len(columns)):
                predicts = (
                    columns.features.present[row]
                    or columns.predictions[row] is not None
                    or columns.scores[row] is not None
                    or columns.errors[row] is not None
                )
                if predicts:
                    continue
                columns.versions[row] = None
                if columns.labels[row] is None:
                    reasons.setdefault(row, "nothing_to_count")
                elif columns.ids[row] is None:
                    reasons.setdefault(row, "missing_id")
        if self._scores is not None:
            for row, scores in enumerate(columns.scores):
                if scores is not None and abs(sum(astuple(scores)) - 1) > SUM_TOLERANCE:
                    reasons.setdefault(row, "bad_score")
        if not reasons:
            return columns, []
        refused = [(columns.lines[row], reason) for row, reason in sorted(reasons.items())]
        return columns.keep([row not in reasons for row in range(len(columns))], self), refused

    def _features_of(self, features: list[Any]) -> Features:
        """Return the features of events, None where an event has none."""
        present = [True] * len(features)
        try:
            if len(features) >= _ENCODED_AT_ONCE:
                return Features(present, self.encode(features))
        except TypeError:  # of None
            pass
        present = [values is not None for values in features]
        values = features if all(present) else list(compress(features, present))
        return Features(present, self.encode(values) if len(values) >= _ENCODED_AT_ONCE else values)

    def encode(self, features: Sequence[Any]) -> Encoded:
        """Return the values of decoded features as arrays."""
        n = len(features)
        values = list(zip(*map(astuple, features), strict=True)) or [()] * len(self._places)
        names = [*self.numeric, *(self.categorical[row] for row in self._decoded)]
        numbers = floats(*(values[self._places[name]] for name in names)).reshape(len(names), n)
        decoded = numbers[len(self.numeric) :]
        codes = np.empty((len(self.categorical), n), np.intp)
        codes[self._decoded] = np.where(np.isnan(decoded), self._missing, decoded)
        for row, (name, table) in enumerate(zip(self.categorical, self.codes, strict=True)):
            if row not in self._decoded:
                codes[row] = encode(values[self._places[name]], table)
        parts = [
            to_vectors(values[self._places[name]], embedding.dimensions)
            for name, embedding in zip(self._embeddings, self.profile.embeddings.values(), strict=True)
        ]
        return Encoded(
            numbers[: len(self.numeric)],
            codes,
            np.concatenate(parts) if parts else np.empty((0, n), np.float32),
        )

    def group_array(self, columns: Columns, features: Encoded) -> NDArray[np.float64]:
        """Return the group codes of all events, (n, attributes); `features` are those of the events that have any."""
        n = len(columns)
        if self.attributes is None:
            return np.empty((n, 0))
        featured = np.flatnonzero(columns.features.flags)
        carried: dict[str, NDArray[np.intp]] = {}
        names = list(self.profile.features)
        for attribute in self.attributes.carried.values():
            group = np.full(n, attribute.unknown)
            if attribute.from_features:
                field = f"f{names.index(attribute.name)}"
                group[featured] = (
                    numeric_groups(features.numeric[self.numeric.index(field)], attribute)
                    if attribute.edges
                    else np.minimum(features.codes[self.categorical.index(field)], attribute.unknown)
                )
            carried[attribute.name] = group
        for group, attribute in zip(columns.groups.T, self._group_fields.values(), strict=True):
            by_features = carried[attribute.name]
            carried[attribute.name] = (
                np.where(group < attribute.unknown, group, by_features) if attribute.from_features else group
            )
        return self.attributes.codes(carried, n).astype(np.float64)

    @property
    def group_attributes(self) -> list[Attribute]:
        """The attributes that `groups` of an event may carry, in the order of their codes."""
        return list(self._group_fields.values())

    def _group_codes(self, groups: Sequence[Any]) -> Ints:
        """Return the codes of what decoded `groups` of events say, (n, attributes in them); of None, unknown."""
        if not self._group_fields:
            return np.empty((len(groups), 0), np.intp)
        if not all(groups):
            given = [values for values in groups if values is not None]
            codes = np.tile([attribute.unknown for attribute in self.group_attributes], (len(groups), 1))
            codes[[values is not None for values in groups]] = self._group_codes(given)
            return codes
        texts = chain.from_iterable([map(table.__getitem__, map(get, groups)) for get, table in self._group_codes_of])
        shape = (len(self._group_codes_of), len(groups))
        codes = np.fromiter(texts, np.intp, math.prod(shape)).reshape(shape)
        numbers = [
            numeric_groups(floats(list(map(attrgetter(name), groups))), attribute)
            for name, attribute in self._group_fields.items()
            if attribute.edges
        ]
        return (np.concatenate([codes, numbers]) if numbers else codes).T

    def score_array(self, scores: Sequence[Any] | Floats) -> NDArray[np.float64]:
        """Return probabilities (n, columns), NaN where absent. A row of a multiclass model may also be a tuple."""
        if self._scores is None:
            return floats(scores)[:, None]
        absent = (math.nan,) * len(self.profile.classes)
        rows = (absent if s is None else s if type(s) is tuple else astuple(s) for s in scores)
        return np.array(list(rows))

    def repair(self, event: dict[str, Any]) -> Any:
        """Make an event from an object that the typed decoder refused; raises Refused with the reason."""
        features = event.get("features")
        if features is not None and not isinstance(features, dict):
            raise Refused("bad_features")
        return self.event(
            id=_identifier(event.get("id")),
            ts=_time(event.get("ts")),
            version=read_version(event.get("version")),
            features=None if features is None else self._repaired_features(features),
            groups=self.read_groups(event.get("groups")),
            scores=self._repaired_scores(event),
            prediction=self._outcome(event.get("prediction"), "bad_prediction"),
            label=self._outcome(event.get("label"), "bad_label"),
            latency_seconds=_latency(event.get("latency_seconds")),
            error=_error(event.get("error")),
        )

    def _repaired_features(self, features: dict[str, Any]) -> Any:
        values: dict[str, object] = {}
        for attribute in self.numeric:
            value = features.get(self._feature_names[attribute])
            values[attribute] = math.inf if not (value is None or _is_number(value)) else _finite_or(value, math.inf)
        for row, (attribute, codes) in enumerate(zip(self.categorical, self.codes, strict=True)):
            value = features.get(self._feature_names[attribute])
            try:
                category: object = canonical(value)
            except TypeError:
                category = INVALID
            values[attribute] = float(codes[category]) if row in self._decoded else category
        for number, name in enumerate(self.profile.embeddings):
            value = features.get(name)
            values[f"e{number}"] = value if isinstance(value, list) and all(map(_is_number, value)) else None
        return self._features(**values)

    def read_groups(self, groups: Any) -> Any:
        """Return the typed groups of an object; raises Refused."""
        if groups is None:
            return None
        if not isinstance(groups, dict):
            raise Refused("bad_groups")
        values: dict[str, object] = {}
        for name, attribute in self._group_fields.items():
            value = groups.get(attribute.name)
            if attribute.edges:
                values[name] = _finite_or(value, math.nan) if _is_number(value) else None
            else:
                try:
                    values[name] = canonical(value)
                except TypeError:
                    values[name] = INVALID
        return self._groups(**values)

    def _repaired_scores(self, event: dict[str, Any]) -> Any:
        if self.profile.task == "binary":
            return _probability(event.get("score"))
        scores = event.get("scores")
        if self._scores is None or scores is None:
            return None
        if not isinstance(scores, dict):
            raise Refused("bad_score")
        attributes = dict(zip(self.profile.classes, self._scores.__struct_fields__, strict=True))
        try:
            return self._scores(**{attributes[name]: _probability(value) or 0.0 for name, value in scores.items()})
        except KeyError:
            raise Refused("bad_score") from None

    def _outcome(self, value: Any, reason: Reason) -> float | str | None:
        if self.profile.task != "regression":
            try:
                return canonical(value)
            except TypeError:
                raise Refused(reason) from None
        if value is not None and not _is_number(value):
            raise Refused(reason)
        number = _finite_or(value, math.inf)
        if number is not None and abs(number) > self.largest_outcome:
            raise Refused(reason)
        return number


class Decoder:
    """Decodes bodies whose events may be of any configured model."""

    def __init__(self, schemas: Sequence[Schema]) -> None:
        self._schemas = {schema.model: schema for schema in schemas}
        self._by_type = {schema.event: schema for schema in schemas}
        union: Any = Union[tuple(schema.event for schema in schemas)]  # noqa: UP007 - made at run time
        self._events = msgspec.json.Decoder(union)
        self._array = msgspec.json.Decoder(list[union])

    def decode(self, body: bytes, now: float) -> Decoded:
        """Decode a body: NDJSON, one JSON array, one JSON object over several lines, or an Arrow IPC stream.

        `now` is Unix seconds.
        """
        decoded = Decoded()
        for _ in self.decode_steps(body, now, decoded):
            pass
        return decoded

    def decode_steps(self, body: bytes, now: float, decoded: Decoded) -> Iterator[None]:
        """Decode into `decoded`, pausing after each chunk so that a caller can let others run."""
        if body.startswith(ARROW_STREAM):
            self._decode_arrow(body, now, decoded)
            return
        body = body.removeprefix(_BYTE_ORDER_MARK)
        start = body.lstrip()[:1]
        if start == b"[":
            events = self._array_elements(body)
            if events is not None:
                yield from self._decode_array(events, now, decoded)
                return
        elif start == b"{" and self._decode_single(body, now, decoded):
            return
        line = 1
        for chunk in _chunks(body):
            line += self._decode_lines(chunk, line, now, decoded)
            yield

    def _decode_arrow(self, body: bytes, now: float, decoded: Decoded) -> None:
        try:
            from exporter import columnar  # needs pyarrow, which is optional and slow to load
        except ImportError:
            decoded.refused.append((1, "bad_arrow"))
            return
        columnar.decode(body, self._schemas, now, decoded)

    def _decode_single(self, body: bytes, now: float, decoded: Decoded) -> bool:
        """Take a body that is one object printed over several lines; False when it is not."""
        text = body.lstrip()
        end = text.find(b"\n")
        first = text[:end].rstrip()
        if end < 0 or (first.endswith(b"}") and _is_json(first)):
            return False  # the usual case, decided without a copy of the body
        if not text[end:].strip() or not _is_json(body):
            return False
        self._decode_one(body, 1, now, decoded)
        return True

    def _decode_lines(self, chunk: bytes | memoryview, first_line: int, now: float, decoded: Decoded) -> int:
        """Decode whole lines; returns how many there were."""
        data = bytes(chunk)
        count, regular = _lines_of(data)
        events = None
        if regular:
            with suppress(msgspec.MsgspecError, ValueError, RecursionError):
                events = self._events.decode_lines(data)
        if events is None or len(events) != count:
            for offset, line in enumerate(data.split(b"\n")[:count]):
                if line.strip():
                    self._decode_one(line, first_line + offset, now, decoded)
        else:
            self._take(events, range(first_line, first_line + count), now, decoded)
        return count

    def _array_elements(self, body: bytes) -> list[Any] | None:
        """Return the decoded events of an array, or its JSON values where one needs repair; None when it is none."""
        try:
            events: list[Any] = self._array.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            try:
                values = _parse(body)
            except Refused:
                return None
            return values if isinstance(values, list) else None
        return events

    def _decode_array(self, events: list[Any], now: float, decoded: Decoded) -> Iterator[None]:
        if events and type(events[0]) in self._by_type:
            self._take(events, range(1, len(events) + 1), now, decoded)
        else:
            for number, value in enumerate(events, 1):
                self._repair_one(value, number, now, decoded)
                if number % 256 == 0:
                    yield
        yield

    def _decode_one(self, line: bytes, number: int, now: float, decoded: Decoded) -> None:
        try:
            event = self._events.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            try:
                value = _parse(line)
            except Refused as refused:
                decoded.refused.append((number, refused.reason))
            else:
                self._repair_one(value, number, now, decoded)
        else:
            self._take([event], [number], now, decoded)

    def _repair_one(self, value: Any, number: int, now: float, decoded: Decoded) -> None:
        try:
            event = self._repair(value)
        except Refused as refused:
            decoded.refused.append((number, refused.reason))
        else:
            self._take([event], [number], now, decoded)

    def _repair(self, event: Any) -> Any:
        if not isinstance(event, dict):
            raise Refused("not_an_object")
        model = event.get("model")
        if model is None:
            raise Refused("missing_model")
        schema = self._schemas.get(model) if isinstance(model, str) else None
        if schema is None:
            raise Refused("unknown_model")
        return schema.repair(event)

    def _take(self, events: Sequence[Any], lines: Sequence[int], now: float, decoded: Decoded) -> None:
        """Sort decoded events by model and turn them to columns."""
        kinds = set(map(type, events))
        for kind in kinds:
            schema = self._by_type[kind]
            if len(kinds) == 1:
                columns, refused = schema.columns(events, lines, now)
            else:
                ours = [type(event) is kind for event in events]
                columns, refused = schema.columns(list(compress(events, ours)), list(compress(lines, ours)), now)
            decoded.refused.extend(refused)
            if len(columns):
                decoded.add(schema.model, columns)


def _parse(text: bytes) -> Any:
    """Return a JSON value as lenient as it gets: with NaN and infinities, damaged UTF-8 replaced.

    Raises Refused.
    """
    try:
        return json.loads(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        raise Refused("malformed_json") from None


def _is_json(text: bytes) -> bool:
    try:
        _parse(text)
    except Refused:
        return False
    return True


def _versions(values: list[str | int | None]) -> list[str | None]:
    """Return versions as text; the usual case is that all are the same."""
    first = values[0]
    if values.count(first) == len(values):
        return [DEFAULT_VERSION if first is None else str(first)] * len(values)
    return [DEFAULT_VERSION if value is None else str(value) for value in values]


def _all_before(times: Iterable[Any], now: float) -> bool:
    """Return whether all times are numbers, and none later than `now`."""
    try:
        return bool(max(times) <= now)
    except TypeError:
        return False


def _lines_of(data: bytes) -> tuple[int, bool]:
    """Return the number of lines, and whether each begins with { and those before the last end with }.

    No JSON value goes on from } to {, so no value then spans lines. The decoder of lines would let it, and would let
    several values share a line.
    """
    if data.find(b"\n", 0, len(data) - 1) < 0:
        return 1, True
    text = np.frombuffer(data, np.uint8)
    (ends,) = (text == ord("\n")).nonzero()
    count = len(ends) + (not data.endswith(b"\n"))
    last = text[ends - 1].tobytes()
    if b"\r" in last:
        last = bytes(text[end - 2] if byte == ord("\r") else byte for end, byte in zip(ends, last, strict=True))
    starts = text[ends[: count - 1] + 1].tobytes()
    regular = data.startswith(b"{") and last.count(b"}") == len(last) and starts.count(b"{") == len(starts)
    return count, regular


def _chunks(body: bytes) -> Iterator[bytes | memoryview]:
    """Cut a body at line ends into chunks that stay in the cache. A longer line is a chunk of its own."""
    if len(body) <= CHUNK_BYTES:
        if body.strip():
            yield body
        return
    view = memoryview(body)
    start = 0
    while start < len(body):
        end = body.rfind(b"\n", start, start + CHUNK_BYTES) + 1 or body.find(b"\n", start) + 1 or len(body)
        yield view[start:end]
        start = end


def _largest_outcome(profile: Profile) -> float:
    """Return the bound of a regression's predictions and labels."""
    known = [variable for variable in (profile.prediction, profile.label) if isinstance(variable, NumericVariable)]
    return OUTCOME_RANGE * max((abs(edge) for variable in known for edge in variable.edges), default=1e9)


def _category_type(codes: Codes) -> Any:
    """Return what the typed decoder takes as is. Booleans and numbers exclude each other: Python holds True == 1."""
    return bool | str | None if codes.holds_booleans else str | int | float | None


def _group_table(attribute: Attribute) -> Codes:
    """Return the code of each group of a categorical attribute by the values that mean it."""
    *categories, _, _ = attribute.groups
    unknown = attribute.unknown
    return Codes(categories, other=unknown - 1, invalid=unknown, missing=unknown)


def numeric_groups(values: NDArray[np.float64], attribute: Attribute) -> NDArray[np.intp]:
    """Return the range of each number; what is missing or infinite is unknown."""
    groups = np.searchsorted(attribute.edges, values, side="right")
    return np.where(np.isfinite(values), groups, attribute.unknown)


def _is_number(value: object) -> Any:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite_or(value: Any, otherwise: float) -> float | None:
    """Return a number as float, None for None and NaN, `otherwise` where it is infinite or beyond a float."""
    if value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return otherwise
    return None if math.isnan(number) else number if math.isfinite(number) else otherwise


def _identifier(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str) or not 0 < len(str(value)) <= MAX_ID_LENGTH:
        raise Refused("bad_id")
    return _encodable(str(value), "bad_id")


def read_version(value: object) -> str | None:
    """Return a version as text, None for null; raises Refused."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused("bad_version")
    text = value if isinstance(value, str) else canonical(value)
    if text is None or not 0 < len(text) <= 64:
        raise Refused("bad_version")
    return _encodable(text, "bad_version")


def _encodable(text: str, reason: Reason) -> str:
    """Return text that is valid Unicode: JSON may escape half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(reason) from None
    return text


def _time(value: object) -> datetime | float | None:
    try:
        time: datetime | float | None = msgspec.convert(value, _TIME | None)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError):
        raise Refused("bad_timestamp") from None
    if isinstance(time, float) and math.isnan(time):
        raise Refused("bad_timestamp")
    return time


def _latency(value: object) -> float | None:
    if value is None:
        return None
    if not _is_number(value):
        raise Refused("bad_latency")
    latency = _finite_or(value, -1.0)
    if latency is not None and not 0 <= latency <= LONGEST_LATENCY:
        raise Refused("bad_latency")
    return latency


def _error(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refused("bad_error")
    return value


def _probability(value: object) -> float | None:
    if value is None:
        return None
    if not _is_number(value):
        raise Refused("bad_score")
    probability = _finite_or(value, -1.0)
    if probability is not None and not 0 <= probability <= 1:
        raise Refused("bad_score")
    return probability
