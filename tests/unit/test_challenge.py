from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_exporter.collectors.challenge import ChallengeCollector
from mlops_exporter.counting.model import Model
from mlops_exporter.statistics import comparison
from tests.support.challenge import histograms
from tests.support.one_model import feed, make_model, samples

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
    assert [lifetime[name][model.reference.layout.labels.start] for name in ("1", "2")] == [N, 1000]


def _delong(y: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> tuple[float, float]:
    """Difference of the areas and its standard error, from the scores themselves."""
    ranks = []
    for scores in (champion, challenger):
        won = np.sign(scores[y == 1][:, np.newaxis] - scores[y == 0]) / 2 + 0.5
        ranks.append((won.mean(1), won.mean(0)))
    of_positives, of_negatives = (ranks[1][part] - ranks[0][part] for part in (0, 1))
    variance = of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)
    return float(of_positives.mean()), float(np.sqrt(variance))


def test_the_areas_differ_as_delong_says(tmp_path: Path) -> None:
    model = _model(tmp_path)
    label, champion, challenger = _scores(2)
    labels = [{"id": f"e{row}", "label": int(label[row])} for row in range(N)]
    feed(model, _events("1", champion, range(N)) + _events("2", challenger, range(N)) + labels)
    found = _found(model)
    value, lower, upper = (
        found[f'ml_challenger_difference{part}{{,metric="roc_auc"}}'] for part in ("", "_lower", "_upper")
    )
    expected, error = _delong(label, champion, challenger)
    assert expected == pytest.approx(roc_auc_score(label, challenger) - roc_auc_score(label, champion))
    assert value == pytest.approx(expected, abs=0.001)
    assert (upper - lower) / 2 == pytest.approx(1.96 * error, rel=0.03)
    alone = [comparison.roc_auc_difference(*histograms(label, champion, other)) for other in (champion, challenger)]
    assert alone[0].value == 0
    assert alone[0].upper - alone[0].lower < 0.1 * (alone[1].upper - alone[1].lower)


def test_areas_of_one_class_do_not_differ_and_perfect_ones_are_not_certain() -> None:
    y = np.arange(40) % 2
    none = comparison.roc_auc_difference(*histograms(y * 0, y * 0.5, y * 0.5))
    assert np.isnan(none).all()
    perfect = comparison.roc_auc_difference(*histograms(y, y * 0.5, y * 0.9))
    assert perfect.value == 0
    assert -0.3 < perfect.lower < -0.05
    assert 0.05 < perfect.upper < 0.3
    single = comparison.roc_auc_difference(*histograms(np.arange(40) // 39, np.linspace(0, 0.9, 40), y * 0.5))
    assert single.lower < single.value < single.upper


def test_pairs_of_a_release_that_compared_others_are_left_behind(tmp_path: Path) -> None:
    label, champion, challenger = _scores(3)
    labels = [{"id": f"e{row}", "label": int(label[row])} for row in range(N)]
    model, again = _model(tmp_path), _model(tmp_path)
    feed(model, _events("1", champion, range(N)) + _events("2", challenger, range(N)) + labels)
    state = model.state()
    del state["challenge"]["metrics"]
    for window in state["challenge"]["windows"].values():
        window["panes"] = window["panes"][:, :16]
    again.restore(state)
    assert _found(again)["ml_challenger_window_pairs{}"] == 0


@pytest.mark.slow
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


@pytest.mark.slow
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
