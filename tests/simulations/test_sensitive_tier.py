"""The sensitive tier of drift: how often it tells of small changes, and of none."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_exporter.judging.drift import Comparison
from tests.support.one_model import make_model

FEATURES, WINDOWS, ROWS = 20, 100, 5_000

F64 = NDArray[np.float64]


def drawn(rng: np.random.Generator, n: int) -> F64:
    """Half of the features normal, half of them log-normal."""
    values = rng.standard_normal((FEATURES, n))
    np.exp(values[FEATURES // 2 :], out=values[FEATURES // 2 :])
    return values


@pytest.mark.simulation
def test_small_changes_are_told_as_often_as_peers_tell_them_and_none_seldom(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table = {f"f{index:02d}": row.tolist() for index, row in enumerate(drawn(rng, 20_000))}
    table["y"] = rng.integers(0, 2, 20_000).tolist()
    reference = make_model(tmp_path, table, {"task": "binary", "label": "y", "positive": "1"}).reference
    layout, settings = reference.layout, reference.settings
    comparison = Comparison(layout, settings.drift, settings.min_samples.drift)

    def told(feature: int, shift: float = 0.0, zeros: float = 0.0) -> tuple[float, float, float]:
        """How often the feature, and any, is told by the sensitive tier, and the feature by the one that warns."""
        totals = np.zeros((WINDOWS, layout.size))
        for row in totals:
            values = drawn(rng, ROWS)
            values[feature] += shift
            values[feature, rng.random(ROWS) < zeros] = 0.0
            layout.count_features(row, values, np.empty((0, ROWS), np.intp))
        drift = comparison.compare(totals)
        found = comparison.significantly_drifted(drift)
        warned = comparison.surely_drifted(drift)
        return found[:, feature].mean(), found.any(axis=1).mean(), warned[:, feature].mean()

    assert told(0)[1] <= 0.03
    shifted = told(0, shift=0.1)
    assert shifted[0] >= 0.83
    assert shifted[2] == 0
    assert told(FEATURES - 1, zeros=0.05)[0] == 1
