from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn

from mlops_exporter.collectors.estimation import EstimationCollector
from mlops_exporter.statistics import estimation
from mlops_exporter.statistics.intervals import Estimate
from tests.support.estimation import BINARY, Table, binary, estimated, events, realised
from tests.support.one_model import feed, make_model, samples


def gap(found: dict[str, float], metric: str, suffix: str = "") -> float:
    return found[f'ml_model_performance_gap{suffix}{{model="m",version="default",window="1h",metric="{metric}"}}']


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, -1.5, 2.0])
@pytest.mark.parametrize("distortion", [1.0, 3.0])
def test_estimates_follow_the_realised_value_under_covariate_shift(
    tmp_path: Path, shift: float, distortion: float
) -> None:
    model = make_model(tmp_path, binary(20_000, 1, distortion=distortion), BINARY)
    assert model.reference.profile.calibrator is not None
    assert model.reference.profile.calibrator.isotonic == [distortion != 1.0]
    table = binary(4000, 11, shift=shift, distortion=distortion)
    feed(model, events(table, labelled=False))
    found = samples(EstimationCollector([model]))
    assert not any(key.startswith("ml_model_performance_gap") for key in found)
    for metric, value in realised(table).items():
        assert estimated(found, metric, "_lower") <= value <= estimated(found, metric, "_upper"), metric
        assert estimated(found, metric) == pytest.approx(value, abs=0.03), metric


@pytest.mark.slow
def test_concept_drift_is_not_seen_by_the_estimate_but_by_the_gap(tmp_path: Path) -> None:
    model = make_model(tmp_path, binary(20_000, 1), BINARY)
    healthy = binary(3000, 21)
    feed(model, events(healthy, labelled=True))
    found = samples(EstimationCollector([model]))
    assert all(gap(found, metric, "_lower") < 0 < gap(found, metric, "_upper") for metric in realised(healthy))

    model = make_model(tmp_path, binary(20_000, 1), BINARY)
    table = binary(3000, 31, concept=0.2)
    feed(model, events(table, labelled=True))
    found = samples(EstimationCollector([model]))
    for metric, value in realised(table).items():
        assert gap(found, metric) == pytest.approx(value - estimated(found, metric), abs=0.002)
        assert gap(found, metric, "_upper") < 0, metric
    assert estimated(found, "accuracy") > realised(table)["accuracy"] + 0.1


def multiclass(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal([shift, 0, 0], 1.5, (n, 3))
    truth = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    label = (truth.cumsum(1) > rng.random((n, 1))).argmax(1)
    told = np.exp(2 * x) / np.exp(2 * x).sum(1, keepdims=True)
    return x, told, label


def test_multiclass_estimates_follow_the_realised_value(tmp_path: Path) -> None:
    x, scores, label = multiclass(20_000, 5)
    table = {"x": x[:, 0].tolist(), "y": label.tolist(), **{f"p{k}": scores[:, k].tolist() for k in range(3)}}
    request = {"task": "multiclass", "label": "y", "scores": {str(k): f"p{k}" for k in range(3)}, "features": ("x",)}
    model = make_model(tmp_path, table, request)
    x, scores, label = multiclass(4000, 6, shift=1.5)
    feed(model, [{"scores": {str(k): float(p) for k, p in enumerate(row)}} for row in scores])
    found = samples(EstimationCollector([model]))
    predicted = scores.argmax(1)
    expected = {
        "accuracy": sklearn.accuracy_score(label, predicted),
        "precision": sklearn.precision_score(label, predicted, average="macro"),
        "recall": sklearn.recall_score(label, predicted, average="macro"),
        "f1": sklearn.f1_score(label, predicted, average="macro"),
        "roc_auc": sklearn.roc_auc_score(label, scores, multi_class="ovr"),
    }
    for metric, value in expected.items():
        assert estimated(found, metric) == pytest.approx(value, abs=0.03), metric
    counts = [
        found[f'ml_model_expected_confusion_total{{model="m",version="default",predicted="{p}",actual="{a}"}}']
        for p in range(3)
        for a in range(3)
    ]
    np.testing.assert_allclose(counts, sklearn.confusion_matrix(predicted, label).ravel(), atol=80)
    assert sum(counts) == pytest.approx(4000)


def test_a_rare_class_without_a_label_makes_no_gap(tmp_path: Path) -> None:
    def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        odds = np.exp(rng.normal([0.0, 0.0, -5.0], 1.0, (n, 3)))
        told: np.ndarray = odds / odds.sum(1, keepdims=True)
        return told, (told.cumsum(1) > rng.random((n, 1))).argmax(1)

    scores, label = drawn(10_000, 1)
    request = {"task": "multiclass", "label": "y", "scores": {str(k): f"p{k}" for k in range(3)}, "features": ("p0",)}
    model = make_model(tmp_path, {"y": label.tolist(), **{f"p{k}": scores[:, k].tolist() for k in range(3)}}, request)
    scores, label = drawn(300, 2)
    told = [{str(k): float(p) for k, p in enumerate(row)} for row in scores]
    feed(model, [{"scores": row, "label": int(y)} for row, y in zip(told, label, strict=True) if y != 2])
    found = samples(EstimationCollector([model]))
    for metric in ("recall", "f1"):
        assert gap(found, metric, "_lower") < 0 < gap(found, metric, "_upper"), metric


def regression(n: int, seed: int, *, shift: float = 0.0, noise: float = 1.0) -> Table:
    """Errors that grow with |x| and with z."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    prediction = 10 + 2 * x
    error = rng.normal(0, 1, n) * (0.5 + np.abs(x) + 0.5 * np.maximum(z, 0)) * noise
    return {"x": x.tolist(), "z": z.tolist(), "p": prediction.tolist(), "y": (prediction - error).tolist()}


REGRESSION = {"task": "regression", "label": "y", "prediction": "p", "features": ("x", "z")}


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_expected_errors_follow_the_realised_ones_under_covariate_shift(tmp_path: Path, shift: float) -> None:
    """On the mean of four references: which penalty their folds choose moves a single one by some per cent."""
    table = regression(4000, 2, shift=shift)
    error = np.array(table["p"]) - np.array(table["y"])
    realised = {"mae": np.abs(error).mean(), "rmse": np.sqrt(np.square(error).mean())}
    ratios: dict[str, list[float]] = {metric: [] for metric in realised}
    for seed in range(1, 5):
        model = make_model(tmp_path, regression(20_000, seed), REGRESSION)
        assert model.reference.profile.losses is not None
        assert model.reference.profile.losses.explained > 0.1
        rows = zip(*table.values(), strict=True)
        feed(model, [{"features": {"x": x, "z": z}, "prediction": p} for x, z, p, _ in rows])
        found = samples(EstimationCollector([model]))
        for metric, value in realised.items():
            ratios[metric].append(estimated(found, metric) / value)
            assert estimated(found, metric, "_lower") < estimated(found, metric) < estimated(found, metric, "_upper")
    for each in ratios.values():
        assert np.mean(each) == pytest.approx(1, abs=0.06)


@pytest.mark.slow
def test_the_gap_of_errors_shows_concept_drift(tmp_path: Path) -> None:
    for noise, drifts in ((1.0, False), (1.5, True)):
        model = make_model(tmp_path, regression(20_000, 1), REGRESSION)
        table = regression(3000, 3, noise=noise)
        rows = zip(*table.values(), strict=True)
        feed(model, [{"features": {"x": x, "z": z}, "prediction": p, "label": y} for x, z, p, y in rows])
        found = samples(EstimationCollector([model]))
        for metric in ("mae", "rmse"):
            assert (gap(found, metric, "_lower") > 0) == drifts


def test_the_family_can_be_switched_off(tmp_path: Path) -> None:
    model = make_model(tmp_path, binary(500, 1), BINARY, estimation={"enabled": False})
    assert model.reference.estimation is None
    feed(model, events(binary(200, 2), labelled=True))
    assert samples(EstimationCollector([model])) == {}


def test_neighbouring_bins_are_learnt_together() -> None:
    reference = np.array([[0.0, 1, 1, 0, 2, 6, 0, 0], [5.0, 0, 0, 0, 0, 0, 0, 5]])
    starts = estimation.runs(reference, most=2)
    np.testing.assert_array_equal(starts, [0, 1, 5, 8, 15])
    probability = np.full((2, 8), 0.5)
    histogram = np.zeros((2, 8))
    histogram[0, 1:5] = 1  # four predictions in a run of four reference labels
    factor = estimation.inflation(histogram, probability, reference, starts)
    assert float(factor) == pytest.approx(1 + 4 * 4 / 4 / 4)


def test_a_gap_within_the_tolerance_is_let_pass() -> None:
    estimated = Estimate(np.array(0.8), np.array(0.79), np.array(0.81))
    strict = estimation.gap(np.array(0.815), estimated, np.array(0.0))
    assert (float(strict.lower), float(strict.upper)) == pytest.approx((0.005, 0.025))
    lenient = estimation.gap(np.array(0.815), estimated, np.array(0.01))
    assert (float(lenient.lower), float(lenient.upper)) == pytest.approx((-0.005, 0.035))
