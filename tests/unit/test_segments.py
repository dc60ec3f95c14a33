"""Slices of the traffic: counted as they come, held against the rest, told when one is surely worse."""

import csv
import time
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from mlops_exporter.profile.bins import CategoricalVariable
from mlops_exporter.profile.profile import Profile, Task, load, save
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError
from tests.support import pipeline
from tests.support.pipeline import Event, Exposition

SEGMENTS = ["country", {"name": "amount", "edges": [0.5, 2]}, "country*owner"]


def drawn(task: Task, count: int, wrong: dict[str, float], seed: int = 1) -> list[Event]:
    """Labelled events of three countries, of which shares are `wrong` (of a regression: errors so wide)."""
    rng = np.random.default_rng(seed)
    countries = rng.choice(["DE", "FR", "IT"], count, p=[0.6, 0.38, 0.02])
    spread = np.array([wrong[country] for country in countries])
    if task == "regression":
        label = rng.normal(100, 20, count)
        said = [{"prediction": p, "label": y} for p, y in zip(label + rng.normal(0, spread), label, strict=True)]
    else:
        label = rng.choice(["no", "yes"], count)
        other = np.where(label == "no", "yes", "no")
        predicted = np.where(rng.random(count) < spread, other, label)
        said = [{"prediction": p, "label": y} for p, y in zip(predicted.tolist(), label.tolist(), strict=True)]
    amounts, owners = rng.lognormal(size=count).tolist(), rng.random(count) < 0.5
    return [
        {"model": task, "ts": time.time() - 1, "features": {"country": c, "amount": a, "owner": bool(o)}, **each}
        for c, a, o, each in zip(countries.tolist(), amounts, owners, said, strict=True)
    ]


def shown(events: list[Event], *, full: bool = False, **settings: Any) -> tuple[Exposition, Any]:
    task = events[0]["model"]
    service = pipeline.service(task, segments=SEGMENTS, **settings)
    assert pipeline.submit(service, pipeline.ndjson(events)) == (len(events), [])
    if full:
        pipeline.fill_windows(service)
    return pipeline.scrape(service), service.status()


def test_every_slice_has_the_performance_of_its_own_events() -> None:
    events = drawn("binary", 3000, {"DE": 0.1, "FR": 0.2, "IT": 0.3})
    exposition, _ = shown(events, benchmarks={"accuracy": {"min": 0.5}, "f1": {"min": 0.5}})
    of = {"window": "15m", "segment": "country*owner", "slice": "FR*true"}
    mine = [e for e in events if e["features"]["country"] == "FR" and e["features"]["owner"]]
    actual, predicted = [e["label"] for e in mine], [e["prediction"] for e in mine]
    assert exposition.value("ml_segment_window_labels", **of) == len(mine)
    accuracy = exposition.value("ml_segment_performance", metric="accuracy", **of)
    assert accuracy == pytest.approx(metrics.accuracy_score(actual, predicted), rel=1e-12)
    f1 = exposition.value("ml_segment_performance", metric="f1", **of)
    assert f1 == pytest.approx(metrics.f1_score(actual, predicted, pos_label="yes"), rel=1e-12)
    low = exposition.by("slice", "ml_segment_window_labels", window="15m", segment="amount")
    amounts = np.array([e["features"]["amount"] for e in events])
    assert low == {
        "(-inf,0.5)": (amounts < 0.5).sum(),
        "[0.5,2)": ((amounts >= 0.5) & (amounts < 2)).sum(),
        "[2,+inf)": (amounts >= 2).sum(),
        "unknown": 0,
    }


@pytest.mark.parametrize(
    ("task", "good", "bad"), [("binary", 0.08, 0.2), ("regression", 5.0, 9.0)], ids=["classes", "numbers"]
)
def test_a_small_slice_that_is_worse_is_told_while_the_whole_is_well(task: Task, good: float, bad: float) -> None:
    agreed = {"binary": {"accuracy": {"min": 0.9}}, "regression": {"mae": {"max": 5.0}}}[task]
    events = drawn(task, 20_000, {"DE": good, "FR": good, "IT": bad})
    exposition, report = shown(events, benchmarks=agreed)
    (metric,) = agreed
    worse = exposition.series("ml_segment_worse", window="15m", segment="country")
    assert {dict(labels)["slice"]: value for labels, value in worse.items()} == {
        "DE": 0,
        "FR": 0,
        "IT": 1,
        "other": 0,
        "unknown": 0,
    }
    (young,) = report.models
    assert not any("surely worse" in reason for reason in young.reasons), "no window is full yet"
    _, report = shown(events, full=True, benchmarks=agreed)
    (model,) = report.models
    assert any(reason.startswith(metric) and "of country=IT in 15m, surely worse" in reason for reason in model.reasons)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_slices_that_are_alike_are_told_of_by_nothing(task: Task) -> None:
    alike = dict.fromkeys(["DE", "FR", "IT"], 0.1 if task == "binary" else 5.0)
    exposition, report = shown(drawn(task, 20_000, alike))
    assert set(exposition.series("ml_segment_worse").values()) == {0.0}
    assert report.models[0].state != "suspect"


def test_a_slice_that_keeps_the_benchmark_may_be_worse_than_the_rest() -> None:
    events = drawn("binary", 20_000, {"DE": 0.02, "FR": 0.02, "IT": 0.2})
    exposition, _ = shown(events, benchmarks={"accuracy": {"min": 0.7}})
    assert set(exposition.series("ml_segment_worse").values()) == {0.0}


def test_numbers_without_edges_are_cut_where_the_reference_is() -> None:
    service = pipeline.service("binary", segments=["age"])
    pipeline.submit(service, pipeline.ndjson([{"model": "binary", "features": {"age": 40.0}, "prediction": "no"}]))
    slices = pipeline.scrape(service).by("slice", "ml_segment_window_predictions", window="15m", segment="age")
    assert len(slices) == 11, "ten bins and the unknown"
    assert sum(slices.values()) == 1


def test_groups_of_fairness_go_on_beside_segments() -> None:
    events = drawn("binary", 500, {"DE": 0.1, "FR": 0.2, "IT": 0.3})
    exposition, _ = shown(events, fairness={"attributes": ["country", "owner"]})
    alone = pipeline.service("binary", fairness={"attributes": ["country", "owner"]})
    pipeline.submit(alone, pipeline.ndjson(events))
    assert exposition.series("ml_group_confusion_total") == pipeline.scrape(alone).series("ml_group_confusion_total")


@cache
def sliced(task: Task) -> Profile:
    """The profile of the reference rows, which knows what was said in each slice of SEGMENTS and of age."""
    segments: dict[str, list[float]] = {"country": [], "amount": [0.5, 2], "country*owner": [], "age": []}
    return built(task, segments)


def rows_of(task: Task, count: int = 4000, seed: int = 7) -> list[Event]:
    """Rows as `pipeline.reference_rows`, whose scores of two classes are uniform."""
    rows = pipeline.reference_rows(task, count, seed)
    if task == "binary":
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, pipeline.GRID + 1, count) / pipeline.GRID
        labels = np.where(rng.random(count) < scores, "yes", "no")
        return [r | {"p_yes": p, "y": y} for r, p, y in zip(rows, scores.tolist(), labels.tolist(), strict=True)]
    return rows


def built(task: Task, segments: dict[str, list[float]]) -> Profile:
    rows = rows_of(task)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "reference.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        request = BuildRequest(
            data=path,
            task=task,
            label="y",
            prediction="p" if task == "regression" else None,
            scores={"binary": {"positive": "p_yes"}, "multiclass": {n: f"p_{n}" for n in pipeline.CLASSES[task]}}.get(
                task, {}
            ),
            positive="yes" if task == "binary" else None,
            features=("amount", "rooms", "age", "country", "owner"),
            segments=segments,
        )
        return build(request)[0]


def watched(task: Task, events: list[Event], **settings: Any) -> Exposition:
    """What is shown of events by a profile that knows what was said of slices."""
    defaults = {"windows": ["15m"], "min_samples": {"performance": 1, "drift": 10}, "segments": SEGMENTS}
    model = {"name": task, "task": task, "profile": "p.json"} | defaults | settings
    config = Config.model_validate({"models": [model], "compute": {"interval": "1m"}})
    service = Service(config, {task: sliced(task)}, Options())
    service.intake.closed = None
    assert pipeline.submit(service, pipeline.ndjson(events)) == (len(events), [])
    pipeline.fill_windows(service)
    return pipeline.scrape(service)


def unlabelled(task: Task, count: int, hard: str = "", moved: str = "", seed: int = 3) -> list[Event]:
    """Events as the reference's, without labels; in the `hard` country scores are near ½, in the `moved` one high."""
    rows = rows_of(task, count, seed)
    events: list[Event] = []
    for row in rows:
        features = {name: row[name] for name in ("amount", "rooms", "age", "country", "owner")}
        event: Event = {"model": task, "ts": time.time() - 1, "features": features}
        if task == "regression":
            event["prediction"] = row["p"] + (25 if row["country"] == moved else 0)
        elif task == "binary":
            score = row["p_yes"]
            score = 0.5 + (score - 0.5) / 8 if row["country"] == hard else score
            event["score"] = score + (1 - score) / 2 if row["country"] == moved else score
        else:
            event["scores"] = {name: row[f"p_{name}"] for name in pipeline.CLASSES[task]}
        events.append(event)
    return events


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_profile_counts_what_was_said_in_each_slice(task: Task, tmp_path: Path) -> None:
    profile, rows = sliced(task), rows_of(task)
    assert profile.slices
    assert list(profile.slices) == ["country", "amount", "country*owner", "age"]
    variable = profile.said
    assert variable is not None
    if isinstance(variable, CategoricalVariable):
        scores = np.array([[row[f"p_{name}"] for name in pipeline.CLASSES[task]] for row in rows])
        said = scores.argmax(axis=1)
    else:
        values = [row["p" if task == "regression" else "p_yes"] for row in rows]
        said = np.searchsorted([variable.edges[first] for first in variable.exported[1:]], values, side="right")
    of_slices = {
        "country": [row["country"] for row in rows],
        "amount": [
            ("(-inf,0.5)", "[0.5,2)", "[2,+inf)")[(row["amount"] >= 0.5) + (row["amount"] >= 2)] for row in rows
        ],
        "country*owner": [f"{row['country']}*{str(row['owner']).lower()}" for row in rows],
    }
    for segment, names in of_slices.items():
        found = {(name, code): n for name, each in profile.slices[segment].items() for code, n in enumerate(each) if n}
        assert found == Counter(zip(names, said.tolist(), strict=True))
    assert len(profile.slices["age"]) == 11, "ten bins and the unknown"
    save(profile, tmp_path / "p.json")
    kept = load(tmp_path / "p.json")
    assert kept.slices == profile.slices
    assert kept.digest == profile.digest != built(task, {}).digest


def test_slices_that_no_row_can_have_are_refused() -> None:
    for segments, said in {"countri": "neither a feature nor", "country": "edges cut numbers"}.items():
        with pytest.raises(BuildError, match=said):
            built("binary", {segments: [1.0]})


def test_what_can_be_expected_of_a_slice_is_what_its_scores_say() -> None:
    events = unlabelled("binary", 8000, hard="IT")
    shown = watched("binary", events, benchmarks={"accuracy": {"min": 0.7}, "f1": {"min": 0.5}, "mcc": {"min": 0.1}})
    edges, calibrator = np.array(sliced("binary").score_edges), sliced("binary").calibrator
    assert calibrator is not None
    for country in ("DE", "FR", "IT"):
        scores = np.array([e["score"] for e in events if e["features"]["country"] == country])
        p = np.array(calibrator.probabilities[0])[np.searchsorted(edges, scores, side="right")]
        yes = scores >= 0.5
        of = {"window": "15m", "segment": "country", "slice": country}
        accuracy = shown.value("ml_segment_performance_estimated", metric="accuracy", **of)
        assert accuracy == pytest.approx(np.where(yes, p, 1 - p).mean(), rel=1e-9)
        f1 = shown.value("ml_segment_performance_estimated", metric="f1", **of)
        assert f1 == pytest.approx(2 * p[yes].sum() / (yes.sum() + p.sum()), rel=1e-9)
        assert not shown.series("ml_segment_performance_estimated", metric="mcc")
    worse = shown.by("slice", "ml_segment_estimated_worse", segment="country", metric="accuracy")
    assert worse == {"DE": 0, "FR": 0, "IT": 1, "other": 0, "unknown": 0}
    assert not shown.series("ml_segment_performance", segment="country"), "no label has come"


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_what_can_be_expected_of_slices_adds_up_to_the_whole(task: Task) -> None:
    metric = {"multiclass": "accuracy", "regression": "mae"}[task]
    shown = watched(task, unlabelled(task, 3000))
    of = {"window": "15m", "segment": "country", "metric": metric}
    estimated = shown.by("slice", "ml_segment_performance_estimated", **of)
    sizes = shown.by("slice", "ml_segment_window_predictions", window="15m", segment="country")
    whole = shown.value("ml_model_performance_estimated", window="15m", metric=metric)
    assert sum(value * sizes[name] for name, value in estimated.items()) / 3000 == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_slice_that_the_model_says_something_else_of_has_drifted(task: Task) -> None:
    events = unlabelled(task, 6000, moved="IT")
    shown = watched(task, events)
    profile = sliced(task)
    assert profile.slices
    variable = profile.said
    assert variable is not None
    assert not isinstance(variable, CategoricalVariable)
    edges = [variable.edges[first] for first in variable.exported[1:]]
    values = [e["score" if task == "binary" else "prediction"] for e in events if e["features"]["country"] == "IT"]
    current = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) / len(values)
    reference = np.array(profile.slices["country"]["IT"])
    of = {"window": "15m", "segment": "country"}
    drift = shown.value("ml_segment_drift", slice="IT", **of)
    assert drift == pytest.approx(np.abs(current - reference / reference.sum()).sum() / 2, rel=1e-12)
    assert shown.by("slice", "ml_segment_drifted", **of) == {"DE": 0, "FR": 0, "IT": 1}
    limits = shown.by("slice", "ml_segment_drift_threshold", **of)
    assert drift is not None
    assert 0.1 == limits["DE"] <= limits["FR"] <= limits["IT"] < drift
    assert set(shown.by("slice", "ml_segment_drifted", window="15m", segment="amount").values()) == {0}


def test_drift_of_slices_is_told_in_words_and_absent_where_the_profile_knows_none_of_them() -> None:
    service = pipeline.service("binary", segments=SEGMENTS)
    pipeline.submit(service, pipeline.ndjson(unlabelled("binary", 2000)))
    shown = pipeline.scrape(service)
    assert not shown.series("ml_segment_drift")
    assert shown.series("ml_segment_performance_estimated")
    off = pipeline.service("binary", segments=SEGMENTS, estimation={"enabled": False})
    pipeline.submit(off, pipeline.ndjson(unlabelled("binary", 200)))
    assert not pipeline.scrape(off).series("ml_segment_performance_estimated")
    model = {"name": "binary", "task": "binary", "profile": "p.json", "segments": SEGMENTS, "windows": ["15m"]}
    config = Config.model_validate({"models": [model | {"benchmarks": {"accuracy": {"min": 0.7}}}]})
    told = Service(config, {"binary": sliced("binary")}, Options())
    told.intake.closed = None
    pipeline.submit(told, pipeline.ndjson(unlabelled("binary", 9000, hard="FR")))
    pipeline.fill_windows(told)
    (report,) = told.status().models
    assert any(r.startswith("estimated accuracy") and "of country=FR in 15m, surely worse" in r for r in report.reasons)
    assert any(r.startswith("predictions of country=FR drifted in 15m: tvd 0.") for r in report.reasons)
    assert report.state == "suspect"


def test_an_impossible_segment_is_an_error_of_the_configuration(tmp_path: Any) -> None:
    save(pipeline.profile("binary"), tmp_path / "p.json")
    file = tmp_path / "mlops-exporter.yml"
    for written, said in {
        "[countri]": "countri: the profile knows no such attribute",
        "['country*age*amount']": "limits.groups is",
        "[country, country]": "every attribute once",
        "{attributes: [country], tolerance: 2}": "must be less than or equal to 1",
        "[{name: country, edges: [1]}]": "this feature is categorical",
    }.items():
        file.write_text(f"models: [{{name: m, task: binary, profile: p.json, segments: {written}}}]")
        with pytest.raises(ConfigError) as error:
            read(file)
        assert said in str(error.value), error.value
