from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mlops_exporter.collectors.data import DataCollector
from mlops_exporter.statistics import discovery
from mlops_exporter.statistics.drift import Statistic
from tests.support.one_model import feed, fresh, make_model, samples


def test_discoveries_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    p = rng.random((20, 50)) ** 3
    expected = np.stack([false_discovery_control(row) <= 0.1 for row in p])
    np.testing.assert_array_equal(discovery.discoveries(p, 0.1), expected)
    p[:, ::2] = np.nan
    expected = np.stack([false_discovery_control(row[1::2]) <= 0.1 for row in p])
    np.testing.assert_array_equal(discovery.discoveries(p, 0.1)[:, 1::2], expected)
    assert not discovery.discoveries(p, 0.1)[:, ::2].any()


@pytest.mark.parametrize("statistic", ["psi", "js", "hellinger", "ks", "tvd", "wasserstein"])
def test_a_value_at_its_critical_value_has_the_p_value_alpha(statistic: Statistic) -> None:
    ratio = np.array([0.5, 1.0, 2.0])
    p = discovery.p_values(statistic, ratio, np.full(3, 10), 0.01)
    assert p[1] == pytest.approx(0.01)
    assert p[0] > 0.01 > 1e-3 > p[2]


def test_a_features_statistics_count_as_one_test() -> None:
    p = np.array([[0.01, 0.2, np.nan], [np.nan, np.nan, np.nan], [0.9, 0.8, 0.7]])
    np.testing.assert_allclose(discovery.combined(p), [0.02, np.nan, 1.0])


@pytest.mark.slow
def test_drift_is_weighted_by_what_matters_to_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n = 4000
    x = rng.normal(0, 1, (n, 3))
    table = {f"x{i}": x[:, i].tolist() for i in range(3)}
    table["p"] = (3 * x[:, 0] + x[:, 1]).tolist()
    request = {"task": "regression", "prediction": "p", "features": ("x0", "x1", "x2")}
    model = make_model(tmp_path, table, request)
    importances = model.reference.profile.importances
    assert importances["x0"] == pytest.approx(0.9, abs=0.02)
    assert importances["x2"] < 0.01
    where = '{model="m",version="default",window="1h"'
    weighted = []
    for moved in (0, 2):
        model = fresh(model)
        values = rng.normal(0, 1, (2000, 3))
        values[:, moved] += 1.0
        feed(model, [{"features": {f"x{i}": v for i, v in enumerate(row)}, "prediction": 0} for row in values.tolist()])
        found = samples(DataCollector([model]))
        assert found[f"ml_model_drifted_features_controlled{where}}}"] == 1
        weighted.append(found[f'ml_model_weighted_drift{where},statistic="psi"}}'])
        expected = sum(
            importances[f"x{i}"] * found[f'ml_feature_drift{where},feature="x{i}",statistic="psi"}}'] for i in range(3)
        )
        assert weighted[-1] == pytest.approx(expected)
    assert weighted[0] > 20 * weighted[1]


def test_importances_of_the_user_go_before(tmp_path: Path) -> None:
    table = {"a": [1.0, 2.0] * 50, "b": [3.0, 4.0] * 50, "p": [0.0, 1.0] * 50}
    request = {"task": "regression", "prediction": "p", "importances": {"b": 3.0, "a": 1.0}}
    model = make_model(tmp_path, table, request)
    assert model.reference.profile.importances == {"a": 0.25, "b": 0.75}
