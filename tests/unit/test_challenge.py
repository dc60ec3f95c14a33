from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.collectors.challenge import ChallengeCollector
from exporter.model import Model
from exporter.statistics import comparison
from tests.unit.models import feed, make_model, samples

N = 1500


def _scores(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the scores of a champion and of a better challenger."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 2, N)
    label = (rng.random(N) < 1 / (1 + np.exp(-truth))).astype(int)
    champion, challenger = (1 / (1 + np.exp(-truth - rng.normal(0, noise, N))) for noise in (2.0, 0.5))
    return label, champion, challenger


def _model(directory: Path) -> Model:
    label, champion, _ = _scores(1)
    table = {"x": champion.tolist(), "score": champion.tolist(), "y": label.tolist()}
    request = {"task": "binary", "label": "y", "scores": {"1": "score"}, "features": ("x",)}
    return make_model(directory, table, request, challenge={"champion": "1", "challenger": 2})


def _events(version: str, scores: np.ndarray, rows: range) -> list[dict[str, Any]]:
    return [{"version": version, "id": f"e{row}", "score": float(scores[row])} for row in rows]


def _found(model: Model) -> dict[str, float]:
    return {
        key.replace('model="m",champion="1",challenger="2",window="1h"', ""): value
        for key, value in samples(ChallengeCollector([model])).items()
    }


def test_the_paired_difference_is_that_of_the_same_events(tmp_path: Path) -> None:
    model = _model(tmp_path)
    label, champion, challenger = _scores(2)
    labels = [{"id": f"e{row}", "label": int(label[row])} for row in range(N)]
    feed(model, _events("1", champion, range(N)) + _events("2", challenger, range(1000)))
    assert model.waiting_predictions("1") == N
    assert model.waiting_predictions("2") == 1000
    feed(model, labels[: N // 2])
    feed(model, labels[N // 2 :] + labels[:10])
    found = _found(model)
    assert found["ml_challenger_window_pairs{}"] == 1000
    both = slice(0, 1000)
    y = label[both]
    right = [(scores[both] >= 0.5) == y for scores in (champion, challenger)]
    likelihood = [np.where(y == 1, scores[both], 1 - scores[both]) for scores in (champion, challenger)]
    expected = {
        "accuracy": right[1].mean() - right[0].mean(),
        "brier_score": np.square(1 - likelihood[1]).mean() - np.square(1 - likelihood[0]).mean(),
        "log_loss": -np.log(likelihood[1]).mean() + np.log(likelihood[0]).mean(),
    }
    for metric, value in expected.items():
        name = f'{{,metric="{metric}"}}'
        assert found[f"ml_challenger_difference{name}"] == pytest.approx(value)
        assert found[f"ml_challenger_difference_lower{name}"] < value < found[f"ml_challenger_difference_upper{name}"]
    assert found['ml_challenger_difference_lower{,metric="accuracy"}'] > 0
    assert model.labels_unmatched == 0
    assert model.labels_duplicate == 10
    lifetime = {name: version.lifetime for name, version in model.versions.items()}
    assert [lifetime[name][model.layout.labels.start] for name in ("1", "2")] == [N, 1000]


def test_order_and_restarts_do_not_matter(tmp_path: Path) -> None:
    label, champion, challenger = _scores(3)
    labels = [{"id": f"e{row}", "label": int(label[row])} for row in range(N)]
    one, other = _model(tmp_path), _model(tmp_path)
    feed(one, _events("1", champion, range(N)) + _events("2", challenger, range(N)) + labels)
    feed(other, _events("2", challenger, range(N)) + labels)
    again = _model(tmp_path)
    again.seed = other.seed
    again.restore(other.state())
    feed(again, _events("1", champion, range(N)))
    assert _found(again) == pytest.approx(_found(one))
    assert _found(one)["ml_challenger_window_pairs{}"] == N


def test_regressions_compare_their_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    y = rng.normal(10, 3, N)
    predictions = {"1": y + rng.normal(0, 2, N), "2": y + rng.normal(0, 1, N)}
    table = {"x": y.tolist(), "y": y.tolist(), "p": predictions["1"].tolist()}
    request = {"task": "regression", "label": "y", "prediction": "p", "features": ("x",)}
    model = make_model(tmp_path, table, request, challenge={"champion": "1", "challenger": "2"})
    feed(
        model,
        [
            {"version": version, "id": f"e{row}", "prediction": float(p), "label": float(y[row])}
            for version, values in predictions.items()
            for row, p in enumerate(values)
        ],
    )
    found = _found(model)
    error = [np.abs(values - y) for values in predictions.values()]
    assert found['ml_challenger_difference{,metric="mae"}'] == pytest.approx(error[1].mean() - error[0].mean())
    rmse = [np.sqrt(np.square(e).mean()) for e in error]
    assert found['ml_challenger_difference{,metric="rmse"}'] == pytest.approx(rmse[1] - rmse[0])
    assert found['ml_challenger_difference_upper{,metric="rmse"}'] < 0


@pytest.mark.simulation
@pytest.mark.parametrize("n", [50, 1000])
def test_intervals_cover_the_true_difference(n: int) -> None:
    rng = np.random.default_rng(5)
    windows = 4000
    hard = rng.random((windows, n))
    a, b = ((hard + rng.normal(0, 0.3, (windows, n)) < rate).astype(np.float64) for rate in (0.7, 0.75))
    big = np.random.default_rng(6)
    shared = big.random(2_000_000)
    truth = [float((shared + big.normal(0, 0.3, len(shared)) < rate).mean()) for rate in (0.7, 0.75)]
    rates = comparison.rate_difference(np.full(windows, float(n)), comparison.sums(a, b))
    difference = truth[1] - truth[0]
    assert ((rates.lower <= difference) & (difference <= rates.upper)).mean() == pytest.approx(0.95, abs=0.012)
    common = rng.normal(0, 1, (windows, n))
    errors = [np.square(common + scale * rng.normal(0, 1, (windows, n))) for scale in (1.0, 0.5)]
    roots = comparison.root_difference(np.full(windows, float(n)), comparison.sums(*errors))
    difference = np.sqrt(1.25) - np.sqrt(2)
    covered = ((roots.lower <= difference) & (difference <= roots.upper)).mean()
    assert covered == pytest.approx(0.95, abs=0.03 if n < 100 else 0.012)
