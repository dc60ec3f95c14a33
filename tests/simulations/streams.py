"""What simulated models live through: events of 25 features with groups, scores and labels, a healthy life or not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import Columns, Encoded, Features
from mlops_exporter.profile.bins import CategoricalVariable
from mlops_exporter.profile.profile import Profile, Task
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import Benchmark, FairnessBenchmark, FairnessSettings, ModelSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

NUMERIC, CATEGORICAL = 20, 5
REFERENCE = 20_000
LABELLED, FAILED = 0.9, 0.001
GROUPS = ("c0", "c1")
"""Features that also say which group somebody belongs to."""

_COLOURS = ("red", "green", "blue", "white", "black")
_SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)
_FEATURES = (*(f"n{number}" for number in range(NUMERIC)), *(f"c{number}" for number in range(CATEGORICAL)))
CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 3, "regression": 0}


@dataclass(frozen=True)
class Trouble:
    """What changes from `at` (Unix seconds) on.

    `shift` moves the means of three features, in standard deviations; `wrong` is the share of right predictions whose
    label becomes another class, or by how many fifths the errors of a regression grow.
    """

    at: float
    shift: float = 0.0
    wrong: float = 0.0


@dataclass(frozen=True)
class Events:
    """Events of one model: features (20, n) and (5, n), scores (n, classes), predictions and labels (n,)."""

    numeric: Floats
    categories: Ints
    scores: Floats
    predictions: Floats
    labels: Floats


class Stream:
    """The events of one model, one a second, and the profile of its reference data."""

    def __init__(
        self,
        name: str,
        task: Task,
        seed: int,
        directory: Path,
        trouble: Trouble | None = None,
        *,
        version: str = "1",
        own: bool = False,
    ) -> None:
        self.name, self.task, self.version = name, task, version
        self._schema = version if own else None
        """The version by whose own profile its events are decoded, None where all share one."""
        self._rng = np.random.default_rng(seed)
        self._trouble = trouble
        self._table = directory / f"{name}.csv"
        self.profile = self._build()
        variables = [self.profile.features[f"c{number}"] for number in range(CATEGORICAL)]
        self._codes = np.array([
            [variable.codes[colour] for colour in _COLOURS]
            for variable in variables
            if isinstance(variable, CategoricalVariable)
        ])  # fmt: skip

    @property
    def settings(self) -> ModelSettings:
        """The model as a user would configure it: benchmarks somewhat below what the reference showed."""
        benchmarks, fair = _BENCHMARKS[self.task]
        return ModelSettings(
            name=self.name,
            task=self.task,
            profile=self._table,
            positive="1" if self.task == "binary" else None,
            benchmarks=benchmarks,
            fairness=FairnessSettings.model_validate({
                "attributes": list(GROUPS),
                "favourable": "1" if CLASSES[self.task] else None,
                "benchmarks": fair,
            }),
        )  # fmt: skip

    def _build(self) -> Profile:
        classes = CLASSES[self.task]
        columns = range(1, 2) if classes == 2 else range(classes)
        events = self._events(REFERENCE, 0.0, 0.0)
        form = "%d" if classes else "%.6f"
        outcomes = [[form % value for value in part.tolist()] for part in (events.labels, events.predictions)]
        numbers = [[("" if np.isnan(v) else f"{v:.6f}") for v in part.tolist()] for part in events.numeric]
        colours = [[_COLOURS[code] for code in part.tolist()] for part in events.categories]
        scores = [[f"{value:.6f}" for value in events.scores[:, column].tolist()] for column in columns]
        header = (*_FEATURES, "label", "prediction", *(f"score{column}" for column in columns))
        with self._table.open("w") as file:
            for row in (header, *zip(*numbers, *colours, *outcomes, *scores, strict=True)):
                file.write(",".join(row) + "\n")
        profile, _ = build(self._request(columns))
        return profile

    def _request(self, columns: range) -> BuildRequest:
        return BuildRequest(
            self._table,
            self.task,
            label="label",
            prediction="prediction",
            scores={str(column): f"score{column}" for column in columns},
            positive="1" if self.task == "binary" else None,
            features=_FEATURES,
            importances={name: 1.0 + number for number, name in enumerate(_FEATURES)},
            model_version=self.version,
        )

    def _events(self, n: int, shift: float, wrong: float) -> Events:
        rng = self._rng
        numeric = rng.standard_normal((NUMERIC, n))
        numeric[:3] += shift
        numeric[4] = 0.7 * numeric[3] + 0.7 * numeric[4]
        numeric[10:] = np.exp(numeric[10:])
        numeric[5:8][rng.random((3, n)) < 0.05] = np.nan
        categories = rng.choice(len(_COLOURS), (CATEGORICAL, n), p=_SHARES)
        return Events(numeric, categories, *self._outcomes(n, wrong))

    def _outcomes(self, n: int, wrong: float) -> tuple[Floats, Floats, Floats]:
        """Return calibrated scores, predictions and labels."""
        rng, classes = self._rng, CLASSES[self.task]
        if not classes:
            prediction = rng.normal(20.0, 5.0, n)
            return np.empty((n, 0)), prediction, prediction + rng.normal(0.0, 2.0 * (1 + 5 * wrong), n)
        scores = rng.dirichlet([0.5] * classes, n)
        prediction = scores.argmax(axis=1).astype(float)
        label = (rng.random((n, 1)) > np.cumsum(scores, axis=1)[:, :-1]).sum(axis=1).astype(float)
        flipped = (rng.random(n) < wrong) & (label == prediction)
        label[flipped] = (prediction[flipped] + 1) % classes
        return scores, prediction, label

    def live(self, model: Model, start: float, seconds: int) -> None:
        """Let the model count what happens in a stretch of time."""
        trouble = self._trouble if self._trouble is not None and start >= self._trouble.at else Trouble(0)
        self.deliver(model, np.full(seconds, start + seconds / 2), start + seconds, trouble)

    def deliver(self, model: Model, times: Floats, arrived: float, trouble: Trouble, *, labels: bool = True) -> None:
        """Let the model count events of these times, which arrive together."""
        count = len(times)
        events = self._events(count, trouble.shift, trouble.wrong)
        failed = self._rng.random(count) < FAILED
        unlabelled = failed | (self._rng.random(count) >= (LABELLED if labels else 0.0))
        codes = np.take_along_axis(self._codes, events.categories, axis=1)
        features = Encoded(events.numeric, codes, np.empty((0, count), np.float32))
        nothing = [None] * count
        model.count(
            Columns(
                features=Features([True] * count, features),
                lines=range(count),
                ids=list(nothing),
                times=times,
                versions=[self.version] * count,
                schema=self._schema,
                groups=np.empty((count, 0), np.intp),
                outcomes=np.empty((count, 0)),
                forecasts=np.empty((count, 0)),
                scores=self._as_decoded(np.where(failed[:, np.newaxis], np.nan, events.scores)),
                predictions=np.where(failed, np.nan, events.predictions),
                labels=np.where(unlabelled, np.nan, events.labels),
                latencies=self._rng.lognormal(np.log(0.03), 0.4, count),
                errors=["timeout" if each else None for each in failed.tolist()],
            ),
            arrived,
        )

    def _as_decoded(self, scores: Floats) -> "list[tuple[float, ...] | None] | Floats":
        """Return scores as the decoder gives them: the positive class's, or a tuple for each event."""
        if self.task == "multiclass":
            return list(map(tuple, scores.tolist()))
        return scores[:, 1] if self.task == "binary" else np.full(len(scores), np.nan)


_FAIR_CLASSES = {
    "demographic_parity_difference": FairnessBenchmark(max=0.1),
    "demographic_parity_ratio": FairnessBenchmark(min=0.8),
    "equalized_odds_difference": FairnessBenchmark(max=0.1),
    "equal_opportunity_difference": FairnessBenchmark(max=0.1),
}
_DROP = Benchmark(max_drop=0.03)
_BENCHMARKS: dict[Task, tuple[dict[str, Benchmark], dict[str, FairnessBenchmark]]] = {
    "binary": ({"accuracy": _DROP, "f1": _DROP, "roc_auc": _DROP}, _FAIR_CLASSES),
    "multiclass": ({"accuracy": _DROP, "f1": _DROP}, _FAIR_CLASSES),
    "regression": (
        {"mae": Benchmark(max_increase=0.1), "rmse": Benchmark(max_increase=0.15)},
        {"mae_difference": FairnessBenchmark(max=0.2), "bias_difference": FairnessBenchmark(max=0.2)},
    ),
}
