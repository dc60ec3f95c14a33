"""Slices of the traffic: counted as they come, held against the rest, told when one is surely worse."""

import time
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from mlops_exporter.profile.profile import Task, save
from mlops_exporter.service.configuration import read
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
