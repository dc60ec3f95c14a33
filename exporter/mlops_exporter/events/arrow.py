"""Arrow IPC streams: events that come as columns already, taken without any Python per event and feature.

Columns are named like the members of the event: `model`, `version`, `id`, `ts`, `prediction`, `score` (binary) or the
struct `scores` (multiclass), `label`, `latency_seconds`, `error`; groups are the members of the struct `groups`, or
columns like `groups.sex`, and outcomes those of `outcomes`, or like `outcomes.rating`; a forecast has `horizon`,
`naive`, `series` and `target_ts`, and quantiles in the struct `quantiles`, or like `quantiles.0.9`; features are the
members of the struct `features`, or the columns of any other name. `model` and `version` may instead be metadata of the
schema, for all rows. With the metadata `untyped`, texts may be numbers, as they are in CSV.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlops_exporter.arrays import Flags, Floats, Ints, Singles
from mlops_exporter.events.columns import EXPLAINED_REFUSALS, Columns, Decoded, Encoded, Evidence, Features, Ignored
from mlops_exporter.events.explain import LONGEST_SHOWN
from mlops_exporter.events.forecasts import HORIZON, LATEST, NAIVE, QUANTILES, SERIES, TARGET, Target, read_target
from mlops_exporter.events.reasons import (
    CLOCK_SKEW_SECONDS,
    LONGEST_LATENCY,
    MAX_ID_LENGTH,
    Reason,
    Refused,
)
from mlops_exporter.events.schema import (
    DEFAULT_VERSION,
    Schema,
    numeric_groups,
    read_id,
    read_time,
    read_version,
    version_of,
)
from mlops_exporter.events.texts import hold
from mlops_exporter.profile import arrays, listed
from mlops_exporter.profile.arrays import distinct, floats, is_number, is_text, plain, usual, valid, viewed_bytes
from mlops_exporter.profile.bins import CategoricalVariable
from mlops_exporter.profile.listed import Members
from mlops_exporter.profile.lists import LARGEST_GAIN
from mlops_exporter.profile.sets import from_codes
from mlops_exporter.profile.values import Codes, as_category, canonical, probabilities

_ENVELOPE = frozenset(
    {
        *("model", "version", "id", "ts", "features", "groups"),
        *("prediction", "score", "scores", "label", "latency_seconds", "error"),
    }
)
_NOTED = (_ENVELOPE - {"features", "groups"}) | {HORIZON, NAIVE, QUANTILES, SERIES, TARGET}
_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2

# Absent, null and dictionary columns may claim any number of rows; these bound the memory that they can ask for.
_ROWS_AT_ONCE = 4096

_BYTES_PER_ROW = 4
_FEATURES_PER_BYTE = 4
_LONGEST_WORDS = 200
MOST_VIEWED = 16 * 1024 * 1024
"""Bytes of the cells of a batch that are views: many may be of the same text, and each is looked at."""

MOST_COLUMNS = 10_000
"""Of a stream, where no model has a quarter of as many features: each is cut to parts of some thousand rows."""


class _WrongTypeError(Exception):
    """A column has a type that its name does not allow, or the stream is not what it must be; the message says what."""


UNREADABLE = (_WrongTypeError, pa.ArrowException, OSError, ValueError, struct.error)


def decode_steps(
    body: bytes,
    schemas: Mapping[str, Mapping[str | None, Schema]],
    now: float,
    decoded: Decoded,
    limit: int | None = None,
) -> Iterator[None]:
    """Decode a stream into `decoded`, some rows at a time; rows count from 1.

    `now` is Unix seconds; `schemas` are by model and version.

    Raises TooManyEventsError for more than `limit` rows.
    Where the stream cannot be read on, that row is refused as `bad_arrow`; the record batches before it are taken.
    """
    features = max(len(schema.profile.features) for several in schemas.values() for schema in several.values())
    batches: list[Any] = []
    try:
        yield from read_steps(body, features, batches)
    except UNREADABLE as error:
        at = sum(batch.num_rows for batch in batches) + 1
        decoded.refused.append((at, "bad_arrow"))
        decoded.evidence[at] = words_of(error)
    rows = sum(batch.num_rows for batch in batches)
    hold(rows, limit)
    if rows:
        try:
            table = pa.Table.from_batches(batches).combine_chunks()
            columns = {name: column.chunk(0) for name, column in zip(table.column_names, table.columns, strict=True)}
            constants = {key: value.decode(errors="replace") for key, value in (table.schema.metadata or {}).items()}
            for start in range(0, rows, _ROWS_AT_ONCE):
                stop = min(start + _ROWS_AT_ONCE, rows)
                part = {name: usual(column.slice(start, stop - start)) for name, column in columns.items()}
                _take(part, constants, np.arange(start + 1, stop + 1), schemas, now, decoded)
                yield
        except UNREADABLE as error:
            decoded.refused.append((1, "bad_arrow"))
            decoded.evidence[1] = words_of(error)


def read_steps(body: bytes, features: int, batches: list[Any]) -> Iterator[None]:
    """Read the record batches of a stream into `batches`, of a model of so many features, pausing after each.

    Raises one of UNREADABLE where it cannot be read on.
    """
    most = len(body) // max(_BYTES_PER_ROW, features // _FEATURES_PER_BYTE)
    rows = 0
    _refuse_compression(body)
    with pa.ipc.open_stream(body) as reader:
        if len(reader.schema.names) > (widest := max(MOST_COLUMNS, 4 * features)):
            raise _WrongTypeError(f"it has {len(reader.schema.names)} columns, more than {widest}")
        for batch in reader:
            yield
            batch.validate()
            if (viewed := sum(map(viewed_bytes, batch.columns))) > max(MOST_VIEWED, len(body)):
                raise _WrongTypeError(f"its cells are views that take {viewed} bytes: send texts that are their own")
            batch.validate(full=True)
            if rows + batch.num_rows > most:
                raise _WrongTypeError(f"it claims {rows + batch.num_rows} rows, more than its bytes can hold")
            rows += batch.num_rows
            batches.append(batch)


def _take(
    columns: Mapping[str, Any],
    constants: Mapping[bytes, str],
    lines: NDArray[np.int_],
    schemas: Mapping[str, Mapping[str | None, Schema]],
    now: float,
    decoded: Decoded,
) -> None:
    """Sort rows by model and schema, and turn them to columns."""
    for column in ("model", "version"):
        if column in columns and pa.types.is_nested(kind := columns[column].type):
            raise _WrongTypeError(f"the column `{column}` is of type {kind}")
    if "model" in columns:
        models, which = distinct(columns["model"])
    else:
        models, which = [constants.get(b"model")], np.zeros(len(lines), np.intp)
    taken = Decoded(evidence=decoded.evidence)
    for code in np.unique(which).tolist():
        name = models[code] if code >= 0 else None
        several = schemas.get(name) if isinstance(name, str) else None
        mine = which == code
        if several is None:
            reason: Reason = "missing_model" if name is None else "unknown_model"
            taken.refused += ((line, reason) for line in lines[mine].tolist())
            _note(columns, constants, lines, mine, taken.evidence)
            continue
        for schema, rows in _by_schema(several, columns, constants.get(b"version"), mine):
            ours = columns
            if not rows.all():
                chosen = pa.array(rows)
                ours = {name: column.filter(chosen) for name, column in columns.items()}
            _Rows(schema, ours, lines[rows], constants, now).take(taken)
    for name, parts in taken.parts.items():
        for part in parts:
            decoded.add(name, part)
    decoded.refused += taken.refused
    for name, ignored in taken.ignored.items():
        decoded.ignored.setdefault(name, Ignored()).take_in(ignored)


def _by_schema(
    schemas: Mapping[str | None, Schema], columns: Mapping[str, Any], constant: str | None, mine: Flags
) -> Iterator[tuple[Schema, Flags]]:
    """Yield the schemas of a model's rows, which are `mine`, and the rows of each."""
    if len(schemas) == 1:
        yield from ((schema, mine) for schema in schemas.values())
        return
    values: Sequence[Any] = [constant]
    which = np.zeros(len(mine), np.intp)
    if "version" in columns:
        values, which = distinct(columns["version"])
    others = schemas[None]
    of_value = [schemas.get(version_of(value), others) for value in values]
    of_value.append(schemas.get(DEFAULT_VERSION, others))  # of null
    for schema in schemas.values():
        rows = mine & np.array([each is schema for each in of_value])[which]
        if rows.any():
            yield schema, rows


class _Rows:
    """Rows of one model. `faults` collects what is wrong with which rows; the first fault of a row is its reason."""

    def __init__(
        self,
        schema: Schema,
        columns: Mapping[str, Any],
        lines: NDArray[np.int_],
        constants: Mapping[bytes, str],
        now: float,
    ) -> None:
        self._schema = schema
        self._columns = columns
        self._lines = lines
        self._constants = constants
        self._version = constants.get(b"version")
        self._untyped = b"untyped" in constants
        self._now = now
        self._faults: list[tuple[Reason, Flags]] = []

    def take(self, decoded: Decoded) -> None:
        """Add the good rows to `decoded`, and the refusals of the others."""
        n = len(self._lines)
        if self._schema.ranking:
            self._add_items()
        present, encoded = self._features(decoded)
        times = self._times()
        versions = self._versions()
        ranked = None
        if self._schema.ranking:
            predictions, labels, ranked = self._lists(self._schema.ranking.length)
        else:
            predictions, labels = self._outcomes("prediction"), self._outcomes("label")
        scores = self._scores()
        latencies = self._numbers("latency_seconds")
        self._refuse("bad_latency", ~np.isnan(latencies) & ~((latencies >= 0) & (latencies <= LONGEST_LATENCY)))
        ids, errors, groups = self._ids(), self._texts("error", "bad_error"), self._groups()
        outcomes, forecasts = self._rated(), self._forecasts()
        ids = self._targets(ids)
        predicts = present | ~np.isnan(predictions)
        if self._schema.only_rated:
            anonymous = np.ones(n, np.bool_) if ids is None else ids == None  # noqa: E711 - of each element
            predicts |= ~np.isnan(latencies) | (anonymous & ~np.isnan(outcomes).all(axis=1))
        if scores.shape[1]:
            predicts |= ~np.isnan(scores[:, 0])
        if errors is not None:
            predicts |= errors != None  # noqa: E711 - of each element
        if not predicts.all():
            versions[~predicts] = None
            self._refuse("nothing_to_count", ~predicts & np.isnan(labels) & np.isnan(outcomes).all(axis=1))
            self._refuse("missing_id", ~predicts if ids is None else ~predicts & (ids == None))  # noqa: E711
        if self._schema.forecasts.ahead:
            rated = ~predicts & ~np.isnan(outcomes).all(axis=1)
            names = [None] * n if ids is None else ids.tolist()
            self._refuse("bad_horizon", self._schema.forecasts.lacking(predictions, rated, names, forecasts))
        self._refuse("unknown_class", predicts & self._schema.foreign(labels))
        if ranked is not None:  # a list that was not shown has no place to look at
            self._refuse("bad_prediction", predicts & np.isnan(predictions) & ~np.isnan(labels))
        good = self._good(decoded)
        kept: Any = slice(None) if good is None else good
        count = n if good is None else int(np.count_nonzero(good))
        if not count:
            return
        if good is not None:
            of_present = good[present]
            present, encoded = present[good], encoded.of(of_present.tolist())
        decoded.add(
            self._schema.model,
            Columns(
                features=Features(present, encoded),
                lines=range(self._lines[0], self._lines[0] + n) if good is None else self._lines[good].tolist(),
                ids=[None] * count if ids is None else ids[kept].tolist(),
                times=times[kept],
                versions=versions[kept].tolist(),
                groups=groups[kept],
                outcomes=outcomes[kept],
                forecasts=forecasts[kept],
                scores=self._scores_column(scores[kept]),
                predictions=predictions[kept],
                labels=labels[kept],
                latencies=latencies[kept],
                errors=[None] * count if errors is None else errors[kept].tolist(),
                schema=self._schema.version,
                lists=None if ranked is None else ranked[kept],
            ),
        )

    def _members(self, name: str, reason: Reason, *, numbers: bool = False) -> Members:
        """Return the members of a column of lists, none of one that is absent or holds something else."""
        column = self._columns.get(name)
        if column is not None and not pa.types.is_null(column.type):
            try:
                return listed.as_numbers(column) if numbers else listed.members(column)
            except TypeError:
                self._refuse(reason, valid(column))
        n = len(self._lines)
        return Members(pa.nulls(0), np.zeros(0), np.zeros(n, np.intp), np.zeros(n, np.bool_))

    def _lists(self, length: int) -> tuple[Floats, Floats, Floats]:
        """Return how many items are shown and named, NaN where there is no list, and the lists as a table."""
        shown = self._members("prediction", "bad_prediction")
        relevant = listed.known(self._members("label", "bad_label"))
        wrong = ~((relevant.gains >= 0) & (relevant.gains <= LARGEST_GAIN))
        rows = np.zeros(len(self._lines), np.bool_)
        rows[np.repeat(np.arange(len(rows)), relevant.lengths)[wrong]] = True
        self._refuse("bad_label", rows)
        table = listed.table(shown, relevant, length)
        named = np.where(relevant.given, relevant.lengths, np.nan)
        return table[:, 0].copy(), named, table

    def _add_items(self) -> None:
        """Put what is made of items among the features of rows that show some."""
        shown = self._members("prediction", "bad_prediction")
        scores = self._members("scores", "bad_score", numbers=True)
        categories = self._members("categories", "bad_prediction")
        for reason, several in (("bad_score", scores), ("bad_prediction", categories)):
            self._refuse(reason, several.given & (several.lengths != shown.lengths))  # type: ignore[arg-type]
        seed = int(np.bitwise_xor.reduce(shown.numbers().astype(np.uint64), initial=np.uint64(0)))
        made = listed.of_items(shown, scores, categories, (seed, int(self._now * 1e6)))
        known = {name: column for name, column in made.items() if name in self._schema.profile.features}
        others = {name: column for name, column in self._columns.items() if name not in ("scores", "categories")}
        nested = others.get("features")
        if known and (nested is None or pa.types.is_struct(nested.type)):
            flat = {name: others.pop(name) for name in self._schema.known & others.keys()} if nested is None else {}
            members = {**(flat if nested is None else _members(nested)), **known}
            given = shown.given | (bool(flat) if nested is None else valid(nested))
            others["features"] = pa.StructArray.from_arrays(
                list(members.values()), list(members), mask=pa.array(~given)
            )
        self._columns = others

    def _refuse(self, reason: Reason, rows: Flags) -> None:
        if rows.any():
            self._faults.append((reason, rows))

    def _good(self, decoded: Decoded) -> Flags | None:
        """Note the refused rows; returns which others there are, None when all are good."""
        if not self._faults:
            return None
        good = np.ones(len(self._lines), np.bool_)
        for reason, rows in self._faults:
            decoded.refused += ((line, reason) for line in self._lines[rows & good].tolist())
            good &= ~rows
        _note(self._columns, self._constants, self._lines, ~good, decoded.evidence)
        return good

    def _features(self, decoded: Decoded) -> tuple[Flags, Encoded]:
        """Return which rows have features, and the values of those; others are counted."""
        n = len(self._lines)
        nested = self._columns.get("features")
        if nested is None:
            known = self._schema.known
            rated = {"outcomes", *(f"outcomes.{name}" for name in self._schema.rated)} if self._schema.rated else set()
            rated |= self._schema.forecasts.columns
            columns = {
                name: column
                for name, column in self._columns.items()
                if name not in _ENVELOPE and name not in rated and (name in known or not name.startswith("groups."))
            }
            features = self._schema.profile.features
            present = np.full(n, any(name in features or name in self._schema.profile.embeddings for name in columns))
        elif pa.types.is_struct(nested.type):
            present = valid(nested)
            columns = _members(nested)
        else:
            columns = {}
            present = np.zeros(n, np.bool_)
            self._refuse("bad_features", valid(nested))
        unknown = columns.keys() - self._schema.known
        decoded.ignore(self._schema.model, {name: n - columns[name].null_count for name in sorted(unknown)})
        numeric = np.empty((len(self._schema.numeric), n))
        codes = np.empty((len(self._schema.categorical), n), np.intp)
        rows, cells, tables = iter(numeric), iter(codes), iter(self._schema.codes)
        for name, variable in self._schema.profile.features.items():
            column = columns.get(name)
            if isinstance(variable, CategoricalVariable):
                table = next(tables)
                cell = next(cells)
                if column is None:
                    cell[:] = table[None]
                else:
                    cell[:] = arrays.codes(column, table)
            else:
                row = next(rows)
                if column is None:
                    row[:] = np.nan
                else:
                    row[:] = arrays.numbers(column, self._schema.profile.missing, untyped=self._untyped)
        vectors = [
            _vectors(columns.get(name), n, embedding.dimensions)
            for name, embedding in self._schema.profile.embeddings.items()
        ]
        encoded = Encoded(numeric, codes, np.concatenate(vectors) if vectors else np.empty((0, n), np.float32))
        return present, encoded if present.all() else encoded.of(present.tolist())

    def _groups(self) -> Ints:
        """Return the group codes of each row, (n, attributes in `groups`)."""
        nested = self._columns.get("groups")
        members: dict[str, Any] = {}
        if nested is not None and self._schema.attributes is not None:
            if pa.types.is_struct(nested.type):
                members = _members(nested)
            else:
                self._refuse("bad_groups", valid(nested))
        codes = []
        for attribute in self._schema.group_attributes:
            column = members.get(attribute.name, self._columns.get(f"groups.{attribute.name}"))
            if column is None:
                codes.append(np.full(len(self._lines), attribute.unknown))
            elif attribute.edges:
                numbers = arrays.numbers(column, self._schema.profile.missing, untyped=self._untyped)
                codes.append(numeric_groups(numbers, attribute))
            else:
                table = self._schema.group_table(attribute)
                codes.append(np.minimum(arrays.codes(column, table), attribute.unknown))
        return np.stack(codes, axis=1) if codes else np.empty((len(self._lines), 0), np.intp)

    def _rated(self) -> Floats:
        """Return the numbers by which answers are rated, (n, outcomes), NaN where absent."""
        rated = self._schema.rated
        found = np.full((len(self._lines), len(rated)), np.nan)
        nested = self._columns.get("outcomes")
        members: dict[str, Any] = {}
        if rated and nested is not None and pa.types.is_struct(nested.type):
            members = _members(nested)
            for name in members.keys() - rated.keys():
                self._refuse("bad_outcome", valid(members[name]))
        elif rated and nested is not None:
            self._refuse("bad_outcome", valid(nested))
        for values, (name, (low, high)) in zip(found.T, rated.items(), strict=True):
            column = members.get(name, self._columns.get(f"outcomes.{name}"))
            if column is not None and not pa.types.is_null(column.type):
                values[:] = self._as_numbers(column)
                self._refuse("bad_outcome", ~np.isnan(values) & ~((values >= low) & (values <= high)))
        return found

    def _forecasts(self) -> Floats:
        """Return the code of the horizon, naive forecast and quantiles, (n, width), NaN where absent."""
        schema = self._schema.forecasts
        found = np.full((len(self._lines), schema.width), np.nan)
        if not schema.width:
            return found
        found[:, 0] = 0.0
        if schema.ahead:
            found[:, 0] = self._horizons(schema.horizons)
            found[:, 1] = self._numbers(NAIVE)
        nested = self._columns.get(QUANTILES) if schema.levels else None
        members: dict[str, Any] = {}
        if nested is not None and pa.types.is_struct(nested.type):
            members = _members(nested)
        elif nested is not None:
            self._refuse("bad_quantile", valid(nested))
        for values, name in zip(found.T[2:], schema.levels, strict=True):
            column = members.pop(name, self._columns.get(f"{QUANTILES}.{name}"))
            if column is not None and not pa.types.is_null(column.type):
                values[:] = self._as_numbers(column)
        for column in members.values():
            self._refuse("bad_quantile", valid(column))
        absent = np.isnan(found[:, 2:])
        self._refuse("bad_quantile", absent.any(axis=1) & ~absent.all(axis=1))
        beyond = abs(found) > self._schema.largest_outcome
        self._refuse("bad_naive", beyond[:, 1])
        self._refuse("bad_quantile", np.asarray(beyond[:, 2:].any(axis=1)))
        return found

    def _horizons(self, table: Codes) -> Floats:
        """Return the codes of horizons, NaN where absent."""
        column = self._columns.get(HORIZON)
        if column is None:
            return np.full(len(self._lines), np.nan)
        if not arrays.is_category(column.type):
            self._refuse("bad_horizon", valid(column))
            return np.full(len(self._lines), np.nan)
        codes = arrays.codes(column, table).astype(np.float64)
        self._refuse("bad_horizon", codes == table.other)
        return np.where(codes == table[None], np.nan, codes)

    def _targets(self, ids: NDArray[np.object_] | None) -> NDArray[np.object_] | None:
        """Return the ids, and in place of one the target of a row that names a series and a time."""
        series, times = self._columns.get(SERIES), self._columns.get(TARGET)
        if not self._schema.forecasts.ahead or (series is None and times is None):
            return ids
        n = len(self._lines)
        names, which = ([], np.full(n, -1)) if series is None else distinct(series)
        texts = np.array([*map(_series, names), None], np.object_)[which]
        self._refuse("bad_target", texts == "")
        seconds = self._seconds(times)
        found = np.full(n, None, np.object_) if ids is None else ids.copy()
        anonymous = found == None  # noqa: E711 - of each element
        named, timed = texts != None, ~np.isnan(seconds)  # noqa: E711 - of each element
        self._refuse("bad_target", anonymous & (named != timed))
        rows = np.flatnonzero(anonymous & named & np.isfinite(seconds))
        found[rows] = [Target.of(*pair) for pair in zip(texts[rows], seconds[rows].tolist(), strict=True)]
        return found

    def _seconds(self, column: Any) -> Floats:
        """Return the times of targets in Unix seconds, NaN where absent."""
        n = len(self._lines)
        if column is None or pa.types.is_null(column.type):
            return np.full(n, np.nan)
        given = valid(column)
        if pa.types.is_timestamp(column.type):
            times = floats(column.cast(pa.int64())) / _UNITS[column.type.unit]
            self._refuse("bad_target", given & (column.type.tz is None))
        else:
            times = self._times_of_texts(column) if is_text(column.type) else self._as_numbers(column)
        times = np.where(given, times, np.nan)
        self._refuse("bad_target", given & ~((times >= 0) & (times < LATEST)))
        return times

    def _times(self) -> Floats:
        n = len(self._lines)
        column = self._columns.get("ts")
        if column is None or pa.types.is_null(column.type):
            return np.full(n, self._now)
        given = valid(column)
        if pa.types.is_timestamp(column.type):
            if column.type.tz is None:  # whose noon?
                self._refuse("bad_timestamp", given)
                return np.full(n, self._now)
            times = floats(column.cast(pa.int64())) / _UNITS[column.type.unit]
        else:
            times = self._times_of_texts(column) if is_text(column.type) else self._as_numbers(column)
            self._refuse("bad_timestamp", given & ~((times >= 0) & (times < np.inf)))
        self._refuse("future_timestamp", given & (times > self._now + CLOCK_SKEW_SECONDS))
        return np.where(given, np.minimum(times, self._now), self._now)

    def _times_of_texts(self, column: Any) -> Floats:
        texts, which = distinct(column)
        if self._untyped and not np.isinf(found := self._as_numbers(column)).any():
            return found
        return np.array([*map(_time, texts), np.nan])[which]

    def _versions(self) -> NDArray[np.object_]:
        """Return each row's version."""
        column = self._columns.get("version")
        values: Sequence[Any] = [self._version]
        which = np.zeros(len(self._lines), np.intp)
        if column is not None:
            values, which = distinct(column)
        names = np.full(len(values) + 1, DEFAULT_VERSION, np.object_)  # the last for null
        bad = np.zeros(len(names), np.bool_)
        for index, value in enumerate(values):
            try:
                names[index] = read_version(value) or DEFAULT_VERSION
            except Refused:
                bad[index] = True
        self._refuse("bad_version", bad[which])
        versions: NDArray[np.object_] = names[which]
        return versions

    def _outcomes(self, name: str) -> Floats:
        """Return class codes or numbers, NaN where absent."""
        column = self._columns.get(name)
        if column is None:
            return np.full(len(self._lines), np.nan)
        if self._schema.profile.of_numbers:
            numbers = self._numbers(name)
            reason: Reason = "bad_label" if name == "label" else "bad_prediction"
            self._refuse(reason, abs(numbers) > self._schema.largest_outcome)
            return numbers
        table = self._schema.labels if name == "label" else self._schema.classes
        if self._schema.profile.task == "multilabel":
            return self._sets(column, table, "bad_label" if name == "label" else "bad_prediction")
        if not arrays.is_category(column.type):
            self._refuse("bad_label" if name == "label" else "bad_prediction", valid(column))
            return np.full(len(self._lines), np.nan)
        values, which = distinct(column)
        names = (
            value if isinstance(value, str) else as_category(value) for value in values
        )  # the table knows its texts
        codes = np.array([*(table[name] for name in names), table[None]], np.float64)
        self._refuse("unknown_class", (codes == table.other)[which])
        return np.where(codes == table[None], np.nan, codes)[which]

    def _sets(self, column: Any, table: Codes, reason: Reason) -> Floats:
        """Return lists of classes, or one alone, as the numbers of sets; NaN where null."""
        given = valid(column)
        if _is_list(column.type):
            lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
            members = column.flatten()
        else:
            lengths = given.astype(np.intp)
            members = column.drop_null()
        if len(members) and not arrays.is_category(members.type):
            self._refuse(reason, given)
            return np.full(len(column), np.nan)
        rows = np.repeat(np.arange(len(column)), lengths)
        numbers, unknown = from_codes(rows, arrays.codes(members, table), len(column), len(table.names))
        self._refuse("unknown_class", unknown)
        return np.where(given, numbers, np.nan)

    def _scores(self) -> Floats:
        """Return probabilities (n, columns), NaN where absent."""
        profile = self._schema.profile
        n = len(self._lines)
        if not profile.classes:
            return np.empty((n, 0))
        if profile.task == "binary":
            scores = self._binary_scores()[:, None]
        elif (column := self._columns.get("scores")) is None or pa.types.is_null(column.type):
            scores = np.full((n, 1), np.nan)
        elif pa.types.is_struct(column.type):
            members = _members(column)
            numbers = {name: self._as_numbers(member) for name, member in members.items()}
            given = valid(column)
            scores = np.zeros((n, len(profile.classes)))
            named = {name if name in profile.classes else canonical(name): each for name, each in numbers.items()}
            for index, name in enumerate(profile.classes):
                if name in named:
                    scores[:, index] = np.nan_to_num(named[name], nan=0.0)
            scores[~given] = np.nan
            if not named.keys() <= set(profile.classes):
                self._refuse("bad_score", given)
        else:
            scores = np.full((n, 1), np.nan)
            self._refuse("bad_score", valid(column))
        scores, wrong = probabilities(scores, exclusive=self._schema.exclusive)
        self._refuse("bad_score", wrong)
        return scores

    def _binary_scores(self) -> Floats:
        """Return the positive class's probabilities, from `score` or from the struct `scores` by class."""
        column = self._columns.get("scores")
        scores = self._numbers("score")
        if column is None or not pa.types.is_struct(column.type):
            return scores
        negative, positive = classes = self._schema.profile.classes
        named = {
            name if name in classes else canonical(name): self._as_numbers(member)
            for name, member in _members(column).items()
        }
        absent = np.full(len(self._lines), np.nan)
        of_positive, of_negative = named.pop(positive, absent), named.pop(negative, absent)
        if named:
            self._refuse("bad_score", valid(column))
        _, wrong = probabilities(np.stack([of_negative, of_positive], axis=1))
        self._refuse("bad_score", wrong & ~np.isnan(of_positive) & ~np.isnan(of_negative))
        found = np.where(np.isnan(of_positive), 1.0 - of_negative, of_positive)
        return np.where(valid(column), found, scores)

    def _scores_column(self, scores: Floats) -> list[Any] | Floats:
        """Return scores as the schema takes them: probabilities, or (multiclass) None or a tuple of them."""
        if self._schema.profile.task == "binary":
            return scores[:, 0]
        if not self._schema.profile.classes or scores.shape[1] == 1:
            return [None] * len(scores)
        absent = np.isnan(scores[:, 0]).tolist()
        return [None if lacking else tuple(row) for lacking, row in zip(absent, scores.tolist(), strict=True)]

    def _numbers(self, name: str) -> Floats:
        """Return the numbers of a column, NaN where null or where there is no such column."""
        column = self._columns.get(name)
        if column is None or pa.types.is_null(column.type):
            return np.full(len(self._lines), np.nan)
        return self._as_numbers(column)

    def _as_numbers(self, column: Any) -> Floats:
        """Return numbers, NaN where null; infinite where they are none, which no column may be."""
        return arrays.numbers(column, self._schema.profile.missing if self._untyped else (), untyped=self._untyped)

    def _ids(self) -> NDArray[np.object_] | None:
        column = self._columns.get("id")
        if column is not None and is_number(column.type):  # pandas makes floats of ids where some are missing
            values, which = distinct(column)
            texts = np.array([*map(_id, values), None], np.object_)
            column = pa.array(texts[which], pa.string())
        ids = self._texts("id", "bad_id", column)
        if ids is not None and column is not None and is_text(column.type):
            if pa.types.is_dictionary(column.type):
                values, which = distinct(column)
                lengths = np.array([*map(len, values), 1])[which]
            else:
                lengths = pc.utf8_length(column).fill_null(1).to_numpy(zero_copy_only=False)
            self._refuse("bad_id", (lengths < 1) | (lengths > MAX_ID_LENGTH))
        return ids

    def _texts(self, name: str, reason: Reason, column: Any = None) -> NDArray[np.object_] | None:
        """Return the strings of a column, None where null; None as a whole when there is no such column.

        Rows with what is no string are refused.
        """
        column = self._columns.get(name) if column is None else column
        if column is None or pa.types.is_null(column.type):
            return None
        if not is_text(column.type):
            self._refuse(reason, valid(column))
            return np.full(len(column), None, np.object_)
        texts: NDArray[np.object_]
        if pa.types.is_dictionary(column.type):  # decoded, each cell would take as much as the longest text
            values, which = distinct(column)
            texts = np.array([*values, None], np.object_)[which]
        else:
            texts = column.to_numpy(zero_copy_only=False)
        return texts


def _note(
    columns: Mapping[str, Any],
    constants: Mapping[bytes, str],
    lines: NDArray[np.int_],
    refused: Flags,
    evidence: dict[int, Evidence],
) -> None:
    """Note what refused rows say beside their features, of the first rows of a body."""
    room = EXPLAINED_REFUSALS - len(evidence)
    if room <= 0:
        return
    said: dict[str, Any] = {key.decode(): value for key, value in constants.items() if key in (b"model", b"version")}
    members = [name for name in columns if name in _NOTED]
    for row in np.flatnonzero(refused)[:room].tolist():
        evidence[int(lines[row])] = said | {name: _value(columns[name].slice(row, 1)) for name in members}


def _value(cell: Any) -> Any:
    """Return the value of a column of one in words, None for null; what is no single value, by its type alone."""
    if not cell[0].is_valid:
        return None
    if pa.types.is_struct(cell.type) and cell.type.num_fields <= EXPLAINED_REFUSALS:
        return {name: _value(member) for name, member in _members(cell).items()}
    if is_text(cell.type):
        return pc.utf8_slice_codeunits(plain(cell), 0, LONGEST_SHOWN + 1)[0].as_py()
    if is_number(cell.type) or pa.types.is_boolean(cell.type):
        return cell[0].as_py()
    return f"{cell[0]} ({cell.type})" if pa.types.is_temporal(cell.type) else f"({cell.type})"


def words_of(error: Exception) -> str:
    """Return why a stream cannot be read on, on one line."""
    text = "it is cut short" if isinstance(error, struct.error) else str(error).partition("\n")[0]
    return text if len(text) <= _LONGEST_WORDS else text[:_LONGEST_WORDS] + " …"


def _id(value: Any) -> str | None:
    """Return an id in its canonical form, None for a missing one, an empty text for what is none."""
    try:
        return read_id(value)
    except Refused:
        return ""


def _series(value: Any) -> str:
    """Return the name of a series, an empty text for what is none."""
    try:
        return read_target(value, None)[0] or ""
    except Refused:
        return ""


def _time(text: str) -> float:
    """Return Unix seconds, -1 for what is no time."""
    try:
        time = read_time(text)
    except Refused:
        return -1.0
    return time.timestamp() if isinstance(time, datetime) else -1.0


def _vectors(column: Any, rows: int, dimensions: int) -> Singles:
    """Return vectors as columns, (dimensions, rows); NaN for what is no list of so many finite numbers."""
    vectors = np.full((dimensions, rows), np.nan, np.float32)
    if column is None or not _is_list(column.type) or not is_number(column.type.value_type):
        return vectors
    fit: Flags = (pc.list_value_length(column).fill_null(-1)).to_numpy(zero_copy_only=False) == dimensions
    flat = (column if fit.all() else column.filter(pa.array(fit))).flatten()
    with np.errstate(over="ignore"):
        found = floats(flat).astype(np.float32).reshape(-1, dimensions).T
    vectors[:, fit] = np.where(np.isfinite(found).all(axis=0), found, np.float32(np.nan))
    return vectors


def _members(column: Any) -> dict[str, Any]:
    """Return the members of a struct by name, null where the struct is."""
    names = [column.type.field(index).name for index in range(column.type.num_fields)]
    return dict(zip(names, column.flatten(), strict=True))


def _is_list(type_: Any) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _refuse_compression(body: bytes) -> None:
    """Raise _WrongTypeError when a message has compressed buffers: there is no telling how far they would expand.

    Each message is a continuation marker, the size of its header, the header (a FlatBuffers table) and its body.
    """
    position = 0
    while position + 8 <= len(body):
        marker, size = struct.unpack_from("<Ii", body, position)
        if marker != 0xFFFFFFFF or size < 0:
            raise _WrongTypeError("it is cut short, or no stream")
        if size == 0:
            return
        header = body[position + 8 : position + 8 + size]
        message = struct.unpack_from("<I", header)[0]
        (kind,) = _field(header, message, 1, "<B") or (0,)
        if kind in (_RECORD_BATCH, _DICTIONARY_BATCH):
            table = _table(header, message, 2)
            if kind == _DICTIONARY_BATCH:
                table = _table(header, table, 1)
            if _field(header, table, 3, "<I") is not None:
                raise _WrongTypeError("its buffers are compressed: send them as they are, and gzip the body")
        (length,) = _field(header, message, 3, "<q") or (0,)
        if length < 0:
            raise _WrongTypeError("a message has a negative length")
        position += 8 + size + length


def _field(buffer: bytes, table: int, number: int, layout: str) -> tuple[int, ...] | None:
    """Return a field of a FlatBuffers table, None where absent; raises struct.error beyond the buffer."""
    place = _place(buffer, table, number)
    return None if place is None else struct.unpack_from(layout, buffer, place)


def _table(buffer: bytes, table: int, number: int) -> int:
    """Return the position of the table that a field refers to."""
    place = _place(buffer, table, number)
    if place is None:
        raise _WrongTypeError("a message lacks its header")
    offset: int = struct.unpack_from("<I", buffer, place)[0]
    return place + offset


def _place(buffer: bytes, table: int, number: int) -> int | None:
    virtual = table - struct.unpack_from("<i", buffer, table)[0]
    if virtual < 0:
        raise _WrongTypeError("a message has a damaged header")
    size = struct.unpack_from("<H", buffer, virtual)[0]
    slot = 4 + 2 * number
    if slot + 2 > size:
        return None
    offset: int = struct.unpack_from("<H", buffer, virtual + slot)[0]
    return table + offset if offset else None
