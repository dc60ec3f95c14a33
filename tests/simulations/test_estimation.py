"""Error rates by simulation: estimation."""

from pathlib import Path

import pytest

from mlops_exporter.collectors.estimation import EstimationCollector
from tests.support.estimation import BINARY, binary, estimated, events, realised
from tests.support.one_model import feed, fresh, make_model, samples


@pytest.mark.simulation
def test_realised_accuracy_falls_into_the_range_nineteen_times_in_twenty(tmp_path: Path) -> None:
    n, windows = 300, 150
    inside = dict.fromkeys(("accuracy", "precision", "recall", "f1", "roc_auc"), 0)
    reference = binary(20_000, 1, distortion=2.0)
    for window in range(windows):
        if window == 0:
            model = make_model(tmp_path, reference, BINARY, min_samples={"performance": 10})
        table = binary(n, 1000 + 2 * window, shift=0.7, distortion=2.0)
        model = fresh(model)
        feed(model, events(table, labelled=False))
        found = samples(EstimationCollector([model]))
        for metric, value in realised(table).items():
            inside[metric] += estimated(found, metric, "_lower") <= value <= estimated(found, metric, "_upper")
    for metric, count in inside.items():
        share = count / windows
        assert share >= 0.90, metric  # 95 % less three standard errors of 150 windows
