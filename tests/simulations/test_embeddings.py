"""Error rates by simulation: embeddings."""

import numpy as np
import pytest

from mlops_exporter.counting.embeddings import EmbeddingCounts
from mlops_exporter.counting.model import Model
from mlops_exporter.judging.embeddings import EmbeddingDrift
from tests.support.embeddings import model_of_texts, texts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model_of_texts(tmp_path_factory.mktemp("embedding"))


@pytest.mark.simulation
def test_without_drift_the_false_alarm_rate_is_kept(model: Model) -> None:
    reference = model.reference.profile.embeddings["text"]
    counts, alpha, windows = EmbeddingCounts("text", reference), 0.05, 400
    drift = EmbeddingDrift(reference, alpha, 0.0, 10)
    cells = np.zeros((windows, counts.cells))
    for window in range(windows):
        counts.count(cells[window], np.ascontiguousarray(texts(200, 10 + window).T, np.float32))
    values, thresholds = drift.compare(cells)
    rates = (values > thresholds).mean(axis=0)
    assert (np.abs(rates - alpha) <= 3 * np.sqrt(alpha * (1 - alpha) / windows)).all(), rates
