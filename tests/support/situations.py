"""Situations a model may be in, each fed to a model of its own, for whoever must agree on what they are called."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlops_exporter.counting.model import Model
from mlops_exporter.judging.drift import Comparisons
from mlops_exporter.judging.judge import Verdict
from mlops_exporter.judging.status import Observer
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.support.one_model import WINDOW, feed, write_csv

Event = dict[str, Any]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

REQUEST: dict[str, Any] = {
    "task": "binary",
    "label": "y",
    "scores": {"1": "score"},
    "groups": ("sex",),
    "features": ("x", "z", "colour"),
}
FAIRNESS = {"attributes": ["sex"], "benchmarks": {"demographic_parity_ratio": {"min": 0.8}}}


@dataclass(frozen=True)
class Situation:
    """Rows of traffic, what is done to them, how many have labels, and the verdict; `settings` are the model's."""

    verdict: Verdict
    rows: int = 2000
    labelled: int | None = None
    change: Callable[[dict[str, Any], np.random.Generator], None] = lambda columns, rng: None
    event: Callable[[Event], None] = lambda event: None
    settings: dict[str, Any] = field(default_factory=dict)


def columns(rows: int, rng: np.random.Generator) -> dict[str, Any]:
    """Rows of a calibrated model: z follows x, groups are treated alike."""
    x = rng.normal(size=rows)
    score = rng.beta(0.4, 0.4, rows)
    return {
        "x": x,
        "z": x + rng.normal(scale=0.3, size=rows),
        "colour": rng.choice(["blue", "green", "red"], rows),
        "sex": rng.choice(["female", "male"], rows),
        "score": score,
        "y": (rng.random(rows) < score).astype(int),
    }


def _wrong(share: float) -> Callable[[dict[str, Any], np.random.Generator], None]:
    """Let that share of the labels be another than the decision, whatever the score says."""

    def change(table: dict[str, Any], rng: np.random.Generator) -> None:
        decision = table["score"] >= 0.5
        wrong = np.zeros(len(decision), np.bool_)
        wrong[rng.permutation(len(decision))[: round(share * len(decision))]] = True
        table["y"] = (decision ^ wrong).astype(int)

    return change


def _features_missing(event: Event) -> None:
    event["features"] = {}


def _text_for_a_number(event: Event) -> None:
    if event["number"] % 20 == 0:
        event["features"]["x"] = "n/a"


def _other_colour(event: Event) -> None:
    if event["number"] % 20 == 0:
        event["features"]["colour"] = "ultraviolet"


def _missing_sometimes(event: Event) -> None:
    if event["number"] % 8 == 0:
        event["features"]["z"] = None


def _failed(event: Event) -> None:
    if event["number"] % 10 == 0:
        event.update(error="timeout")


def _far_away(table: dict[str, Any], rng: np.random.Generator) -> None:
    table["x"][::20] = 100.0


def _shifted(table: dict[str, Any], rng: np.random.Generator) -> None:
    table["x"] += 1.0
    table["z"] += 1.0


def _uncorrelated(table: dict[str, Any], rng: np.random.Generator) -> None:
    rng.shuffle(table["z"])


def _unfair(table: dict[str, Any], rng: np.random.Generator) -> None:
    female = rng.random(len(table["x"])) < np.where(table["score"] < 0.5, 0.8, 0.2)
    table["sex"] = np.where(female, "female", "male")


def _vague(table: dict[str, Any], rng: np.random.Generator) -> None:
    table["score"] = 0.5 + (table["score"] - 0.5) / 5


def _bold(table: dict[str, Any], rng: np.random.Generator) -> None:
    score = table["score"]
    table["y"] = (rng.random(len(score)) < 0.5 + (score - 0.5) * 0.4).astype(int)


def _agreed(metric: str = "accuracy", **bounds: float) -> dict[str, Any]:
    return {"benchmarks": {metric: bounds}}


_NO_DRIFT: dict[str, Any] = {"drift": {"statistics": ["psi"], "min_effect": {"psi": 9.0}}}
_NOT_JOINTLY: dict[str, Any] = {"multivariate": {"enabled": False}}
_STEADY: dict[str, Any] = {"change": {"enabled": False}}

SITUATIONS: dict[str, Situation] = {
    "healthy": Situation("good", settings=_agreed(min=0.75)),
    "worse than agreed": Situation("failing", change=_wrong(0.25), settings=_agreed(min=0.9) | _STEADY),
    "an error above what is agreed": Situation("failing", settings=_agreed("log_loss", max=0.2)),
    "40 labels at 0.75 against 0.9": Situation(
        "unknown", rows=40, change=_wrong(0.25), settings=_agreed(min=0.9) | _STEADY
    ),
    "beyond a plain interval alone": Situation("good", settings=_agreed(min=0.85)),
    "fewer labels than the model asks for": Situation(
        "unknown", labelled=300, settings=_agreed(min=0.75) | {"min_samples": {"performance": 500}}
    ),
    "every feature is missing": Situation("unusable", event=_features_missing, settings=_NO_DRIFT),
    "300 events whose every feature is missing": Situation("good", rows=300, event=_features_missing),
    "missing values": Situation("impaired", event=_missing_sometimes, settings=_NO_DRIFT | _NOT_JOINTLY),
    "invalid values": Situation("impaired", event=_text_for_a_number, settings=_NO_DRIFT | _NOT_JOINTLY),
    "values out of range": Situation("impaired", change=_far_away, settings=_NO_DRIFT | _NOT_JOINTLY),
    "unknown categories": Situation("impaired", event=_other_colour, settings=_NO_DRIFT | _NOT_JOINTLY),
    "features shift": Situation("drifting", change=_shifted, settings=_NOT_JOINTLY),
    "features part": Situation("drifting", change=_uncorrelated),
    "scores move": Situation("drifting", labelled=0, change=_vague, settings=_STEADY),
    "groups are treated unlike": Situation("unfair", change=_unfair, settings={"fairness": FAIRNESS}),
    "estimates below what is agreed": Situation(
        "suspect", labelled=0, change=_vague, settings=_agreed(min=0.75) | _STEADY | _NO_DRIFT
    ),
    "probabilities mean something else": Situation("suspect", change=_bold, settings=_STEADY),
    "errors begin to rise": Situation("suspect", change=_wrong(0.4), settings=_agreed("log_loss", max=9.0)),
    "predictions fail": Situation("erring", event=_failed),
}


_PROFILES: list[Profile] = []


def _profile(directory: Path) -> Profile:
    """Build the profile at first use."""
    if not _PROFILES:
        reference = columns(5000, np.random.default_rng(0))
        path = write_csv(directory / "reference.csv", {name: column.tolist() for name, column in reference.items()})
        _PROFILES.append(build(BuildRequest(data=path, **REQUEST))[0])
    return _PROFILES[0]


def model_in(situation: Situation, directory: Path) -> Model:
    """Return a model that has seen the situation."""
    settings = {"name": "m", "task": "binary", "profile": "unused.json", "windows": [WINDOW], **situation.settings}
    model = Model(ModelSettings.model_validate(settings), _profile(directory), Limits())
    rng = np.random.default_rng(1)
    table = columns(situation.rows, rng)
    situation.change(table, rng)
    labelled = situation.rows if situation.labelled is None else situation.labelled
    events = []
    for number, (x, z, colour, sex, score, y) in enumerate(
        zip(*(column.tolist() for column in table.values()), strict=True)
    ):
        event: Event = {"number": number, "features": {"x": x, "z": z, "colour": colour}, "groups": {"sex": sex}}
        event |= {"score": score} | ({"label": y} if number < labelled else {})
        situation.event(event)
        del event["number"]
        events.append(event)
    feed(model, events)
    for version in model.versions.values():
        version.begun = 0.0  # its windows are full
    return model


def observer_of(model: Model) -> Observer:
    """Return what judges a model for the page."""
    return Observer(model, model.reference, Comparisons().of(model.reference))
