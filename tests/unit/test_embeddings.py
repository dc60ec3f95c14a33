import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter.collectors.multivariate import MultivariateCollector
from mlops_exporter.counting.model import Model
from mlops_exporter.profile.vectors import to_vectors
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.support.embeddings import DIMENSIONS, model_of_texts, texts
from tests.support.one_model import WINDOW, feed, fresh, samples

WHERE = '{model="m",version="default",window="1h",feature="text",statistic="'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model_of_texts(tmp_path_factory.mktemp("embedding"))


def found(model: Model, vectors: list[Any]) -> dict[str, tuple[float, float]]:
    model = fresh(model)
    feed(model, [{"features": {"text": vector, "length": 1.0}, "prediction": 1} for vector in vectors])
    values = samples(MultivariateCollector([model]))
    return {
        name: (
            values[f'ml_feature_embedding_drift{WHERE}{name}"}}'],
            values[f'ml_feature_embedding_drift_threshold{WHERE}{name}"}}'],
        )
        for name in ("mmd", "cosine", "norm")
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, set()),
        ({"shift": 0.3}, {"mmd", "cosine", "norm"}),  # vectors that turn grow longer here
        ({"scale": 1.2}, {"mmd", "norm"}),
        ({"flipped": True}, {"mmd"}),
    ],
)
def test_each_statistic_sees_its_own_kind_of_drift(model: Model, change: dict[str, Any], seen: set[str]) -> None:
    drift = found(model, texts(1500, 2, **change).tolist())
    beyond = {name for name, (value, threshold) in drift.items() if value > threshold}
    assert seen <= beyond
    assert change or not beyond
    if "flipped" not in change:
        assert beyond - {"mmd"} == seen - {"mmd"}


def test_values_are_those_of_the_vectors(model: Model) -> None:
    vectors = texts(300, 3, shift=0.2)
    drift = found(model, vectors.tolist())
    mean, reference = vectors.mean(0), np.array(model.reference.profile.embeddings["text"].means)
    cosine = mean @ reference / np.linalg.norm(mean) / np.linalg.norm(reference)
    assert drift["cosine"][0] == pytest.approx(1 - cosine, abs=1e-6)
    known = np.array([row for number, row in enumerate(texts(4000, 1)) if number % 50])
    norms = np.linalg.norm(known, axis=1)
    expected = abs(np.linalg.norm(vectors, axis=1).mean() - norms.mean()) / norms.std()
    assert drift["norm"][0] == pytest.approx(expected, abs=1e-4)


def test_what_is_no_vector_of_that_length_counts_nowhere(model: Model) -> None:
    good = texts(200, 4).tolist()
    bad: list[Any] = [None, [1.0, 2.0], "text", {"a": 1}, ["x"] * DIMENSIONS, [1.0] * (DIMENSIONS + 1)]
    for name, pair in found(model, good + bad).items():
        assert pair == pytest.approx(found(model, good)[name])


def test_cells_to_vectors() -> None:
    vectors = to_vectors([[1, 2], None, [3, "x"], [1], [4.0, 5.0], [1e99, 0]], 2)
    np.testing.assert_array_equal(vectors[:, [0, 4]], [[1, 4], [2, 5]])
    assert np.isnan(vectors[:, [1, 2, 3, 5]]).all()


@pytest.mark.parametrize(("mean", "normalised", "absent"), [(1.0, True, "norm"), (0.0, False, "cosine")])
def test_no_length_and_no_direction_cannot_drift(tmp_path: Path, mean: float, normalised: bool, absent: str) -> None:
    def vectors(n: int, seed: int) -> list[list[float]]:
        drawn = np.random.default_rng(seed).normal(mean, 1.0, (n, 8))
        lengths = np.linalg.norm(drawn, axis=1, keepdims=True) if normalised else 1.0
        rounded: list[list[float]] = np.round(drawn / lengths, 6).tolist()
        return rounded

    path = tmp_path / "reference.ndjson"
    path.write_text("\n".join(json.dumps({"text": vector}) for vector in vectors(1000, 1)))
    profile, _ = build(BuildRequest(data=path, task="regression", features=("text",)))
    settings = ModelSettings.model_validate({"name": "m", "task": "regression", "profile": "p", "windows": [WINDOW]})
    model = Model(settings, profile, Limits())
    feed(model, [{"features": {"text": vector}, "prediction": 1.0} for vector in vectors(1000, 2)])
    values = samples(MultivariateCollector([model]))
    names = {name for name in ("mmd", "cosine", "norm") if f'ml_feature_embedding_drift{WHERE}{name}"}}' in values}
    limited = {
        name for name in ("mmd", "cosine", "norm") if f'ml_feature_embedding_drift_threshold{WHERE}{name}"}}' in values
    }
    assert names == limited == {"mmd", "cosine", "norm"} - {absent}
