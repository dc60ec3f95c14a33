"""Build a reference profile from a table in two passes of bounded memory.

The first pass finds the type of each column, its extremes and a uniform sample of its numbers, from which the bins
are cut. The second counts every row into a ledger with these bins: the profile is the reference's own ledger.
"""

import difflib
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mlops_exporter import __version__
from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.judging.performance import Sums, class_metrics_of, metrics_of
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable, encode, quantile_edges
from mlops_exporter.profile.profile import SCHEMA, Profile, Provenance, Task
from mlops_exporter.profile.values import INVALID, MISSING_TEXT, Codes, canonical, canonical_text
from mlops_exporter.profile.vectors import to_vectors
from mlops_exporter.profiling.fit import EmbeddingFit, Fit
from mlops_exporter.profiling.readers import Block, is_typed, read_blocks

SAMPLE_ROWS = 100_000
"""Numbers per column from which quantiles are taken; exact up to that many rows."""

MAX_CATEGORIES = 100
"""Categories kept by name, the most frequent ones; the rest is `other`.

The most frequent ones *of a sample* are partly so by luck: their counts in that sample promise more than they keep, and
every window would seem to drift towards `other`. So where not all can be kept, one half of the rows chooses, and the
other half is counted.
"""

_LEAST_COUNT = 5
"""Rows of the half that chooses which must have a category, for it to be kept by name where not all can be."""

LARGEST = 1e150
"""Numbers whose squares can be summed."""

_TRACKED_CATEGORIES = 10_000
"""Distinct cells of a column after which no more are collected: what is not frequent by then is `other` anyway."""

_NUMERIC_SHARE = 0.95
_SCORE_BINS = 256
_LARGEST_LOG_ODDS = 16.0
_SEED = 1

Floats = NDArray[np.float64]
_T = TypeVar("_T")


class BuildError(Exception):
    """A profile that cannot be built as asked; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the profile is to be built from; column names unless said otherwise."""

    data: Path
    task: Task
    label: str | None = None
    prediction: str | None = None
    scores: dict[str, str] = field(default_factory=dict)
    """Column by class; for a binary task the positive class alone."""
    positive: str | None = None
    threshold: float = 0.5
    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    importances: dict[str, float] = field(default_factory=dict)
    bins: int = 10
    model_version: str = "default"


def build(request: Request) -> tuple[Profile, list[str]]:
    """Read the table twice; returns the profile and notes for the user. Raises BuildError or TableError."""
    columns = _survey(request)
    notes: list[str] = []
    names = _feature_names(request, columns, notes)
    for name in request.importances:
        if name not in names:
            raise BuildError(f"--importances: {name!r} is no feature; the features are {', '.join(names)}")
    classes = _classes(request, columns)
    profile = Profile(
        schema=SCHEMA,
        task=request.task,
        rows=next(iter(columns.values())).rows,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=__version__,
            model_version=request.model_version,
            data=request.data.name,
            data_sha256=_sha256(request.data),
        ),
        features={name: _variable(name, columns[name], request) for name in names if not columns[name].dimensions},
        groups={name: _categorical(columns[name]) for name in request.groups},
        classes=classes,
        prediction=_outcome(columns, request.prediction, classes, request.bins),
        label=_outcome(columns, request.label, classes, request.bins),
    )
    if request.scores:
        scores = [columns[name] for name in request.scores.values()]
        for name in request.scores.values():
            if not columns[name].numbers:
                raise BuildError(f"--score or --scores: {name}: has no number; name the column of the probabilities")
        profile.score_edges = score_edges(np.concatenate([column.sample for column in scores]))
        if request.task == "binary":
            profile.score = _numeric(next(iter(request.scores.values())), scores[0], request.bins)
    if profile.prediction is None and classes and request.scores:
        profile.prediction = CategoricalVariable(classes, [0] * (len(classes) + 3))
    _count(request, profile, {name: columns[name] for name in names})
    return profile, notes


class _Column:
    """What the first pass learns of one column."""

    def __init__(self) -> None:
        self.rows = 0
        self.numbers = 0
        self.texts = 0
        self.categories: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()
        self._categorised = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self.mean = 0.0
        self._squares = 0.0
        self._keys = np.empty(0)
        self._values = np.empty(0)
        self._largest_key = 1.0
        self.vectors = np.zeros((3, 0))
        """Of a column of vectors: n, sum and sum of squares of each dimension, (3, dimensions)."""

    def add_vectors(self, cells: Sequence[object]) -> None:
        """Take in the cells of a block that are vectors, all as long as the first."""
        if not self.dimensions:
            self.vectors = np.zeros((3, next((len(cell) for cell in cells if isinstance(cell, list)), 0)))
        if self.dimensions:
            vectors = to_vectors(cells, self.dimensions).astype(np.float64)
            vectors = vectors[:, ~np.isnan(vectors[0])]
            self.vectors += [np.full(self.dimensions, vectors.shape[1]), vectors.sum(1), np.square(vectors).sum(1)]

    @property
    def dimensions(self) -> int:
        """Length of the vectors, 0 for a column of single values."""
        return self.vectors.shape[1]

    def add(self, cells: Sequence[object], keys: Floats, *, typed: bool) -> None:
        """Take in the cells of a block, and a random key in [0, 1) per row."""
        numbers = to_numbers(cells, typed=typed)
        self.rows += len(numbers)
        self.texts += int(np.isinf(numbers).sum())
        if len(self.categories) < _TRACKED_CATEGORIES:
            names = to_categories(cells, typed=typed)
            self.categories.update(name for name in names if isinstance(name, str))
            chosen = compress(names, _chooses(keys).tolist())
            self._candidates.update(name for name in chosen if isinstance(name, str))
            self._categorised = self.rows
        finite = np.isfinite(numbers)
        values = numbers[finite]
        if not len(values):
            return
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        # Mean and squared deviations of the union (Chan, Golub and LeVeque 1983, Am. Stat. 37(3)).
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers beyond LARGEST, which are refused later
            mean = float(values.mean())
            shift = mean - self.mean
            total = self.numbers + len(values)
            self.mean += shift * len(values) / total
            between = shift * shift * self.numbers * len(values) / total
            self._squares += float(np.square(values - mean).sum()) + between
        self.numbers = total
        self._add_to_sample(values, keys[finite])

    def _add_to_sample(self, values: Floats, keys: Floats) -> None:
        """Keep the values with the smallest keys: a uniform sample of all."""
        chosen = keys < self._largest_key
        self._keys = np.concatenate([self._keys, keys[chosen]])
        self._values = np.concatenate([self._values, values[chosen]])
        if len(self._keys) > 2 * SAMPLE_ROWS:
            smallest = np.argpartition(self._keys, SAMPLE_ROWS)[:SAMPLE_ROWS]
            self._keys, self._values = self._keys[smallest], self._values[smallest]
            self._largest_key = float(self._keys.max())

    @property
    def sample(self) -> Floats:
        """Return a uniform sample of the finite numbers, at least SAMPLE_ROWS where there are so many."""
        return self._values

    @property
    def standard_deviation(self) -> float:
        """Return the population standard deviation of the finite numbers; that of a constant without rounding's."""
        return math.sqrt(self._squares / self.numbers) if self.minimum < self.maximum else 0.0

    @property
    def has_too_many_categories(self) -> bool:
        """Whether not all of its categories can be kept by name."""
        return len(self.categories) > MAX_CATEGORIES

    def kept_categories(self) -> list[str]:
        """Return the categories to be kept by name, sorted."""
        if not self.has_too_many_categories:
            return sorted(self.categories)
        frequent = sorted(self._candidates.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]
        return sorted(name for name, count in frequent if count >= _LEAST_COUNT)

    @property
    def is_numeric(self) -> bool:
        """Whether nearly all present cells are numbers."""
        return self.numbers > 0 and self.numbers >= _NUMERIC_SHARE * (self.numbers + self.texts)

    @property
    def looks_like_identifiers(self) -> bool:
        """Whether the cells are texts most of which differ."""
        distinct = len(self.categories)
        return not self.is_numeric and self.has_too_many_categories and 2 * distinct > self._categorised


def _chooses(keys: Floats) -> NDArray[np.bool_]:
    """Return which rows choose the categories that are kept by name, where not all can be; the others are counted."""
    return keys < 0.5


def to_numbers(cells: Sequence[object], *, typed: bool) -> Floats:
    """Return cells as numbers: NaN for missing ones, infinity for what is no finite number.

    In a typed file (NDJSON, Parquet) a text is never a number, as in events; in CSV every cell is a text.
    """
    if _is_plain(cells, typed):
        try:
            numbers = np.array(cells, np.float64) if typed else np.fromiter(map(float, cells), np.float64, len(cells))  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            pass
        else:
            numbers[np.isinf(numbers)] = np.inf
            return numbers
    return np.array(_of_each(lambda cell: _number(cell, typed), cells), np.float64)


def _is_plain(cells: Sequence[object], typed: bool) -> bool:
    """Whether the cells may be numbers all together; Python would read `2024_01` as one, which is a category's code."""
    if typed:
        return set(map(type, cells)) <= {float, int, type(None)}
    return "_" not in "".join(map(str, cells))


def _number(cell: object, typed: bool) -> float:
    if cell is None or (not typed and cell in MISSING_TEXT):
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return math.inf
    if isinstance(cell, str) and (typed or "_" in cell):
        return math.inf
    try:
        return math.inf if math.isinf(float(cell)) else float(cell)
    except (ValueError, OverflowError):
        return math.inf


def to_categories(cells: Sequence[object], *, typed: bool) -> list[object]:
    """Return cells as categories: None for missing ones, INVALID for what is no single value."""
    return _of_each(_category if typed else _category_of_text, cells)


def _of_each(function: Callable[[object], _T], cells: Sequence[object]) -> list[_T]:
    """Return the function of each cell, worked out once per distinct one where equal cells mean the same."""
    if not set(map(type, cells)) <= {str, int, float, type(None)}:  # True equals 1, and lists cannot be looked up
        return list(map(function, cells))
    answers = {cell: function(cell) for cell in set(cells)}
    return [answers[cell] for cell in cells]


def _category_of_text(cell: object) -> object:
    return canonical_text(cell) if isinstance(cell, str) else cell


def _category(cell: object) -> object:
    try:
        return canonical(cell)
    except TypeError:
        return INVALID


def _survey(request: Request) -> dict[str, _Column]:
    """Read the table once: what each column holds."""
    columns: dict[str, _Column] = {}
    typed = is_typed(request.data)
    rng = np.random.default_rng(_SEED)
    rows = 0
    for block in read_blocks(request.data):
        n = len(next(iter(block.values())))
        keys = rng.random(n)
        for name in dict.fromkeys([*columns, *block]):
            if name not in columns:
                columns[name] = _Column()
                columns[name].rows = rows
            cells = block.get(name, [None] * n)
            if typed:
                columns[name].add_vectors(cells)
            columns[name].add(cells, keys, typed=typed)
        rows += n
    if not rows:
        raise BuildError(f"{request.data}: no rows; a profile needs the rows that the model was trained on")
    named: dict[str, tuple[str | None, ...]] = {
        "--label": (request.label,),
        "--prediction": (request.prediction,),
        "--score or --scores": tuple(request.scores.values()),
        "--features": request.features,
        "--exclude": request.exclude,
        "--categorical": request.categorical,
        "--groups": request.groups,
    }
    for flag, wanted in named.items():
        for column in wanted:
            if column is not None and column not in columns:
                close = difflib.get_close_matches(column, columns, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(columns))}"
                raise BuildError(f"{flag}: {request.data} has no column {column!r}; {hint}")
    return columns


def _feature_names(request: Request, columns: dict[str, _Column], notes: list[str]) -> list[str]:
    """Return the features, in the order of the file unless named."""
    if request.features:
        names = [name for name in request.features if name not in request.exclude]
    else:
        others = {request.label, request.prediction, *request.scores.values(), *request.groups, *request.exclude}
        names = []
        for name, column in columns.items():
            if name in others:
                continue
            if not name:
                notes.append("a column without a name, such as an index of rows, is left out")
            elif column.looks_like_identifiers and name not in request.categorical:
                notes.append(f"{name}: left out, since nearly every row has another text; --features would keep it")
            else:
                names.append(name)
    for name in names:
        if not columns[name].numbers and not columns[name].categories and not columns[name].dimensions:
            raise BuildError(f"{name}: has no value at all; leave it out with --exclude {name}")
    return names


def _classes(request: Request, columns: dict[str, _Column]) -> list[str]:
    """Return the classes in ledger order: binary negative, positive; multiclass sorted; regression none."""
    if request.task == "regression":
        if request.scores:
            raise BuildError("--score: a regression has no scores; give its --prediction")
        return []
    seen = set(request.scores) if request.task == "multiclass" else set()
    for name in (request.label, request.prediction):
        if name is not None:
            seen |= columns[name].categories.keys()
    classes = sorted(seen)
    if not classes:
        raise BuildError(f"a {request.task} profile needs --label or --prediction, to know the classes")
    if request.task == "multiclass":
        if len(classes) < 2:
            raise BuildError(
                f"--label: a multiclass profile needs two classes or more, but there is only {classes[0]!r}"
            )
        if request.scores and set(request.scores) != set(classes):
            absent = ", ".join(sorted(set(classes) - set(request.scores)))
            raise BuildError(f"--scores: every class needs its column CLASS=COLUMN; without one: {absent}")
        return classes
    if len(classes) != 2:
        raise BuildError(f"--task binary: needs two classes, but there are {len(classes)}: {', '.join(classes[:10])}")
    positive = canonical(request.positive) or {("0", "1"): "1", ("false", "true"): "true"}.get((classes[0], classes[1]))
    if positive is None:
        raise BuildError(f"--positive: say which class is the positive one, {classes[0]} or {classes[1]}")
    if positive not in classes:
        raise BuildError(f"--positive: {positive!r} is not a class; the classes are {classes[0]} and {classes[1]}")
    return sorted(classes, key=lambda name: name == positive)


def _variable(name: str, column: _Column, request: Request) -> Variable:
    return (
        _numeric(name, column, request.bins)
        if column.is_numeric and name not in request.categorical
        else _categorical(column)
    )


def _outcome(columns: dict[str, _Column], name: str | None, classes: list[str], bins: int) -> Variable | None:
    if name is None:
        return None
    if classes:
        return CategoricalVariable(classes, [0] * (len(classes) + 3))
    if not columns[name].is_numeric:
        raise BuildError(f"{name}: a regression needs numbers, but most cells of this column are not")
    return _numeric(name, columns[name], bins)


def _numeric(name: str, column: _Column, bins: int) -> NumericVariable:
    largest = max(abs(column.minimum), abs(column.maximum))
    if largest > LARGEST:
        raise BuildError(
            f"{name}: holds a number of size {largest:.3g}, and beyond {LARGEST:g} no mean can be taken; where such "
            f"numbers stand for missing values, leave the cells empty, or else use --exclude {name}"
        )
    sample = column.sample
    edges, exported = quantile_edges(sample, column.minimum, column.maximum, bins)
    inside = np.clip(np.searchsorted(edges, sample, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(inside, minlength=len(edges) - 1)
    middles = (np.array(edges[:-1]) + edges[1:]) / 2
    sums = np.bincount(inside, sample, len(edges) - 1)
    positions = np.where(counts > 0, sums / np.maximum(counts, 1), middles)
    return NumericVariable(
        edges, exported, [0] * (len(edges) + 3), positions.tolist(), column.mean, column.standard_deviation
    )


def _categorical(column: _Column) -> CategoricalVariable:
    categories = column.kept_categories()
    return CategoricalVariable(categories, [0] * (len(categories) + 3))


def score_edges(sample: Floats) -> list[float]:
    """Return the inner edges of the score's finest bins, 511 at most, from scores of the reference.

    Half of them are its quantiles. The others are for scores unlike the reference's, as of a model trained on balanced
    classes and calibrated later: equal widths, and equal steps of the log-odds up to ±16, about one in ten million.
    """
    width = _SCORE_BINS // 2
    quantiles = np.quantile(sample, np.arange(1, _SCORE_BINS) / _SCORE_BINS)
    steps = expit(np.linspace(-_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS, width + 1))
    edges: list[float] = np.unique(np.concatenate([quantiles, np.arange(1, width) / width, steps])).tolist()
    return edges


def _count(request: Request, profile: Profile, columns: dict[str, _Column]) -> None:
    """Read the table again, count it into a ledger, and take counts and performance from there.

    `columns` are those of the features.
    """
    layout = Layout(profile)
    ledger = layout.zeros()
    fit = Fit(profile, layout.numeric, layout.categorical)
    embedding_fits = {name: EmbeddingFit(*columns[name].vectors) for name in columns if columns[name].dimensions}
    halved = [name for name in layout.categorical if columns[name].has_too_many_categories]
    uncounted = layout.zeros()
    rng = np.random.default_rng(_SEED)  # as in the first pass, so that the same rows choose
    typed = is_typed(request.data)
    group_counts = {name: np.zeros(variable.cells, np.intp) for name, variable in profile.groups.items()}
    for block in read_blocks(request.data):
        n = len(next(iter(block.values())))

        def numbers(name: str, block: Block = block, n: int = n) -> Floats:
            return to_numbers(block.get(name, [None] * n), typed=typed)

        def categories(name: str, block: Block = block, n: int = n) -> list[object]:
            return to_categories(block.get(name, [None] * n), typed=typed)

        numeric = np.array([numbers(name) for name in layout.numeric]).reshape(-1, n)
        coded = [encode(categories(name), _codes(profile.features[name])) for name in layout.categorical]
        codes = np.array(coded, np.intp).reshape(-1, n)
        chooses = _chooses(rng.random(n))
        for name in halved:
            cells = codes[layout.categorical.index(name), chooses]
            uncounted[layout.features[name]] += np.bincount(cells, minlength=profile.features[name].cells)
        for name, counts in group_counts.items():
            counts += np.bincount(encode(categories(name), profile.groups[name].codes), minlength=len(counts))

        def outcome(name: str | None, n: int = n) -> Floats:
            if name is None:
                return np.full(n, np.nan)
            if not profile.classes:
                values = numbers(name)
                values[np.isinf(values)] = np.nan
                return values
            codes = encode(categories(name), _codes(CategoricalVariable(profile.classes, [])))
            return np.where(codes < len(profile.classes), codes, np.nan)

        scores = np.array([numbers(name) for name in _score_columns(request, profile)]).reshape(-1, n).T
        if np.nanmin(scores, initial=0.0) < 0 or np.nanmax(scores, initial=0.0) > 1:
            raise BuildError("--score: probabilities lie between 0 and 1, but some in this table do not")
        outputs = Outputs.plain(outcome(request.prediction), scores).decided(request.threshold)
        layout.count_predictions(ledger, outputs, np.full(n, np.nan), failed=0)
        labels = outcome(request.label)
        fit.add(numeric, codes, outputs, labels)
        for name, embedding in embedding_fits.items():
            embedding.add(block.get(name, [None] * n))
        layout.count_features(ledger, numeric, codes)
        known = np.flatnonzero(~np.isnan(labels))
        layout.count_labels(ledger, outputs.rows(known), labels[known], np.full(len(known), np.nan))
    counted = ledger - uncounted
    for name, section in layout.features.items():
        profile.features[name].counts = counted[section].astype(int).tolist()
    for name, counts in group_counts.items():
        profile.groups[name].counts = counts.tolist()
    for section, variable in (
        (layout.score, profile.score),
        (layout.prediction, profile.prediction),
        (layout.label, profile.label),
    ):
        if variable is not None:
            variable.counts = ledger[section].astype(int).tolist()
    _measure(profile, layout, ledger)
    fit.finish(request.importances)
    profile.embeddings = {name: embedding.finish() for name, embedding in embedding_fits.items()}


def _measure(profile: Profile, layout: Layout, ledger: Floats) -> None:
    """Take the reference performance from the reference's ledger."""
    if not ledger[layout.labels.start] or profile.prediction is None:
        return
    sums = Sums(layout, ledger)
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, metric in metrics_of(layout).items():
            value = float(metric(sums).value)
            if math.isfinite(value):
                profile.performance[name] = value
        for name, metric in class_metrics_of(layout).items():
            for class_name, value in zip(profile.classes, metric(sums).value.tolist(), strict=True):
                if math.isfinite(value):
                    profile.class_performance.setdefault(class_name, {})[name] = value


def _codes(variable: Variable) -> Codes:
    assert isinstance(variable, CategoricalVariable)
    return variable.codes


def _score_columns(request: Request, profile: Profile) -> list[str]:
    """Return the score columns in ledger order."""
    if profile.task == "binary":
        return list(request.scores.values())
    return [request.scores[name] for name in profile.classes] if request.scores else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
