"""The ledger: every count of a model version in one flat array, and how batches of events add to it.

An event only ever adds: one to a few cells, or a number to a sum. So a window is a sum of ledgers, replicas merge
with `+`, and every statistic is a function of (ledger, profile).
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from mlops_exporter.arrays import Flags, Floats, Ints, Singles
from mlops_exporter.counting import bounds, buckets
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.counting.windows import Cells
from mlops_exporter.events.reasons import LONGEST_LATENCY
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable, count_numeric, rounded_to
from mlops_exporter.profile.lists import Lists
from mlops_exporter.profile.profile import Profile, Task
from mlops_exporter.profile.sets import as_numbers, members_of
from mlops_exporter.statistics import forecast, multilabel, ranking, ratings, regression

CALIBRATION_BINS = 10

LONGEST_DELAY = 1e10
"""Seconds from a prediction to its label: times are Unix seconds."""

_DEAREST = -float(np.log(np.finfo(np.float64).eps))
"""The largest log loss of a prediction."""

_SORTED_AT_ONCE = 2048
"""Values of a feature sorted together: more would leave the fastest cache, fewer would make more calls."""


class Outputs(NamedTuple):
    """What a model said, one row per event, and what else must be known of a prediction when its label comes.

    `prediction` is the class code, the number of a regression or of a set of classes; NaN where there was none.
    `scores` has a column per probability: none (regression), the positive class's (binary), one per class; NaN where
    absent.
    `groups` has the group code of each sensitive attribute, `losses` the losses to be expected (columns of the
    estimation, NaN where unknown), `forecast` the code of the horizon, the naive forecast and the announced quantiles;
    all may have no column.
    """

    prediction: Floats
    scores: Floats
    groups: Floats
    losses: Floats
    forecast: Floats

    @classmethod
    def plain(cls, prediction: Floats, scores: Floats, forecast: Floats | None = None) -> "Outputs":
        """Return outputs of no group and without expected losses."""
        none = np.empty((len(prediction), 0))
        return cls(prediction, scores, none, none, none if forecast is None else forecast)

    def rows(self, rows: Ints) -> "Outputs":
        """Return some of the rows."""
        return Outputs(*(column.take(rows, axis=0) for column in self))

    def table(self) -> Floats:
        """Return one row per event, as `Layout.outputs` takes them back."""
        return np.column_stack(self)

    def decided(self, task: Task, threshold: float) -> "Outputs":
        """Let the scores decide where there is no prediction: multiclass by the highest, else by the threshold."""
        if not self.scores.shape[1]:
            return self
        undecided = np.isnan(self.prediction) & ~np.isnan(self.scores[:, 0])
        if not undecided.any():
            return self
        scores = self.scores[undecided]
        prediction = self.prediction.copy()
        if task == "multilabel":
            prediction[undecided] = as_numbers(scores >= threshold)
        else:
            prediction[undecided] = scores[:, 0] >= threshold if task == "binary" else scores.argmax(axis=1)
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

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells; `largest` is that of a regression's predictions and labels."""
        ...


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
        self._all_single = all(boundaries.dtype == np.float32 for boundaries in self._boundaries)
        self._lower, self._upper = _differences([len(boundaries) for boundaries in self._boundaries])
        self._code_offsets = np.array([self.features[name].start - middle for name in self.categorical], np.intp)

        self.score = self._section("score", profile.score.cells if profile.score else 0)
        self.prediction = self._section("prediction", profile.prediction.cells if profile.prediction else 0)
        self.label = self._section("label", profile.label.cells if profile.label else 0)

        self.rated = {
            name: self._section(f"rated {name}", variable.cells) for name, variable in (profile.rated or {}).items()
        }
        """The distributions of outcomes of which the reference knows one."""
        self.distributions = slice(0, self.size)
        """All that has distributions, and what lies before."""
        self._rated_boundaries = {name: variable.boundaries for name, variable in (profile.rated or {}).items()}

        k = len(profile.classes)
        self.score_columns = 0 if not profile.has_scores else 1 if profile.task == "binary" else k
        bins = len(profile.score_edges) + 1
        self._score_edges = np.array(profile.score_edges)
        of_sets = profile.task == "multilabel"
        self.confusion = self._section("confusion", 0 if of_sets else k * k)
        self.decisions = self._section("decisions", multilabel.cells(k) if of_sets else 0)
        self.score_by_class = self._section("score_by_class", self.score_columns * bins * 2)
        calibrated = self.score_columns if of_sets else min(self.score_columns, 1)
        self.calibration = self._section("calibration", calibrated * 3 * CALIBRATION_BINS)
        self.probability_losses = self._section("probability_losses", 4 if self.score_columns and not of_sets else 0)
        self.moments = self._section("moments", regression.CELLS if profile.of_numbers else 0)
        self.levels = profile.forecast.quantiles if profile.forecast else []
        self.horizons = max(len(profile.forecast.horizons), 1) if profile.forecast else 0
        """Parts of `forecasts`, one for each horizon; a regression with quantiles has one."""
        meaning = _digest((profile.forecast.horizons, self.levels)) if profile.forecast else ""
        self._of_forecasts = f"forecasts {meaning}"
        self.forecasts = slice(self.size, self.size)
        if self.horizons:
            self.forecasts = self._section(self._of_forecasts, self.horizons * forecast.cells(self.levels))
        self.ranked = ranking.names(profile.ranking.cutoffs) if profile.ranking else []
        self.measures = self._section("measures", ratings.CELLS * len(self.ranked))
        length = profile.ranking.length if profile.ranking else 0
        self.shown_at = self._section("shown_at", length)
        self.relevant_at = self._section("relevant_at", length)
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
        forecasts = (
            [f"{part} {self._of_forecasts}" for part in ("horizon", "naive", *self.levels)] if self.horizons else []
        )
        self.output_names = ["prediction", *scores, *groups, *losses, *forecasts]
        """Columns of a table of outputs, to be kept beside stored ones."""
        self._splits = np.cumsum([self.score_columns, len(groups), len(losses)])

    @property
    def of_predictions(self) -> dict[str, slice]:
        """Cells of which each prediction adds to one at most, by what they count."""
        buckets_of_latency = slice(self.latency.start, self.latency.stop - 1)
        known = {"failures": self.failures, "latency": buckets_of_latency, "score": self.score}
        return known | {"prediction": self.prediction} | {f"feature {name}": at for name, at in self.features.items()}

    @property
    def of_labels(self) -> dict[str, slice]:
        """Cells of which each labelled prediction adds to one at most, by what they count."""
        buckets_of_delay = slice(self.label_delay.start, self.label_delay.stop - 1)
        return {"label_delay": buckets_of_delay, "label": self.label, "confusion": self.confusion}

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

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to each cell; `largest` is that of a regression's predictions and labels."""
        known = {
            "latency": [bounds.counts(len(buckets.LATENCY) + 1), bounds.sums(1, LONGEST_LATENCY)],
            "label_delay": [bounds.counts(len(buckets.LABEL_DELAY) + 1), bounds.sums(1, LONGEST_DELAY)],
        }
        if self.score_columns:
            each = [bounds.counts(2 * CALIBRATION_BINS), bounds.sums(CALIBRATION_BINS, 1.0)]
            known["calibration"] = each * ((self.calibration.stop - self.calibration.start) // (3 * CALIBRATION_BINS))
        if self.probability_losses.start < self.probability_losses.stop:
            known["probability_losses"] = [bounds.sums(1, most) for most in (_DEAREST, _DEAREST**2, 3.0, 9.0)]
        if self.profile.of_numbers:
            known["moments"] = [_moment_bounds(largest)]
        if self.horizons:
            known[self._of_forecasts] = [_forecast_bounds(largest, self.levels)] * self.horizons
        if self.ranked:
            known["measures"] = [bounds.counts(1), bounds.sums(2, 1.0)] * len(self.ranked)
        known |= {section.name: [section.bounds(largest)] for _, section in [*self._inputs, *self._extras]}
        return bounds.joined(
            [
                part
                for name, place in self.sections.items()
                for part in known.get(name) or [bounds.counts(place.stop - place.start)]
            ]
        )

    @property
    def output_width(self) -> int:
        """Number of columns in a table of outputs."""
        return len(self.output_names)

    def outputs(self, table: Floats) -> Outputs:
        """Read a table of outputs, (n, output_width)."""
        return Outputs(table[:, 0], *np.split(table[:, 1:], self._splits, axis=1))

    def zeros(self) -> Floats:
        """Return an empty ledger."""
        return np.zeros(self.size)

    def count_features(self, ledger: Floats, numeric: Floats, codes: Ints) -> None:
        """Add feature values: `numeric` (F, n), NaN missing and infinity invalid; `codes` (C, n)."""
        if self.numeric:
            below = np.zeros(2 + sum(map(len, self._boundaries)), np.intp)
            below[1] = numeric.shape[1]
            rows = self._rounded(numeric)
            for start in range(0, numeric.shape[1], _SORTED_AT_ONCE):
                part = slice(start, start + _SORTED_AT_ONCE)
                below[2:] += np.concatenate(
                    [np.sort(row[part]).searchsorted(edges) for row, edges in zip(rows, self._boundaries, strict=True)]
                )
            ledger[self._numeric] += below[self._upper] - below[self._lower]
        if self.categorical:
            cells = (codes + self._code_offsets[:, None]).ravel()
            ledger[self._categorical] += np.bincount(cells, minlength=self._categorical.stop - self._categorical.start)

    def _rounded(self, numeric: Floats) -> list[Floats | Singles]:
        """Return the values of each feature in the precision of its bins."""
        if self._all_single:
            return list(rounded_to(self._boundaries[0], numeric))
        return [rounded_to(edges, row) for row, edges in zip(numeric, self._boundaries, strict=True)]

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

    def count_rated(self, ledger: Floats, outcome: str, values: Floats) -> None:
        """Add numbers by which answers are rated, where the reference has some; NaN counts nowhere."""
        if outcome in self.rated:
            ledger[self.rated[outcome]] += count_numeric(values[~np.isnan(values)], self._rated_boundaries[outcome])

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
            ledger[outcome.section] += count_numeric(values, outcome.boundaries)

    def count_labels(self, ledger: Floats, outputs: Outputs, labels: Floats, delays: Floats) -> None:
        """Add labelled predictions: class codes or numbers in `labels` (n,); `delays` in seconds, NaN where unknown."""
        ledger[self.labels] += len(labels)
        _count_histogram(ledger[self.label_delay], delays[~np.isnan(delays)], buckets.LABEL_DELAY)
        if self.profile.task == "multilabel":
            terms = []
            self._count_sets(ledger, outputs, labels)
        else:
            terms = list(self.label_terms(outputs, labels)) if self.profile.classes else []
        for place, section in self._extras:
            section.count_labels(ledger[place], outputs, labels, terms)
        self._count_outcome(ledger, "label", labels)
        known = ~np.isnan(outputs.prediction)
        if self.profile.of_numbers:
            ledger[self.moments] += regression.moments(outputs.prediction[known], labels[known], self._shift)
            if self.horizons:
                self._count_forecasts(ledger, outputs, labels)
            return
        for term in terms:
            ledger += np.bincount(term.cells.ravel(), term.weights.ravel(), minlength=self.size)

    def _count_forecasts(self, ledger: Floats, outputs: Outputs, labels: Floats) -> None:
        """Add labelled predictions of a known horizon, with what was said beside them."""
        known = np.flatnonzero(~(np.isnan(outputs.prediction) | np.isnan(outputs.forecast[:, 0])))
        codes, naive, quantiles = np.split(outputs.forecast[known], [1, 2], axis=1)
        ledger[self.forecasts] += forecast.sums(
            outputs.prediction[known],
            labels[known],
            naive[:, 0],
            quantiles,
            self.levels,
            codes[:, 0].astype(np.intp),
            self.horizons,
        ).ravel()

    def count_lists(self, ledger: Floats, table: Floats) -> None:
        """Add lists that are final, a table of them: how good they were, and where what was relevant stood."""
        assert self.profile.ranking is not None
        lists = Lists.of(table)  # all that is known to be relevant, also where another version's lists are longer
        lists = lists._replace(shown=lists.resized(self.profile.ranking.length).shown)
        found = ranking.by_position(lists.shown, lists.relevant, lists.gains)
        values = ranking.measures(lists.lengths, found, lists.gains, self.profile.ranking.cutoffs)
        ledger[self.labels] += len(table)
        ledger[self.measures] += ratings.moments(values, 0.0).ravel()
        ledger[self.shown_at] += (lists.shown != 0).sum(axis=0)
        ledger[self.relevant_at] += (found > 0).sum(axis=0)

    def _count_sets(self, ledger: Floats, outputs: Outputs, labels: Floats) -> None:
        """Add labelled predictions of sets of classes, but for label counts."""
        actual = members_of(labels, len(self.profile.classes))
        known = ~np.isnan(outputs.prediction)
        predicted = members_of(outputs.prediction[known], len(self.profile.classes))
        ledger[self.decisions] += multilabel.sums(predicted, actual[known])
        if self.score_columns and len(scored := np.flatnonzero(~np.isnan(outputs.scores[:, 0]))):
            scores, of_scored = outputs.scores[scored], actual[scored]
            cells = self._score_cells(scores, of_scored)
            ledger[self.score_by_class] += np.bincount(
                cells.ravel(), minlength=self.score_by_class.stop - self.score_by_class.start
            )
            columns = np.arange(self.score_columns)
            cells = (_calibration_bins(scores) + 3 * CALIBRATION_BINS * columns).ravel()
            ledger[self.calibration] += np.bincount(
                np.concatenate([cells + part * CALIBRATION_BINS for part in range(3)]),
                np.concatenate([np.ones(cells.size), of_scored.ravel(), scores.ravel()]),
                self.calibration.stop - self.calibration.start,
            )

    def _score_cells(self, scores: Floats, actual: Flags) -> Ints:
        """Return the cell of `score_by_class` that each score falls into, from its start, (n, columns)."""
        bins = np.searchsorted(self._score_edges, scores, side="right")
        found: Ints = (np.arange(self.score_columns) * (len(self._score_edges) + 1) + bins) * 2 + actual
        return found

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
        by_class = self._score_cells(scores, actual) + self.score_by_class.start

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
        bins = _calibration_bins(confidence)
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


def _calibration_bins(scores: Floats) -> Ints:
    return np.minimum((scores * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)


def _moment_bounds(largest: float) -> Bounds:
    """Return the bounds of the sums of a regression, whose predictions and labels are no larger than that."""
    far = 2 * largest  # from a prediction to its label, and from a label to the reference's mean
    of = {
        "n": bounds.counts(1),
        "absolute": bounds.sums(1, far),
        "error": bounds.signed(1, far),
        "error2": bounds.sums(1, far**2),
        "error4": bounds.sums(1, far**4),
        "relative": bounds.sums(1, far / regression.SMALLEST_LABEL),
        "relative2": bounds.sums(1, (far / regression.SMALLEST_LABEL) ** 2),
        "zeros": bounds.counts(1),
        "label": bounds.signed(1, far),
        "label2": bounds.sums(1, far**2),
        "label3": bounds.signed(1, far**3),
        "label4": bounds.sums(1, far**4),
        "error2_label": bounds.signed(1, far**3),
        "error2_label2": bounds.sums(1, far**4),
    }
    return bounds.joined([of[name] for name in regression.Moments._fields])


def _forecast_bounds(largest: float, levels: Sequence[float]) -> Bounds:
    """Return the bounds of the sums of one horizon; predictions, naive ones, quantiles and labels are no larger."""
    far, q = 2 * largest, len(levels)
    return bounds.joined(
        [
            *(bounds.counts(1), bounds.sums(1, far), bounds.signed(1, far), bounds.sums(1, far**2)),
            *(bounds.sums(1, far**4), bounds.sums(1, far), bounds.sums(2, far**2)),
            *(bounds.counts(1), bounds.sums(1, far), bounds.sums(1, far**2)),
            *(bounds.sums(1, far), bounds.sums(2, far**2)),
            *(bounds.counts(1), bounds.sums(1, far), bounds.sums(1, far**2)),
            *(bounds.sums(q, far), bounds.sums(q, far**2), bounds.counts(2 * (q + len(forecast.intervals(levels))))),
        ]
    )


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


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
