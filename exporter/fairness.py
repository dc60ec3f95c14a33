"""Fairness of a model: what is counted of each group, and how the groups compare.

A group's part of the ledger is laid out like the whole model's without features, so that a group has every metric that
its task has.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.attributes import Attributes
from exporter.ledger import Layout, Outputs, Terms
from exporter.performance import Sums
from exporter.performance import metrics_of as performance_metrics_of
from exporter.profile.bins import CategoricalVariable, NumericVariable
from exporter.profile.profile import Profile
from exporter.statistics import fairness, regression
from exporter.statistics.intervals import Estimate, wilson

_SCORE_BINS_SKIPPED = 4  # of the model's score bins per bin of a group: groups are smaller, and many

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class GroupCounts:
    """The part of the ledger that holds what is counted of each group of each attribute."""

    def __init__(self, attributes: Attributes, profile: Profile) -> None:
        self.attributes = attributes
        self.layout = Layout(_of_a_group(profile))
        self.name = f"groups {_digest((attributes.names, attributes.groups))}"
        self.columns = [
            f"group {_digest((name, groups))}" for name, groups in zip(attributes.names, attributes.groups, strict=True)
        ]
        """Names of the group codes in a table of outputs, one for each attribute."""
        sizes = [len(groups) for groups in attributes.groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.cells = int(self._starts[-1]) * self.layout.size
        self._within = _cells_of_a_group(Layout(profile), self.layout)

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions to the cells of their groups."""
        ledgers = cells.reshape(-1, self.layout.size)
        counts = self.layout.prediction
        decided = np.flatnonzero(~np.isnan(outputs.prediction))
        groups = self._codes(outputs.groups[decided])
        size = len(ledgers)
        for column in groups:
            ledgers[:, self.layout.predictions.start] += np.bincount(column, minlength=size)
            if counts.stop > counts.start:
                k = len(self.layout.profile.classes)
                both = column * k + outputs.prediction[decided].astype(np.intp)
                ledgers[:, counts.start : counts.start + k] += np.bincount(both, minlength=size * k).reshape(size, k)

    def count_labels(self, cells: Floats, outputs: Outputs, labels: Floats, terms: Sequence[Terms]) -> None:
        """Add labelled predictions to the cells of their groups."""
        columns = self._codes(outputs.groups)
        if self.layout.profile.task == "regression":
            ledgers = cells.reshape(-1, self.layout.size)
            for column in columns:
                order = np.argsort(column, kind="stable")
                present, starts = np.unique(column[order], return_index=True)
                for group, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
                    self.layout.count_labels(ledgers[group], outputs.rows(rows), labels[rows], np.empty(0))
            return
        size = self.layout.size
        for term in terms:
            within, weights = self._within[term.cells], term.weights.ravel()
            for column in columns:
                place = column[term.rows] * size + within
                cells += np.bincount(place.ravel(), weights, minlength=len(cells))
        for column in columns:
            cells[self.layout.labels.start :: size] += np.bincount(column, minlength=len(cells) // size)

    def _codes(self, groups: Floats) -> Ints:
        """Return the groups of events, (n, A), as places among those of all attributes, (A, n)."""
        unknown = np.diff(self._starts) - 1
        known = np.where(np.isnan(groups), unknown, np.minimum(groups, unknown))
        return np.transpose(known.astype(np.intp) + self._starts[:-1])

    def sums(self, cells: Floats, attribute: int) -> Floats:
        """Return the ledgers of an attribute's groups, (..., G, group cells), from the section's cells (..., cells)."""
        ledgers = cells.reshape(*cells.shape[:-1], -1, self.layout.size)
        return ledgers[..., self._starts[attribute] : self._starts[attribute + 1], :]


def _cells_of_a_group(model: Layout, group: Layout) -> Ints:
    """Return, for every cell that a label adds to in a model's ledger, the cell of a group's: score bins are merged."""
    cells = np.zeros(model.size, np.intp)
    for name in ("confusion", "calibration", "probability_losses"):
        cells[getattr(model, name)] = np.arange(*getattr(group, name).indices(group.size))
    of_scores, bins = group.score_by_class, len(group.profile.score_edges) + 1
    column, score, actual = np.indices((model.score_columns, len(model.profile.score_edges) + 1, 2))
    merged = (column * bins + score // _score_bins_merged(model.profile)) * 2 + actual
    cells[model.score_by_class] = of_scores.start + merged.ravel()
    return cells


def _score_bins_merged(profile: Profile) -> int:
    """Return how many score bins of a model are one of a group's; a model with few keeps them."""
    return _SCORE_BINS_SKIPPED if len(profile.score_edges) >= _SCORE_BINS_SKIPPED else 1


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def _of_a_group(profile: Profile) -> Profile:
    """Return a profile without features, whose ledger holds what is counted of one group."""
    label = profile.label
    if isinstance(label, NumericVariable):  # its mean alone is of use: the point about which sums are taken
        low, high = label.mean - 1.0, label.mean + 1.0
        label = NumericVariable([low, high], [0], [0] * 5, [label.mean], label.mean, label.standard_deviation)
    classes, merged = profile.classes, _score_bins_merged(profile)
    return Profile(
        schema=profile.schema,
        task=profile.task,
        rows=0,
        provenance=profile.provenance,
        features={},
        classes=classes,
        score_edges=profile.score_edges[merged - 1 :: merged],
        prediction=CategoricalVariable(classes, [0] * (len(classes) + 3)) if classes else None,
        label=label if profile.task == "regression" else None,
    )


Metric = Callable[["GroupSums"], Estimate]


class GroupSums:
    """What fairness is made of, for one attribute: `totals` are the ledgers of its groups, (..., G, group cells).

    `favourable` is the code of the favourable class, None where none is agreed on (regression).
    """

    def __init__(self, layout: Layout, totals: Floats, favourable: int | None, min_group_size: int) -> None:
        self.performance = Sums(layout, totals)
        self.predictions = totals[..., layout.predictions.start]
        self.labels = totals[..., layout.labels.start]
        self.enough_predictions = self.predictions >= min_group_size
        self.enough_labels = self.labels >= min_group_size
        self.moments = regression.split(self.performance.moments) if layout.profile.task == "regression" else None
        if favourable is not None:
            self.selected = totals[..., layout.prediction.start + favourable]
            self.confusion = _one_against_rest(self.performance.confusion, favourable)


def _one_against_rest(confusion: Floats, chosen: int) -> Floats:
    """Reduce (..., K, K) to (..., 2, 2) with the chosen class as 1."""
    hit = confusion[..., chosen, chosen]
    predicted, actual = confusion[..., chosen, :].sum(-1), confusion[..., chosen].sum(-1)
    rest = confusion.sum((-2, -1)) - predicted - actual + hit
    return np.stack([np.stack([rest, actual - hit], -1), np.stack([predicted - hit, hit], -1)], -2)


_OF_CLASSES: dict[str, Metric] = {
    "demographic_parity_difference": lambda s: fairness.demographic_parity_difference(
        s.selected, s.predictions, s.enough_predictions
    ),
    "demographic_parity_ratio": lambda s: fairness.demographic_parity_ratio(
        s.selected, s.predictions, s.enough_predictions
    ),
    "equalized_odds_difference": lambda s: fairness.equalized_odds_difference(s.confusion, s.enough_labels),
    "equal_opportunity_difference": lambda s: fairness.equal_opportunity_difference(s.confusion, s.enough_labels),
}


def _mae_difference(sums: GroupSums) -> Estimate:
    assert sums.moments is not None
    return fairness.mean_difference(sums.moments.n, sums.moments.absolute, sums.moments.error2, sums.enough_labels)


def _bias_difference(sums: GroupSums) -> Estimate:
    assert sums.moments is not None
    return fairness.mean_difference(sums.moments.n, sums.moments.error, sums.moments.error2, sums.enough_labels)


_OF_ERRORS: dict[str, Metric] = {"mae_difference": _mae_difference, "bias_difference": _bias_difference}


def metrics_of(profile: Profile, favourable: int | None) -> dict[str, Metric]:
    """Return the measures of fairness that a model has, in the order of their exposition."""
    if profile.task == "regression":
        return _OF_ERRORS
    return {} if favourable is None else _OF_CLASSES


def favourable_code(favourable: str | None, profile: Profile) -> int | None:
    """Return the code of the favourable class: as configured, of a binary task else the positive one."""
    if favourable is not None:
        return profile.classes.index(favourable)
    return 1 if profile.task == "binary" else None


class Evaluation(NamedTuple):
    """What windows say of one attribute: (W, G) or (W, G, metrics) for groups, (W, metrics) for `fairness`."""

    predictions: Floats
    labels: Floats
    selection: Estimate
    performance: Estimate
    fairness: Estimate


def evaluate(
    counts: GroupCounts, cells: Floats, attribute: int, favourable: int | None, min_group_size: int
) -> Evaluation:
    """Compare the groups of an attribute; `cells`, (W, cells), are the sums of the section of the ledger."""
    layout = counts.layout
    sums = GroupSums(layout, counts.sums(cells, attribute), favourable, min_group_size)
    none = np.full(sums.predictions.shape, np.nan)
    selection = Estimate(none, none, none)
    with np.errstate(divide="ignore", invalid="ignore"):
        if favourable is not None:
            selection = _where(sums.enough_predictions, wilson(sums.selected, sums.predictions))
        performance = _stack([metric(sums.performance) for metric in performance_metrics_of(layout).values()])
        measures = metrics_of(layout.profile, favourable)
        fair = _stack([metric(sums) for metric in measures.values()]) if measures else Estimate(*[none[:, :0]] * 3)
    return Evaluation(
        sums.predictions, sums.labels, selection, _where(sums.enough_labels[..., np.newaxis], performance), fair
    )


def _where(condition: NDArray[np.bool_], estimate: Estimate) -> Estimate:
    return Estimate(*(np.where(condition, part, np.nan) for part in estimate))


def _stack(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(*(np.stack(parts, axis=-1) for parts in zip(*estimates, strict=True)))
