"""What may be written for `mlops-exporter retrain`: which alerts start what, and how often."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlops_exporter.settings.access import AccessSettings, Url
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.durations import Duration
from mlops_exporter.settings.paths import RelativePath

REASON = r"^[a-z][a-z0-9_]{0,63}$"
Name = Annotated[str, Field(pattern=REASON)]


class CallSettings(AccessSettings):
    """An HTTP call that starts a pipeline. `$model`, `$version`, `$reasons`, `$id`, `$evidence` stand for their values.

    A text in `body` that is `$reasons` or `$evidence` alone becomes a list; anywhere else they are texts.
    """

    url: Annotated[Url, Field(description="Address; values in it are escaped.")]
    method: Annotated[Literal["POST", "PUT", "PATCH"], Field(description="Method of the request.")] = "POST"
    body: Annotated[dict[str, Any], Field(description="Body of the request, sent as JSON.")] = {}
    timeout: Annotated[Duration, Field(ge=1, description="How long an answer may take.")] = 30.0


class ModelRetraining(_Settings):
    """What is started for a model, and when: exactly one of `command` and `call`."""

    model: Annotated[str, Field(min_length=1, description="Name of the model; `*` is any that no other entry names.")]
    when: Annotated[
        Annotated[list[Name | Annotated[list[Name], Field(min_length=1)]], Field(min_length=1)],
        Field(
            description="Reasons, of which one must stand: `performance`, `estimated_performance`, `concept_drift`, "
            "`probe_performance`, `drift`, or the label `reason` of an alert of yours; a list in the list must stand "
            "together."
        ),
    ] = ["performance", ["estimated_performance", "drift"]]
    command: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(description="Program and arguments, without a shell; the call is JSON on standard input."),
    ] = None
    call: Annotated[CallSettings | None, Field(description="HTTP call that starts a pipeline.")] = None
    cool_down: Annotated[
        Duration, Field(description="Least time between two retrainings of the model, whatever its versions.")
    ] = 86400.0
    timeout: Annotated[Duration, Field(ge=1, description="How long the command may take.")] = 6 * 3600.0
    tries: Annotated[int, Field(ge=1, le=100, description="How often it is tried.")] = 3
    retry_after: Annotated[Duration, Field(description="Pause before the second try; it doubles from then on.")] = 60.0
    dry_run: Annotated[bool, Field(description="Decide and write it down, but start nothing.")] = False

    @field_validator("when")
    @classmethod
    def _says_each_once(cls, when: list[str | list[str]]) -> list[str | list[str]]:
        if len({tuple(sorted([each] if isinstance(each, str) else each)) for each in when}) < len(when):
            raise ValueError("every reason once")
        return when

    @model_validator(mode="after")
    def _starts_one_thing(self) -> "ModelRetraining":
        if (self.command is None) == (self.call is None):
            raise ValueError("give a command or a call, not " + ("both" if self.command else "none"))
        return self

    @property
    def quorums(self) -> list[frozenset[str]]:
        """Sets of reasons, of which one must stand as a whole."""
        return [frozenset([each] if isinstance(each, str) else each) for each in self.when]


class RetrainingState(_Settings):
    """Where the receiver keeps what it has started, so that a restart starts nothing twice."""

    path: Annotated[
        RelativePath, Field(description="Directory of the state, the audit, the dead letters and the commands' output.")
    ]


class RetrainingConfig(_Settings):
    """The whole configuration of the receiver."""

    token_file: Annotated[
        RelativePath | None,
        Field(description="File with the bearer token of Alertmanager; else --web.config.file must ask for passwords."),
    ] = None
    state: Annotated[RetrainingState, Field(description="What survives a restart.")]
    dry_run: Annotated[bool, Field(description="Start nothing, of any model.")] = False
    forget: Annotated[
        Duration, Field(ge=60, description="Age at which an alert is forgotten that Alertmanager no longer repeats.")
    ] = 86400.0
    models: Annotated[list[ModelRetraining], Field(min_length=1, description="What is started for each model.")]

    @model_validator(mode="after")
    def _models_differ(self) -> "RetrainingConfig":
        names = [model.model for model in self.models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"models: every name once, but these are there twice: {', '.join(twice)}")
        return self
