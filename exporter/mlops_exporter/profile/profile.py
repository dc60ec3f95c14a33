"""The reference profile: a small JSON file with bins, counts and the agreed performance, and no raw row."""

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable
from mlops_exporter.profile.fitted import (
    Calibrator,
    DriftThresholds,
    EmbeddingReference,
    LossModel,
    StreamReference,
    VectorReference,
)
from mlops_exporter.profile.values import MISSING_TEXTS

SCHEMA = 1

Task = Literal["binary", "multiclass", "regression"]


class ProfileError(Exception):
    """A profile that cannot be used; the message names the file and says what would be right."""


class Provenance(msgspec.Struct, forbid_unknown_fields=True):
    """Where a profile comes from."""

    created: str
    tool_version: str
    model_version: str
    data: str
    data_sha256: str


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    """Everything the exporter knows of the reference data.

    `rows` is the number of reference rows. `classes` are the classes in ledger order (binary: negative, positive),
    empty for regression. `score` is the distribution of the positive class's probability, `score_edges` the finer
    inner edges on which ROC AUC and average precision are computed (binary and multiclass with probabilities).
    `performance` and `class_performance` hold the reference value of each metric where labels were there. What follows
    them was fitted to the reference: see `fitted`; `importances` are the features' shares in the model's decisions.
    `missing` are the texts that mean a missing value, in the reference and in events.
    """

    schema: int
    task: Task
    rows: int
    provenance: Provenance
    features: dict[str, Variable]
    groups: dict[str, CategoricalVariable] = {}
    classes: list[str] = []
    score: NumericVariable | None = None
    score_edges: list[float] = []
    prediction: Variable | None = None
    label: Variable | None = None
    performance: dict[str, float] = {}
    class_performance: dict[str, dict[str, float]] = {}
    calibrator: Calibrator | None = None
    vectors: VectorReference | None = None
    embeddings: dict[str, EmbeddingReference] = {}
    losses: LossModel | None = None
    streams: dict[Literal["error", "score"], StreamReference] = {}
    importances: dict[str, float] = {}
    thresholds: DriftThresholds | None = None
    missing: list[str] = msgspec.field(default_factory=lambda: list(MISSING_TEXTS))

    @property
    def positive(self) -> str:
        """The positive class of a binary task."""
        return self.classes[1]

    @property
    def has_scores(self) -> bool:
        """Whether the reference had probabilities, so that metrics of them can be computed."""
        return bool(self.score_edges)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with anything that changes a bin, a count or a reference value."""
        content = msgspec.to_builtins(msgspec.structs.replace(self, provenance=Provenance("", "", "", "", "")))
        del content["thresholds"]  # they follow from the rest
        if self.missing == list(MISSING_TEXTS):  # as in profiles from before it could be chosen
            del content["missing"]
        for variable in (*content["features"].values(), content["score"], content["prediction"], content["label"]):
            if variable is not None and variable.get("precision") == "double":
                del variable["precision"]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:12]

    def validate(self) -> None:
        """Raise ValueError where the parts do not fit each other."""
        if self.task == "regression":
            if self.classes or self.score or self.score_edges:
                raise ValueError("a regression profile has no classes and no scores")
        elif len(self.classes) < 2 or (self.task == "binary" and len(self.classes) != 2):
            raise ValueError(f"a {self.task} profile needs {'two' if self.task == 'binary' else 'two or more'} classes")
        wanted = NumericVariable if self.task == "regression" else CategoricalVariable
        for name, variable in {"prediction": self.prediction, "label": self.label}.items():
            if variable is not None and not isinstance(variable, wanted):
                raise ValueError(f"{name}: {self.task} needs a {wanted.__struct_config__.tag} variable")
            if isinstance(variable, CategoricalVariable) and variable.categories != self.classes:
                raise ValueError(f"{name}: its categories must be the classes {self.classes}")
        if self.score_edges != sorted(set(self.score_edges)):
            raise ValueError("score_edges must ascend")
        if self.calibrator is not None:
            columns = 1 if self.task == "binary" else len(self.classes)
            self.calibrator.validate(columns, len(self.score_edges) + 1)
        if self.vectors is not None:
            self.vectors.validate(list(self.features))
        for name, embedding in self.embeddings.items():
            embedding.validate(name)
        if self.losses is not None:
            self.losses.validate(self.vectors)
        for name, variable in [*self.features.items(), *self.groups.items()]:
            variable.validate(name)
        for name, variable in {"score": self.score, "prediction": self.prediction, "label": self.label}.items():
            if variable is not None:
                variable.validate(name)


def load(path: Path) -> Profile:
    """Read and validate a profile; raises ProfileError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}; make it with: mlops-exporter profile build") from error
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
        if schema != SCHEMA:
            raise ProfileError(
                f"{path}: schema {schema}, but this version reads schema {SCHEMA}; build the profile again"
            )
        profile = msgspec.json.decode(data, type=Profile)
        profile.validate()
    except (msgspec.DecodeError, ValueError) as error:
        raise ProfileError(f"{path}: not a profile: {error}") from error
    return profile


class _SchemaOnly(msgspec.Struct):
    schema: int


def save(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, one line per feature, so that versions can be compared with diff.

    Raises ProfileError where it cannot be written.
    """
    text = _lines(msgspec.to_builtins(profile), depth=2) + "\n"
    unfinished = path.with_name(f".{path.name}.unfinished")  # an exporter may be waiting for the whole file
    try:
        if path.exists() and not path.is_file():  # a pipe, say
            path.write_text(text, encoding="utf-8")
        else:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}; name a file that can be written") from error


def _lines(value: object, depth: int) -> str:
    if depth == 0 or not isinstance(value, dict) or not value:
        return msgspec.json.encode(value).decode()
    members = (f"{msgspec.json.encode(name).decode()}: {_lines(member, depth - 1)}" for name, member in value.items())
    return "{\n" + ",\n".join(members) + "\n}"
