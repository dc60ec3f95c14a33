"""How the events of one model are typed, from its profile, and how one that is odd is read by hand."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain, compress
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import astuple

from mlops_exporter.arrays import Flags, Floats, Ints
from mlops_exporter.events.attributes import Attribute, Attributes
from mlops_exporter.events.columns import Columns, Encoded, Features
from mlops_exporter.events.forecasts import ForecastSchema
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS, LONGEST_LATENCY, MAX_ID_LENGTH, Reason, Refused
from mlops_exporter.profile import lists
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, encode
from mlops_exporter.profile.lists import Lists
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.sets import MAX_CLASSES, from_codes, members_of
from mlops_exporter.profile.values import (
    PROBABILITY_TOLERANCE,
    Category,
    Codes,
    as_category,
    as_number,
    canonical,
    floats,
    probabilities,
    table,
)
from mlops_exporter.profile.vectors import to_vectors

OUTCOME_RANGE = 1000.0
"""How many times the largest number of the reference a prediction or label of a regression may be."""

DEFAULT_VERSION = "default"


_INTEGER = Annotated[int, Meta(ge=-(10**18), le=10**18)]  # any other one is read by hand, whatever its length
_WHOLE = Annotated[float, Meta(multiple_of=1, ge=-1e15, le=1e15)]
_ID = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)] | _INTEGER | _WHOLE
_VERSION = Annotated[str, Meta(min_length=1, max_length=64)] | _INTEGER
_TIME = Annotated[datetime, Meta(tz=True)] | Annotated[float, Meta(ge=0)]
_PROBABILITY = Annotated[float, Meta(ge=-PROBABILITY_TOLERANCE, le=1 + PROBABILITY_TOLERANCE)]
_BINARY_TOLERANCE = 2 * PROBABILITY_TOLERANCE + 1e-9
_STRUCT_NAME = re.compile(r'[^"\\\x00-\x1f]*')  # what msgspec allows

_UNREAD = msgspec.Raw(b"null")

_ENCODED_AT_ONCE = 32
"""From so many events on, encoding them at once is worth the overhead of NumPy calls."""


class Outcomes(NamedTuple):
    """What the labels of a model may be, whichever version they belong to: a label alone does not say.

    `classes` are those of all its profiles, `largest` is the bound of a regression's labels.
    """

    classes: list[str]
    largest: float

    @classmethod
    def of(cls, profiles: Iterable[Profile]) -> "Outcomes":
        """Return what the labels of models with any of these profiles may be; the first one's classes come first."""
        several = list(profiles)
        classes = list(dict.fromkeys(chain.from_iterable(profile.classes for profile in several)))
        if several[0].task == "multilabel":
            classes = classes[:MAX_CLASSES]  # those of former profiles come last
        return cls(classes, max(map(_largest_outcome, several)))


class Schema:
    """How the events of a model are typed, from a profile: the decoder's type and the codes of its classes.

    Predictions have the codes of the profile's classes, labels those of the model's `outcomes`. `version` is the
    version whose events these are, None for every version that has no schema of its own. Features that other versions
    have are `known`, too, and not read. `rated` has the lowest and the highest value of each number in `outcomes`.
    """

    def __init__(
        self,
        model: str,
        profile: Profile,
        attributes: Attributes | None = None,
        *,
        version: str | None = None,
        outcomes: Outcomes | None = None,
        known: Collection[str] = (),
        rated: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    ) -> None:
        self.model = model
        self.version = version
        self.profile = profile
        self.ranking = profile.ranking
        self.attributes = attributes
        self._missing_texts = frozenset(profile.missing)
        self.numeric: list[str] = []
        self.categorical: list[str] = []
        self._decoded: list[int] = []
        """Which of the categorical features the typed decoder turns into codes."""
        self.codes: list[Codes] = []
        fields: list[tuple[str, Any, float | None]] = []
        renamed: dict[str, str] = {}
        for number, (name, variable) in enumerate(profile.features.items()):
            attribute = f"f{number}"
            renamed[attribute] = name
            if isinstance(variable, CategoricalVariable):
                table = variable.codes_with(profile.missing)
                if table.only_texts:
                    self._decoded.append(len(self.categorical))
                    fields.append((attribute, Category.of(table) | None, float(table[None])))
                else:
                    fields.append((attribute, _category_type(table), None))
                self.categorical.append(attribute)
                self.codes.append(table)
            else:
                self.numeric.append(attribute)
                fields.append((attribute, float | None, math.nan))
        self._missing = np.array([[self.codes[row][None]] for row in self._decoded]).reshape(-1, 1)
        embeddings = {f"e{number}": name for number, name in enumerate(profile.embeddings)}
        renamed |= embeddings
        fields += ((attribute, list[float] | None, None) for attribute in embeddings)
        self._embeddings = list(embeddings)
        self._feature_names = renamed
        self._places = {attribute: place for place, attribute in enumerate(renamed)}
        self.known = frozenset({*renamed.values(), *known})
        """The features that some version of the model has."""
        others = {f"o{number}": name for number, name in enumerate(sorted(self.known.difference(renamed.values())))}
        self._fields = [*fields, *((attribute, msgspec.Raw, _UNREAD) for attribute in others)]
        self._field_names = renamed | others
        self.tells_unknown = _nameable(self._field_names)
        """Whether the typed decoder refuses features that no version has."""
        self._features = _struct("Features", self._fields, self._field_names, forbid_unknown_fields=True)
        self._numbers_alone = len(self._field_names) == len(self.numeric) + len(self._decoded)
        """Whether all members of decoded features are numbers."""

        carried = [a for a in attributes.carried.values() if a.from_groups] if attributes else []
        carried.sort(key=lambda attribute: len(attribute.edges) > 0)
        self._group_fields = {f"g{i}": a for i, a in enumerate(carried)}  # numeric ones last
        self._group_codes_of = [
            (attrgetter(name), self.group_table(a)) for name, a in self._group_fields.items() if not a.edges
        ]
        group_names = {name: a.name for name, a in self._group_fields.items()}
        self._groups_are_typed = _nameable(group_names)
        self._groups = _struct(
            "Groups",
            [
                (name, float | None if a.edges else _category_type(self.group_table(a)), None)
                for name, a in self._group_fields.items()
            ],
            group_names,
        )

        self.rated = rated
        self.only_rated = profile.task == "outcomes"
        """Whether nothing is predicted: an answer is then known by its latency, or by outcomes without an id."""
        bounded = [Annotated[float, Meta(ge=low, le=high)] for low, high in rated.values()]
        self._rated = _struct(
            "Rated",
            [(f"r{number}", type_ | None, math.nan) for number, type_ in enumerate(bounded)],
            {f"r{number}": name for number, name in enumerate(rated)},
            forbid_unknown_fields=True,
        )

        k = len(profile.classes)
        outcomes = outcomes or Outcomes.of([profile])
        self.classes = Codes(profile.classes, other=k, invalid=k, missing=-1, missing_texts=profile.missing)
        total = len(outcomes.classes)
        self.labels = Codes(outcomes.classes, other=total, invalid=total, missing=-1, missing_texts=profile.missing)
        self._foreign_classes = {self.labels[name] for name in outcomes.classes if name not in profile.classes}
        self._scores: type[msgspec.Struct] | None = None
        score_type: Any = _PROBABILITY | None if profile.task == "binary" else None
        if profile.task in ("multiclass", "multilabel"):
            class_names = {f"p{number}": name for number, name in enumerate(profile.classes)}
            self._scores = _struct(
                "Scores",
                [(attribute, _PROBABILITY, 0.0) for attribute in class_names],
                class_names,
                forbid_unknown_fields=True,
            )
            score_type = _as_decoded(self._scores, class_names)
        self.largest_outcome = max(_largest_outcome(profile), outcomes.largest)
        number_type: Any = Annotated[float, Meta(ge=-self.largest_outcome, le=self.largest_outcome)]
        outcome_type, label_type = _category_type(self.classes), _category_type(self.labels)
        self.forecasts = ForecastSchema(profile, self.largest_outcome)
        if profile.of_numbers:
            outcome_type = label_type = number_type | None
        elif profile.task == "multilabel":
            outcome_type, label_type = (_list_type(each) for each in (outcome_type, label_type))
        elif self.ranking:
            outcome_type = _list_type(outcome_type)
            label_type = outcome_type | dict[str, float | None]
            score_type = list[float | None] | None
        self._members: list[tuple[str, Any, None]] = [
            ("id", _ID | None, None),
            ("ts", _TIME | None, None),
            ("version", _VERSION | None, None),
            ("features", _as_decoded(self._features, self._field_names), None),
            ("groups", _as_decoded(self._groups, group_names), None),
            ("scores", score_type, None),
            ("prediction", outcome_type, None),
            ("label", label_type, None),
            ("latency_seconds", Annotated[float, Meta(ge=0, le=LONGEST_LATENCY)] | None, None),
            ("error", str | None, None),
            *self._optional(),
        ]
        self.event = self._event_type(self._members)

    def _event_type(self, members: list[tuple[str, Any, None]]) -> type[msgspec.Struct]:
        return msgspec.defstruct(
            "Event",
            members,
            tag_field="model",
            tag=self.model,
            rename={"scores": "score", "by_class": "scores"} if self.profile.task == "binary" else None,
            gc=False,
        )

    @cached_property
    def lenient_event(self) -> type[msgspec.Struct]:
        """What `event` is, for a decoder that passes by features which no version has."""
        if not self.tells_unknown:
            return self.event
        features = _struct("Features", self._fields, self._field_names) | None
        return self._event_type(
            [(name, features if name == "features" else type_, None) for name, type_, _ in self._members]
        )

    @cached_property
    def named_event(self) -> type[msgspec.Struct]:
        """The names alone of the features of an event."""
        names = [("features", dict[str, msgspec.Raw] | None, None)]
        return msgspec.defstruct("Named", names, tag_field="model", tag=self.model, gc=False)

    def _optional(self) -> list[tuple[str, Any, None]]:
        """Return the last members of events, those that there are.

        They are `outcomes`, those of forecasts, and for two classes `scores` by class in place of `score`.
        """
        return [
            *([("outcomes", self._rated | None, None)] if self.rated else []),
            *self.forecasts.members,
            *([("by_class", dict[str, Any] | None, None)] if self.profile.task == "binary" else []),
            *([("categories", list[str | int | float | None] | None, None)] if self.ranking else []),
        ]

    def columns(
        self, events: Sequence[Any], lines: Sequence[int], now: float
    ) -> tuple[Columns, list[tuple[int, Reason]]]:
        """Return decoded events as columns, and those refused that typing alone could not tell."""
        ids, times, versions, features, groups, scores, predictions, labels, latencies, errors, *optional = map(
            list, zip(*map(astuple, events), strict=True)
        )
        given = {name: values for (name, *_), values in zip(self._optional(), optional, strict=True)}
        by_class = given.get("by_class", [])
        if by_class.count(None) < len(by_class):
            scores[:] = [score if named is None else named for score, named in zip(scores, by_class, strict=True)]
        reasons = self._settle(features, groups, [] if self.ranking else scores)
        forecasts = self.forecasts.array(given, len(ids), reasons)
        self.forecasts.name(ids, given, reasons)
        ranked = None
        if self.ranking:
            ranked = self._read_lists(features, predictions, labels, scores, given["categories"], now, reasons)
        columns = Columns(
            self._features_of(features),
            lines if len(lines) >= _ENCODED_AT_ONCE else list(lines),
            ids,
            times,
            _versions(versions),
            self._group_codes(groups),
            self._rated_array(given.get("outcomes", ()), len(ids)),
            forecasts,
            scores,
            predictions,
            labels,
            latencies,
            errors,
            self.version,
            lists=ranked,
        )
        columns, refused = self._check(columns, now, reasons)
        if len(columns) >= _ENCODED_AT_ONCE:
            columns.times, columns.latencies = floats(columns.times), floats(columns.latencies)
            columns.predictions, columns.labels = floats(columns.predictions), floats(columns.labels)
            if self._scores is None:
                columns.scores = floats(columns.scores)
        return columns, refused

    def _settle(self, features: list[Any], groups: list[Any], scores: list[Any]) -> dict[int, Reason]:
        """Turn members that no typed decoder could name into what it makes of others; returns the rows refused."""
        reasons: dict[int, Reason] = {}
        for values, settle, typed in (
            (features, self._repaired_features, self.tells_unknown),
            (groups, self.read_groups, self._groups_are_typed),
            (scores, self._scores_of_classes, not self.profile.classes),
        ):
            if not typed and dict in set(map(type, values)):  # without Python per event
                for row, value in enumerate(values):
                    if type(value) is dict:
                        try:
                            values[row] = settle(value)
                        except Refused as refused:
                            values[row] = None
                            reasons[row] = refused.reason
        return reasons

    def _check(
        self, columns: Columns, now: float, reasons: dict[int, Reason]
    ) -> tuple[Columns, list[tuple[int, Reason]]]:
        """Encode the classes, and refuse events row by row only if some column as a whole shows a fault."""
        if not _all_before(columns.times, now):
            given: Iterable[Any] = columns.times
            columns.times = [now if t is None else t if type(t) is float else t.timestamp() for t in given]
            for row, time in enumerate(columns.times):
                if time > now + CLOCK_SKEW_SECONDS:
                    reasons[row] = "future_timestamp"
                elif time > now:
                    columns.times[row] = now
        if self.profile.task == "multilabel":
            columns.predictions, no_class = _sets(columns.predictions, self.classes)
            columns.labels, no_label = _sets(columns.labels, self.labels)
            reasons.update((row, "unknown_class") for row in np.flatnonzero(no_class | no_label).tolist())
        elif not self.profile.of_numbers and not self.ranking:
            for outcomes, table in ((columns.predictions, self.classes), (columns.labels, self.labels)):
                unknown, missing = table.other, table[None]
                codes: list[int | None] = list(map(table.__getitem__, outcomes))
                which = set(codes)
                if unknown in which:
                    reasons.update((row, "unknown_class") for row, code in enumerate(codes) if code == unknown)
                outcomes[:] = [None if code == missing else code for code in codes] if missing in which else codes
        if not columns.features.flags.all():
            rated = (~np.isnan(columns.outcomes)).sum(axis=1) > 0
            for row in range(len(columns)):
                predicts = (
                    columns.features.present[row]
                    or columns.predictions[row] is not None
                    or columns.scores[row] is not None
                    or columns.errors[row] is not None
                    or (self.only_rated and columns.latencies[row] is not None)
                    or (self.only_rated and columns.ids[row] is None and rated[row])
                )
                if predicts:
                    continue
                columns.versions[row] = None
                if columns.labels[row] is None and not rated[row]:
                    reasons.setdefault(row, "nothing_to_count")
                elif columns.ids[row] is None:
                    reasons.setdefault(row, "missing_id")
        if self.forecasts.ahead:
            apart = np.array([version is None for version in columns.versions])
            rated = apart & ~np.isnan(columns.outcomes).all(axis=1)
            lacking = self.forecasts.lacking(floats(columns.predictions), rated, columns.ids, columns.forecasts)
            for row in np.flatnonzero(lacking).tolist():
                reasons.setdefault(row, "bad_horizon")
        if self.ranking:  # a list that was not shown has no place to look at
            alone = np.isnan(floats(columns.predictions)) & ~np.isnan(floats(columns.labels))
            for row in np.flatnonzero(alone).tolist():
                if columns.versions[row] is not None:
                    reasons.setdefault(row, "bad_prediction")
        if self._foreign_classes:
            foreign = self.foreign(floats(columns.labels))
            for row in np.flatnonzero(foreign).tolist():
                if columns.versions[row] is not None:
                    reasons.setdefault(row, "unknown_class")
        if self._scores is not None:
            given = [row for row, scores in enumerate(columns.scores) if scores is not None]
            if given:
                rows = np.array([astuple(columns.scores[row]) for row in given])
                _, wrong = probabilities(rows, exclusive=self.exclusive)
                reasons.update({row: "bad_score" for row in np.array(given)[wrong].tolist() if row not in reasons})
        if not reasons:
            return columns, []
        refused = [(columns.lines[row], reason) for row, reason in sorted(reasons.items())]
        return columns.keep([row not in reasons for row in range(len(columns))], self), refused

    def _read_lists(
        self,
        features: list[Any],
        predictions: list[Any],
        labels: list[Any],
        scores: list[Any],
        categories: list[Any],
        now: float,
        reasons: dict[int, Reason],
    ) -> Floats:
        """Return decoded lists as a table; in their place come how many items were shown, and how many are named.

        What is made of items goes to the features. Rows that are refused are put among the `reasons`.
        """
        assert self.ranking is not None
        predictions[:] = [each if each is None or type(each) is list else [each] for each in predictions]
        named = [each if each is None or type(each) in (list, dict) else [each] for each in labels]
        shown, lengths = lists.flat(predictions)
        wanted, wishes = lists.flat([each if each is None else list(each) for each in named])
        gains = np.array(
            [
                np.nan if gain is None else gain
                for each in named
                if each
                for gain in (each.values() if type(each) is dict else (1.0,) * len(each))
            ],
            np.float64,
        )
        numbers = lists.numbers_of(shown)
        length = self.ranking.length
        wanted_numbers = lists.numbers_of(wanted)
        there = (wanted_numbers != 0) & ~np.isnan(gains)
        rows, gains = np.repeat(np.arange(len(wishes)), wishes)[there], gains[there]
        known = np.bincount(rows, minlength=len(wishes))
        items = lists.rectangle(numbers, lengths, length)
        table = Lists(
            np.where([each is None for each in predictions], np.nan, lengths),
            items,
            *lists.relevant(wanted_numbers[there], gains, known, items),
        ).table()
        wrong = rows[~((gains >= 0) & (gains <= lists.LARGEST_GAIN))]
        reasons.update((row, "bad_label") for row in wrong.tolist())
        several: tuple[tuple[list[Any], Reason], ...] = ((scores, "bad_score"), (categories, "bad_prediction"))
        for members, reason in several:
            for row, (given, size) in enumerate(zip(members, lengths.tolist(), strict=True)):
                if given is not None and len(given) != size:
                    members[row] = None
                    reasons.setdefault(row, reason)
        self._add_features_of_items(
            features, predictions, scores, categories, lists.drawn(lengths, _seed(numbers, now))
        )
        nothing = (wishes > 0) & (known == 0)  # none but missing items: so is the label
        labels[:] = [
            None if each is None or missing else float(len(each))
            for each, missing in zip(named, nothing.tolist(), strict=True)
        ]
        predictions[:] = [None if each is None else float(len(each)) for each in predictions]
        scores[:] = [None] * len(scores)
        return table

    def _add_features_of_items(
        self, features: list[Any], shown: list[Any], scores: list[Any], categories: list[Any], chosen: Ints
    ) -> None:
        """Put what is made of items among the features of events that show some."""
        places = {self._feature_names[attribute]: attribute for attribute in (*self.numeric, *self.categorical)}
        made = [(name, places[name]) for name in lists.OF_ITEMS if name in places]
        for row, (items, place) in enumerate(zip(shown, chosen.tolist(), strict=True)):
            if items is None or not made:
                continue
            if features[row] is None:
                features[row] = self._features()
            for name, attribute in made:
                values = categories[row] if name == lists.CATEGORY else scores[row]
                if values and items:
                    value = values[0 if name == lists.TOP_SCORE else place]
                    setattr(features[row], attribute, self._typed(attribute, value))

    def _typed(self, attribute: str, value: Any) -> Any:
        """Return a value as the typed decoder would leave it for a feature."""
        if attribute in self.numeric:
            return value
        row = self.categorical.index(attribute)
        codes = self.codes[row]
        value = value if isinstance(value, str) and value in codes else as_category(value, self._missing_texts)
        return float(codes[value]) if row in self._decoded else value

    @property
    def exclusive(self) -> bool:
        """Whether an event is of one class alone, so that the probabilities of all add up to 1."""
        return self.profile.task != "multilabel"

    def foreign(self, labels: Floats) -> Flags:
        """Return which labels no prediction of this schema can have."""
        codes = list(self._foreign_classes)
        if self.profile.task != "multilabel":
            return np.isin(labels, codes)
        return np.asarray(members_of(labels, len(self.labels.names))[:, codes].any(axis=1), np.bool_)

    def _features_of(self, features: list[Any]) -> Features:
        """Return the features of events, None where an event has none."""
        try:
            if len(features) >= _ENCODED_AT_ONCE:
                return Features(np.ones(len(features), np.bool_), self.encode(features))
        except TypeError:  # of None
            pass
        present = [values is not None for values in features]
        values = features if all(present) else list(compress(features, present))
        return Features(present, self.encode(values) if len(values) >= _ENCODED_AT_ONCE else values)

    def encode(self, features: Sequence[Any]) -> Encoded:
        """Return the values of decoded features as arrays."""
        n = len(features)
        names = [*self.numeric, *(self.categorical[row] for row in self._decoded)]
        places = [self._places[name] for name in names]
        values: Sequence[Sequence[Any]] = ()
        numbers = table(map(astuple, features), n, len(names)) if self._numbers_alone else None
        if numbers is not None:
            numbers = numbers.take(places, axis=0)
        else:
            values = list(zip(*map(astuple, features), strict=True)) or [()] * len(self._places)
            numbers = floats(*(values[place] for place in places)).reshape(len(names), n)
        decoded = numbers[len(self.numeric) :]
        codes = np.empty((len(self.categorical), n), np.intp)
        codes[self._decoded] = np.where(np.isnan(decoded), self._missing, decoded)
        for row, (name, known) in enumerate(zip(self.categorical, self.codes, strict=True)):
            if row not in self._decoded:
                codes[row] = encode(values[self._places[name]], known)
        parts = [
            to_vectors(values[self._places[name]], embedding.dimensions)
            for name, embedding in zip(self._embeddings, self.profile.embeddings.values(), strict=True)
        ]
        return Encoded(
            numbers[: len(self.numeric)],
            codes,
            np.concatenate(parts) if parts else np.empty((0, n), np.float32),
        )

    def group_array(self, columns: Columns, features: Encoded) -> Floats:
        """Return the group codes of all events, (n, attributes); `features` are those of the events that have any."""
        n = len(columns)
        if self.attributes is None:
            return np.empty((n, 0))
        featured = np.flatnonzero(columns.features.flags)
        carried: dict[str, Ints] = {}
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

    def group_table(self, attribute: Attribute) -> Codes:
        """Return the code of each group of a categorical attribute by the values that mean it."""
        *categories, _, _ = attribute.groups
        unknown = attribute.unknown
        return Codes(categories, other=unknown - 1, invalid=unknown, missing=unknown, missing_texts=self._missing_texts)

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

    def _rated_array(self, outcomes: Sequence[Any], events: int) -> Floats:
        """Return the numbers in decoded `outcomes` of events, (n, outcomes); NaN where absent."""
        absent = (math.nan,) * len(self.rated)
        rows = [absent if each is None else astuple(each) for each in outcomes]
        return np.array(rows, np.float64).reshape(events, len(self.rated))

    def _read_rated(self, outcomes: object) -> Any:
        """Return the typed outcomes of an object; raises Refused."""
        if outcomes is None:
            return None
        if not isinstance(outcomes, dict) or not outcomes.keys() <= self.rated.keys():
            raise Refused("bad_outcome")
        values: dict[str, float | None] = {}
        for number, (name, (low, high)) in enumerate(self.rated.items()):
            value = outcomes.get(name)
            if value is not None and not _is_number(value):
                raise Refused("bad_outcome")
            found = _finite_or(value, math.inf)
            if found is not None and not low <= found <= high:
                raise Refused("bad_outcome")
            values[f"r{number}"] = found
        return self._rated(**values)

    def score_array(self, scores: Sequence[Any] | Floats) -> Floats:
        """Return probabilities (n, columns), NaN where absent. A row of a multiclass model may also be a tuple."""
        if self._scores is None:
            return floats(scores)[:, None].clip(0.0, 1.0)
        absent = (math.nan,) * len(self.profile.classes)
        rows = (absent if s is None else s if type(s) is tuple else astuple(s) for s in scores)
        return np.array(list(rows)).clip(0.0, 1.0)

    def repair(self, event: dict[str, Any]) -> Any:
        """Make an event from an object that the typed decoder refused; raises Refused with the reason."""
        features = event.get("features")
        if features is not None and not isinstance(features, dict):
            raise Refused("bad_features")
        return self.event(
            id=read_id(event.get("id")),
            ts=read_time(event.get("ts")),
            version=read_version(event.get("version")),
            features=None if features is None else self._repaired_features(features),
            groups=self.read_groups(event.get("groups")),
            scores=self._repaired_scores(event),
            prediction=self._outcome(event.get("prediction"), "bad_prediction"),
            label=self._outcome(event.get("label"), "bad_label"),
            latency_seconds=_latency(event.get("latency_seconds")),
            error=_error(event.get("error")),
            **({"outcomes": self._read_rated(event.get("outcomes"))} if self.rated else {}),
            **self.forecasts.read(event),
            **({"categories": _list_or_none(event.get("categories"), "bad_prediction")} if self.ranking else {}),
        )

    def _repaired_features(self, features: dict[str, Any]) -> Any:
        values: dict[str, object] = {}
        for attribute in self.numeric:
            found = as_number(features.get(self._feature_names[attribute]), self._missing_texts)
            values[attribute] = None if math.isnan(found) else found
        for row, (attribute, codes) in enumerate(zip(self.categorical, self.codes, strict=True)):
            value = features.get(self._feature_names[attribute])
            if not (isinstance(value, str) and value in codes):  # the table knows its own texts
                value = as_category(value, self._missing_texts)
            values[attribute] = float(codes[value]) if row in self._decoded else value
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
                found = as_number(value, self._missing_texts)
                values[name] = found if math.isfinite(found) else None
            else:
                values[name] = as_category(value, self._missing_texts)
        return self._groups(**values)

    def _repaired_scores(self, event: dict[str, Any]) -> Any:
        scores = event.get("scores")
        if self.ranking:
            given = _list_or_none(scores, "bad_score")
            return None if given is None else [_repaired_number(each, "bad_score") for each in given]
        if self.profile.task == "binary" and scores is None:
            return _probability(event.get("score"))
        if not self.profile.classes or scores is None:
            return None
        if not isinstance(scores, dict):
            raise Refused("bad_score")
        return self._scores_of_classes(scores)

    def _scores_of_classes(self, scores: dict[str, Any]) -> Any:
        """Return the typed probabilities of an object, the positive one's of a binary model; raises Refused."""
        if self._scores is None:
            return self._positive_of(scores)
        attributes = dict(zip(self.profile.classes, self._scores.__struct_fields__, strict=True))
        given = {name if name in attributes else canonical(name): value for name, value in scores.items()}
        if not given.keys() <= attributes.keys():
            raise Refused("bad_score")
        return self._scores(**{attributes[str(name)]: _probability(value) or 0.0 for name, value in given.items()})

    def _positive_of(self, scores: dict[str, Any]) -> float | None:
        """Return the probability of the positive class from those of one class or of both; raises Refused."""
        given = {
            str(name if name in self.profile.classes else canonical(name)): _probability(value)
            for name, value in scores.items()
        }
        known = {name: value for name, value in given.items() if value is not None}
        if not given.keys() <= set(self.profile.classes):
            raise Refused("bad_score")
        if len(known) == len(self.profile.classes) and abs(sum(known.values()) - 1) > _BINARY_TOLERANCE:
            raise Refused("bad_score")
        positive = known.get(self.profile.positive)
        return positive if positive is not None or not known else 1.0 - next(iter(known.values()))

    def _outcome(self, value: Any, reason: Reason) -> Any:
        if self.ranking and isinstance(value, dict):
            if reason == "bad_prediction":
                raise Refused(reason)
            return {name: _repaired_number(gain, reason) for name, gain in value.items()}
        if self.profile.task == "multilabel" or self.ranking:
            if value is None:
                return None
            try:
                return list(map(canonical, value if isinstance(value, list) else [value]))
            except TypeError:
                raise Refused(reason) from None
        if not self.profile.of_numbers:
            try:
                return canonical(value)
            except TypeError:
                raise Refused(reason) from None
        found = as_number(value, self._missing_texts)
        if abs(found) > self.largest_outcome:
            raise Refused(reason)
        return None if math.isnan(found) else found


def _sets(values: Any, table: Codes) -> tuple[list[float | None], Flags]:
    """Return lists of classes as the numbers of sets, and which rows name what is no class.

    One class alone is a set of one, None is no set.
    """
    members = [() if each is None else each if isinstance(each, list) else (each,) for each in values]
    rows = np.repeat(np.arange(len(members)), list(map(len, members)))
    codes = np.fromiter(map(table.__getitem__, chain.from_iterable(members)), np.intp, len(rows))
    numbers, unknown = from_codes(rows, codes, len(members), len(table.names))
    return [None if each is None else n for each, n in zip(values, numbers.tolist(), strict=True)], unknown


def _struct(
    name: str, fields: list[tuple[str, Any, Any]], names: dict[str, str], *, forbid_unknown_fields: bool = False
) -> type[msgspec.Struct]:
    """Return a type whose attributes are called `names` in JSON, where all of those can be."""
    return msgspec.defstruct(
        name,
        fields,
        rename=names if _nameable(names) else None,
        gc=False,
        forbid_unknown_fields=forbid_unknown_fields,
    )


def _as_decoded(type_: Any, names: dict[str, str]) -> Any:
    """Return as what the decoder takes a struct: itself, or an object where it cannot name all members."""
    return type_ | None if _nameable(names) else dict[str, Any] | None


def _nameable(names: dict[str, str]) -> bool:
    return all(map(_STRUCT_NAME.fullmatch, names.values()))


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


def _largest_outcome(profile: Profile) -> float:
    """Return the bound of a regression's predictions and labels."""
    known = [variable for variable in (profile.prediction, profile.label) if isinstance(variable, NumericVariable)]
    return OUTCOME_RANGE * max((abs(edge) for variable in known for edge in variable.edges), default=1e9)


def _category_type(codes: Codes) -> Any:
    """Return what the typed decoder takes as is. Booleans and numbers exclude each other: Python holds True == 1."""
    return bool | str | None if codes.holds_booleans else str | int | float | None


def _list_type(members: Any) -> Any:
    """Return the type of a list of these, or of one alone, or None."""
    return list[members] | members


def numeric_groups(values: Floats, attribute: Attribute) -> Ints:
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


def read_id(value: object) -> str | None:
    """Return an id in its canonical form, None for null; raises Refused."""
    if isinstance(value, bool) or (isinstance(value, float) and not (value.is_integer() or math.isnan(value))):
        raise Refused("bad_id")
    if isinstance(value, Decimal) and value != value.to_integral_value():
        raise Refused("bad_id")
    try:
        text = canonical(value)
    except TypeError:
        raise Refused("bad_id") from None
    if text is None:
        return None
    if not 0 < len(text) <= MAX_ID_LENGTH:
        raise Refused("bad_id")
    return _encodable(text, "bad_id")


def read_version(value: object) -> str | None:
    """Return a version as text, None for null; raises Refused."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise Refused("bad_version")
    text = value if isinstance(value, str) else canonical(value)
    if text is None or not 0 < len(text) <= 64:
        raise Refused("bad_version")
    return _encodable(text, "bad_version")


def version_of(value: object) -> str:
    """Return the version that an event is of, by what it says; a version of no use is refused by any schema."""
    try:
        return read_version(value) or DEFAULT_VERSION
    except Refused:
        return DEFAULT_VERSION


def _encodable(text: str, reason: Reason) -> str:
    """Return text that is valid Unicode: JSON may escape half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(reason) from None
    return text


def read_time(value: object) -> datetime | float | None:
    """Return a time with its zone, or Unix seconds; None for null. Raises Refused."""
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
    if probability is not None and not -PROBABILITY_TOLERANCE <= probability <= 1 + PROBABILITY_TOLERANCE:
        raise Refused("bad_score")
    return probability


def _seed(numbers: Floats, now: float) -> list[int]:
    """Return what tells which items are drawn: the same when a body is read again."""
    return [int(np.bitwise_xor.reduce(numbers.astype(np.uint64), initial=np.uint64(0))), int(now * 1e6)]


def _list_or_none(value: Any, reason: Reason) -> list[Any] | None:
    if value is not None and not isinstance(value, list):
        raise Refused(reason)
    return value


def _repaired_number(value: Any, reason: Reason) -> float | None:
    if value is not None and not _is_number(value):
        raise Refused(reason)
    found = _finite_or(value, math.inf)
    if found is not None and math.isinf(found):
        raise Refused(reason)
    return found
