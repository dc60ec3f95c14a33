"""The whole configuration file: what may be written in it."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator

from mlops_exporter.settings.compute import ComputeSettings
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.settings.paths import RelativePath
from mlops_exporter.settings.probes import ProbeSettings
from mlops_exporter.settings.registry import MlflowSettings
from mlops_exporter.settings.sources import HttpSourceSettings, SourceSettings


class StateSettings(_Settings):
    """Where state is kept, so that nothing acknowledged is lost."""

    path: Annotated[RelativePath, Field(description="Directory of the journal and the checkpoints.")]


class Config(_Settings):
    """The whole configuration."""

    state: Annotated[
        StateSettings | None,
        Field(description="Where counts and waiting predictions survive a restart; without it they live in memory."),
    ] = None
    models: Annotated[
        list[ModelSettings],
        Field(description="What is watched. Without any, here and in `models_dir`, it is the machine alone."),
    ] = []
    models_dir: Annotated[
        RelativePath | None,
        Field(
            description="Directory with one `.yml` file a model, beside or instead of `models`; one that is "
            "broken is left out and named, and all others are watched."
        ),
    ] = None
    sources: Annotated[list[SourceSettings], Field(description="Where events come from.")] = [
        SourceSettings(name="push", http=HttpSourceSettings())
    ]
    probes: Annotated[
        list[ProbeSettings],
        Field(
            description="Labelled rows that are sent through the live endpoint of a model; see "
            "[retraining.md](retraining.md#probes)."
        ),
    ] = []
    mlflow: Annotated[
        MlflowSettings | None,
        Field(description="MLflow's server, from which profiles come; see [retraining.md](retraining.md#mlflow)."),
    ] = None
    compute: Annotated[ComputeSettings, Field(description="Whether CPU and GPU are used well, and what they cost.")] = (
        ComputeSettings()
    )
    limits: Annotated[Limits, Field(description="Bounds on memory and work.")] = Limits()

    _broken: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    @property
    def broken(self) -> dict[str, list[str]]:
        """The faults of each file in `models_dir` or a directory of profiles that could not be taken, by its name."""
        return self._broken

    def without(self, broken: dict[str, list[str]]) -> "Config":
        """Return the same configuration, told which files of directories are left out."""
        told = self.model_copy()
        told._broken = broken
        return told

    @model_validator(mode="after")
    def _names_differ(self) -> "Config":
        named: dict[str, Sequence[ModelSettings | SourceSettings | ProbeSettings]] = {
            "models": self.models,
            "sources": self.sources,
            "probes": self.probes,
        }
        for kind, names in ((kind, [each.name for each in several]) for kind, several in named.items()):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: every name once, but these are there twice: {', '.join(twice)}")
        if sum(source.http is not None for source in self.sources) > 1:
            raise ValueError("sources: one http source at most, since all share /v1/events")
        if any(source.replicas is not None for source in self.sources) and len(self.sources) > 1:
            raise ValueError("sources: replicas are alone: an exporter that adds up others counts no events itself")
        known = {model.name for model in self.models}
        for probe in self.probes:
            if probe.model not in known:
                raise ValueError(f"probes: no model is named {probe.model}; there are {', '.join(sorted(known))}")
        for token in (token for source in self.sources if source.http for token in source.http.tokens):
            if unknown := sorted(set(token.models or ()) - known):
                raise ValueError(
                    f"tokens: no model is named {', '.join(unknown)}; there are {', '.join(sorted(known))}"
                )
        if sum(source.stdin is not None for source in self.sources) > 1:
            raise ValueError("sources: one stdin source at most, since there is one standard input")
        return self
