"""What is counted of each slice of the traffic: beside what every group has, what the model said there.

That tells of a slice before any label: whether the model says something else than of the reference's rows of that
slice, and how well it can be expected to do.
"""

from collections.abc import Sequence

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting import bounds
from mlops_exporter.counting.bounds import Bounds
from mlops_exporter.counting.estimation import ClassEstimation, Estimation, LossEstimation, SetEstimation
from mlops_exporter.counting.groups import GroupCounts, score_bins_merged
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.events.attributes import Attributes
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile


class SaidCounts:
    """The part of a slice's ledger that counts what the model said, in the exported bins of its score or prediction.

    `estimation`, where performance can be estimated, adds the sums of one half: those of all predictions.
    """

    name = "said"

    def __init__(self, profile: Profile, estimation: ClassEstimation | LossEstimation | None = None) -> None:
        variable = profile.said
        self._of_scores = variable is not None and variable is profile.score
        self._edges = None
        if isinstance(variable, NumericVariable):
            self._edges = np.array([variable.edges[first] for first in variable.exported[1:]])
        self.bins = 0 if variable is None else len(variable.exported_starts)
        self.estimation = estimation
        self.cells = self.bins + (estimation.half if estimation else 0)

    def bounds(self, largest: float) -> Bounds:
        """Return what one event can add to the cells."""
        return bounds.joined(
            [bounds.counts(self.bins), *([self.estimation.half_bounds()] if self.estimation is not None else [])]
        )

    def sums(self, outputs: Outputs, groups: Ints, size: int) -> Floats:
        """Return the cells, (size, cells), of as many slices: each event is in those of `groups`, (A, n)."""
        values = outputs.scores[:, 0] if self._of_scores else outputs.prediction
        known = np.flatnonzero(~np.isnan(values))
        values = values[known]
        codes = values.astype(np.intp) if self._edges is None else np.searchsorted(self._edges, values, side="right")
        places = (groups[:, known] * self.bins + codes).ravel()
        counted = np.bincount(places, minlength=size * self.bins).reshape(size, self.bins)
        if self.estimation is None:
            return counted.astype(np.float64)
        return np.concatenate([counted, self.estimation.sums(outputs, groups, size)], axis=1)


class SliceCounts(GroupCounts):
    """The part of the ledger that holds what is counted of each slice."""

    def __init__(
        self, attributes: Attributes, profile: Profile, names: Sequence[str], estimation: Estimation | None
    ) -> None:
        assert not isinstance(estimation, SetEstimation), "sets have no slices"
        if isinstance(estimation, ClassEstimation):
            estimation = ClassEstimation(profile, score_bins_merged(profile))
        self.said = SaidCounts(profile, estimation)
        super().__init__(attributes, profile, names, "segments", [self.said])
        self._of_said = self.layout.cells_of(self.said)

    def count_predictions(self, cells: Floats, outputs: Outputs) -> None:
        """Add predictions to the cells of their slices."""
        super().count_predictions(cells, outputs)
        ledgers = cells.reshape(-1, self.layout.size)
        ledgers[:, self._of_said] += self.said.sums(outputs, self.codes(outputs.groups), len(ledgers))

    def distributions(self, ledgers: Floats) -> Floats:
        """Return how often the model said what, (..., bins), from the ledgers of slices."""
        return ledgers[..., self._of_said][..., : self.said.bins]

    def expected(self, ledgers: Floats) -> Floats:
        """Return the sums that performance is estimated from, (..., half), from the ledgers of slices."""
        return ledgers[..., self._of_said][..., self.said.bins :]
