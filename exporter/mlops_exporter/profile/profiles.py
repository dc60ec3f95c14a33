"""The profiles of one model: one for every version, or each version its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from mlops_exporter.profile.profile import SCHEMA, Profile, Provenance, Task


@dataclass(frozen=True, slots=True)
class Profiles:
    """`by_version` are those that versions have of their own, `shared` is that of every other version, if there is one.

    There is at least one of them.
    """

    shared: Profile | None = None
    by_version: Mapping[str, Profile] = field(default_factory=dict)

    @property
    def newest(self) -> Profile:
        """The shared profile, otherwise the one that was built last."""
        return self.shared or max(self.by_version.values(), key=lambda profile: profile.provenance.created)

    def __iter__(self) -> Iterator[Profile]:
        """All profiles, the newest first."""
        newest = self.newest
        yield newest
        yield from (profile for profile in self.by_version.values() if profile is not newest)

    def of(self, version: str) -> Profile | None:
        """Return the profile by which a version is judged, None when there is none."""
        return self.by_version.get(version, self.shared)


def as_profiles(profiles: Profiles | Profile) -> Profiles:
    """Return the profiles of a model, of which one alone is shared by all versions."""
    return profiles if isinstance(profiles, Profiles) else Profiles(profiles)


def unreferenced(profile: Profile) -> Profile:
    """Return what a version without profile has in common with a model's `profile`: task, classes, bins of scores.

    So its predictions, failures, labels and its performance can be counted, and nothing is compared with a reference.
    """
    return Profile(
        schema=profile.schema,
        task=profile.task,
        rows=0,
        provenance=Provenance("", "", "", "", ""),
        features={},
        classes=profile.classes,
        score_edges=profile.score_edges,
        tied_scores=profile.tied_scores,
        ranking=profile.ranking,
        missing=profile.missing,
        forecast=profile.forecast,
    )


def unprofiled(task: Task) -> Profile:
    """Return what stands for the profile of a model without any: nothing is compared with a reference."""
    return unreferenced(Profile(SCHEMA, task, 0, Provenance("", "", "", "", ""), {}))


def encoded(profile: Profile) -> bytes:
    """Return a profile as it is kept beside the counts that rest on it."""
    return msgspec.json.encode(profile)


def decoded(data: bytes) -> Profile:
    """Return a profile that was kept."""
    return msgspec.json.decode(data, type=Profile)
