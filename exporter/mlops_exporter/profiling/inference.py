"""What a column is taken for, and what is said of it: nothing is inferred in silence."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Final, Literal, get_args

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.profile.bins import quantiles
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.profiling.survey import Column

ColumnType = Literal["numeric", "categorical", "exclude"]

LEAST_ROWS = 50
"""Rows from which on something is inferred of their values."""

_LISTED = 10  # names in one note, at most
_SHARE = 0.95  # of the cells that must look alike
_IDENTIFIER = re.compile(r"(?:^|[^a-z])(?:id|row|uuid|guid|key|index|idx|number|no|nr)$|[a-z](?:ID|Id|Key|Number)$")
_CODE = re.compile(r"(?i)(?:^|[^a-z])(?:zip|postal|postcode|plz|code)(?:$|[^a-z])")
_OUTCOME = re.compile(
    r"(?i)(?:^|[^a-z])(?:y_?hat|y_?pred|y_?true|pred(?:iction|icted)?|proba?(?:bility)?|score|label|target)$"
)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(?:,\d+)?")
_DATES: Final = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y-%m")
_FIRST_DAY, _LAST_DAY = 19000101, 21001231


def features_of(
    columns: Mapping[str, Column], others: Collection[str | None], said: Collection[str], notes: list[str]
) -> list[str]:
    """Return which columns are features, all but `others`, what was decided noted; of those `said` nothing is."""
    names: list[str] = []
    empty: list[str] = []
    for name, column in columns.items():
        if name in others:
            continue
        if not name:
            notes.append("a column without a name, such as an index of rows, is left out")
        elif name in said:
            names.append(name)
        elif column.nested:
            notes.append(f"{name}: left out, since its cells are lists or structs, and no single values")
        elif column.is_empty and not column.temporal:
            empty.append(name)
        elif (why := _left_out(name, column)) is not None:
            notes.append(f"{name}: left out, {why}; --features would keep it")
        else:
            names.append(name)
    if empty:
        notes.append(f"left out, since there is no value at all: {', '.join(empty)}")
    return names


def remark(
    names: Collection[str], columns: Mapping[str, Column], said: Collection[str], made: Collection[str] = ()
) -> list[str]:
    """Return what is worth saying of the features, not of the types that were `said` nor of names `made` here.

    Raises BuildError where numbers are written so that they cannot be told.
    """
    notes = []
    gaps = [f"{name} {columns[name].missing}" for name in names if columns[name].missing]
    if gaps:
        more = f" and {len(gaps) - _LISTED} more columns" if len(gaps) > _LISTED else ""
        notes.append(f"cells taken as missing: {', '.join(gaps[:_LISTED])}{more}")
    for name in names:
        column = columns[name]
        if column.markers:
            marker, count = column.markers.most_common(1)[0]
            taken = "counted as invalid" if column.is_numeric else "taken as a category"
            notes.append(f"{name}: {count} cells say {marker!r}, {taken}; --missing {marker} reads them as missing")
        if name in said:
            continue
        if _has_decimal_comma(column):
            example = next(iter(column.categories))
            raise BuildError(
                f"{name}: cells such as {example!r} are numbers with a decimal comma: --decimal , reads them "
                f"(or name the type of the column with --columns)"
            )
        if column.leading_zeros:
            notes.append(f"{name}: numbers with leading zeros, taken as codes: a categorical feature")
        elif column.is_numeric and _CODE.search(name) and column.whole:
            notes.append(f"{name}: taken as numbers; where they are codes, --categorical {name}")
        elif column.is_numeric and column.rows >= LEAST_ROWS and column.monotone:
            notes.append(
                f"{name}: taken as numbers, though it goes one way from row to row; where it is a time, or numbers the "
                f"rows, --exclude {name}"
            )
        elif column.is_numeric and column.rows >= LEAST_ROWS and column.all_distinct and column.whole:
            notes.append(f"{name}: taken as numbers, though all differ; where they identify rows, --exclude {name}")
        if _OUTCOME.search(name) and name not in made:
            notes.append(
                f"{name}: is called like an outcome of the model; where it is one, name its role or --exclude it"
            )
    return notes


def _left_out(name: str, column: Column) -> str | None:
    """Return why a column is no feature unless somebody says so."""
    if column.temporal:
        return "since dates and times always drift"
    if column.is_numeric:
        if column.rows < LEAST_ROWS or not column.whole:
            return None
        if _are_days(column):
            return "since its numbers are dates, which always drift"
        if column.mostly_distinct and _IDENTIFIER.search(name):
            return "since it identifies the rows"
        return None
    if column.rows >= LEAST_ROWS and _are_dates(column.categories):
        return "since its texts are dates, which always drift"
    if column.looks_like_identifiers:
        return "since nearly every row has another text"
    return None


def _are_days(column: Column) -> bool:
    """Tell whether numbers are days as in 20240131."""
    if not _FIRST_DAY <= column.minimum <= column.maximum <= _LAST_DAY:
        return False
    days = np.unique(column.sample)[:1000].astype(int).tolist()
    return all(_is_day(day) for day in days)


def _is_day(day: int) -> bool:
    try:
        date(day // 10_000, day // 100 % 100, day % 100)
    except ValueError:
        return False
    return True


def _are_dates(texts: Iterable[str]) -> bool:
    found = list(texts)[:1000]
    return bool(found) and sum(map(_is_date, found)) >= _SHARE * len(found)


def _is_date(text: str) -> bool:
    if len(text) < 7 or not text[0].isdigit():
        return False
    try:
        datetime.fromisoformat(text)
        return not text.isdigit()
    except ValueError:
        pass
    for form in _DATES:
        try:
            datetime.strptime(text.split()[0], form)
        except ValueError:
            continue
        return True
    return False


def _has_decimal_comma(column: Column) -> bool:
    if column.is_numeric or not any("," in text for text in column.categories):
        return False
    return sum(map(bool, map(_DECIMAL_COMMA.fullmatch, column.categories))) >= _SHARE * len(column.categories)


def check_types(types: Mapping[str, object]) -> dict[str, ColumnType]:
    """Return types of columns as they were given in a file; raises BuildError."""
    for name, type_ in types.items():
        if type_ not in get_args(ColumnType):
            raise BuildError(f"--columns: {name}: {type_!r} is no type; there are {', '.join(get_args(ColumnType))}")
    return dict(types)  # type: ignore[arg-type]


def foretellers(names: Iterable[str], values: Iterable[Floats | Ints], outcome: Floats, *, classes: int) -> list[str]:
    """Return the features by which alone an outcome can be told: it was not known when the model was asked.

    `values` are the rows of the features, `outcome` class codes or (without `classes`) numbers, NaN where unknown. A
    class is told where 99 % of the rows are of the most frequent class of their bin, a number where the correlation is
    0.999.
    """
    known = ~np.isnan(outcome)
    found = outcome[known]
    if len(found) < LEAST_ROWS or np.all(found == found[0]):
        return []
    return [name for name, row in zip(names, values, strict=True) if _foretells(row[known], found, classes)]


def _foretells(values: Floats | Ints, outcome: Floats, classes: int) -> bool:
    usable = np.isfinite(values)
    if np.count_nonzero(usable) < _SHARE * len(values):
        return False
    values, outcome = values[usable], outcome[usable]
    if not classes:
        if values.dtype.kind != "f" or np.ptp(values) == 0 or np.ptp(outcome) == 0:
            return False
        return bool(abs(np.corrcoef(values, outcome)[0, 1]) >= 0.999)
    ascending = np.sort(values)
    starts = ascending[1:][ascending[1:] != ascending[:-1]]
    if len(starts) >= 50:
        starts = quantiles(ascending, np.arange(1, 50) / 50)
    bins = np.searchsorted(starts, values, side="right")
    counts = np.bincount(bins * classes + outcome.astype(int), minlength=classes * (int(bins.max()) + 1))
    told = counts.reshape(-1, classes).max(axis=1).sum() / len(outcome)
    usual = np.bincount(outcome.astype(int)).max() / len(outcome)
    return bool(told >= 0.99 and 1 - told <= 0.1 * (1 - usual))
