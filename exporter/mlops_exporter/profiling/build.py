"""Build a reference profile from a table in two passes of bounded memory.

The first pass finds the type of each column, its extremes and a uniform sample of its numbers, from which the bins
are cut. The second counts every row into a ledger with these bins: the profile is the reference's own ledger.
"""

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from itertools import chain, groupby, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from scipy.special import expit, logit

from mlops_exporter import __version__
from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.judging.performance import PerformanceSums, class_metrics_of, metrics_of
from mlops_exporter.profile.bins import (
    CategoricalVariable,
    NumericVariable,
    Variable,
    edges_at,
    precision_of,
    quantile_edges,
    quantiles,
)
from mlops_exporter.profile.forecasts import MAX_HORIZONS, ForecastReference
from mlops_exporter.profile.lists import LONGEST, OF_ITEMS, RankingReference
from mlops_exporter.profile.profile import NUMERIC, SCHEMA, Profile, Provenance, Task
from mlops_exporter.profile.sets import MAX_CLASSES
from mlops_exporter.profile.values import Codes, canonical, probabilities
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.profiling.fit import EmbeddingFit, Fit
from mlops_exporter.profiling.hours import HourlyCounts, Timing
from mlops_exporter.profiling.inference import LEAST_ROWS, ColumnType, features_of, foretellers, remark
from mlops_exporter.profiling.ranked import LENGTH, RankedRows
from mlops_exporter.profiling.slices import SlicedRows
from mlops_exporter.profiling.survey import Column, chooses, joined, keys_of, misjudged, survey
from mlops_exporter.statistics import forecast
from mlops_exporter.tables import cells
from mlops_exporter.tables.files import File, names_of
from mlops_exporter.tables.reading import DEFAULT, Reading
from mlops_exporter.tables.spool import Spool
from mlops_exporter.tables.table import Table

_Part = TypeVar("_Part")

LARGEST = 1e150
"""Numbers whose squares can be summed."""

NEIGHBOURS = 16
"""Parts of a table whose sums are added up before those of others."""

_QUANTILES, _WIDTHS = 128, 128
_TAIL, _TAIL_RATIO = 384, 1.0235
_TAIL_LEAST = 10  # values of the sample that a share of the tail must have
_LARGEST_LOG_ODDS = 16.0
_KEPT_ITEMS = 20
_SUSPECTED = 4096  # rows by which a feature is known that tells the outcome
_PERFECT = ("roc_auc", "accuracy", "subset_accuracy", "r2")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What the profile is to be built from; column names unless said otherwise."""

    data: Path | str | Sequence[str]
    """Files, globs, directories, here or in an object store."""
    task: Task
    label: str | None = None
    prediction: str | None = None
    scores: dict[str, str] = field(default_factory=dict)
    """Column by class; for a binary task the positive class alone."""
    horizon: str | None = None
    """Column of how far ahead a forecast looks."""
    quantiles: dict[float, str] = field(default_factory=dict)
    """Column by level (regression, forecast)."""
    naive: str | None = None
    """Column of the forecast that costs nothing (forecast)."""
    separator: str | None = None
    """What stands between the classes of a text, where sets of classes (multilabel) or lists of items are texts."""
    categories: str | None = None
    """Column of the categories of the items of each list."""
    cutoffs: tuple[int, ...] = (10,)
    """Positions up to which metrics of lists look."""
    positive: str | None = None
    threshold: float = 0.5
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    rated: tuple[str, ...] = ()
    """Columns of the numbers by which answers are rated, each called as its outcome."""
    segments: dict[str, list[float]] = field(default_factory=dict)
    """Features, groups or pairs of them that cut slices, with the edges of numbers that are not cut as the bins are."""
    importances: dict[str, float] = field(default_factory=dict)
    bins: int = 10
    timing: Timing | None = None
    """How rows have a time, where the reference is to be by hour, too."""
    model_version: str = "default"
    types: dict[str, ColumnType] = field(default_factory=dict)
    """Types of columns, where they are not to be inferred."""
    reading: Reading = DEFAULT
    """How cells are read; what is missing here is missing in events, too."""

    @property
    def places(self) -> list[str]:
        """Where the table is."""
        return [str(self.data)] if isinstance(self.data, str | Path) else list(self.data)

    @property
    def unread(self) -> set[str]:
        """Columns of which nothing is wanted."""
        excluded = {*self.exclude, *(name for name, type_ in self.types.items() if type_ == "exclude")}
        return excluded - self.outcomes

    @property
    def time(self) -> str | None:
        """Column of the rows' times."""
        return self.timing.column if self.timing else None

    @property
    def outcomes(self) -> set[str]:
        """Columns that are no features: of labels, of what the model said, of groups and of times."""
        named = (self.label, self.prediction, self.horizon, self.naive, self.time, self.categories)
        several = (*self.scores.values(), *self.quantiles.values(), *self.groups, *self.rated)
        return {name for name in (*named, *several) if name is not None}

    @property
    def reading_of_named(self) -> Reading:
        """How cells are read: only those of named columns, where the features are named."""
        if not self.features:
            return self.reading
        names = frozenset({*self.features, *self.exclude, *self.categorical, *self.types, *self.outcomes})
        return replace(self.reading, columns=names, required=names)

    @property
    def ranked(self) -> RankedRows | None:
        """How lists are read, None where rows hold none. Raises BuildError where no column of lists is named."""
        if self.task != "ranking":
            return None
        if self.prediction is None:
            raise BuildError("--prediction: name the column of the lists that were shown")
        scores = next(iter(self.scores.values()), None)
        return RankedRows(self.prediction, self.label, scores, self.categories, self.separator)

    @property
    def named_columns(self) -> set[str]:
        """Columns whose numbers are names of classes or categories."""
        if self.task == "ranking":
            outcomes: tuple[str | None, ...] = ()
        else:
            outcomes = (self.horizon,) if self.task in NUMERIC else (self.label, self.prediction)
        typed = [name for name, type_ in self.types.items() if type_ == "categorical"]
        return {name for name in (*self.categorical, *typed, *self.groups, *outcomes) if name is not None}


class Surveyed(NamedTuple):
    """What the first pass learns: of each column, and which classes sets have."""

    columns: dict[str, Column]
    members: set[str]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return next(iter(self.columns.values())).rows if self.columns else 0

    def plus(self, other: "Surveyed") -> "Surveyed":
        """Return what both hold, the rows of the other coming after these."""
        return Surveyed(joined([self.columns, other.columns]), self.members | other.members)


class Passes(Protocol):
    """Who goes through the rows of a table, in both passes: here one process, elsewhere an engine."""

    table: Table

    def survey(self, request: BuildRequest, named: set[str]) -> Surveyed:
        """Return what the columns hold; the numbers of the `named` ones are looked at as categories, too."""
        ...

    def count(self, counting: "Counting") -> "Counting":
        """Count every row by copies of `counting`, which has counted nothing; returns their sum."""
        ...

    def digest(self) -> str:
        """Return the digest of the files, empty for those of an object store."""
        ...


def build(
    request: BuildRequest, told: Callable[[int, int | None], None] | None = None, passes: Passes | None = None
) -> tuple[Profile, list[str]]:
    """Read the table twice; returns the profile and notes for the user. Raises BuildError or TableError.

    `told` hears how many rows have been gone through, and of how many, None where that is not known yet. `passes` goes
    through them, unless it is to be done here.
    """
    if passes is not None:
        return _build(request, passes)
    table = Table.at(request.places, reading=request.reading_of_named)
    with Spool() as spool:
        return _build(request, _Here(table, spool, _Progress(table, told) if told is not None else None))


class _Progress:
    """Tells how many rows of both passes are done."""

    def __init__(self, table: Table, told: Callable[[int, int | None], None]) -> None:
        self._told = told
        self._done = 0
        rows = table.rows()
        self.total = None if rows is None else 2 * rows

    def add(self, rows: int) -> None:
        """Note rows that were gone through."""
        self._done += rows
        self._told(self._done, self.total)


class _Here:
    """Both passes in this process. The second takes the blocks that were kept, and reads the rest again."""

    def __init__(self, table: Table, spool: Spool, progress: _Progress | None) -> None:
        self.table = table
        self._spool, self._progress = spool, progress
        self._sizes: list[int] = []
        """Rows of each part."""

    def survey(self, request: BuildRequest, named: set[str]) -> Surveyed:
        self._spool.clear()
        self._sizes = []
        found = summed(self._surveyed(request, named), Surveyed.plus)
        if self._progress is not None:
            self._progress.total = 2 * found.rows
        return found

    def _surveyed(self, request: BuildRequest, named: set[str]) -> Iterator[Surveyed]:
        for blocks in self.table.parts():
            part = survey_of(request, blocks, named, typed=self.table.typed, keep=self._keep, start=sum(self._sizes))
            self._sizes.append(part.rows)
            yield part

    def _keep(self, block: Any) -> None:
        self._spool.keep(block)
        self._tell(block)

    def _tell(self, block: Any) -> None:
        if self._progress is not None:
            self._progress.add(block.num_rows)

    def count(self, counting: "Counting") -> "Counting":
        return summed(self._counted(counting), Counting.plus)

    def _counted(self, counting: "Counting") -> Iterator["Counting"]:
        kept = self._spool.blocks()
        read_again = islice(self.table.blocks(), len(self._spool), None)
        blocks = chain(kept, read_again)
        done = end = 0
        for rows in self._sizes:
            part = deepcopy(counting)
            end += rows
            while done < end and (block := next(blocks, None)) is not None:
                part.add(block, done)
                done += block.num_rows
                self._tell(block)
            yield part

    def digest(self) -> str:
        return sha256_of(self.table.files, [file.digest() for file in self.table.files if file.is_local])


def summed(parts: Iterable[_Part], plus: Callable[[_Part, _Part], _Part]) -> _Part:
    """Return the sum of what was found in the parts of a table, always in the same order.

    That is of NEIGHBOURS each, and then of these sums, so that an engine can add up the neighbours where they are.
    """
    groups = groupby(enumerate(parts), lambda numbered: numbered[0] // NEIGHBOURS)
    return reduce(plus, (reduce(plus, (part for _, part in group)) for _, group in groups))


def survey_of(
    request: BuildRequest,
    blocks: Iterable[Any],
    named: set[str],
    *,
    typed: bool,
    keep: Callable[[Any], None] = lambda block: None,
    start: int = 0,
) -> Surveyed:
    """Return what some blocks hold, the first row of which has the number `start`; `keep` is given each of them."""
    members: set[str] = set()

    def take(block: Any) -> None:
        keep(block)
        members.update(_members(request, block))

    if (ranked := request.ranked) is not None:
        blocks = ranked.extended(blocks, start)
    columns = survey(blocks, named, take, typed=typed, unread=request.unread, start=start)
    return Surveyed(columns, members)


def _survey(request: BuildRequest, passes: Passes) -> Surveyed:
    """Read the table once, or twice where that turns out to be needed: what it holds."""
    named = request.named_columns
    found = passes.survey(request, named)
    while wrong := misjudged(found.columns) - named:
        named |= wrong
        found = passes.survey(request, named)
    columns, place = found.columns, names_of(passes.table.files)
    if not found.rows:
        raise BuildError(f"{place}: no rows; a profile needs the rows that the model was trained on")
    wanted: dict[str, tuple[str | None, ...]] = {
        "--label": (request.label,),
        "--prediction": (request.prediction,),
        "--score or --scores": tuple(request.scores.values()),
        "--horizon": (request.horizon,),
        "--quantiles": tuple(request.quantiles.values()),
        "--naive": (request.naive,),
        "--categories": (request.categories,),
        "--features": request.features,
        "--exclude": request.exclude,
        "--categorical": request.categorical,
        "--groups": request.groups,
        "--outcomes": request.rated,
        "--time": (request.time,),
        "--columns": tuple(request.types),
    }
    for flag, names in wanted.items():
        for column in names:
            if column is not None and column not in columns:
                close = difflib.get_close_matches(column, columns, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(columns))}"
                raise BuildError(f"{flag}: {place} has no column {column!r}; {hint}")
    return found


def _members(request: BuildRequest, block: Any) -> Iterator[str]:
    """Yield the classes of the sets of a block."""
    if request.task != "multilabel":
        return
    for flag, name in (("--label", request.label), ("--prediction", request.prediction)):
        if name in block.column_names:
            column = block[name].chunk(0)
            if not cells.is_list(column.type) and request.separator is None and column.null_count < len(column):
                raise BuildError(
                    f"{flag}: {name} holds no lists; where its texts name several classes, say by --separator what "
                    "stands between them"
                )
            yield from (member for member in cells.sets(column, request.separator).names if isinstance(member, str))


def _build(request: BuildRequest, passes: Passes) -> tuple[Profile, list[str]]:
    found = _survey(request, passes)
    columns, files = found.columns, passes.table.files
    notes: list[str] = []
    names = _feature_names(request, columns, notes)
    for name in request.importances:
        if name not in names:
            raise BuildError(f"--importances: {name!r} is no feature; the features are {', '.join(names)}")
    classes = _classes_of_sets(request, found.members) if request.task == "multilabel" else _classes(request, columns)
    profile = Profile(
        schema=SCHEMA,
        task=request.task,
        rows=found.rows,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=__version__,
            model_version=request.model_version,
            data=names_of(files),
            data_sha256=passes.digest(),
        ),
        features={name: _variable(name, columns[name], request) for name in names if not columns[name].dimensions},
        groups={name: _categorical(columns[name]) for name in request.groups},
        classes=classes,
        missing=list(request.reading.missing),
        forecast=_forecast(request, columns),
    )
    if request.task == "ranking":
        profile.prediction = _numeric(LENGTH, columns[LENGTH], request.bins)
        profile.ranking = _ranking(request, columns[LENGTH])
    elif request.task != "multilabel":  # sets have no distribution of their own
        profile.prediction = _outcome(request, columns, request.prediction, classes)
        profile.label = _outcome(request, columns, request.label, classes)
    for name in request.rated:
        if not columns[name].is_numeric:
            raise BuildError(f"--outcomes: {name}: answers are rated by numbers, but most cells of this column are not")
    if request.rated:
        profile.rated = {name: _numeric(name, columns[name], request.bins) for name in request.rated}
    if request.scores and request.task != "ranking":
        scores = [columns[name] for name in request.scores.values()]
        for name in request.scores.values():
            if not columns[name].numbers:
                raise BuildError(f"--score or --scores: {name}: has no number; name the column of the probabilities")
        samples = [column.sample for column in scores]
        profile.score_edges = score_edges(samples)
        profile.tied_scores = tied_bins(np.sort(np.concatenate(samples)), profile.score_edges)
        if request.task == "binary":
            profile.score = _numeric(next(iter(request.scores.values())), scores[0], request.bins)
    if profile.prediction is None and request.task in ("binary", "multiclass") and request.scores:
        profile.prediction = CategoricalVariable(classes, [0] * (len(classes) + 3))
    of_features = {name: columns[name] for name in names}
    counting = passes.count(Counting(request, profile, of_features, typed=passes.table.typed))
    notes += counting.finish(profile)
    notes += _too_good(profile)
    return profile, notes


def _too_good(profile: Profile) -> list[str]:
    """Return what is to be said of a performance that no model has on rows that it has not seen."""
    found = [
        f"{name} {profile.performance[name]:.4g}" for name in _PERFECT if profile.performance.get(name, 0) >= 0.999
    ]
    if not found or profile.rows < LEAST_ROWS:
        return []
    return [
        f"the reference performance is too good to be true ({', '.join(found)}): build the profile from rows that the "
        "model was not trained on, or it will fail its benchmarks in the first hour"
    ]


def _feature_names(request: BuildRequest, columns: dict[str, Column], notes: list[str]) -> list[str]:
    """Return the features, in the order of the file unless named; `notes` gains what is worth saying of them."""
    said = {*request.categorical, *request.features, *request.types}
    excluded = [*request.exclude, *(name for name, type_ in request.types.items() if type_ == "exclude")]
    if request.features:
        names = [name for name in request.features if name not in excluded]
        if empty := [name for name in names if columns[name].is_empty]:
            nested = any(columns[name].nested for name in empty)
            raise BuildError(
                f"--features: no {'single value' if nested else 'value at all'} in {', '.join(empty)}; leave them out"
            )
        names += [name for name in OF_ITEMS if request.task == "ranking" and name in columns and name not in names]
    else:
        made = {LENGTH} if request.task == "ranking" else set()
        names = features_of(columns, {*request.outcomes, *excluded, *made}, said, notes)
    notes += remark(names, columns, said, OF_ITEMS if request.task == "ranking" else ())
    return names


def _classes(request: BuildRequest, columns: dict[str, Column]) -> list[str]:
    """Return the classes in ledger order: binary negative, positive; multiclass sorted; of numbers and lists none."""
    if request.task == "ranking":
        return []
    if request.task in NUMERIC:
        if request.scores:
            raise BuildError(f"--score: a {request.task} has no scores; give its --prediction")
        return []
    if request.task == "outcomes":
        if request.label or request.prediction or request.scores:
            raise BuildError("--label, --prediction and --score: a model of outcomes has none; leave them out")
        return []
    seen = set(request.scores) if request.task == "multiclass" else set()
    named = [name for name in (request.label, request.prediction) if name is not None]
    for name in named:
        seen |= columns[name].categories.keys()
    classes = sorted(seen)
    if not classes and named:
        raise BuildError(f"the column {named[0]!r} names no class: each of its cells must be one text or number")
    if not classes:
        raise BuildError(f"a {request.task} profile needs --label or --prediction, to know the classes")
    if request.task == "multiclass":
        if len(classes) < 2:
            raise BuildError(
                f"--label: a multiclass profile needs two classes or more, but there is only {classes[0]!r}"
            )
        _need_all_scores(request, classes)
        return classes
    if len(classes) != 2:
        raise BuildError(f"--task binary: needs two classes, but there are {len(classes)}: {', '.join(classes[:10])}")
    positive = canonical(request.positive) or {("0", "1"): "1", ("false", "true"): "true"}.get((classes[0], classes[1]))
    if positive is None:
        raise BuildError(f"--positive: say which class is the positive one, {classes[0]} or {classes[1]}")
    if positive not in classes:
        raise BuildError(f"--positive: {positive!r} is not a class; the classes are {classes[0]} and {classes[1]}")
    return sorted(classes, key=lambda name: name == positive)


def _classes_of_sets(request: BuildRequest, members: set[str]) -> list[str]:
    """Return the classes that sets have, sorted."""
    classes = sorted({*members, *request.scores})
    if len(classes) < 2:
        raise BuildError(f"--label: a multilabel profile needs two classes or more, but there are {classes}")
    if len(classes) > MAX_CLASSES:
        raise BuildError(
            f"--label: a multilabel profile has {MAX_CLASSES} classes at most, but there are {len(classes)}; leave the "
            "rare ones out, or watch groups of classes as models of their own"
        )
    _need_all_scores(request, classes)
    return classes


def _need_all_scores(request: BuildRequest, classes: list[str]) -> None:
    if request.scores and set(request.scores) != set(classes):
        absent = ", ".join(sorted(set(classes) - set(request.scores)))
        raise BuildError(f"--scores: every class needs its column CLASS=COLUMN; without one: {absent}")


def _ranking(request: BuildRequest, lengths: Column) -> RankingReference:
    """Return how lists are kept: as many items as the longest list shows, up to 20, or as metrics look at."""
    cutoffs = sorted(set(request.cutoffs))
    if not cutoffs or not 1 <= cutoffs[0] <= cutoffs[-1] <= LONGEST:
        raise BuildError(f"--cutoffs: positions from 1 to {LONGEST}, as in 5,10")
    return RankingReference(max(cutoffs[-1], min(int(lengths.maximum), _KEPT_ITEMS)), cutoffs)


def _variable(name: str, column: Column, request: BuildRequest) -> Variable:
    if request.types.get(name) == "numeric":
        if not column.numbers:
            raise BuildError(f"--columns: {name}: said to be numeric, but has no number")
        return _numeric(name, column, request.bins)
    named = name in request.categorical or request.types.get(name) == "categorical"
    return _numeric(name, column, request.bins) if column.is_numeric and not named else _categorical(column)


def _outcome(
    request: BuildRequest, columns: dict[str, Column], name: str | None, classes: list[str]
) -> Variable | None:
    if name is None:
        return None
    if classes:
        return CategoricalVariable(classes, [0] * (len(classes) + 3))
    if not columns[name].is_numeric:
        raise BuildError(f"{name}: a {request.task} needs numbers, but most cells of this column are not")
    return _numeric(name, columns[name], request.bins)


def _forecast(request: BuildRequest, columns: dict[str, Column]) -> ForecastReference | None:
    """Return what predictions say beside one number, None where that is nothing."""
    if request.task != "forecast":
        for flag, column in (("--horizon", request.horizon), ("--naive", request.naive)):
            if column is not None:
                raise BuildError(f"{flag}: only a forecast has one; write --task forecast")
    if request.quantiles and request.task not in NUMERIC:
        raise BuildError(f"--quantiles: a {request.task} predicts no number; leave them out")
    if request.prediction is None and (request.quantiles or request.task == "forecast"):
        raise BuildError("--prediction: name the column of the number that is predicted")
    for column in (*request.quantiles.values(), request.naive):
        if column is not None and not columns[column].is_numeric:
            raise BuildError(
                f"{column}: quantiles and naive forecasts are numbers, but most cells of this column are not"
            )
    horizons: list[str] = []
    if request.task == "forecast":
        if request.horizon is None:
            raise BuildError("--horizon: name the column that says how far ahead a forecast looks")
        horizons = sorted(columns[request.horizon].categories, key=_by_number)
        if not horizons:
            raise BuildError(f"--horizon: the column {request.horizon!r} names none")
        if len(horizons) > MAX_HORIZONS:
            raise BuildError(
                f"--horizon: a forecast has {MAX_HORIZONS} horizons at most, but there are {len(horizons)}; name "
                "ranges of them, as 1-24, in a column of their own"
            )
    if not horizons and not request.quantiles:
        return None
    return ForecastReference(horizons=horizons, quantiles=sorted(request.quantiles))


def _by_number(name: str) -> tuple[float, str]:
    """Return the key by which horizons are in order: the number that a name begins with, then the name."""
    found = re.match(r"[+-]?\d+(\.\d+)?", name)
    return (float(found[0]) if found else math.inf, name)


def _numeric(name: str, column: Column, bins: int) -> NumericVariable:
    largest = max(abs(column.minimum), abs(column.maximum))
    if largest > LARGEST:
        raise BuildError(
            f"{name}: holds a number of size {largest:.3g}, and beyond {LARGEST:g} no mean can be taken; where such "
            f"numbers stand for missing values, leave the cells empty, or else use --exclude {name}"
        )
    sample = column.sample
    precision = precision_of(sample, column.minimum, column.maximum, bins)
    if column.half and precision == "single":
        precision = "half"
    edges, exported = quantile_edges(sample, column.minimum, column.maximum, bins, precision)
    ends = np.searchsorted(sample, edges)
    ends[0], ends[-1] = 0, len(sample)
    means = [sample[start:stop].mean() if start < stop else np.nan for start, stop in pairwise(ends.tolist())]
    positions = np.where(np.isnan(means), (np.array(edges[:-1]) + edges[1:]) / 2, means)
    return NumericVariable(
        edges, exported, [0] * (len(edges) + 3), positions.tolist(), column.mean, column.standard_deviation, precision
    )


def _categorical(column: Column) -> CategoricalVariable:
    categories = column.kept_categories()
    return CategoricalVariable(categories, [0] * (len(categories) + 3))


def score_edges(samples: Sequence[Floats]) -> list[float]:
    """Return the inner edges of the score's finest bins, 767 at most, from ascending scores of the reference.

    `samples` has one for each class, or the positive class's. Quantiles part the bulk. A rare positive class is at the
    top, where average precision asks for the share of positives among the few best: for two classes there are shares
    of the upper tail, each 2.3 % smaller than the one before, down to one in a million. A value that several of these
    fall on has a bin of its own. The others are for scores unlike the reference's, as of a model trained on balanced
    classes and calibrated later: equal widths, and equal steps of the log-odds up to ±16, about one in ten million.
    """
    binary = len(samples) == 1
    shares = np.arange(1, _QUANTILES) / _QUANTILES
    if not binary:
        per_class = max(2 * _QUANTILES // len(samples), 2)
        shares = np.arange(1, per_class) / per_class
    cuts = np.concatenate([quantiles(sample, shares) for sample in samples])
    if binary:
        tail = _TAIL_RATIO ** -np.arange(1, _TAIL + 1) / _QUANTILES
        cuts = np.concatenate([cuts, _upper_tail(samples[0], tail)])
    widths = np.arange(1, _WIDTHS) / _WIDTHS
    steps = expit(np.linspace(-_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS, _WIDTHS + 1))
    cuts, times = np.unique(cuts.astype(np.float32), return_counts=True)
    heavy = np.nextafter(cuts[times > 1], np.float32(np.inf))
    edges = edges_at(np.concatenate([cuts, heavy, widths, steps]), "single")
    inner: list[float] = edges[(edges > 0) & (edges < 1)].tolist()
    return inner


def _upper_tail(sample: Floats, shares: Floats) -> Floats:
    """Return the scores above which these descending shares lie, beyond the sample by an exponential tail of log-odds.

    The tail's scale is the mean excess over the sample's upper hundredth.
    """
    n = len(sample)
    known = shares >= _TAIL_LEAST / n
    found = quantiles(sample, 1 - shares[known])
    odds = logit(np.clip(sample[-max(n // 100, min(n, 2 * _TAIL_LEAST)) :], 1e-12, 1 - 1e-12))
    excess = float((odds - odds[0]).mean())
    last = odds[-min(_TAIL_LEAST, n)]
    beyond = expit(last + excess * np.log(_TAIL_LEAST / n / shares[~known]))
    return np.concatenate([found, beyond])


def tied_bins(sample: Floats, edges: Sequence[float]) -> list[int]:
    """Return the bins between inner `edges` in which an ascending sample has one value alone, more than once."""
    ends = np.searchsorted(sample, np.array([-np.inf, *edges, np.inf]))
    starts, stops = ends[:-1], ends[1:]
    several = np.flatnonzero(stops - starts > 1)
    tied: list[int] = several[sample[starts[several]] == sample[stops[several] - 1]].tolist()
    return tied


class Counting:
    """The second pass: counts rows into a ledger, from which counts and performance of a profile are taken.

    `columns` are those of the features. What was counted of several parts of a table adds up.
    """

    def __init__(self, request: BuildRequest, profile: Profile, columns: dict[str, Column], *, typed: bool) -> None:
        self._request, self._typed = request, typed
        self._profile = profile
        self._layout = layout = Layout(profile)
        self._ledger = layout.zeros()
        self._uncounted = layout.zeros()
        self._fit = Fit(profile, layout.numeric, layout.categorical, _shares(profile, columns))
        self._embeddings = {
            name: EmbeddingFit(*column.vectors) for name, column in columns.items() if column.dimensions
        }
        self._dimensions = {name: columns[name].dimensions for name in self._embeddings}
        self._halved = [name for name in layout.categorical if columns[name].has_too_many_categories]
        self._hourly = HourlyCounts(request.timing, layout, self._halved) if request.timing else None
        self._slices = SlicedRows(profile, request.segments) if request.segments else None
        self._groups = {name: np.zeros(variable.cells, np.intp) for name, variable in profile.groups.items()}
        self._tables = {
            name: _codes(variable)
            for name, variable in {**profile.features, **profile.groups}.items()
            if isinstance(variable, CategoricalVariable)
        }
        self._class_table = _codes(CategoricalVariable(profile.classes, []))
        self._horizon_table = _codes(CategoricalVariable(profile.forecast.horizons if profile.forecast else [], []))
        self._quantile_columns = [request.quantiles[level] for level in sorted(request.quantiles)]
        self._notes: list[str] = []

    def add(self, block: Any, start: int) -> None:
        """Count the rows of a block, the first of which has the number `start`."""
        request, profile, layout, typed = self._request, self._profile, self._layout, self._typed
        ranked = request.ranked
        if ranked is not None:
            block = ranked.with_items(block, start)
        n = block.num_rows
        present = {name: block[name].chunk(0) for name in block.column_names}

        def numbers(name: str) -> Floats:
            return cells.numbers(present[name], typed=typed) if name in present else np.full(n, np.nan)

        def codes_of(name: str, table: Codes) -> Ints:
            if name not in present:
                return np.full(n, table[None], np.intp)
            return cells.categories(present[name], typed=typed).codes(table)

        numeric = np.empty((len(layout.numeric), n))
        for row, name in zip(numeric, layout.numeric, strict=True):
            row[:] = numbers(name)
        codes = np.empty((len(layout.categorical), n), np.intp)
        for row, name in zip(codes, layout.categorical, strict=True):
            row[:] = codes_of(name, self._tables[name])
        choosing = chooses(keys_of(n, start))  # as in the first pass, so that the same rows choose
        for name in self._halved:
            of_these = codes[layout.categorical.index(name), choosing]
            self._uncounted[layout.features[name]] += np.bincount(of_these, minlength=profile.features[name].cells)
        for name, counts in self._groups.items():
            counts += np.bincount(codes_of(name, self._tables[name]), minlength=len(counts))

        def outcome(name: str | None) -> Floats:
            if name is None or name not in present:
                return np.full(n, np.nan)
            if not profile.classes:
                values = numbers(name)
                return np.where(np.isinf(values), np.nan, values)
            if profile.task == "multilabel":
                return cells.sets(present[name], request.separator).numbers(self._class_table, len(profile.classes))
            codes = codes_of(name, self._class_table)
            return np.where(codes < len(profile.classes), codes, np.nan)

        scores = np.array([numbers(name) for name in _score_columns(request, profile)]).reshape(-1, n).T
        scores = _probabilities(scores, start, exclusive=profile.task != "multilabel")
        horizons = codes_of(request.horizon, self._horizon_table) if request.horizon else np.zeros(n, np.intp)
        said = _said(profile, horizons, [outcome(name) for name in (request.naive, *self._quantile_columns)])
        shown, answer = (request.prediction, request.label) if ranked is None else (LENGTH, None)
        outputs = Outputs.plain(outcome(shown), scores, said).decided(profile.task, request.threshold)
        layout.count_predictions(self._ledger, outputs, np.full(n, np.nan), failed=0)
        for name in request.rated:
            rated = numbers(name)
            layout.count_rated(self._ledger, name, np.where(np.isinf(rated), np.nan, rated))
        labels = outcome(answer)
        hourly = self._hourly
        slots = hourly.slots(present[request.time]) if hourly is not None and request.time in present else None
        self._fit.add(numeric, codes, outputs, labels, start, slots)
        for name, embedding in self._embeddings.items():
            if name in present:
                embedding.add(cells.vectors(present[name], self._dimensions[name]))
        if not start and profile.task not in ("multilabel", "ranking"):  # the first rows say enough
            first = slice(_SUSPECTED)
            told = labels[first], outputs.prediction[first]
            self._notes = _suspicions(layout, numeric[:, first], codes[:, first], *told)
        if hourly is not None and slots is not None:
            hourly.add(slots, numeric, codes, outputs, choosing)
        if self._slices is not None:
            rows_of = dict(zip([*layout.numeric, *layout.categorical], [*numeric, *codes], strict=True))
            of_groups = {name: codes_of(name, self._tables[name]) for name in self._groups}
            self._slices.add(rows_of | of_groups, outputs)
        layout.count_features(self._ledger, numeric, codes)
        if ranked is not None and profile.ranking is not None:
            lists = ranked.lists(block, profile.ranking.length)
            layout.count_lists(self._ledger, lists[~np.isnan(lists[:, 0])])
            return
        known = np.flatnonzero(~np.isnan(labels))
        layout.count_labels(self._ledger, outputs.rows(known), labels[known], np.full(len(known), np.nan))

    def plus(self, other: "Counting") -> "Counting":
        """Take in what was counted of another part, and return this."""
        self._ledger += other._ledger
        self._uncounted += other._uncounted
        self._fit.add_fit(other._fit)
        for name, embedding in self._embeddings.items():
            embedding.add_fit(other._embeddings[name])
        if self._hourly is not None and other._hourly is not None:
            self._hourly.add_hours(other._hourly)
        if self._slices is not None and other._slices is not None:
            self._slices.add_rows(other._slices)
        for name, counts in self._groups.items():
            counts += other._groups[name]
        self._notes += other._notes
        return self

    def finish(self, profile: Profile) -> list[str]:
        """Put counts, performance and fitted models into the profile; returns notes."""
        layout, ledger = self._layout, self._ledger
        counted = ledger - self._uncounted
        for name, section in layout.features.items():
            profile.features[name].counts = counted[section].astype(int).tolist()
        for name, counts in self._groups.items():
            profile.groups[name].counts = counts.tolist()
        for section, variable in (
            (layout.score, profile.score),
            (layout.prediction, profile.prediction),
            (layout.label, profile.label),
        ):
            if variable is not None:
                variable.counts = ledger[section].astype(int).tolist()
        for name, section in layout.rated.items():
            assert profile.rated
            profile.rated[name].counts = ledger[section].astype(int).tolist()
        if self._hourly is not None:
            profile.hours = self._hourly.finish()
        if self._slices is not None:
            profile.slices = self._slices.finish()
        _measure(profile, layout, ledger)
        self._fit.finish(profile, self._request.importances)
        for name, embedding in self._embeddings.items():
            if not embedding.rows:
                dimensions = self._dimensions[name]
                raise BuildError(f"{name}: no cell is a list of {dimensions} finite numbers; --exclude {name}")
        profile.embeddings = {name: embedding.finish() for name, embedding in self._embeddings.items()}
        return self._notes


def _said(profile: Profile, horizons: Ints, numbers: Sequence[Floats]) -> Floats:
    """Return the code of the horizon, naive forecast and quantiles, (n, 2 + Q) as of events, or (n, 0)."""
    if profile.forecast is None:
        return np.empty((len(horizons), 0))
    known = max(len(profile.forecast.horizons), 1)
    found = np.column_stack([np.where(horizons < known, horizons, np.nan), *numbers])
    found[np.isnan(found[:, 2:]).any(axis=1), 2:] = np.nan
    return found


def _shares(profile: Profile, columns: dict[str, Column]) -> dict[str, list[float]]:
    """Return the share of each category, and last that of all others, among the values of categorical features."""
    found = {}
    for name, variable in profile.features.items():
        if isinstance(variable, CategoricalVariable):
            known = [columns[name].categories[category] for category in variable.categories]
            total = max(columns[name].categories.total(), 1)
            found[name] = [round(count / total, 8) for count in (*known, total - sum(known))]
    return found


def _suspicions(layout: Layout, numeric: Floats, codes: Ints, labels: Floats, predictions: Floats) -> list[str]:
    """Return which features tell the label, or what the model says, all by themselves."""
    values = [*numeric, *codes]
    classes = len(layout.profile.classes)
    notes = []
    for what, outcome in (("the label", labels), ("the model's prediction", predictions)):
        if found := foretellers(layout.feature_names, values, outcome, classes=classes):
            notes.append(
                f"{', '.join(found)}: tells {what} all by itself; where it is an outcome of the model, or not known "
                "when the model is asked, name its role or --exclude it"
            )
    return notes


def _probabilities(scores: Floats, rows: int, *, exclusive: bool) -> Floats:
    """Return the scores of a block after so many `rows` as probabilities; raises BuildError."""
    if scores.shape[1] > 1:
        scores = np.where(np.isnan(scores).all(axis=1, keepdims=True), scores, np.nan_to_num(scores))  # as in events
    cut, wrong = probabilities(scores, exclusive=exclusive)
    if wrong.any():
        row = int(wrong.argmax())
        found = ", ".join(f"{score:g}" for score in scores[row])
        rule = f"--scores: probabilities lie between 0 and 1{' and add up to 1' if exclusive else ''}"
        if scores.shape[1] == 1:
            rule = "--score: probabilities lie between 0 and 1"
        raise BuildError(f"{rule}, but for rounding to two digits; row {rows + row + 1} has {found}")
    return cut


def _measure(profile: Profile, layout: Layout, ledger: Floats) -> None:
    """Take the reference performance from the reference's ledger."""
    if not ledger[layout.labels.start] or (profile.prediction is None and profile.task != "multilabel"):
        return
    if layout.horizons and profile.forecast is not None:
        kept = forecast.split(ledger[layout.forecasts].reshape(layout.horizons, -1).sum(0), layout.levels)
        if kept.naive_n > 0:
            absolute, squared = forecast.naive_errors(kept)
            profile.forecast.naive_absolute, profile.forecast.naive_squared = float(absolute), float(squared)
    sums = PerformanceSums(layout, ledger)
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, metric in metrics_of(layout).items():
            value = float(metric(sums).value)
            if math.isfinite(value):
                profile.performance[name] = value
        for name, metric in class_metrics_of(layout).items():
            values, lower, _ = metric(sums)
            for of_all, each in ((profile.class_performance, values), (profile.class_lower, lower)):
                for class_name, number in zip(profile.classes, each.tolist(), strict=True):
                    if math.isfinite(number):
                        of_all.setdefault(class_name, {})[name] = number


def _codes(variable: Variable) -> Codes:
    assert isinstance(variable, CategoricalVariable)
    return variable.codes


def _score_columns(request: BuildRequest, profile: Profile) -> list[str]:
    """Return the score columns in ledger order, none of lists."""
    if profile.ranking:
        return []
    if profile.task == "binary":
        return list(request.scores.values())
    return [request.scores[name] for name in profile.classes] if request.scores else []


def sha256_of(files: Sequence[File], sums: Sequence[str]) -> str:
    """Return the SHA-256 of the file, or of the list of several files' sums; none of what lies in an object store."""
    if not all(file.is_local for file in files):
        return ""
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
