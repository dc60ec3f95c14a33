"""What the model said in each slice of the reference, so that its drift there can be told."""

from collections.abc import Mapping, Sequence

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.counting.slices import SaidCounts
from mlops_exporter.events.attributes import Attribute, Attributes
from mlops_exporter.events.schema import numeric_groups
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.settings.models import Limits

_FLAG = "--segments"


class SlicedRows:
    """Counts what is said of the rows of each slice; `segments` are edges by name, as in the configuration."""

    def __init__(self, profile: Profile, segments: Mapping[str, Sequence[float]]) -> None:
        if profile.said is None:
            raise BuildError(f"{_FLAG}: only predictions or scores tell slices apart; name their column")
        parts = {part for name in segments for part in name.split("*")}
        if strange := sorted(parts - {*profile.features, *profile.groups}):
            known = ", ".join([*profile.features, *profile.groups])
            raise BuildError(f"{_FLAG}: {', '.join(strange)}: neither a feature nor one of --groups; there are {known}")
        try:
            self._attributes = Attributes(segments, profile, Limits().groups, parts)
        except ValueError as error:
            raise BuildError(f"{_FLAG}: {error}") from None
        self._said = SaidCounts(profile)
        self._sizes = [len(groups) for groups in self._attributes.groups]
        self._counts = np.zeros((sum(self._sizes), self._said.cells))

    @property
    def carried(self) -> list[Attribute]:
        """The attributes that rows have."""
        return list(self._attributes.carried.values())

    def add(self, values: Mapping[str, Floats | Ints], outputs: Outputs) -> None:
        """Count rows; `values` are the numbers or the codes of the carried attributes, by name."""
        carried = {
            each.name: numeric_groups(np.asarray(values[each.name], np.float64), each)
            if each.edges
            else np.minimum(values[each.name], each.unknown).astype(np.intp)
            for each in self.carried
        }
        starts = np.cumsum([0, *self._sizes[:-1]])
        codes = self._attributes.codes(carried, len(outputs.prediction)).T + starts[:, np.newaxis]
        self._counts += self._said.sums(outputs, codes, len(self._counts))

    def add_rows(self, other: "SlicedRows") -> None:
        """Take in what was counted of other rows."""
        self._counts += other._counts

    def finish(self) -> dict[str, dict[str, list[int]]]:
        """Return the counts by segment and slice, of slices that have any."""
        by_segment = np.split(self._counts.astype(int), np.cumsum(self._sizes[:-1]))
        named = zip(self._attributes.names, self._attributes.groups, by_segment, strict=True)
        return {
            segment: {name: row.tolist() for name, row in zip(slices, counts, strict=True) if row.any()}
            for segment, slices, counts in named
        }
