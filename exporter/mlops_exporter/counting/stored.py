"""The stored state of a model: what is written, what a former release wrote, and how its columns are read now."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.joins import CHALLENGER, MAIN
from mlops_exporter.counting.reference import Reference
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import ChallengeSettings


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version as it was stored. `digest` is that of its profile, which it had for itself if it is its `own`.

    `basis`, `places`, `outputs` and `classes` tell what its counts and its waiting predictions mean; `counts` is what
    `Version.restore` takes.
    """

    name: str
    place: int
    digest: str
    own: bool
    basis: str
    places: dict[str, list[int]]
    outputs: list[str]
    classes: list[str]
    seen: float
    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as it was stored. `profiles` are encoded, by digest; `classes` are those that the labels' codes mean."""

    versions: list[StoredVersion]
    profiles: dict[str, bytes]
    classes: list[str]
    joins: dict[str, Any]
    late: dict[str, Any]
    shown: dict[str, Any]
    challenge: dict[str, Any]
    counts: dict[str, int]
    given_up: dict[str, int]


def read_state(state: dict[str, Any], reference: Reference, challenge: ChallengeSettings | None) -> StoredModel:
    """Return a stored state; one of a former release rests on the `reference`, as its name has told."""
    counts = {name: value for name, value in state.items() if isinstance(value, int)}
    if "format" in state:
        versions = [
            StoredVersion(
                name,
                it["place"],
                it["digest"],
                it["own"],
                it["basis"],
                it["places"],
                it["outputs"],
                it["classes"],
                it["seen"],
                it,
            )
            for name, it in state["versions"].items()
        ]
        return StoredModel(
            versions,
            state["profiles"],
            state["classes"],
            state["joins"],
            state.get("late", {}),
            state.get("shown", {}),
            state["challenge"],
            counts,
            state.get("given_up", {}),
        )
    classes = reference.profile.classes
    versions = [
        StoredVersion(
            name,
            place,
            reference.digest,
            False,
            reference.basis,
            state["places"],
            state["outputs"],
            classes,
            it.get("seen", 0.0),
            it,
        )
        for place, (name, it) in enumerate(state["versions"].items())
    ]
    joins = {MAIN: state["join"], "challenger_version": ""}
    challenged = state["challenge"]
    if challenge is not None and challenged.get("versions") == f"{challenge.champion} {challenge.challenger}":
        joins |= {"challenger_version": challenge.challenger, CHALLENGER: challenged["join"]}
    return StoredModel(versions, {reference.digest: reference.kept}, classes, joins, {}, {}, challenged, counts, {})


def columns_of(version: StoredVersion, outputs: list[str], profile: Profile) -> list[int]:
    """Return which stored column is each of the outputs kept now, -1 for none.

    Scores of several classes mean others once the classes do.
    """
    kept = version.outputs
    same = version.classes == profile.classes
    return [kept.index(name) if name in kept and (same or not name.startswith("score ")) else -1 for name in outputs]


def codes_of(stored: list[str], classes: list[str]) -> Floats:
    """Return the code among `classes` of each stored one, NaN for one that is not among them."""
    return np.array([classes.index(name) if name in classes else np.nan for name in stored])
