"""What may be written of a model."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from mlops_exporter.profile.profile import NUMERIC, Task
from mlops_exporter.profile.values import canonical
from mlops_exporter.settings import cadence
from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.document import or_alone
from mlops_exporter.settings.durations import Duration
from mlops_exporter.statistics.drift import Statistic
from mlops_exporter.statistics.thresholds import SMALLEST_ALPHA

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.:/-]*"

_BATCHES = (1, 7, 30)
"""What windows of a job hold, where nothing is said."""

Scalar = str | int | float | bool
"""What a class may be written as."""


class Benchmark(_Settings):
    """The values that a metric must keep: absolute, or against the profile's own performance."""

    min: Annotated[float | None, Field(description="Lowest value.")] = None
    max: Annotated[float | None, Field(description="Highest value.")] = None
    max_drop: Annotated[
        Annotated[float, Field(ge=0)] | None, Field(description="How far the value may lie below the profile's own.")
    ] = None
    max_increase: Annotated[
        Annotated[float, Field(ge=0)] | None,
        Field(description="How far the value may lie above the profile's own (errors)."),
    ] = None

    mlflow: Annotated[
        str | None,
        Field(description="Metric of the model's run in MLflow that is the reference, in place of the profile's own."),
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> "Benchmark":
        if not self.model_fields_set - {"mlflow"}:
            raise ValueError("a benchmark needs min, max, max_drop or max_increase")
        if {"min", "max_drop"} <= self.model_fields_set or {"max", "max_increase"} <= self.model_fields_set:
            raise ValueError("give min or max_drop, and max or max_increase, not both of a kind")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g} and max {self.max:g}: nothing lies between them")
        return self


class DriftSettings(_Settings):
    """Which drift statistics are exported and when they count as drift."""

    statistics: Annotated[list[Statistic], Field(description="Which are exported.")] = ["psi", "js", "ks"]
    false_alarm_rate: Annotated[
        float,
        Field(ge=SMALLEST_ALPHA, le=0.2, description="Share of windows without drift that may exceed the threshold."),
    ] = 0.01
    min_effect: Annotated[
        dict[Statistic, Annotated[float, Field(ge=0)]],
        Field(description="Least value that counts as drift, however large the sample."),
    ] = {"psi": 0.1, "js": 0.1, "ks": 0.1}


class AttributeSettings(_Settings):
    """A sensitive attribute: a name, or names joined by `*` for their intersection; `edges` cut a numeric one."""

    model_config = ConfigDict(json_schema_extra=or_alone("name"))

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="In the events' `groups` or among the features; `*` joins attributes.",
        ),
    ]
    edges: Annotated[
        list[float], Field(max_length=50, description="Where a numeric attribute is cut into groups.")
    ] = []

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("edges")
    @classmethod
    def _edges_ascend(cls, edges: list[float]) -> list[float]:
        if edges != sorted(set(edges)):
            raise ValueError("edges must ascend")
        return edges


FairnessMetric = Literal[
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equal_opportunity_difference",
    "mae_difference",
    "bias_difference",
]


class FairnessBenchmark(_Settings):
    """The values that a measure of fairness must keep."""

    min: Annotated[float | None, Field(description="Lowest value.")] = None
    max: Annotated[float | None, Field(description="Highest value.")] = None

    @model_validator(mode="after")
    def _says_something(self) -> "FairnessBenchmark":
        if not self.model_fields_set:
            raise ValueError("a benchmark needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min is {self.min:g} and max {self.max:g}: nothing lies between them")
        return self


def _each_once(attributes: list[AttributeSettings]) -> list[AttributeSettings]:
    """Return attributes as they are; raises ValueError where one comes twice, or an intersection has edges."""
    names = [attribute.name for attribute in attributes]
    if len(set(names)) != len(names):
        raise ValueError("every attribute once")
    if any(attribute.edges and "*" in attribute.name for attribute in attributes):
        raise ValueError("an intersection has no edges of its own; give them to its attributes")
    return attributes


SeveralAttributes = Annotated[list[AttributeSettings], AfterValidator(_each_once), Field(min_length=1, max_length=20)]


def _edges(attributes: list[AttributeSettings]) -> dict[str, list[float]]:
    return {attribute.name: attribute.edges for attribute in attributes}


class FairnessSettings(_Settings):
    """Whose treatment is compared. Groups below `min_group_size` are exported by size alone."""

    attributes: Annotated[
        SeveralAttributes,
        Field(
            description="Attributes: a name, `{name: age, edges: [25, 40]}`, or an intersection `sex*age`.",
        ),
    ]
    favourable: Annotated[str | None, Field(description="The class that people want; by default the positive one.")] = (
        None
    )
    min_group_size: Annotated[
        int, Field(ge=2, description="Events below which a group is exported by its size alone.")
    ] = 30
    benchmarks: Annotated[
        dict[FairnessMetric, FairnessBenchmark], Field(description="What each measure of fairness must keep.")
    ] = {}

    @property
    def edges(self) -> dict[str, list[float]]:
        """Edges by attribute; none for a categorical one."""
        return _edges(self.attributes)

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_are_possible(
        cls, benchmarks: dict[FairnessMetric, FairnessBenchmark]
    ) -> dict[FairnessMetric, FairnessBenchmark]:
        for metric, benchmark in benchmarks.items():
            highest = math.inf if metric in ("mae_difference", "bias_difference") else 1.0
            for value in (benchmark.min, benchmark.max):
                if value is not None and not 0.0 <= value <= highest:
                    raise ValueError(f"{metric}: {value:g} must lie between 0 and {highest:g}")
        return benchmarks

    @field_validator("favourable", mode="before", json_schema_input_type=Scalar | None)
    @classmethod
    def _favourable_is_a_class(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float | bool) else value


class SegmentSettings(_Settings):
    """In which slices of the traffic performance is held against that of the rest."""

    model_config = ConfigDict(json_schema_extra=or_alone("attributes"))

    attributes: Annotated[
        SeveralAttributes,
        Field(
            description="Features (or `groups`) whose values cut slices: a name, `{name: amount, edges: [100, 500]}`, "
            "or a pair `country*amount`. A number without edges is cut where the reference's bins are.",
        ),
    ]
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How much worse than the rest a slice may be: of metrics from 0 to 1 as a difference, of "
            "others as a share.",
        ),
    ] = 0.02

    @property
    def edges(self) -> dict[str, list[float]]:
        """Edges by attribute; none for a categorical one, and for a number that is cut where the reference is."""
        return _edges(self.attributes)

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_list(cls, value: object) -> object:
        return {"attributes": value} if isinstance(value, list) else value


class EstimationSettings(_Settings):
    """Performance estimated before the labels are in."""

    enabled: Annotated[bool, Field(description="Whether it is computed; the profile must allow it.")] = True
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=0.5,
            description="Gap between realised and estimated performance that is let pass, of a metric near 0 or 1 at "
            "most a tenth of its distance to it; of a regression as a share of the estimate.",
        ),
    ] = 0.01


class MultivariateSettings(_Settings):
    """Drift of the joint distribution of the features; the rate of false alarms is the drift's."""

    enabled: Annotated[bool, Field(description="Whether it is computed; the profile must allow it.")] = True
    min_effect: Annotated[
        dict[Literal["mmd", "pca_reconstruction"], Annotated[float, Field(ge=0)]],
        Field(description="Least value that counts as drift, however large the sample."),
    ] = {
        "mmd": 0.05,
        "pca_reconstruction": 0.1,
    }


class ChangeSettings(_Settings):
    """Changes of errors and scores as they happen; changes of a mean in [0, 1] up to `tolerance` are let pass."""

    enabled: Annotated[bool, Field(description="Whether streams are watched; the profile must know them.")] = True
    false_alarm_probability: Annotated[
        float, Field(gt=0, le=0.2, description="Probability that the evidence ever alarms without a change.")
    ] = 0.01
    tolerance: Annotated[
        float, Field(ge=0, le=0.5, description="Change of the mean, on a scale from 0 to 1, that is let pass.")
    ] = 0.01


class ChallengeSettings(_Settings):
    """Two versions that predict the same events under the same ids."""

    champion: Annotated[str, Field(min_length=1, max_length=64, description="The version in charge.")]
    challenger: Annotated[
        str,
        Field(min_length=1, max_length=64, description="The version that predicts the same events under the same ids."),
    ]

    @field_validator("champion", "challenger", mode="before", json_schema_input_type=str | int | float)
    @classmethod
    def _is_a_version(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _differ(self) -> "ChallengeSettings":
        if self.champion == self.challenger:
            raise ValueError("champion and challenger must be two versions")
        return self


class MinSamples(_Settings):
    """Sample sizes below which no performance and no drift is exported."""

    performance: Annotated[int, Field(ge=1, description="Labels below which no performance is exported.")] = 30
    drift: Annotated[int, Field(ge=10, description="Values below which no drift is exported.")] = 100


Price = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]


class CostSettings(_Settings):
    """What a decision costs, of which `cost` is the mean; a regression has prices, every other model a matrix."""

    matrix: Annotated[
        dict[str, dict[str, Price]],
        Field(
            description="Cost of a decision by predicted and then actual class; less than 0 is a gain, and what is not "
            "named costs nothing."
        ),
    ] = {}
    over: Annotated[
        Price, Field(ge=0, description="Cost of each unit of the label that a regression predicts too much.")
    ] = 0.0
    under: Annotated[
        Price, Field(ge=0, description="Cost of each unit of the label that a regression predicts too little.")
    ] = 0.0

    @property
    def classes(self) -> set[str]:
        """The classes that the matrix names."""
        return {*self.matrix, *(actual for row in self.matrix.values() for actual in row)}

    @field_validator("matrix", mode="before")
    @classmethod
    def _keys_are_classes(cls, matrix: object) -> object:
        if not isinstance(matrix, dict):
            return matrix
        rows = {canonical(predicted): row for predicted, row in matrix.items()}
        return {
            predicted: {canonical(actual): cost for actual, cost in row.items()} if isinstance(row, dict) else row
            for predicted, row in rows.items()
        }

    @model_validator(mode="after")
    def _says_something(self) -> "CostSettings":
        if not (self.over or self.under or any(cost for row in self.matrix.values() for cost in row.values())):
            raise ValueError("nothing costs anything: give matrix, or over and under of a regression")
        return self


OutcomeName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]


class OutcomeSettings(_Settings):
    """A number that says how good an answer was, as a rating, a profit or a judge's score."""

    low: Annotated[Price, Field(description="Lowest possible value; an event with a lower one is refused.")]
    high: Annotated[Price, Field(description="Highest possible value; an event with a higher one is refused.")]
    better: Annotated[Literal["higher", "lower"], Field(description="Which way it is better.")] = "higher"
    benchmark: Annotated[
        Price | None, Field(description="What its mean must keep: at least where higher is better, else at most.")
    ] = None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The lowest and the highest mean that is agreed."""
        return (self.benchmark, None) if self.better == "higher" else (None, self.benchmark)

    @model_validator(mode="after")
    def _is_bounded(self) -> "OutcomeSettings":
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}: low must be less")
        if self.benchmark is not None and not self.low <= self.benchmark <= self.high:
            raise ValueError(f"benchmark: {self.benchmark:g} must lie between {self.low:g} and {self.high:g}")
        return self


class RankingSettings(_Settings):
    """How lists of a model that ranks are judged."""

    without_feedback: Annotated[
        Literal["irrelevant", "unknown"],
        Field(
            description="What a list is that nobody answered within `label_ttl`: one in which nothing was relevant, as "
            "where clicks are feedback, or one that tells nothing."
        ),
    ] = "irrelevant"


LISTS_FINAL = 3600.0
"""Seconds after which a list is final, unless `label_ttl` says otherwise."""


Label = Annotated[str, Field(min_length=1, max_length=128)] | None


class ModelSettings(_Settings):
    """One watched model."""

    name: Annotated[
        str, Field(pattern=f"^{MODEL_NAME}$", max_length=128, description="`model` of its events and of its series.")
    ]
    task: Annotated[Task, Field(description="What it predicts; as in the profile.")]
    owner: Annotated[Label, Field(description="Who is asked about it; the label `owner` of its alerts.")] = None
    team: Annotated[
        Label, Field(description="Whose it is; the label `team` of its alerts, by which they are routed.")
    ] = None
    environment: Annotated[Label, Field(description="Where it runs; the label `environment` of its alerts.")] = None
    profile: Annotated[
        Path | None,
        Field(
            description="The reference of all versions, made by `mlops-exporter profile build`; or "
            "`mlflow:models:/NAME@ALIAS`."
        ),
    ] = None
    profiles: Annotated[
        dict[str, Path] | str | None,
        Field(
            description="Instead of `profile`: a directory with a profile per version, which may come and go while "
            "the exporter runs, `mlflow:models:/NAME`, or files by version."
        ),
    ] = None
    windows: Annotated[
        list[Duration],
        Field(
            min_length=1,
            max_length=8,
            description="Lengths of the rolling windows; each adds a series to every gauge. With a `cadence` of `1d`, "
            "`7d` are the last seven batches, and 1, 7 and 30 batches are the default.",
        ),
    ] = [900.0, 3600.0, 86400.0]
    positive: Annotated[
        str | None, Field(description="The positive class (binary), to be checked against the profile.")
    ] = None
    threshold: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Score from which on positive (multilabel: a class) is predicted, where events carry no "
            "prediction.",
        ),
    ] = 0.5
    performance_time: Annotated[
        Literal["label", "prediction"],
        Field(description="Which time puts a label into a window: its own or its prediction's."),
    ] = "label"
    label_delay: Annotated[
        Duration, Field(description="Age at which a prediction should have its label, `label_ttl` at most.")
    ] = 7 * 86400.0
    label_ttl: Annotated[
        Duration,
        Field(
            description="How long a prediction waits for its label; a ranked list is final then, by default after `1h`."
        ),
    ] = 30 * 86400.0
    cadence: Annotated[
        str,
        Field(
            description="When predictions come: `continuous`, or the rhythm of a job: `1d`, `1w`, or a cron expression "
            "in UTC such as `0 2 * * 1-5`."
        ),
    ] = "continuous"
    cadence_grace: Annotated[
        Duration, Field(description="How much later than its rhythm a job may be; by cron also how much earlier.")
    ] = 6 * 3600.0
    benchmarks: Annotated[dict[str, Benchmark], Field(description="What each metric must keep.")] = {}
    costs: Annotated[
        CostSettings | None, Field(description="What errors cost; the metric `cost` is the mean of a decision.")
    ] = None
    outcomes: Annotated[
        dict[OutcomeName, OutcomeSettings],
        Field(max_length=20, description="Numbers by which answers are rated, as events carry them by these names."),
    ] = {}
    ranking: Annotated[RankingSettings, Field(description="How ranked lists are judged.")] = RankingSettings()
    drift: Annotated[DriftSettings, Field(description="Drift statistics and their thresholds.")] = DriftSettings()
    min_samples: Annotated[MinSamples, Field(description="Sample sizes below which a value is absent.")] = MinSamples()
    fairness: Annotated[
        FairnessSettings | None, Field(description="Which groups of people are compared; nothing is without it.")
    ] = None
    segments: Annotated[
        SegmentSettings | None,
        Field(description="Slices of the traffic that are held against the rest: a list of features, or a mapping."),
    ] = None
    estimation: Annotated[EstimationSettings, Field(description="Performance estimated before labels are in.")] = (
        EstimationSettings()
    )
    multivariate: Annotated[
        MultivariateSettings,
        Field(description="Drift of the joint distribution of features, and of embeddings."),
    ] = MultivariateSettings()
    change: Annotated[ChangeSettings, Field(description="Changes of errors and scores as they happen.")] = (
        ChangeSettings()
    )
    challenge: Annotated[
        ChallengeSettings | None, Field(description="Two versions that are compared on the same events.")
    ] = None

    @field_validator("positive", mode="before", json_schema_input_type=Scalar | None)
    @classmethod
    def _positive_is_a_class(cls, value: object) -> object:
        return canonical(value) if isinstance(value, str | int | float | bool) else value

    @field_validator("windows")
    @classmethod
    def _windows_differ(cls, windows: list[float]) -> list[float]:
        if len(set(windows)) != len(windows) or min(windows) < 1:
            raise ValueError("windows must differ from each other and last 1s or longer")
        return sorted(windows)

    @field_validator("cadence")
    @classmethod
    def _cadence_can_be_read(cls, written: str) -> str:
        return cadence.checked(written)

    @property
    def cut(self) -> dict[str, list[float]]:
        """Edges of every attribute by which events are told apart, for fairness or in segments."""
        fairness = self.fairness.edges if self.fairness else {}
        segments = self.segments.edges if self.segments else {}
        return fairness | {name: edges or fairness.get(name, []) for name, edges in segments.items()}

    @property
    def binned(self) -> set[str]:
        """The attributes of segments, each by itself: numbers among them are cut where the reference's bins begin."""
        return {part for name in (self.segments.edges if self.segments else ()) for part in name.split("*")}

    @property
    def has_profile(self) -> bool:
        """Whether there is a reference; a model of outcomes alone may have none."""
        return self.profile is not None or self.profiles is not None

    @property
    def period(self) -> float | None:
        """Seconds from one batch to the next; None where there is no rhythm, or that of a calendar."""
        return cadence.period(self.cadence)

    @model_validator(mode="after")
    def _windows_hold_batches(self) -> "ModelSettings":
        pause = cadence.shortest_pause(self.cadence)
        if pause is None or "windows" in self.model_fields_set:
            return self
        return self.model_copy(update={"windows": [batches * pause for batches in _BATCHES]})

    @model_validator(mode="after")
    def _lists_become_final(self) -> "ModelSettings":
        if self.task != "ranking" or "label_ttl" in self.model_fields_set:
            return self
        return self.model_copy(update={"label_ttl": LISTS_FINAL})

    @model_validator(mode="after")
    def _label_delay_fits(self) -> "ModelSettings":
        if "label_delay" not in self.model_fields_set and self.label_delay > self.label_ttl:
            return self.model_copy(update={"label_delay": self.label_ttl})
        return self

    @field_validator("profiles", mode="before")
    @classmethod
    def _profiles_are_of_versions(cls, value: object) -> object:
        return {canonical(key): path for key, path in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _has_a_reference(self) -> "ModelSettings":
        if self.task == "outcomes" and not self.has_profile:
            return self
        if (self.profile is None) == (self.profiles is None):
            raise ValueError("profile: give either profile, for all versions, or profiles, one for each")
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> "ModelSettings":
        if self.label_delay > self.label_ttl:
            raise ValueError("label_delay: a label is expected before label_ttl, at which its prediction is given up")
        if self.positive is not None and self.task != "binary":
            raise ValueError(f"positive: only a binary model has a positive class, not a {self.task} one")
        if self.fairness is not None and self.segments is not None:
            cut = self.fairness.edges
            for attribute in self.segments.attributes:
                if attribute.edges and cut.get(attribute.name, attribute.edges) != attribute.edges:
                    raise ValueError(f"segments: {attribute.name} has other edges than in fairness; give both the same")
        for key in ("fairness", "segments", "costs", "challenge"):
            if self.task == "multilabel" and getattr(self, key) is not None:
                raise ValueError(f"{key}: not for a multilabel model, whose predictions are sets of classes")
        if "ranking" in self.model_fields_set and self.task != "ranking":
            raise ValueError(f"ranking: a {self.task} model ranks no lists")
        for key in ("fairness", "segments", "costs", "challenge"):
            if self.task == "ranking" and getattr(self, key) is not None:
                raise ValueError(f"{key}: not for a ranking model, whose predictions are lists")
        if self.task == "outcomes":
            if not self.outcomes:
                raise ValueError("outcomes: a model of outcomes needs one at least, as {rating: {low: 1, high: 5}}")
            for key in ("costs", "fairness", "segments", "challenge", "benchmarks"):
                if getattr(self, key):
                    raise ValueError(f"{key}: needs predictions and labels, which a model of outcomes has not")
        if self.costs is not None and (self.task in NUMERIC) == bool(self.costs.matrix):
            needed = "over and under" if self.task in NUMERIC else "a matrix by predicted and then actual class"
            raise ValueError(f"costs: a {self.task} model has {needed}")
        return self


DEFAULT_SERIES = 20_000


class Limits(_Settings):
    """Bounds that keep memory, work and series finite whatever comes in."""

    series: Annotated[
        int,
        Field(
            ge=1000,
            description="Series of a scrape; where there could be more, the finest detail is left out.",
        ),
    ] = DEFAULT_SERIES
    pending_predictions: Annotated[
        int, Field(ge=1, description="Predictions of a model that wait for labels; beyond it the oldest are given up.")
    ] = 10_000_000
    remembered_labels: Annotated[
        int, Field(ge=0, description="Pairs of a model that are remembered, to know repeated and corrected labels.")
    ] = 1_000_000
    remembered_ledgers: Annotated[
        int,
        Field(ge=1, description="Partial ledgers that are remembered, to count each once; beyond it more are refused."),
    ] = 200_000
    ledger_age: Annotated[
        Duration,
        Field(ge=60, description="Age of a pane at which partial ledgers of it are refused, and need no remembering."),
    ] = 7 * 86400.0
    versions: Annotated[
        int, Field(ge=1, le=1000, description="Versions of a model; events of further ones are refused.")
    ] = 16
    features: Annotated[int, Field(ge=1, description="Features of a profile.")] = 5000
    categories: Annotated[
        int, Field(ge=1, description="Categories of one feature in a profile; in events, any other counts as `other`.")
    ] = 1000
    classes: Annotated[int, Field(ge=2, description="Classes of a profile; memory grows with their square.")] = 200
    groups: Annotated[
        int,
        Field(
            ge=2,
            description="Groups of one attribute or intersection; in events, any other counts as `other` or `unknown`.",
        ),
    ] = 200
    queue_events: Annotated[
        int, Field(ge=1, description="Events that wait to be counted; beyond it senders get 429.")
    ] = 100_000
    body_events: Annotated[
        int, Field(ge=100, description="Events of a body that is posted; beyond it senders get 413.")
    ] = 100_000
    body_bytes: Annotated[
        int, Field(ge=1024, description="Size of a body after decompression; beyond it senders get 413.")
    ] = 16 * 1024 * 1024
    body_duration: Annotated[
        Duration,
        Field(ge=1, description="How long a body that is posted may take to arrive; then its sender gets 408."),
    ] = 60.0
