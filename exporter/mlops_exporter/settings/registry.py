"""What may be written of MLflow's tracking server and registry."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mlops_exporter.settings.access import AccessSettings, Url
from mlops_exporter.settings.durations import Duration

_ADDRESS = re.compile(r"mlflow:models:/([^/\\:@\x00-\x1f]{1,256})(?:@([A-Za-z][A-Za-z0-9_.-]{0,254}))?")


def registered_model(profile: object) -> tuple[str, str] | None:
    """Return name and alias of the registered model that a model's `profile` or `profiles` names, None for a file.

    The alias is empty where each version has its own profile.
    Raises ValueError where it names none.
    """
    if not isinstance(profile, str | Path) or not str(profile).startswith("mlflow:"):
        return None
    found = _ADDRESS.fullmatch(str(profile))
    if found is None or found[1] in (".", ".."):
        raise ValueError(f"{str(profile)!r}: write mlflow:models:/NAME@ALIAS")
    return found[1], found[2] or ""


ARTIFACT = "mlops-profile.json"
"""Path of the profile among a run's artifacts."""


class MlflowSettings(AccessSettings):
    """MLflow's tracking server, asked by its REST API; no package of MLflow is needed."""

    url: Annotated[Url, Field(description="Address of the tracking server.")]
    every: Annotated[Duration, Field(ge=1, description="How often the registry is asked.")] = 30.0
    timeout: Annotated[Duration, Field(ge=0.1, le=300, description="How long an answer may take.")] = 10.0
    follow: Annotated[
        Literal["aliases", "versions"],
        Field(description="Whether versions with an alias are watched, or the newest `keep` versions."),
    ] = "aliases"
    keep: Annotated[
        int, Field(ge=1, le=1000, description="Profiles kept of a model; those without alias go first, oldest first.")
    ] = 8
    artifact: Annotated[str, Field(min_length=1, description="Path of the profile among the artifacts of a run.")] = (
        ARTIFACT
    )
    write_state: Annotated[
        bool, Field(description="Write the verdict on each version back as its tag `mlops.state`.")
    ] = False
