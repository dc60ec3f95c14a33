"""What tells groups of events apart: sensitive attributes of people, features that cut the traffic into slices."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mlops_exporter.arrays import Ints
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.values import canonical

OTHER, UNKNOWN = "other", "unknown"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A sensitive attribute. `groups` are its values, `unknown` the last.

    `edges` cut numbers into groups, otherwise groups are the reference's categories and `other`. `from_groups` and
    `from_features` say where events may carry it; where both do, `groups` has precedence.
    """

    name: str
    groups: tuple[str, ...]
    edges: tuple[float, ...]
    from_groups: bool
    from_features: bool

    @property
    def unknown(self) -> int:
        """Code of the group of those whose value is missing or invalid."""
        return len(self.groups) - 1


class Attributes:
    """The configured attributes of a model: those that events carry, and intersections of them.

    `edges` are those of each attribute by name, none for a categorical one; a name like `sex*age` is an intersection.
    A number without edges is cut where the reference's exported bins begin if it is `binned`, else it is an error.
    No attribute may have more than `limit` groups. Raises ValueError, which says what would be right.
    """

    def __init__(
        self, edges: Mapping[str, Sequence[float]], profile: Profile, limit: int, binned: Collection[str] = ()
    ) -> None:
        self.names = list(edges)
        self._parts = [name.split("*") for name in self.names]
        self.carried = {
            part: _attribute(
                part, tuple(edges.get(part) or (_bins_of(part, profile) if part in binned else ())), profile
            )
            for part in dict.fromkeys(part for parts in self._parts for part in parts)
        }
        for name, parts in zip(self.names, self._parts, strict=True):
            groups = math.prod(self.carried[part].unknown for part in parts) + 1
            if groups > limit:
                raise ValueError(
                    f"{name}: {groups} groups, but limits.groups is {limit}; use fewer, wider ones or raise the limit"
                )
        self.groups = [_intersection([self.carried[part] for part in parts]) for parts in self._parts]

    def codes(self, carried: Mapping[str, Ints], rows: int) -> Ints:
        """Return the group of each event in each attribute, (rows, A), from the codes of the carried attributes."""
        table = np.empty((rows, len(self.names)), np.intp)
        for column, parts in zip(table.T, self._parts, strict=True):
            if len(parts) == 1:
                column[:] = carried[parts[0]]
                continue
            known = [len(self.carried[part].groups) - 1 for part in parts]
            column[:] = np.ravel_multi_index(
                [np.minimum(carried[part], k - 1) for part, k in zip(parts, known, strict=True)], known
            )
            unknown = np.any([carried[part] == k for part, k in zip(parts, known, strict=True)], axis=0)
            column[unknown] = math.prod(known)
        return table


def _bins_of(name: str, profile: Profile) -> Sequence[float]:
    variable = profile.features.get(name)
    if not isinstance(variable, NumericVariable):
        return ()
    return [variable.edges[first] for first in variable.exported[1:]]


def _attribute(name: str, edges: tuple[float, ...], profile: Profile) -> Attribute:
    variable = profile.groups.get(name) or profile.features.get(name)
    in_features = name in profile.features
    if edges:
        if in_features and not isinstance(profile.features[name], NumericVariable):
            raise ValueError(f"{name}: edges cut numbers, but this feature is categorical; leave the edges out")
        texts = [f"{edge:g}" for edge in edges]
        if len(set(texts)) < len(texts):
            texts = [str(canonical(edge)) for edge in edges]
        ranges = zip(["(-inf", *(f"[{t}" for t in texts)], [*(f"{t})" for t in texts), "+inf)"], strict=True)
        return Attribute(
            name, (*(f"{low},{high}" for low, high in ranges), UNKNOWN), edges, not in_features, in_features
        )
    if isinstance(variable, NumericVariable):
        raise ValueError(f"{name}: a numeric feature needs edges: {{name: {name}, edges: [25, 40]}}")
    if variable is None:
        known = ", ".join([*profile.groups, *profile.features]) or "none"
        raise ValueError(
            f"{name}: the profile knows no such attribute; build it with --groups {name} (it knows {known})"
        )
    groups = _with(variable.categories, OTHER)
    return Attribute(name, tuple(groups), (), name in profile.groups, in_features)


def _with(groups: Iterable[str], *others: str) -> list[str]:
    """Return the names of groups, of others and of the unknown; in parentheses where a group is called so."""
    found = list(groups)
    for other in (*others, UNKNOWN):
        while other in found:
            other = f"({other})"
        found.append(other)
    return found


def _intersection(parts: Sequence[Attribute]) -> list[str]:
    if len(parts) == 1:
        return [*parts[0].groups]
    names = [[group.replace("*", "\\*") for group in part.groups[:-1]] for part in parts]  # the star joins
    return _with("*".join(each) for each in product(*names))
