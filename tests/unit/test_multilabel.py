"""Predictions that are sets of classes: what a scrape shows is what scikit-learn makes of the events."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.trees import pack, unpack
from mlops_exporter.profile.profile import Profile, save
from mlops_exporter.profile.sets import among, as_numbers, members_of
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.settings.models import Limits, ModelSettings
from mlops_exporter.statistics import multilabel
from tests.support import pipeline
from tests.support.one_model import feed
from tests.support.pipeline import Event, Exposition

NAMES = np.array(pipeline.CLASSES["multilabel"])
Flags = NDArray[np.bool_]

OF_ALL = {
    "subset_accuracy": metrics.accuracy_score,
    "hamming_loss": metrics.hamming_loss,
    **{
        f"{prefix}{name}": lambda a, p, name=name, average=average: getattr(metrics, f"{name}_score")(
            a, p, average=average, zero_division=np.nan
        )
        for prefix, average in (("", "macro"), ("micro_", "micro"))
        for name in ("precision", "recall", "f1")
    },
}


def drawn(count: int, seed: int = 3, classes: int = 3) -> tuple[Flags, NDArray[np.float64]]:
    """Actual sets and scores, which have something to do with each other within an event."""
    rng = np.random.default_rng(seed)
    inclined = rng.integers(0, pipeline.GRID // 2, (count, 1))
    scores = (inclined + rng.integers(0, pipeline.GRID // 2 + 1, (count, classes))) / pipeline.GRID
    return rng.random((count, classes)) < scores, scores


def named(row: Flags) -> list[str]:
    return list(NAMES[row])


def events_of(actual: Flags, scores: NDArray[np.float64], *, scored: bool) -> list[Event]:
    now = time.time()
    said = [
        {"scores": dict(zip(NAMES, row, strict=True))} if scored else {"prediction": named(row >= 0.5)}
        for row in scores.tolist()
        for row in [np.array(row)]
    ]
    return [
        {"model": "multilabel", "version": "7", "id": f"{scored}{n}", "ts": now - 5, "label": named(truth), **each}
        for n, (each, truth) in enumerate(zip(said, actual, strict=True))
    ]


def shown(*bodies: bytes, **settings: Any) -> Exposition:
    service = pipeline.service("multilabel", drift={"statistics": []}, **settings)
    _, refused = pipeline.submit(service, *bodies)
    assert refused == []
    return pipeline.scrape(service)


@pytest.mark.parametrize("scored", [True, False])
def test_every_metric_is_scikit_learns(scored: bool) -> None:
    actual, scores = drawn(300)
    predicted = scores >= 0.5
    exposition = shown(pipeline.ndjson(events_of(actual, scores, scored=scored)))
    for name, metric in OF_ALL.items():
        of = {"window": "15m", "metric": name}
        assert exposition.value("ml_model_performance", **of) == pytest.approx(metric(actual, predicted), abs=1e-9)
        value, lower, upper = (exposition.value(f"ml_model_performance{end}", **of) for end in ("", "_lower", "_upper"))
        assert -1 < (lower or -1) < (value or -1) < (upper or -1)
    for index, cls in enumerate(NAMES):
        for name in ("precision", "recall", "f1"):
            wanted = getattr(metrics, f"{name}_score")(actual[:, index], predicted[:, index])
            found = exposition.value("ml_model_class_performance", window="15m", metric=name, **{"class": cls})
            assert found == pytest.approx(wanted, abs=1e-9)
        auc = exposition.value("ml_model_class_performance", window="15m", metric="roc_auc", **{"class": cls})
        assert auc == (pytest.approx(metrics.roc_auc_score(actual[:, index], scores[:, index])) if scored else None)
        for guess in (0, 1):
            for truth in (0, 1):
                count = np.count_nonzero((predicted[:, index] == guess) & (actual[:, index] == truth))
                of = {"class": cls, "predicted": str(guess), "actual": str(truth)}
                assert exposition.value("ml_model_class_confusion_total", **of) == count
    assert exposition.value("ml_model_exact_sets_total") == np.count_nonzero((predicted == actual).all(axis=1))


def test_calibration_is_each_class_s_own() -> None:
    actual, scores = drawn(400)
    exposition = shown(pipeline.ndjson(events_of(actual, scores, scored=True)))
    errors = []
    for index, cls in enumerate(NAMES):
        bins = np.minimum((scores[:, index] * 10).astype(int), 9)
        gap = np.bincount(bins, actual[:, index] - scores[:, index], 10)
        errors.append(np.abs(gap).sum() / len(actual))
        of = {"window": "15m", "metric": "expected_calibration_error", "class": cls}
        assert exposition.value("ml_model_class_performance", **of) == pytest.approx(errors[-1], abs=1e-9)
    of = {"window": "15m", "metric": "expected_calibration_error"}
    assert exposition.value("ml_model_performance", **of) == pytest.approx(np.mean(errors), abs=1e-9)
    assert exposition.value("ml_model_calibration_positives_total", bin="0.3") == sum(
        actual[(scores >= 0.2) & (scores < 0.3)]
    )


def test_what_can_be_expected_is_cbpe_of_each_class() -> None:
    """Each class by itself, as NannyML defines it: Σ p of the predicted ones are hits, Σ p of the others misses."""
    _, scores = drawn(2500)
    events = events_of(scores < -1, scores, scored=True)
    unlabelled = [{key: value for key, value in event.items() if key != "label"} for event in events]
    exposition = shown(pipeline.ndjson(unlabelled), benchmarks={"micro_f1": {"min": 0.99}})
    profile = pipeline.profile("multilabel")
    assert profile.calibrator is not None
    bins = np.searchsorted(profile.score_edges, scores, side="right")
    p = np.array(profile.calibrator.probabilities)[np.arange(3), bins]
    predicted = scores >= 0.5
    hits, misses = (p * predicted).sum(0), (p * ~predicted).sum(0)
    of_class = {"precision": hits / predicted.sum(0), "recall": hits / (hits + misses)}
    of_class["f1"] = 2 * hits / (predicted.sum(0) + hits + misses)
    for metric, values in of_class.items():
        of = {"window": "15m", "metric": metric}
        found = exposition.by("class", "ml_model_class_performance_estimated", **of)
        assert list(found.values()) == pytest.approx(values.tolist(), rel=1e-9)
        lower, upper = (
            exposition.by("class", f"ml_model_class_performance_estimated_{end}", **of) for end in ("lower", "upper")
        )
        assert all(lower[cls] < value < upper[cls] for cls, value in found.items())
        assert exposition.value("ml_model_performance_estimated", **of) == pytest.approx(values.mean(), rel=1e-9)
    micro = {"precision": hits.sum() / predicted.sum(), "recall": hits.sum() / (hits + misses).sum()}
    micro["f1"] = 2 * hits.sum() / (predicted.sum() + (hits + misses).sum())
    for metric, value in micro.items():
        found_of_all = exposition.value("ml_model_performance_estimated", window="15m", metric=f"micro_{metric}")
        assert found_of_all == pytest.approx(value, rel=1e-9)
    loss = exposition.value("ml_model_performance_estimated", window="15m", metric="hamming_loss")
    assert loss == pytest.approx(np.where(predicted, 1 - p, p).mean(), rel=1e-9)
    assert not exposition.series("ml_model_performance_estimated", metric="subset_accuracy"), "no class alone tells"
    assert not exposition.series("ml_model_performance_gap")


def test_without_a_change_labels_make_no_gap() -> None:
    exposition = shown(pipeline.ndjson(events_of(*drawn(3000), scored=True)))
    for metric in ("hamming_loss", "precision", "recall", "f1", "micro_f1", "roc_auc"):
        of = {"window": "15m", "metric": metric}
        gap = exposition.value("ml_model_performance_gap", **of)
        realised = exposition.value("ml_model_performance", **of)
        estimated = exposition.value("ml_model_performance_estimated", **of)
        assert realised is not None
        assert estimated is not None
        assert gap == pytest.approx(realised - estimated, abs=1e-9)
        lower, upper = (exposition.value(f"ml_model_performance_gap_{end}", **of) for end in ("lower", "upper"))
        assert (lower or 1) < 0 < (upper or -1)
    other = shown(pipeline.ndjson(events_of(drawn(3000, seed=4)[0], drawn(3000)[1], scored=True)))
    upper = other.value("ml_model_performance_gap_upper", window="15m", metric="micro_f1")
    assert upper is not None
    assert upper < 0, "labels have nothing to do with scores"


def test_an_estimate_below_the_benchmark_is_told() -> None:
    service = pipeline.service("multilabel", drift={"statistics": []}, benchmarks={"micro_f1": {"min": 0.95}})
    _, scores = drawn(2500)
    events = events_of(scores < -1, scores, scored=True)
    pipeline.submit(service, pipeline.ndjson([{k: v for k, v in event.items() if k != "label"} for event in events]))
    pipeline.fill_windows(service)
    (report,) = service.status().models
    assert report.state == "suspect"
    assert any(reason.startswith("estimated micro_f1 0.") for reason in report.reasons)


def test_labels_may_come_later_and_be_corrected() -> None:
    actual, scores = drawn(200)
    events = events_of(actual, scores, scored=False)
    predictions = [{key: value for key, value in event.items() if key != "label"} for event in events]
    wrong = [{"model": "multilabel", "id": event["id"], "label": []} for event in events]
    labels = [{"model": "multilabel", "id": event["id"], "label": event["label"]} for event in events]
    exposition = shown(*map(pipeline.ndjson, (predictions, wrong, labels)))
    assert exposition.value("ml_model_labels_corrected_total") == np.count_nonzero(actual.any(axis=1))
    of = {"window": "15m", "metric": "micro_f1"}
    wanted = metrics.f1_score(actual, scores >= 0.5, average="micro")
    assert exposition.value("ml_model_performance", **of) == pytest.approx(wanted, abs=1e-9)


def test_arrow_says_the_same_as_json() -> None:
    actual, scores = drawn(200)
    events = events_of(actual, scores, scored=False)
    for event in events:
        event["scores"] = dict(zip(NAMES.tolist(), scores[int(event["id"][5:])].tolist(), strict=True))
    columns = {name: [event[name] for event in events] for name in events[0]}
    table = pa.table({**columns, "prediction": pa.array(columns["prediction"], pa.list_(pa.string()))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    by_arrow, by_json = shown(sink.getvalue().to_pybytes()), shown(pipeline.ndjson(events))
    for name in ("ml_model_performance", "ml_model_class_performance", "ml_model_class_confusion_total"):
        assert by_arrow.series(name)
        assert by_arrow.series(name) == by_json.series(name)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"prediction": ["cat", "yak"]}, "unknown_class"),
        ({"prediction": ["cat"], "label": ["yak"]}, "unknown_class"),
        ({"prediction": ["cat", None]}, "unknown_class"),
        ({"prediction": [["cat"]]}, "bad_prediction"),
        ({"prediction": {"cat": 1}}, "bad_prediction"),
        ({"prediction": ["cat"], "label": [["cat"]]}, "bad_label"),
        ({"scores": {"cat": 1.5}}, "bad_score"),
        ({"scores": {"yak": 0.5}}, "bad_score"),
    ],
)
def test_what_is_no_set_of_classes_is_refused(event: dict[str, Any], reason: str) -> None:
    service = pipeline.service("multilabel", drift={"statistics": []})
    assert pipeline.submit(service, pipeline.ndjson([{"model": "multilabel", **event}])) == (0, [(1, reason)])


def test_a_class_alone_is_a_set_of_one_and_twice_the_same_is_once() -> None:
    events: list[Event] = [{"prediction": "cat", "label": ["cat", "cat"]}, {"prediction": [], "label": []}]
    exposition = shown(pipeline.ndjson([{"model": "multilabel"} | event for event in events]))
    assert exposition.value("ml_model_exact_sets_total") == 2


@pytest.mark.parametrize("agreed", [0.2, 0.9])
def test_a_benchmark_is_kept_or_failed(agreed: float) -> None:
    actual, scores = drawn(600)
    service = pipeline.service(
        "multilabel",
        benchmarks={"micro_f1": {"min": agreed}},
        change={"enabled": False},
        drift={"statistics": []},
    )
    events = events_of(actual, scores, scored=True)
    assert pipeline.submit(service, pipeline.ndjson(events)) == (len(events), [])
    pipeline.fill_windows(service)
    (model,) = service.status().models
    assert model.state == ("good" if agreed < 0.5 else "failing")
    assert pipeline.scrape(service).value("ml_model_benchmark_min", metric="micro_f1") == agreed


@pytest.mark.slow
def test_a_class_that_got_worse_is_named_while_the_others_are_well() -> None:
    service = pipeline.service(
        "multilabel",
        benchmarks={"micro_f1": {"max_drop": 0.02}, "recall": {"max_drop": 0.02}},
        change={"enabled": False},
        drift={"statistics": ["js"]},
    )
    rows = pipeline.reference_rows("multilabel", 3000, seed=5)
    events = []
    for number, row in enumerate(rows):
        scores = {name: row[f"p_{name}"] for name in NAMES}
        if number % 2:
            scores["dog"] = 0.0  # half of the dogs are not seen any more
        label = [name for name in row["y"].split("|") if name]
        events.append({"model": "multilabel", "ts": time.time() - 1, "scores": scores, "label": label})
    assert pipeline.submit(service, pipeline.ndjson(events)) == (len(events), [])
    pipeline.fill_windows(service)
    shown = pipeline.scrape(service)
    for name in ("f1", "recall"):
        worse = shown.by("class", "ml_model_class_worse", window="15m", metric=name)
        assert worse == {"cat": 0, "dog": 1, "emu": 0}
        usual = pipeline.profile("multilabel").class_performance["dog"][name]
        of_dogs = {"class": "dog", "metric": name}
        assert shown.value("ml_model_class_performance_reference", **of_dogs) == usual
    assert not shown.series("ml_model_class_worse", metric="precision")
    (model,) = service.status().models
    assert any("of class dog in 15m, surely worse" in reason for reason in model.reasons)


def test_classes_that_are_alike_are_told_of_by_nothing() -> None:
    service = pipeline.service("multilabel", benchmarks={"f1": {"max_drop": 0.0}}, drift={"statistics": []})
    actual, scores = drawn(2000)
    rng = np.random.default_rng(1)
    scores = rng.integers(0, pipeline.GRID + 1, scores.shape) / pipeline.GRID
    actual = rng.random(scores.shape) < scores
    events = events_of(actual, scores, scored=True)
    assert pipeline.submit(service, pipeline.ndjson(events)) == (len(events), [])
    assert set(pipeline.scrape(service).series("ml_model_class_worse").values()) == {0.0}


def model_of(profile: Profile, **settings: Any) -> Model:
    written = {"name": "m", "task": "multilabel", "profile": "m.json", "windows": ["15m", "1h"], **settings}
    return Model(ModelSettings.model_validate(written), profile, Limits())


def test_a_restart_and_a_reload_keep_what_was_counted_and_what_waits() -> None:
    former, now = model_of(pipeline.profile("multilabel")), time.time()
    feed(former, [{"id": n, "ts": now - 9, "version": "1", "prediction": ["cat", "emu"]} for n in range(4)])
    feed(former, [{"id": n, "ts": now - 8, "label": ["emu", "cat"]} for n in range(2)])
    restored, reloaded = (model_of(pipeline.profile("multilabel"), label_ttl="8d") for _ in range(2))
    restored.restore(unpack(pack(former.state())))
    reloaded.take_over(former)
    for model in (restored, reloaded):
        feed(model, [{"id": n, "ts": now - 7, "label": ["dog"]} for n in (2, 3)])
        layout = model.reference.layout
        kept = multilabel.split(model.versions["1"].lifetime[layout.decisions], 3)
        assert (float(kept.n), float(kept.exact)) == (4, 2)


def test_another_threshold_begins_anew() -> None:
    profile = pipeline.profile("multilabel")
    assert model_of(profile).reference.basis != model_of(profile, threshold=0.3).reference.basis


def test_versions_may_have_other_classes() -> None:
    codes = np.array([2.0, np.nan, 0.0])
    sets = as_numbers(np.array([[True, False, True], [False, True, False], [False, False, False]]))
    np.testing.assert_array_equal(among(np.array([*sets, np.nan]), codes), [5.0, np.nan, 0.0, np.nan])


def test_sets_of_all_classes_are_exact() -> None:
    members = np.eye(52, dtype=np.bool_) | (np.arange(52) == 51)
    np.testing.assert_array_equal(members_of(as_numbers(members), 52), members)


@pytest.mark.parametrize("form", ["lists.ndjson", "parts.csv", "table.parquet"])
def test_a_profile_is_built_of_lists_and_of_texts(form: str, tmp_path: Path) -> None:
    actual, scores = drawn(400)
    predicted = scores >= 0.5
    rows: list[Event] = [
        {"amount": float(n % 17), "y": named(truth), "p": named(guess)}
        for n, (truth, guess) in enumerate(zip(actual, predicted, strict=True))
    ]
    path = tmp_path / form
    if form.endswith("csv"):
        lines = [f"{row['amount']},{'; '.join(row['y']) or ';'},{'; '.join(row['p']) or ';'}" for row in rows]
        path.write_text("\n".join(["amount,y,p", *lines]))
    elif form.endswith("parquet"):
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(pipeline.ndjson(rows))
    request = BuildRequest(path, "multilabel", label="y", prediction="p", separator=";")
    profile, _ = build(request)
    assert (profile.classes, list(profile.features)) == (["cat", "dog", "emu"], ["amount"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, metric in OF_ALL.items():
            assert profile.performance[name] == pytest.approx(metric(actual, predicted), abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"x": 1, "y": "a|b"}], "--separator"),
        ([{"x": 1, "y": ["a"]}, {"x": 2, "y": []}], "two classes or more"),
        ([{"x": 1, "y": [f"c{number}" for number in range(53)]}], "52 classes at most"),
    ],
)
def test_what_makes_no_profile_is_said(rows: list[Event], said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_bytes(pipeline.ndjson(rows))
    with pytest.raises(BuildError, match=said):
        build(BuildRequest(path, "multilabel", label="y"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fairness": {"attributes": ["country"]}}, "fairness: not for a multilabel model"),
        ({"costs": {"matrix": {"cat": {"dog": 1}}}}, "costs: not for a multilabel model"),
        ({"benchmarks": {"accuracy": {"min": 0.5}}}, "accuracy: not a metric of a multilabel model"),
        ({"benchmarks": {"hamming_loss": {"max_drop": 0.1}}}, "hamming_loss"),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_configuration(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save(pipeline.profile("multilabel"), tmp_path / "m.json")
    path = tmp_path / "c.yml"
    path.write_text(json.dumps({"models": [{"name": "m", "task": "multilabel", "profile": "m.json", **settings}]}))
    with pytest.raises(ConfigError, match=said):
        read(path)


def test_of_two_classes_that_may_both_be_true_each_is_estimated(tmp_path: Path) -> None:
    scores = np.random.default_rng(4).random((1000, 2))
    actual = np.random.default_rng(5).random((1000, 2)) < scores
    texts = ["|".join(np.array(["a", "b"])[each]) or "|" for each in actual]
    lines = [f"{n % 7},{text},{p},{q}" for n, (text, (p, q)) in enumerate(zip(texts, scores.tolist(), strict=True))]
    (tmp_path / "m.csv").write_text("\n".join(["x,y,p_a,p_b", *lines]))
    of_each = {"a": "p_a", "b": "p_b"}
    request = BuildRequest(data=tmp_path / "m.csv", task="multilabel", label="y", scores=of_each, separator="|")
    model = {"name": "m", "task": "multilabel", "profile": "m.json", "min_samples": {"performance": 1}}
    service = Service(Config.model_validate({"models": [model]}), {"m": build(request)[0]}, Options())
    service.intake.closed = None
    events = [{"model": "m", "scores": dict(zip("ab", each, strict=True))} for each in scores.tolist()]
    pipeline.submit(service, pipeline.ndjson(events))
    of = {"window": "15m", "metric": "precision"}
    assert set(pipeline.scrape(service).by("class", "ml_model_class_performance_estimated", **of)) == {"a", "b"}
