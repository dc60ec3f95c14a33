"""Random streams through the whole pipeline: what a scrape shows is what scikit-learn and SciPy make of the events."""

import asyncio
import math
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn import metrics

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable, Variable
from mlops_exporter.profile.profile import Task
from tests.support import pipeline
from tests.support.pipeline import CLASSES, GRID, Event, Exposition

Floats = NDArray[np.float64]

WINDOWS = ("15m", "1h")
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(0, 300)
streams = settings(max_examples=15, deadline=None)


class Stream:
    """Random events of one model, and what they say: labelled pairs and feature values."""

    def __init__(self, task: Task, size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.task = task
        self.events: list[Event] = []
        self.features: list[Event] = []
        self.pairs: list[tuple[Any, Any, Any]] = []  # prediction, scores, label
        self.delayed = 0
        now = time.time()
        labels: list[Event] = []
        for number in range(size):
            features = _features(random)
            prediction, said = _said(task, random)
            event = {"model": task, "version": "7", "id": f"{seed}-{number}", "ts": now - 60 * random.random()}
            event |= said | {"features": features}
            label = _label(task, random, prediction)
            fate = random.random()
            if fate < 0.4:
                event["label"] = label
            elif fate < 0.8:
                labels.append({"model": task, "id": event["id"], "label": label, "ts": now - random.random()})
                self.delayed += 1
            if fate < 0.8:
                self.pairs.append((prediction, said.get("score", said.get("scores")), label))
            self.features.append(features)
            self.events.append(event)
        self.events += labels
        if random.random() < 0.5:  # labels may also come before their predictions
            self.events = [self.events[place] for place in random.permutation(len(self.events))]
        cuts = np.sort(random.integers(0, len(self.events) + 1, 3)).tolist()
        self.bodies = [
            pipeline.ndjson(self.events[start:stop])
            for start, stop in zip([0, *cuts], [*cuts, len(self.events)], strict=True)
        ]

    def shown(self, *statistics: str) -> Exposition:
        """Send the events; `statistics` are those of drift that a test wants, since their thresholds take time."""
        service = pipeline.service(self.task, drift={"statistics": list(statistics)})
        accepted, refused = pipeline.submit(service, *self.bodies)
        assert (accepted, refused) == (len(self.events), [])
        return pipeline.scrape(service)


def _features(random: np.random.Generator) -> Event:
    """Values like the reference's and unlike them, missing ones, ones of the wrong type, absent ones."""
    odd = [None, "text", math.nan, 1e308, -1e308, True, [1]]
    features: Event = {
        "amount": float(random.lognormal(0.3)) if random.random() < 0.9 else odd[random.integers(len(odd))],
        "rooms": int(random.poisson(3.5)),
        "age": float(random.normal(44, 12)) if random.random() < 0.7 else None,
        "country": ["DE", "FR", "IT", "XX", None, 7, {}][random.choice(7, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.025, 0.025])],
        "owner": [True, False, "true", None, 1][random.choice(5, p=[0.4, 0.4, 0.1, 0.05, 0.05])],
    }
    if random.random() < 0.1:
        del features["age"]
    return features


def _said(task: Task, random: np.random.Generator) -> tuple[Any, Event]:
    """What the model said: the prediction that counts, and the members of the event that carry it."""
    if task == "regression":
        prediction = float(random.normal(100, 20))
        return prediction, {"prediction": prediction}
    names = CLASSES[task]
    cells = random.multinomial(GRID, np.full(len(names), 1 / len(names)))
    scores = {"score": cells[1] / GRID} if task == "binary" else {"scores": dict(zip(names, cells / GRID, strict=True))}
    decided = names[int(cells[1] >= GRID / 2)] if task == "binary" else names[int(cells.argmax())]
    other = str(random.choice(names))
    return [(decided, scores), (other, scores | {"prediction": other}), (other, {"prediction": other})][
        random.choice(3, p=[0.5, 0.3, 0.2])
    ]


def _label(task: Task, random: np.random.Generator, prediction: Any) -> Any:
    if task == "regression":
        return prediction + float(random.normal(2, 6))
    return prediction if random.random() < 0.6 else str(random.choice(CLASSES[task]))


def expected_performance(stream: Stream) -> dict[str, float]:
    """What scikit-learn says; without the metrics that are not defined for the pairs."""
    predicted = np.array([pair[0] for pair in stream.pairs])
    actual = np.array([pair[2] for pair in stream.pairs])
    if stream.task == "regression":
        return _regression(predicted, actual)
    scored = [pair for pair in stream.pairs if pair[1] is not None]
    names = CLASSES[stream.task]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = _classes(predicted, actual, names)
        values |= _probabilities(scored, names)
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}


def _regression(predicted: Floats, actual: Floats) -> dict[str, float]:
    if not len(actual):
        return {}
    values = {
        "mae": metrics.mean_absolute_error(actual, predicted),
        "rmse": metrics.root_mean_squared_error(actual, predicted),
        "mape": metrics.mean_absolute_percentage_error(actual, predicted),
        "bias": (predicted - actual).mean(),
    }
    return values | ({"r2": metrics.r2_score(actual, predicted)} if len(actual) > 1 else {})


def _classes(predicted: NDArray[Any], actual: NDArray[Any], names: list[str]) -> dict[str, float]:
    if not len(actual):
        return {}
    binary = len(names) == 2
    how: dict[str, Any] = {"zero_division": np.nan}
    how |= {"pos_label": "yes"} if binary else {"labels": names, "average": "macro"}
    rates = [
        metrics.recall_score(actual != name, predicted != name, zero_division=np.nan)
        for name in (["yes"] if binary else names)
    ]
    values = {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "precision": metrics.precision_score(actual, predicted, **how),
        "recall": metrics.recall_score(actual, predicted, **how),
        "specificity": np.nan if np.isnan(rates).all() else np.nanmean(rates),
        "f1": metrics.f1_score(actual, predicted, **how),
    }
    if len(set(actual)) > 1:
        values["balanced_accuracy"] = metrics.balanced_accuracy_score(actual, predicted)
        if len(set(predicted)) > 1:
            values["mcc"] = metrics.matthews_corrcoef(actual, predicted)
    return values


def _probabilities(scored: list[tuple[Any, Any, Any]], names: list[str]) -> dict[str, float]:
    if not scored:
        return {}
    actual = np.array([pair[2] for pair in scored])
    if len(names) > 2:
        scores = np.array([[pair[1][name] for name in names] for pair in scored])
        values = {
            "log_loss": metrics.log_loss(actual, scores, labels=names),
            "brier_score": float(np.square(scores - (actual[:, None] == names)).sum(axis=1).mean()),
        }
        if len(set(actual)) == len(names):
            areas = [metrics.roc_auc_score(actual == name, scores[:, k]) for k, name in enumerate(names)]
            values["roc_auc"] = float(np.mean(areas))
        top = scores.argmax(axis=1)
        values["expected_calibration_error"] = _calibration_error(scores.max(axis=1), np.array(names)[top] == actual)
        return values
    score, positive = np.array([pair[1] for pair in scored]), actual == "yes"
    values = {
        "log_loss": metrics.log_loss(positive, score, labels=[False, True]),
        "brier_score": metrics.brier_score_loss(positive, score),
        "expected_calibration_error": _calibration_error(score, positive),
    }
    if positive.any():
        values["average_precision"] = metrics.average_precision_score(positive, score)
        if not positive.all():
            values["roc_auc"] = metrics.roc_auc_score(positive, score)
    return values


def _calibration_error(score: Floats, right: NDArray[np.bool_]) -> float:
    bins = np.minimum((score * 10).astype(int), 9)
    return float(sum(abs((right - score)[bins == k].sum()) for k in range(10)) / len(score))


OF_OWN = {"expected_calibration_error_by_chance", "expected_calibration_error_corrected"}
"""Metrics that no library has: see test_calibration."""


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@given(size=sizes, seed=seeds)
@streams
def test_performance_is_scikit_learns(task: Task, size: int, seed: int) -> None:
    stream = Stream(task, size, seed)
    shown = stream.shown("tvd")
    expected = expected_performance(stream)
    for window in WINDOWS if size else ():
        values = shown.by("metric", "ml_model_performance", window=window)
        values = {name: value for name, value in values.items() if name not in OF_OWN}
        assert values.keys() == expected.keys()
        assert values == pytest.approx(expected, abs=1e-9)
        lower = shown.by("metric", "ml_model_performance_lower", window=window)
        upper = shown.by("metric", "ml_model_performance_upper", window=window)
        for name, value in values.items():
            if name in lower:
                assert lower[name] - 1e-9 <= value <= upper[name] + 1e-9
        assert shown.value("ml_model_window_labels", window=window) == len(stream.pairs)
        assert shown.value("ml_model_window_predictions", window=window) == size
    if size:
        assert shown.value("ml_model_labels_total") == len(stream.pairs)
        assert shown.value("ml_model_pending_predictions") == size - len(stream.pairs)
        assert shown.value("ml_model_label_delay_seconds_count") == stream.delayed
    if size and task == "regression":
        errors = np.array([prediction - label for prediction, _, label in stream.pairs])
        assert shown.value("ml_model_absolute_error_sum_total") == pytest.approx(np.abs(errors).sum())
        assert shown.value("ml_model_squared_error_sum_total") == pytest.approx(np.square(errors).sum())
        assert shown.value("ml_model_overprediction_sum_total") == pytest.approx(errors.clip(0).sum())
        assert shown.value("ml_model_underprediction_sum_total") == pytest.approx(-errors.clip(None, 0).sum())
    for predicted in CLASSES[task] if size else ():
        for actual in CLASSES[task]:
            count = sum(pair[0] == predicted and pair[2] == actual for pair in stream.pairs)
            assert shown.value("ml_model_confusion_total", predicted=predicted, actual=actual) == count


def cells(variable: Variable, values: list[Any]) -> list[int]:
    """Count values into the variable's cells, one by one."""
    counts = [0] * variable.cells
    for value in values:
        if isinstance(variable, NumericVariable):
            if value is None or (isinstance(value, float) and math.isnan(value)):
                counts[-1] += 1
            elif isinstance(value, bool) or not isinstance(value, int | float):
                counts[-2] += 1
            else:
                counts[sum(edge <= value for edge in variable.edges)] += 1
        else:
            name = {True: "true", False: "false"}[value] if isinstance(value, bool) else value
            if isinstance(name, list | dict):
                counts[-2] += 1
            elif name is None:
                counts[-1] += 1
            else:
                found = str(name) in variable.categories
                counts[variable.categories.index(str(name)) if found else -3] += 1
    return counts


def merged(counts: list[int], starts: list[int]) -> Floats:
    return np.add.reduceat(np.array(counts[:-2], float), starts)


def expected_drift(variable: Variable, counts: list[int]) -> dict[str, float]:
    """What SciPy says of the same bins."""
    current, reference = merged(counts, variable.exported_starts), merged(variable.counts, variable.exported_starts)
    p, q = current / current.sum(), reference / reference.sum()
    ps, qs = (current + 0.5) / (current + 0.5).sum(), (reference + 0.5) / (reference + 0.5).sum()
    values = {
        "psi": stats.entropy(ps, qs) + stats.entropy(qs, ps),
        "js": jensenshannon(ps, qs, base=2),
        "hellinger": math.sqrt(np.square(np.sqrt(ps) - np.sqrt(qs)).sum() / 2),
        "tvd": np.abs(p - q).sum() / 2,
    }
    if isinstance(variable, NumericVariable):
        fine, base = merged(counts, variable.fine_starts), merged(variable.counts, variable.fine_starts)
        places = np.arange(len(fine))
        values["ks"] = stats.ks_2samp(
            np.repeat(places, fine.astype(int)), np.repeat(places, base.astype(int))
        ).statistic
        positions = variable.positions
        values["wasserstein"] = (
            stats.wasserstein_distance(positions, positions, fine, base) / variable.standard_deviation
        )
    return {name: float(value) for name, value in values.items()}


@pytest.mark.slow
@given(size=sizes, seed=seeds)
@streams
def test_drift_is_scipys_on_the_same_bins(size: int, seed: int) -> None:
    stream = Stream("binary", size, seed)
    shown = stream.shown(*pipeline.STATISTICS)
    profile = pipeline.profile("binary")
    scores = [event["score"] for event in stream.events if "score" in event]
    labels = [label for _, _, label in stream.pairs]
    assert profile.score is not None
    assert profile.label is not None
    for name, variable in profile.features.items():
        values = [features.get(name) for features in stream.features]
        counts = cells(variable, values)
        _compare(shown, "ml_feature_drift", variable, counts, feature=name)
        if not size:
            continue
        for window in WINDOWS:
            quality = {"window": window, "feature": name}
            assert shown.value("ml_feature_missing_ratio", **quality) == pytest.approx(counts[-1] / size)
            assert shown.value("ml_feature_invalid_ratio", **quality) == pytest.approx(counts[-2] / size)
            if valid := size - counts[-1] - counts[-2]:
                outside = counts[-3] + (counts[0] if isinstance(variable, NumericVariable) else 0)
                kind = "unseen_category" if isinstance(variable, CategoricalVariable) else "out_of_range"
                assert shown.value(f"ml_feature_{kind}_ratio", **quality) == pytest.approx(outside / valid)
        exported = [*merged(counts, variable.exported_starts), *counts[-2:]]
        for (bin_, range_), count in zip(variable.exported_labels, exported, strict=True):
            assert shown.value("ml_feature_values_total", feature=name, bin=bin_, range=range_) == count
    _compare(shown, "ml_prediction_drift", profile.score, cells(profile.score, scores))
    _compare(shown, "ml_label_drift", profile.label, cells(profile.label, labels))


def _compare(shown: Exposition, metric: str, variable: Variable, counts: list[int], **labels: str) -> None:
    enough = sum(counts[:-2]) >= 10
    expected = expected_drift(variable, counts) if enough else {}
    for window in WINDOWS:
        values = shown.by("statistic", metric, window=window, **labels)
        assert values == pytest.approx(expected, abs=1e-9)
        thresholds = shown.by("statistic", f"{metric}_threshold", window=window, **labels)
        assert thresholds.keys() == expected.keys()
        assert all(threshold > 0 for threshold in thresholds.values())


@pytest.mark.slow
def test_models_and_versions_are_counted_apart() -> None:
    service = pipeline.service("binary", "regression")
    events: list[Event] = []
    for number in range(60):
        version = ["1", 2, None][number % 3]
        events.append({"model": "binary", "version": version, "id": f"b{number}", "prediction": "yes", "label": "yes"})
        events.append({"model": "regression", "id": f"b{number}", "prediction": 5.0, "label": 4.0})
    accepted, refused = pipeline.submit(service, pipeline.ndjson(events))
    assert (accepted, refused) == (120, [])
    shown = pipeline.scrape(service)
    assert shown.by("version", "ml_model_predictions_total", model="binary") == {"1": 20, "2": 20, "default": 20}
    assert shown.value("ml_model_predictions_total", model="regression") == 60
    assert shown.value("ml_model_performance", model="regression", metric="mae", window="1h") == 1.0
    assert shown.by("version", "ml_model_performance", model="binary", metric="accuracy", window="1h") == {
        "1": 1.0,
        "2": 1.0,
        "default": 1.0,
    }
    assert shown.value("ml_exporter_events_total", source="push") == 120


def test_an_event_older_than_every_window_counts_in_totals_only() -> None:
    service = pipeline.service("regression")
    old = {"model": "regression", "prediction": 1.0, "label": 2.0, "ts": time.time() - 2 * 3600}
    new = {"model": "regression", "prediction": 1.0, "label": 2.0, "ts": time.time() - 1800}
    pipeline.submit(service, pipeline.ndjson([old, old, new]))
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_predictions_total") == 3
    assert shown.by("window", "ml_model_window_predictions") == {"15m": 0, "1h": 1}
    assert shown.value("ml_exporter_events_late_total", source="push") == 2


def test_windows_go_on_once_a_clock_that_was_ahead_is_right_again() -> None:
    service = pipeline.service("binary")
    body = pipeline.ndjson([{"model": "binary", "prediction": "yes", "label": "yes"}] * 10)
    now = time.time()

    async def run() -> None:
        for quarter_minute in range(60):
            await service.intake.submit("push", body, now + 3600 + 15 * quarter_minute)
        service.intake.flush()
        service.intake.expire(now)
        await service.intake.submit("push", body, now)

    asyncio.run(run())
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_predictions_total") == 610
    assert shown.by("window", "ml_model_window_predictions") == {"15m": 10, "1h": 10}
    assert shown.by("window", "ml_model_window_labels") == {"15m": 10, "1h": 10}
    for metric in ("ml_model_last_prediction_timestamp_seconds", "ml_model_last_label_timestamp_seconds"):
        assert shown.value(metric) == pytest.approx(now, abs=1)


def test_without_a_drift_statistic_all_else_is_shown() -> None:
    service = pipeline.service("binary", drift={"statistics": []})
    events = [{"model": "binary", "prediction": "no", "label": "no", "features": {"country": "DE"}}] * 200
    assert pipeline.submit(service, pipeline.ndjson(events)) == (200, [])
    exposition = pipeline.scrape(service)
    assert set(exposition.by("collector", "ml_exporter_collector_success").values()) == {1.0}
    assert not exposition.series("ml_feature_drift")
    assert exposition.value("ml_model_performance", window="15m", metric="accuracy") == 1.0
    (model,) = service.status().models
    assert model.predictions == 200
