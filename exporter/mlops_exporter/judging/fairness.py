"""Fairness of a model: what is counted of each group, and how the groups compare.

A group's part of the ledger is laid out like the whole model's without features, so that a group has every metric that
its task has.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.groups import GroupCounts
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.judging.dependence import Effects
from mlops_exporter.judging.performance import PerformanceSums, estimates
from mlops_exporter.judging.performance import metrics_of as performance_metrics_of
from mlops_exporter.profile.profile import Profile
from mlops_exporter.statistics import fairness, regression
from mlops_exporter.statistics.intervals import Estimate, wilson

FairnessMetric = Callable[["GroupSums"], Estimate]


class GroupSums:
    """What fairness is made of, for one attribute: `totals` are the ledgers of its groups, (..., G, group cells).

    `favourable` is the code of the favourable class, None where none is agreed on (regression). With `effects` of the
    windows everything that is compared counts as many events as it is worth; sizes stay what they are.
    """

    def __init__(
        self,
        layout: Layout,
        totals: Floats,
        favourable: int | None,
        min_group_size: int,
        effects: Effects | None = None,
    ) -> None:
        of_labels, of_outputs = (
            (np.ones(1), np.ones(1)) if effects is None else (part[:, np.newaxis] for part in effects)
        )
        worth = PerformanceSums(layout, totals / of_labels[..., np.newaxis])
        self.predictions = totals[..., layout.predictions.start]
        self.labels = totals[..., layout.labels.start]
        self.least = min_group_size / of_labels
        self.compared = self.predictions / of_outputs
        self.enough_predictions = self.predictions >= min_group_size
        self.enough_labels = self.labels >= min_group_size
        self.moments = regression.split(worth.moments) if layout.profile.of_numbers else None
        if favourable is not None:
            self.selected = totals[..., layout.prediction.start + favourable] / of_outputs
            self.confusion = _one_against_rest(worth.confusion, favourable)


def _one_against_rest(confusion: Floats, chosen: int) -> Floats:
    """Reduce (..., K, K) to (..., 2, 2) with the chosen class as 1."""
    hit = confusion[..., chosen, chosen]
    predicted, actual = confusion[..., chosen, :].sum(-1), confusion[..., chosen].sum(-1)
    rest = confusion.sum((-2, -1)) - predicted - actual + hit
    return np.stack([np.stack([rest, actual - hit], -1), np.stack([predicted - hit, hit], -1)], -2)


_OF_CLASSES: dict[str, FairnessMetric] = {
    "demographic_parity_difference": lambda s: fairness.demographic_parity_difference(
        s.selected, s.compared, s.enough_predictions
    ),
    "demographic_parity_ratio": lambda s: fairness.demographic_parity_ratio(
        s.selected, s.compared, s.enough_predictions
    ),
    "equalized_odds_difference": lambda s: fairness.equalized_odds_difference(s.confusion, s.least),
    "equal_opportunity_difference": lambda s: fairness.equal_opportunity_difference(s.confusion, s.least),
}


def _mae_difference(sums: GroupSums) -> Estimate:
    assert sums.moments is not None
    return fairness.mean_difference(sums.moments.n, sums.moments.absolute, sums.moments.error2, sums.enough_labels)


def _bias_difference(sums: GroupSums) -> Estimate:
    assert sums.moments is not None
    return fairness.mean_difference(sums.moments.n, sums.moments.error, sums.moments.error2, sums.enough_labels)


_OF_ERRORS: dict[str, FairnessMetric] = {"mae_difference": _mae_difference, "bias_difference": _bias_difference}

BETTER: dict[str, Literal["higher", "lower"]] = {
    "demographic_parity_ratio": "higher",
    **dict.fromkeys(
        (name for name in (*_OF_CLASSES, *_OF_ERRORS) if name != "demographic_parity_ratio"),
        "lower",
    ),
}
"""Which of two values of each measure is that of the fairer model."""


def metrics_of(profile: Profile, favourable: int | None) -> dict[str, FairnessMetric]:
    """Return the measures of fairness that a model has, in the order of their exposition."""
    if profile.of_numbers:
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
    counts: GroupCounts,
    cells: Floats,
    attribute: int,
    favourable: int | None,
    min_group_size: int,
    effects: Effects | None = None,
) -> Evaluation:
    """Compare the groups of an attribute; `cells`, (W, cells), are the sums of the section of the ledger."""
    layout = counts.layout
    totals = counts.sums(cells, attribute)
    sums = GroupSums(layout, totals, favourable, min_group_size, effects)
    of_labels = np.ones(1) if effects is None else effects.labels[:, np.newaxis]
    none = np.full(sums.predictions.shape, np.nan)
    selection = Estimate(none, none, none)
    with np.errstate(divide="ignore", invalid="ignore"):
        if favourable is not None:
            selection = _where(sums.enough_predictions, wilson(sums.selected, sums.compared))
        found = estimates(performance_metrics_of(layout), layout, totals, of_labels)
        performance = _stack([*found.values()])
        measures = metrics_of(layout.profile, favourable)
        fair = _stack([metric(sums) for metric in measures.values()]) if measures else Estimate(*[none[:, :0]] * 3)
    return Evaluation(
        sums.predictions, sums.labels, selection, _where(sums.enough_labels[..., np.newaxis], performance), fair
    )


def _where(condition: Flags, estimate: Estimate) -> Estimate:
    return Estimate(*(np.where(condition, part, np.nan) for part in estimate))


def _stack(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(*(np.stack(parts, axis=-1) for parts in zip(*estimates, strict=True)))
