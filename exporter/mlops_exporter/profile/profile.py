"""The reference profile: a small JSON file with bins, counts and the agreed performance, and no raw row."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable
from mlops_exporter.profile.fitted import (
    Calibrator,
    DriftThresholds,
    EmbeddingReference,
    LossModel,
    StreamReference,
    VectorReference,
)
from mlops_exporter.profile.forecasts import ForecastReference
from mlops_exporter.profile.hours import HourlyReference
from mlops_exporter.profile.lists import RankingReference
from mlops_exporter.profile.parsing import parsed
from mlops_exporter.profile.sets import MAX_CLASSES
from mlops_exporter.profile.values import MISSING_TEXTS

SCHEMA = 1

MAX_BYTES = 256 * 1024 * 1024
"""Longest profile: twenty times what the build makes of 2,000 features."""

_NO_NUMBER = len
"""Reads a number without making one, which takes a third of the time."""

Task = Literal["binary", "multiclass", "multilabel", "regression", "forecast", "ranking", "outcomes"]

NUMERIC: frozenset[Task] = frozenset({"regression", "forecast"})
"""Tasks whose predictions and labels are numbers."""


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
    empty where there are none. `score` is the distribution of the positive class's probability, `score_edges`
    the finer inner edges on which ROC AUC and average precision are computed (where there are probabilities).
    `tied_scores` are the bins between them in which the reference has one value alone, so that scores there are ties;
    None, in a profile from before they were looked for, says so of all bins.
    `performance` and `class_performance` hold the reference value of each metric where labels were there, `class_lower`
    the lower end of each class's interval. What follows them was fitted to the reference: see `fitted`; `importances`
    are the features' shares in the model's decisions, `forecast` is what predictions say beside one number, `ranking`
    says how lists are kept, whose lengths are in `prediction`. `missing` are the texts that mean a missing value, in
    the reference and in events.
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
    tied_scores: list[int] | None = None
    prediction: Variable | None = None
    label: Variable | None = None
    performance: dict[str, float] = {}
    class_performance: dict[str, dict[str, float]] = {}
    class_lower: dict[str, dict[str, float]] = {}
    calibrator: Calibrator | None = None
    vectors: VectorReference | None = None
    embeddings: dict[str, EmbeddingReference] = {}
    losses: LossModel | None = None
    streams: dict[Literal["error", "score"], StreamReference] = {}
    importances: dict[str, float] = {}
    forecast: ForecastReference | None = None
    thresholds: DriftThresholds | None = None
    missing: list[str] = msgspec.field(default_factory=lambda: list(MISSING_TEXTS))
    ranking: RankingReference | None = None
    hours: HourlyReference | msgspec.UnsetType = msgspec.UNSET
    """By hour, where the time of the rows was known; a profile without it is written as if there were no such thing."""
    slices: dict[str, dict[str, list[int]]] | msgspec.UnsetType = msgspec.UNSET
    """By segment and slice how often what was said of its rows, in the exported bins of `said`; as `hours`."""

    rated: dict[str, NumericVariable] | msgspec.UnsetType = msgspec.UNSET
    """The numbers by which answers of the reference are rated, by outcome; as `hours`."""

    @property
    def said(self) -> Variable | None:
        """The variable by which what the model says is compared: the score, without one the prediction."""
        return self.score or self.prediction

    @property
    def positive(self) -> str:
        """The positive class of a binary task."""
        return self.classes[1]

    @property
    def of_numbers(self) -> bool:
        """Whether predictions and labels are numbers."""
        return self.task in NUMERIC

    @property
    def has_scores(self) -> bool:
        """Whether the reference had probabilities, so that metrics of them can be computed."""
        return bool(self.score_edges)

    @property
    def tied(self) -> Flags:
        """Which of the score's finest bins, (bins,), hold ties alone."""
        found = np.zeros(len(self.score_edges) + 1, np.bool_)
        found[slice(None) if self.tied_scores is None else self.tied_scores] = True
        return found

    @property
    def score_middles(self) -> Floats:
        """The probability in the middle of each of the score's finest bins, (bins,), neither 0 nor 1."""
        return middles(self.score_edges)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with anything that changes a bin, a count or a reference value."""
        content = msgspec.to_builtins(msgspec.structs.replace(self, provenance=Provenance("", "", "", "", "")))
        del content["thresholds"]  # they follow from the rest, as `class_lower` does
        del content["class_lower"]
        for name in ("tied_scores", "forecast", "ranking"):  # as in profiles from before there were any
            if content[name] is None:
                del content[name]
        if self.missing == list(MISSING_TEXTS):  # as in profiles from before it could be chosen
            del content["missing"]
        for variable in (*content["features"].values(), content["score"], content["prediction"], content["label"]):
            if variable is not None and variable.get("precision") == "double":
                del variable["precision"]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:12]

    def validate(self) -> None:
        """Raise ValueError where the parts do not fit each other."""
        if self.rows < 1:
            raise ValueError("a profile is of one row at least")
        if (self.task == "ranking") != (self.ranking is not None):
            raise ValueError("a profile says how lists are kept where its task is ranking, and only there")
        if self.ranking is not None:
            self.ranking.validate()
        if self.of_numbers or self.task in ("ranking", "outcomes"):
            if self.classes or self.score or self.score_edges:
                raise ValueError(f"a profile of {self.task} has no classes and no scores")
            if self.task == "outcomes" and (self.prediction or self.label):
                raise ValueError("a profile of outcomes has no prediction and no label")
        elif len(self.classes) < 2 or (self.task == "binary" and len(self.classes) != 2):
            raise ValueError(f"a {self.task} profile needs {'two' if self.task == 'binary' else 'two or more'} classes")
        elif self.task == "multilabel":
            if len(self.classes) > MAX_CLASSES:
                raise ValueError(f"a multilabel profile has {MAX_CLASSES} classes at most, not {len(self.classes)}")
            if self.prediction or self.label or self.score:
                raise ValueError("a multilabel profile has no distribution of one score, prediction or label")
        wanted = NumericVariable if self.of_numbers or self.ranking else CategoricalVariable
        for name, variable in {"prediction": self.prediction, "label": self.label}.items():
            if variable is not None and not isinstance(variable, wanted):
                raise ValueError(f"{name}: {self.task} needs a {wanted.__struct_config__.tag} variable")
            if isinstance(variable, CategoricalVariable) and variable.categories != self.classes:
                raise ValueError(f"{name}: its categories must be the classes {self.classes}")
        if self.score_edges != sorted(set(self.score_edges)):
            raise ValueError("score_edges must ascend")
        if not all(0 <= place <= len(self.score_edges) for place in self.tied_scores or ()):
            raise ValueError("tied_scores must be bins between the score_edges")
        if self.forecast is not None:
            if not self.of_numbers:
                raise ValueError(f"a profile of {self.task} has no horizons and no quantiles")
            self.forecast.validate(ahead=self.task == "forecast")
        elif self.task == "forecast":
            raise ValueError("a profile of forecast needs horizons")
        if self.calibrator is not None:
            columns = 1 if self.task == "binary" else len(self.classes)
            self.calibrator.validate(columns, len(self.score_edges) + 1)
        if self.vectors is not None:
            categorical = {n: v for n, v in self.features.items() if isinstance(v, CategoricalVariable)}
            self.vectors.validate(list(self.features), {n: len(v.categories) for n, v in categorical.items()})
        for name, embedding in self.embeddings.items():
            embedding.validate(name)
        if self.losses is not None:
            self.losses.validate(self.vectors)
        for name, variable in [*self.features.items(), *self.groups.items(), *(self.rated or {}).items()]:
            variable.validate(name)
        for name, variable in {"score": self.score, "prediction": self.prediction, "label": self.label}.items():
            if variable is not None:
                variable.validate(name)
        if self.slices and self.said is None:
            raise ValueError("slices: of a model without predictions there are none")
        for segment, slices in (self.slices or {}).items():
            bins = len(self.said.exported_starts) if self.said is not None else 0
            if any(len(counts) != bins or min(counts) < 0 for counts in slices.values()):
                raise ValueError(f"slices: {segment}: every slice needs {bins} counts of 0 or more")
        if isinstance(self.hours, HourlyReference):
            outcomes = {"score": self.score, "prediction": self.prediction}
            self.hours.validate(
                {name: variable.cells for name, variable in self.features.items()},
                {name: variable.cells for name, variable in outcomes.items() if variable is not None},
                len(self.vectors.fourier.mean) if self.vectors is not None else 0,
            )


def middles(edges: Sequence[float]) -> Floats:
    """Return the probability in the middle of each bin between these inner edges, neither 0 nor 1."""
    ends = np.clip([0.0, *edges, 1.0], 0.0, 1.0)
    least = np.finfo(np.float64).eps
    found: Floats = np.clip((ends[:-1] + ends[1:]) / 2, least, 1 - least)
    return found


def load(path: Path) -> Profile:
    """Read and validate a profile; raises ProfileError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}; make it with: mlops-exporter profile build") from error
    if len(data) > MAX_BYTES:
        raise ProfileError(f"{path}: is over {MAX_BYTES} bytes; make it with: mlops-exporter profile build")
    try:
        schema = parsed(data, _SchemaOnly).schema
        if schema != SCHEMA:
            raise ProfileError(
                f"{path}: schema {schema}, but this version reads schema {SCHEMA}; build the profile again"
            )
        profile: Profile = parsed(data, Profile)
        _refuse_repetition(data)
        profile.validate()
    except ValueError as error:
        raise ProfileError(f"{path}: not a profile: {error}") from error
    return profile


def _refuse_repetition(data: bytes) -> None:
    """Raise ValueError for a key given twice, of which JSON would silently drop one."""

    def single(pairs: list[tuple[str, object]]) -> None:
        if len(names := Counter(name for name, _ in pairs)) < len(pairs):
            raise ValueError(f"{names.most_common(1)[0][0]!r} is given twice")

    json.loads(data, object_pairs_hook=single, parse_float=_NO_NUMBER, parse_int=_NO_NUMBER)


class _SchemaOnly(msgspec.Struct):
    schema: int


def save(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, one line per feature, so that versions can be compared with diff.

    Raises ProfileError where it cannot be written.
    """
    content = msgspec.to_builtins(profile)
    if profile.ranking is None:  # as in profiles from before there were any
        del content["ranking"]
    text = _lines(content, depth=2) + "\n"
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
