"""The ledger: every count of a model version in one flat array, and how batches of events add to it.

An event only ever adds: one to a few cells, or a number to a sum. So a window is a sum of ledgers, replicas merge
with `+`, and every statistic is a function of (ledger, profile).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting import buckets
from mlops_exporter.counting.windows import Cells
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable, count_numeric
from mlops_exporter.profile.profile import Profile
from mlops_exporter.statistics import regression

CALIBRATION_BINS = 10

_SORTED_AT_ONCE = 2048
"""Values of a feature sorted together: more would leave the fastest cache, fewer would make more calls."""


class Outputs(NamedTuple):
    """What a model said, one row per event, and what else must be known of a prediction when its label comes.

    `prediction` is the class code, or the number of a regression; NaN where there was none. `scores` has a column
    per probability: none (regression), the positive class's (binary), one per class (multiclass); NaN where absent.
    `groups` has the group code of each sensitive attribute, `losses` the losses to be expected (columns of the
    estimation, NaN where unknown); both may have no column.
    """

    prediction: Floats
    scores: Floats
    groups: Floats
    losses: Floats

    @classmethod
    def plain(cls, prediction: Floats, scores: Floats) -> "Outputs":
        """Return outputs of no group and without expected losses."""
        none = np.empty((len(prediction), 0))
        return cls(prediction, scores, none, none)

    def rows(self, rows: Ints) -> "Outputs":
        """Return some of the rows."""
        return Outputs(*(column.take(rows, axis=0) for column in self))

    def table(self) -> Floats:
        """Return one row per event, as `Layout.outputs` takes them back."""
        return np.column_stack(self)

    def decided(self, threshold: float) -> "Outputs":
        """Let the scores decide where there is no prediction: binary by the threshold, multiclass by the highest."""
        if not self.scores.shape[1]:
            return self
        undecided = np.isnan(self.prediction) & ~np.isnan(self.scores[:, 0])
        if not undecided.any():
            return self
        scores = self.scores[undecided]
        prediction = self.prediction.copy()
        prediction[undecided] = scores[:, 0] >= threshold if scores.shape[1] == 1 else scores.argmax(axis=1)
        return self._replace(prediction=prediction)


class Terms(NamedTuple):
    """What events add to a ledger: event `rows[i]` adds `weights[:, i]` to the cells `cells[:, i]`, (terms, n) each."""

    rows: Ints
    cells: Ints
    weights: Floats


class Section(Protocol):
    """A part of the ledger of its own: `cells` are its cells of one ledger, a view to add to.

    `name` changes with whatever the cells mean, since stored ledgers are taken over by it.
    """

    name: str
    cells: int


class OutcomeSection(Section, Protocol):
    """A part that counts what comes out: predictions, and labels when they come."""

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions."""
        ...

    def count_labels(self, cells: Floats, outputs: Outputs, labels: Floats, terms: Sequence[Terms]) -> None:
        """Add labelled predictions: class codes or numbers in `labels` (n,); `terms` is what classes add elsewhere."""
        ...


class _Outcome:
    """Where the distribution of score, prediction or label is counted; `boundaries` are None for class codes."""

    def __init__(self, section: slice, variable: Variable) -> None:
        self.section = section
        self.boundaries = variable.boundaries if isinstance(variable, NumericVariable) else None


class Layout:
    """Where each count of a model lies in its ledger, and the counting itself. All sections are slices of one axis.

    `outcomes` are counted with predictions and labels; into `inputs` whoever has the features counts. `groups` and
    `losses` name columns of a table of outputs, names that change with whatever the numbers mean.
    """

    def __init__(
        self,
        profile: Profile,
        outcomes: Sequence[OutcomeSection] = (),
        inputs: Sequence[Section] = (),
        *,
        groups: Sequence[str] = (),
        losses: Sequence[str] = (),
    ) -> None:
        self.profile = profile
        self.size = 0
        self.sections: dict[str, slice] = {}
        self.predictions = self._section("predictions", 1)
        self.failures = self._section("failures", 1)
        self.labels = self._section("labels", 1)
        self.latency = self._section("latency", len(buckets.LATENCY) + 2)
        self.label_delay = self._section("label_delay", len(buckets.LABEL_DELAY) + 2)

        self.numeric = [name for name, v in profile.features.items() if isinstance(v, NumericVariable)]
        self.categorical = [name for name, v in profile.features.items() if isinstance(v, CategoricalVariable)]
        self.feature_names = [*self.numeric, *self.categorical]
        start = self.size
        self.features = {
            name: self._section(f"feature {name}", profile.features[name].cells) for name in self.feature_names
        }
        middle = self.features[self.categorical[0]].start if self.categorical else self.size
        self._numeric, self._categorical = slice(start, middle), slice(middle, self.size)
        self._boundaries = [v.boundaries for v in profile.features.values() if isinstance(v, NumericVariable)]
        self._lower, self._upper = _differences([len(boundaries) for boundaries in self._boundaries])
        self._code_offsets = np.array([self.features[name].start - middle for name in self.categorical], np.intp)

        self.score = self._section("score", profile.score.cells if profile.score else 0)
        self.prediction = self._section("prediction", profile.prediction.cells if profile.prediction else 0)
        self.label = self._section("label", profile.label.cells if profile.label else 0)

        k = len(profile.classes)
        self.score_columns = 0 if not profile.has_scores else 1 if profile.task == "binary" else k
        bins = len(profile.score_edges) + 1
        self._score_edges = np.array(profile.score_edges)
        self.confusion = self._section("confusion", k * k)
        self.score_by_class = self._section("score_by_class", self.score_columns * bins * 2)
        self.calibration = self._section("calibration", 3 * CALIBRATION_BINS if self.score_columns else 0)
        self.probability_losses = self._section("probability_losses", 4 if self.score_columns else 0)
        self.moments = self._section("moments", regression.CELLS if profile.task == "regression" else 0)
        self._shift = profile.label.mean if isinstance(profile.label, NumericVariable) else 0.0
        self._outcomes = {
            name: _Outcome(getattr(self, name), variable)
            for name, variable in (
                ("score", profile.score),
                ("prediction", profile.prediction),
                ("label", profile.label),
            )
            if variable is not None
        }
        self._inputs = [(self._section(section.name, section.cells), section) for section in inputs]
        self._extras = [(self._section(section.name, section.cells), section) for section in outcomes]
        scores = [f"score {column}" for column in range(self.score_columns)]
        self.output_names = ["prediction", *scores, *groups, *losses]
        """Columns of a table of outputs, to be kept beside stored ones."""
        self._splits = np.cumsum([self.score_columns, len(groups)])

    def cells_of(self, section: Section) -> slice:
        """Return where a section given at the start lies."""
        return next(place for place, known in [*self._inputs, *self._extras] if known is section)

    def _section(self, name: str, cells: int) -> slice:
        section = slice(self.size, self.size + cells)
        self.sections[name] = section
        self.size = section.stop
        return section

    def places(self) -> dict[str, list[int]]:
        """Return where each section lies, to be kept beside stored ledgers."""
        return {name: [section.start, section.stop] for name, section in self.sections.items()}

    def shared(self, places: dict[str, list[int]]) -> Cells:
        """Return the sections that ledgers stored with `places` have too, here and there."""
        return [
            (here, slice(*places[name]))
            for name, here in self.sections.items()
            if name in places and places[name][1] - places[name][0] == here.stop - here.start
        ]

    @property
    def output_width(self) -> int:
        """Number of columns in a table of outputs."""
        return len(self.output_names)

    def outputs(self, table: Floats) -> Outputs:
        """Read a table of outputs, (n, output_width)."""
        scores, groups, losses = np.split(table[:, 1:], self._splits, axis=1)
        return Outputs(table[:, 0], scores, groups, losses)

    def zeros(self) -> Floats:
        """Return an empty ledger."""
        return np.zeros(self.size)

    def count_features(self, ledger: Floats, numeric: Floats, codes: Ints) -> None:
        """Add feature values: `numeric` (F, n), NaN missing and infinity invalid, sorted in place; `codes` (C, n)."""
        if self.numeric:
            below = np.zeros(2 + sum(map(len, self._boundaries)), np.intp)
            below[1] = numeric.shape[1]
            for start in range(0, numeric.shape[1], _SORTED_AT_ONCE):
                block = numeric[:, start : start + _SORTED_AT_ONCE]
                block.sort(axis=1)
                below[2:] += np.concatenate(
                    [row.searchsorted(edges) for row, edges in zip(block, self._boundaries, strict=True)]
                )
            ledger[self._numeric] += below[self._upper] - below[self._lower]
        if self.categorical:
            cells = (codes + self._code_offsets[:, None]).ravel()
            ledger[self._categorical] += np.bincount(cells, minlength=self._categorical.stop - self._categorical.start)

    def count_predictions(self, ledger: Floats, outputs: Outputs, latency: Floats, failed: int) -> None:
        """Add predictions (n rows), `failed` of which gave an error; `latency` in seconds, NaN where unknown."""
        ledger[self.predictions] += len(outputs.prediction)
        ledger[self.failures] += failed
        _count_histogram(ledger[self.latency], latency[~np.isnan(latency)], buckets.LATENCY)
        self._count_outcome(ledger, "prediction", outputs.prediction)
        if "score" in self._outcomes:
            self._count_outcome(ledger, "score", outputs.scores[:, 0])
        for place, section in self._extras:
            section.count_predictions(ledger[place], outputs)

    def _count_outcome(self, ledger: Floats, name: str, values: Floats) -> None:
        """Add numbers or class codes to the cells of their variable, if the profile has it; NaN counts nowhere."""
        outcome = self._outcomes.get(name)
        if outcome is None:
            return
        values = values[~np.isnan(values)]
        if outcome.boundaries is None:
            ledger[outcome.section] += np.bincount(
                values.astype(np.intp), minlength=outcome.section.stop - outcome.section.start
            )
        else:
            ledger[outcome.section] += count_numeric(np.sort(values), outcome.boundaries)

    def count_labels(self, ledger: Floats, outputs: Outputs, labels: Floats, delays: Floats) -> None:
        """Add labelled predictions: class codes or numbers in `labels` (n,); `delays` in seconds, NaN where unknown."""
        ledger[self.labels] += len(labels)
        _count_histogram(ledger[self.label_delay], delays[~np.isnan(delays)], buckets.LABEL_DELAY)
        terms = list(self.label_terms(outputs, labels)) if self.profile.classes else []
        for place, section in self._extras:
            section.count_labels(ledger[place], outputs, labels, terms)
        self._count_outcome(ledger, "label", labels)
        known = ~np.isnan(outputs.prediction)
        if self.profile.task == "regression":
            ledger[self.moments] += regression.moments(outputs.prediction[known], labels[known], self._shift)
            return
        for term in terms:
            ledger += np.bincount(term.cells.ravel(), term.weights.ravel(), minlength=self.size)

    def label_terms(self, outputs: Outputs, labels: Floats) -> Iterator[Terms]:
        """Yield what labelled predictions of classes add, row by row, but for label counts and distributions."""
        k = len(self.profile.classes)
        known = np.flatnonzero(~np.isnan(outputs.prediction))
        cells = self.confusion.start + outputs.prediction[known].astype(np.intp) * k + labels[known].astype(np.intp)
        yield Terms(known, cells[np.newaxis], np.ones((1, len(known))))
        if self.score_columns:
            scored = np.flatnonzero(~np.isnan(outputs.scores[:, 0]))
            if len(scored):
                yield self._score_terms(scored, outputs.scores[scored], labels[scored].astype(np.intp))

    def _score_terms(self, rows: Ints, scores: Floats, labels: Ints) -> Terms:
        """Return what labelled probabilities (n, columns) add to ROC AUC's, calibration's and the losses' cells."""
        n, columns = scores.shape
        classes = np.arange(columns) if columns > 1 else np.array([1])
        actual = labels[:, None] == classes
        bins = np.searchsorted(self._score_edges, scores, side="right")
        by_class = (np.arange(columns) * (len(self._score_edges) + 1) + bins) * 2 + actual + self.score_by_class.start

        if columns == 1:
            confidence, correct = scores[:, 0], actual[:, 0]
            likelihood = np.where(correct, confidence, 1.0 - confidence)
            squared_error = np.square(confidence - correct)
        else:
            top = scores.argmax(axis=1)
            each = np.arange(n)
            confidence, correct = scores[each, top], top == labels
            likelihood = scores[each, labels]
            squared_error = np.square(scores - actual).sum(axis=1)
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
        # The same floor as scikit-learn's, so that a certain and wrong prediction costs a finite 36.04.
        loss = -np.log(np.clip(likelihood, np.finfo(np.float64).eps, 1.0 - np.finfo(np.float64).eps))
        ones = np.ones(n)
        calibration = self.calibration.start + np.arange(3)[:, np.newaxis] * CALIBRATION_BINS + bins
        losses = np.repeat(np.arange(self.probability_losses.start, self.probability_losses.stop), n).reshape(-1, n)
        return Terms(
            rows,
            np.concatenate([by_class.T, calibration, losses]),
            np.stack(
                [*[ones] * columns, ones, correct, confidence,
                 loss, np.square(loss), squared_error, np.square(squared_error)]
            ),
        )  # fmt: skip


def _count_histogram(cells: Floats, values: Floats, bounds: Sequence[float]) -> None:
    """Add values to cells [bucket counts, +Inf last, not cumulative; sum]. A bucket takes its upper bound in."""
    if len(values):
        cells[:-1] += np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds) + 1)
        cells[-1] += values.sum()


def _differences(lengths: Sequence[int]) -> tuple[Ints, Ints]:
    """Return the indexes whose difference is each cell's count, in [0, n, ranks of all boundaries of all features].

    `lengths` are the numbers of boundaries; each feature has one cell more: up to its first boundary from 0, and
    from its last one to n.
    """
    lower: list[int] = []
    upper: list[int] = []
    first = 2
    for length in lengths:
        ranks = range(first, first + length)
        lower += [0, *ranks]
        upper += [*ranks, 1]
        first += length
    return np.array(lower, np.intp), np.array(upper, np.intp)
