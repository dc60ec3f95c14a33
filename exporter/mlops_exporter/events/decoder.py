"""Decode events to columns: JSON text in, plain Python lists per model out, every bad event refused with its reason.

The fast way is one msgspec decoder for all models, whose types are made from the profiles and told apart by the tag
`model`; it decodes and validates a chunk of lines in C. Where versions of a model have schemas of their own, a chunk is
decoded by the schema that most of the last events had, and those of other versions once more by theirs. A chunk that
it refuses is decoded line by line, and a line that it refuses is read leniently by hand, which either repairs it (a
number where a category is expected, NaN) or finds the reason.

Features that no version of a model knows are refused by that decoder, too, so that they cost nothing where there are
none. Where there are, a lenient one passes them by, and one for names alone counts them.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, compress
from typing import Annotated, Any, NamedTuple, Union

import msgspec

from mlops_exporter.events.arrays import Elements
from mlops_exporter.events.columns import Decoded
from mlops_exporter.events.formats import ARROW_STREAM, BYTE_ORDER_MARK, FRAME, in_utf16
from mlops_exporter.events.reasons import MAX_EVENT_BYTES, Refused
from mlops_exporter.events.schema import Schema, version_of
from mlops_exporter.events.texts import are_json, chunks, count_lines, hold, is_one_object, lines_of, parse, runs

_UNKNOWN_FIELD = "unknown field"
"""In what the typed decoder says of a feature that no version has."""

_TAKEN_EVENTS = 1024
"""Events decoded one by one that are turned to columns together."""


class _Nobody(msgspec.Struct, tag_field="model", tag="\0nobody"):
    """The events of no model: there are none."""

    never: Annotated[int, msgspec.Meta(gt=0, lt=0)]


class _Pair(NamedTuple):
    """A decoder of one event, or of lines of them, and one of an array."""

    one: msgspec.json.Decoder[Any]
    array: msgspec.json.Decoder[list[Any]]

    @classmethod
    def of(cls, types: Iterable[type[msgspec.Struct]]) -> "_Pair":
        """Return the decoders of events of any of these types."""
        # With one type alone, the decoder would take events without `model`, too.
        union: Any = Union[(*types, _Nobody)]
        return cls(msgspec.json.Decoder(union), msgspec.json.Decoder(list[union]))


_Decode = Callable[[_Pair], Sequence[Any]]


class Decoder:
    """Decodes bodies whose events may be of any configured model."""

    def __init__(self, schemas: Sequence[Schema]) -> None:
        self._schemas: dict[str, dict[str | None, Schema]] = {}
        for schema in schemas:
            self._schemas.setdefault(schema.model, {})[schema.version] = schema
        self._by_type = {schema.event: schema for schema in schemas}
        self._known = {model: next(iter(several.values())).known for model, several in self._schemas.items()}
        """The features that some version of each model has."""
        self._by_name_alone = not all(schema.tells_unknown for schema in schemas)
        self._meets_unknown = self._by_name_alone
        """Whether the last events had features that their model does not know."""
        self._usual = {model: next(iter(several.values())) for model, several in self._schemas.items()}
        """The schema of each model that is tried first."""
        self._several = any(len(several) > 1 for several in self._schemas.values())
        self._of_schema: dict[Schema, msgspec.json.Decoder[Any]] = {}
        self._decoders: dict[tuple[tuple[Schema, ...], bool], _Pair] = {}
        self._names: _Pair | None = None
        self._use()

    @property
    def classes(self) -> dict[str, list[str]]:
        """The classes that a label of each model may be, none for a regression."""
        return {model: next(iter(several.values())).labels.names for model, several in self._schemas.items()}

    @property
    def rankings(self) -> set[str]:
        """The models that give ranked lists."""
        return {model for model, several in self._schemas.items() if next(iter(several.values())).ranking}

    def _use(self) -> None:
        """Decode by the usual schemas."""
        usual = tuple(self._usual.values())
        if (usual, False) not in self._decoders:
            self._decoders[usual, False] = _Pair.of(schema.event for schema in usual)
        self._strict = self._decoders[usual, False]

    @property
    def _lenient(self) -> _Pair:
        """The decoders that pass by features which no version has."""
        usual = tuple(self._usual.values())
        if (usual, True) not in self._decoders:
            self._by_type |= {schema.lenient_event: schema for schema in usual}
            self._decoders[usual, True] = _Pair.of(schema.lenient_event for schema in usual)
        return self._decoders[usual, True]

    def _typed(self, decode: _Decode) -> tuple[Sequence[Any], Sequence[Any]] | None:
        """Return events by the usual schemas, and the names of their features where some are unknown.

        None where the decoder refuses them.
        """
        if not self._meets_unknown:
            try:
                return decode(self._strict), ()
            except msgspec.ValidationError as error:
                if _UNKNOWN_FIELD not in str(error):
                    return None
            except (msgspec.MsgspecError, ValueError, RecursionError):
                return None
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return decode(self._lenient), decode(self._named)
        return None

    @property
    def _named(self) -> _Pair:
        if self._names is None:
            self._names = _Pair.of(next(iter(several.values())).named_event for several in self._schemas.values())
        return self._names

    def _note_names(self, named: Sequence[Any], decoded: Decoded) -> None:
        """Count the features of events that their models do not know."""
        self._meets_unknown = self._by_name_alone
        kinds: set[Any] = set(map(type, named))
        for kind in kinds:
            model = kind.__struct_config__.tag
            features = (event.features for event in named if type(event) is kind and event.features)
            names = Counter(chain.from_iterable(features))
            if unknown := names.keys() - self._known[model]:
                self._meets_unknown = True
                decoded.ignore(model, {name: names[name] for name in unknown})

    def decode(self, body: bytes, now: float) -> Decoded:
        """Decode a body: NDJSON, one JSON array, one JSON object over several lines, or an Arrow IPC stream.

        `now` is Unix seconds.
        """
        decoded = Decoded()
        for _ in self.decode_steps(body, now, decoded):
            pass
        return decoded

    def decode_steps(self, body: bytes, now: float, decoded: Decoded, limit: int | None = None) -> Iterator[None]:
        """Decode into `decoded`, pausing after each little so that a caller can let others run.

        Raises TooManyEventsError for a body of more than `limit` events, before any is decoded.
        """
        if body.startswith(ARROW_STREAM):
            yield from self._decode_arrow(body, now, decoded, limit)
            return
        if in_utf16(body):
            decoded.refused.append((1, "malformed_json"))
            return
        body = body.removeprefix(BYTE_ORDER_MARK)
        text = body.lstrip()
        start = text[:1]
        if start == b"[":
            elements = Elements(text, limit)
            yield from elements.find()
            hold(elements.count, limit)
            if elements.whole and (yield from are_json(text, elements)):
                yield from self._decode_array(text, elements, now, decoded)
                return
        elif start == b"{" and is_one_object(text):
            yield from self._decode_each([(1, text)], now, decoded)
            return
        if limit is not None:
            hold(count_lines(body), limit)
        line = 1
        for chunk in chunks(body):
            line += yield from self._decode_lines(chunk, line, now, decoded)
            yield

    def _decode_arrow(self, body: bytes, now: float, decoded: Decoded, limit: int | None) -> Iterator[None]:
        try:
            from mlops_exporter.events import arrow  # needs pyarrow, which is optional and slow to load
        except ImportError:
            decoded.refused.append((1, "arrow_not_installed"))
            return
        yield from arrow.decode_steps(body, self._schemas, now, decoded, limit)

    def _decode_lines(
        self, chunk: bytes | memoryview, first_line: int, now: float, decoded: Decoded
    ) -> Generator[None, None, int]:
        """Decode whole lines; returns how many there were."""
        count, regular = lines_of(chunk)
        typed = None
        if regular and len(chunk) <= MAX_EVENT_BYTES:
            typed = self._typed(lambda pair: pair.one.decode_lines(chunk))
        if typed is None or len(typed[0]) != count:
            lines = enumerate(bytes(chunk).split(b"\n")[:count], first_line)
            yield from self._decode_each(((number, line) for number, line in lines if line.strip()), now, decoded)
        else:
            events, named = typed
            if named:
                self._note_names(named, decoded)
            self._take(events, range(first_line, first_line + count), now, decoded, lambda: bytes(chunk).split(b"\n"))
        return count

    def _decode_array(self, body: bytes, elements: Elements, now: float, decoded: Decoded) -> Iterator[None]:
        """Decode the elements of an array, some at a time."""
        for first, places in runs(elements):
            text = body[places[0].start : places[-1].stop]
            typed = None
            if len(text) <= MAX_EVENT_BYTES:
                typed = self._typed(partial(_as_array, b"[%b]" % text))
            if typed is None or len(typed[0]) != len(places):
                one_by_one = ((number, body[place]) for number, place in enumerate(places, first))
                yield from self._decode_each(one_by_one, now, decoded)
            else:
                events, named = typed
                if named:
                    self._note_names(named, decoded)
                numbers = range(first, first + len(places))
                self._take(events, numbers, now, decoded, partial(_cut, body, places))
            yield

    def _decode_each(self, texts: Iterable[tuple[int, bytes]], now: float, decoded: Decoded) -> Iterator[None]:
        """Decode numbered events one by one."""
        gathered: list[tuple[Any, int, bytes]] = []
        usual = True
        for number, text in texts:
            event, as_usual = self._event(text, number, decoded)
            if event is not None:
                if usual != as_usual or len(gathered) == _TAKEN_EVENTS:
                    self._take_gathered(gathered, usual, now, decoded)
                    gathered = []
                usual = as_usual
                gathered.append((event, number, text))
            yield  # one of a megabyte takes as long as hundreds
        self._take_gathered(gathered, usual, now, decoded)

    def _take_gathered(
        self, gathered: Sequence[tuple[Any, int, bytes]], usual: bool, now: float, decoded: Decoded
    ) -> None:
        if not gathered:
            return
        events, numbers, texts = map(list, zip(*gathered, strict=True))
        if usual:
            self._take(events, numbers, now, decoded, lambda: texts)
        else:
            self._take_typed(events, numbers, now, decoded)

    def _event(self, text: bytes, number: int, decoded: Decoded) -> tuple[Any, bool]:
        """Return an event, None when it is refused, and whether it is by the usual schemas, not repaired by its own."""
        try:
            if len(text) > MAX_EVENT_BYTES:
                raise Refused("event_too_large")
            if (typed := self._typed(lambda pair: [pair.one.decode(text)])) is not None:
                (event,), named = typed
                self._note_names(named, decoded)
                return event, True
            parsed = parse(text)
            event = self._repair(parsed)
            known = self._known[parsed["model"]]
            decoded.ignore(parsed["model"], {name: 1 for name in parsed.get("features") or () if name not in known})
            return event, False
        except Refused as refused:
            framed = refused.reason == "malformed_json" and text.startswith(FRAME)
            decoded.refused.append((number, "framed_by_schema_registry" if framed else refused.reason))
            return None, False

    def _repair(self, event: Any) -> Any:
        if not isinstance(event, dict):
            raise Refused("not_an_object")
        model = event.get("model")
        if model is None:
            raise Refused("missing_model")
        several = self._schemas.get(model) if isinstance(model, str) else None
        if several is None:
            raise Refused("unknown_model")
        return _schema_of(several, event.get("version")).repair(event)

    def _take(
        self,
        events: Sequence[Any],
        lines: Sequence[int],
        now: float,
        decoded: Decoded,
        texts: Callable[[], Sequence[Any]],
    ) -> None:
        """Turn events, decoded by the usual schemas, to columns. `texts` are the JSON texts of the events."""
        others = [row for row, event in enumerate(events) if self._is_of_another_schema(event)] if self._several else ()
        if not others:
            self._take_typed(events, lines, now, decoded)
            return
        texts_of = texts()
        elsewhere = set(others)
        rest = [row for row in range(len(events)) if row not in elsewhere]
        if rest:
            self._take_typed([events[row] for row in rest], [lines[row] for row in rest], now, decoded)
        by_schema: dict[Schema, list[int]] = {}
        for row in others:
            schema = self._by_type[type(events[row])]
            by_schema.setdefault(_schema_of(self._schemas[schema.model], events[row].version), []).append(row)
        for schema, rows in by_schema.items():
            self._decode_again(
                schema, [bytes(texts_of[row]) for row in rows], [lines[row] for row in rows], now, decoded
            )
            if 2 * len(rows) > len(events):
                self._usual[schema.model] = schema
        self._use()

    def _is_of_another_schema(self, event: Any) -> bool:
        """Whether a decoded event is of a version with another schema; a label alone is of any."""
        schema = self._by_type[type(event)]
        several = self._schemas[schema.model]
        return len(several) > 1 and _schema_of(several, event.version) is not schema and _predicts(event, schema)

    def _decode_again(
        self, schema: Schema, texts: Sequence[bytes], lines: Sequence[int], now: float, decoded: Decoded
    ) -> None:
        """Take events by a schema."""
        if schema not in self._of_schema:
            self._by_type[schema.lenient_event] = schema
            self._of_schema[schema] = msgspec.json.Decoder(schema.lenient_event)
        decode = self._of_schema[schema].decode
        events: list[Any] = []
        taken: list[int] = []
        for text, line in zip(texts, lines, strict=True):
            try:
                events.append(decode(text))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                try:
                    events.append(self._repair(parse(text)))
                except Refused as refused:
                    decoded.refused.append((line, refused.reason))
                    continue
            taken.append(line)
        if events:
            self._take_typed(events, taken, now, decoded)

    def _take_typed(self, events: Sequence[Any], lines: Sequence[int], now: float, decoded: Decoded) -> None:
        """Sort decoded events by schema and turn them to columns."""
        schemas = {self._by_type[kind] for kind in set(map(type, events))}
        for schema in schemas:
            if len(schemas) == 1:
                columns, refused = schema.columns(events, lines, now)
            else:
                ours = [self._by_type[type(event)] is schema for event in events]
                columns, refused = schema.columns(list(compress(events, ours)), list(compress(lines, ours)), now)
            decoded.refused.extend(refused)
            if len(columns):
                decoded.add(schema.model, columns)


def _predicts(event: Any, schema: Schema) -> bool:
    if not event.features is event.prediction is event.scores is event.error is None:
        return True
    if schema.only_rated and (event.latency_seconds is not None or event.id is None):
        return True
    return getattr(event, "by_class", None) is not None


def _schema_of(schemas: Mapping[str | None, Schema], version: object) -> Schema:
    """Return the schema of a model's version."""
    if len(schemas) == 1:
        return next(iter(schemas.values()))
    return schemas.get(version_of(version)) or schemas[None]


def _as_array(text: bytes, pair: _Pair) -> list[Any]:
    return pair.array.decode(text)


def _cut(text: bytes, places: Sequence[slice]) -> list[bytes]:
    return [text[place] for place in places]
