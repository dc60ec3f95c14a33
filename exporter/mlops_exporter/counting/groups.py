"""What is counted of each group of events: of people for fairness, of slices of the traffic for segments.

A group's part of the ledger is laid out like the whole model's without features, so that a group has every metric that
its task has.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.bounds import Bounds, joined
from mlops_exporter.counting.ledger import Layout, Outputs, Section, Terms
from mlops_exporter.events.attributes import Attributes
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.profile import Profile

_SCORE_BINS_SKIPPED = 4  # of the model's score bins per bin of a group: groups are smaller, and many


class GroupCounts:
    """The part of the ledger that holds what is counted of each group of some attributes, for one `purpose`.

    Whoever adds `inputs` to the ledger of a group counts them.
    """

    def __init__(
        self,
        attributes: Attributes,
        profile: Profile,
        names: Sequence[str],
        purpose: str = "groups",
        inputs: Sequence[Section] = (),
    ) -> None:
        self.names = [*names]
        self._columns = [attributes.names.index(name) for name in names]
        self.groups = [attributes.groups[column] for column in self._columns]
        self.layout = Layout(_of_a_group(profile), inputs=inputs)
        self.name = f"{purpose} {_digest((self.names, self.groups))}"
        sizes = [len(groups) for groups in self.groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self.cells = int(self._starts[-1]) * self.layout.size
        self._within = _cells_of_a_group(Layout(profile), self.layout)

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells."""
        return joined([self.layout.bounds(largest)] * int(self._starts[-1]))

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions to the cells of their groups."""
        ledgers = cells.reshape(-1, self.layout.size)
        counts = self.layout.prediction
        decided = np.flatnonzero(~np.isnan(outputs.prediction))
        groups = self.codes(outputs.groups[decided])
        size = len(ledgers)
        for column in groups:
            ledgers[:, self.layout.predictions.start] += np.bincount(column, minlength=size)
            if counts.stop > counts.start:
                k = len(self.layout.profile.classes)
                both = column * k + outputs.prediction[decided].astype(np.intp)
                ledgers[:, counts.start : counts.start + k] += np.bincount(both, minlength=size * k).reshape(size, k)

    def count_labels(self, cells: Floats, outputs: Outputs, labels: Floats, terms: Sequence[Terms]) -> None:
        """Add labelled predictions to the cells of their groups."""
        columns = self.codes(outputs.groups)
        if self.layout.profile.of_numbers:
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

    def codes(self, groups: Floats) -> Ints:
        """Return the groups of events, (n, A), as places among those of all attributes, (A, n)."""
        groups, unknown = groups[:, self._columns], np.diff(self._starts) - 1
        known = np.where(np.isnan(groups), unknown, np.minimum(groups, unknown))
        return np.transpose(known.astype(np.intp) + self._starts[:-1])

    def sums(self, cells: Floats, attribute: int) -> Floats:
        """Return the ledgers of an attribute's groups, (..., G, group cells), from the section's cells (..., cells)."""
        ledgers = cells.reshape(*cells.shape[:-1], -1, self.layout.size)
        return ledgers[..., self._starts[attribute] : self._starts[attribute + 1], :]


def columns(attributes: Attributes) -> list[str]:
    """Return the names of group codes in a table of outputs, one for each attribute."""
    named = zip(attributes.names, attributes.groups, strict=True)
    return [f"group {_digest((name, groups))}" for name, groups in named]


def _cells_of_a_group(model: Layout, group: Layout) -> Ints:
    """Return, for every cell that a label adds to in a model's ledger, the cell of a group's: score bins are merged."""
    cells = np.zeros(model.size, np.intp)
    for name in ("confusion", "calibration", "probability_losses"):
        cells[getattr(model, name)] = np.arange(*getattr(group, name).indices(group.size))
    of_scores, bins = group.score_by_class, len(group.profile.score_edges) + 1
    column, score, actual = np.indices((model.score_columns, len(model.profile.score_edges) + 1, 2))
    merged = (column * bins + score // score_bins_merged(model.profile)) * 2 + actual
    cells[model.score_by_class] = of_scores.start + merged.ravel()
    return cells


def score_bins_merged(profile: Profile) -> int:
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
    classes, merged, tied = profile.classes, score_bins_merged(profile), profile.tied_scores
    return Profile(
        schema=profile.schema,
        task=profile.task,
        rows=0,
        provenance=profile.provenance,
        features={},
        classes=classes,
        score_edges=profile.score_edges[merged - 1 :: merged],
        tied_scores=tied if tied is None else sorted({place // merged for place in tied}),
        prediction=CategoricalVariable(classes, [0] * (len(classes) + 3)) if classes else None,
        label=label if profile.of_numbers else None,
    )
