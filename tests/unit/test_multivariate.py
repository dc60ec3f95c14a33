from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mlops_exporter.collectors.data import DataCollector
from mlops_exporter.collectors.multivariate import MultivariateCollector
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.multivariate import VectorCounts, VectorMap
from mlops_exporter.demo.run import CONFIG
from mlops_exporter.judging.multivariate import VectorDrift
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.profile import load
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.statistics import multivariate
from tests.support.multivariate import REQUEST, correlated, table_of
from tests.support.one_model import feed, make_model, samples


def events_of(x: np.ndarray) -> list[dict[str, Any]]:
    return [{"features": {f"x{i}": value for i, value in enumerate(row)}, "prediction": 0} for row in x.tolist()]


@pytest.mark.slow
def test_a_rotation_with_unchanged_marginals_is_seen_by_both_and_by_no_single_feature(tmp_path: Path) -> None:
    statistics = ["psi", "js", "hellinger", "ks", "wasserstein", "tvd"]
    settings = {"drift": {"statistics": statistics, "min_effect": {}, "false_alarm_rate": 0.001}}
    model = make_model(tmp_path, table_of(correlated(20_000, 1, 0.8)), REQUEST, **settings)
    feed(model, events_of(correlated(3000, 2, -0.8)))
    where = '{model="m",version="default",window="1h",'
    found = samples(MultivariateCollector([model]))
    for statistic in ("mmd", "pca_reconstruction"):
        value = found[f'ml_data_drift{where}statistic="{statistic}"}}']
        assert value > found[f'ml_data_drift_threshold{where}statistic="{statistic}"}}']
    found = samples(DataCollector([model]))
    for feature in range(6):
        for statistic in statistics:
            labels = f'{where}feature="x{feature}",statistic="{statistic}"}}'
            assert found[f"ml_feature_drift{labels}"] <= found[f"ml_feature_drift_threshold{labels}"]


@pytest.mark.slow
def test_default_effects_let_a_small_shift_of_one_feature_pass_and_catch_a_joint_one(tmp_path: Path) -> None:
    model = make_model(tmp_path, table_of(correlated(20_000, 1, 0.5)), REQUEST)
    reference = model.reference.profile.vectors
    assert reference is not None
    assert model.reference.vectors is not None
    drift = VectorDrift(reference, 0.01, {"mmd": 0.05, "pca_reconstruction": 0.1}, 100)
    vector_map = VectorMap.of(reference, model.reference.layout.numeric)
    alarms = []
    for shift in (np.array([0.05, 0, 0, 0, 0, 0]), np.full(6, 0.5)):
        cells = np.zeros((1, model.reference.vectors.cells))
        model.reference.vectors.count(
            cells[0], vector_map(np.ascontiguousarray((correlated(100_000, 3, 0.5) + shift).T))
        )
        values, thresholds = drift.compare(model.reference.vectors.sums(cells))
        alarms.append(bool((values > thresholds)[0, 0]))
    assert alarms == [False, True]


def test_fourier_features_approximate_the_kernel() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5, 40))
    width = multivariate.bandwidth(5)
    maps = multivariate.fourier_map(x, multivariate.frequencies(1, 5, 4096, width))
    exact = np.exp(-np.square(x[:, :, None] - x[:, None, :]).sum(0) / (2 * width**2))
    np.testing.assert_allclose(maps.T @ maps, exact, atol=0.06)


def test_frequencies_are_the_same_everywhere() -> None:
    raw = (0xC621FBCD16D92688, 0x705A5661A791FFC1)  # the first numbers of PCG64(42)
    expected = [NormalDist(0, 1 / 3).inv_cdf(number / 2**64) for number in raw]
    np.testing.assert_allclose(multivariate.frequencies(42, 1, 2, 3.0)[0], expected, rtol=1e-9)


def test_reconstruction_error_equals_that_of_scikit_learns_components() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4))
    moments = x.T @ x
    components = multivariate.principal_components(moments / 500)
    residual = x - x @ components @ components.T
    error = multivariate.reconstruction_error(np.array(500.0), moments, components)
    assert error == pytest.approx(np.square(residual).sum(1).mean())
    assert components.shape[1] < 4


@pytest.mark.parametrize("factors", [1, 2])
def test_features_that_determine_each_other_raise_no_alarm(tmp_path: Path, factors: int) -> None:
    def table(n: int, seed: int) -> np.ndarray:
        x = np.random.default_rng(seed).standard_normal((n, factors))
        return np.concatenate([x, 2 * x + 1], axis=1)

    model = make_model(tmp_path, table_of(table(3000, 1)), REQUEST)
    feed(model, events_of(table(3000, 2)))
    where = '{model="m",version="default",window="1h",statistic="pca_reconstruction"}'
    found = samples(MultivariateCollector([model]))
    assert found[f"ml_data_drift{where}"] < found[f"ml_data_drift_threshold{where}"]


def test_constants_alone_have_no_components(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"x0": [7.1] * 500, "x1": [-0.1] * 500, "y": [0, 1] * 250}
    model = make_model(tmp_path, table, REQUEST)
    feed(model, events_of(np.full((500, 2), [7.1, -0.1])))
    found = samples(MultivariateCollector([model]))
    where = 'ml_data_drift{model="m",version="default",window="1h",statistic='
    assert found[where + '"mmd"}'] < 1e-6
    assert where + '"pca_reconstruction"}' not in found


def test_missing_and_invalid_values_count_as_the_mean(tmp_path: Path) -> None:
    model = make_model(tmp_path, table_of(correlated(500, 1, 0.5, features=2)), REQUEST)
    reference = model.reference.profile.vectors
    assert reference is not None
    vectors = VectorMap.of(reference, model.reference.layout.numeric)(np.array([[np.nan, np.inf], [1e9, -1e9]]))
    np.testing.assert_array_equal(vectors.values, [[0, 0], [5, -5]])
    variable = model.reference.profile.features["x0"]
    assert isinstance(variable, NumericVariable)
    assert reference.means[0] == variable.mean


def of_kinds(seed: int, n: int, alike: float) -> pd.DataFrame:
    """Rows whose two categories are the same in a share of rows; each for itself is always the same law."""
    rng = np.random.default_rng(seed)
    shares = [0.4, 0.3, 0.15, 0.1, 0.05]
    kind, other = (rng.choice(list("abcde"), n, p=shares) for _ in range(2))
    noise = rng.standard_normal((2, n))
    columns = {"size": noise[0], "weight": 0.8 * noise[0] + 0.6 * noise[1], "kind": kind}
    return pd.DataFrame(columns | {"other": np.where(rng.random(n) < alike, kind, other)})


def test_reconstruction_takes_categories_by_their_shares_as_scikit_learn_would(tmp_path: Path) -> None:
    reference = of_kinds(1, 20_000, 0.8)
    chunks = [of_kinds(seed, 1000, alike) for seed, alike in enumerate([0.8] * 5 + [0.5] * 5, 2)]
    path = tmp_path / "rows.parquet"
    reference.to_parquet(path)
    profile, _ = build(BuildRequest(path, "outcomes"))
    assert profile.vectors is not None
    counts, vector_map = (
        VectorCounts(profile.vectors),
        VectorMap.of(profile.vectors, ["size", "weight"], ["kind", "other"]),
    )
    codes = [profile.features[name].codes for name in ("kind", "other")]  # type: ignore[union-attr]
    cells = np.zeros((len(chunks), counts.cells))
    for row, chunk in zip(cells, chunks, strict=True):
        found = np.array(
            [[of[value] for value in chunk[name]] for of, name in zip(codes, ("kind", "other"), strict=True)]
        )
        counts.count(row, vector_map(chunk[["size", "weight"]].to_numpy().T, found))
    values, thresholds = VectorDrift(profile.vectors, 0.01, {}, 100).compare(counts.sums(cells))
    assert (values > thresholds)[:, 1].tolist() == [False] * 5 + [True] * 5

    shares = {name: reference[name].value_counts(normalize=True) for name in ("kind", "other")}
    scaler, pca = StandardScaler(), PCA(n_components=0.8, svd_solver="full")

    def encoded(rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(rows.assign(**{name: rows[name].map(of) for name, of in shares.items()}), np.float64)

    pca.fit(scaler.fit_transform(encoded(reference)))

    def errors(rows: pd.DataFrame) -> np.ndarray:
        scaled = scaler.transform(encoded(rows))
        return np.asarray(np.square(scaled - pca.inverse_transform(pca.transform(scaled))).sum(axis=1), np.float64)

    usual = errors(reference).mean()
    assert profile.vectors.error_mean == pytest.approx(usual, rel=1e-3)
    expected = [abs(errors(chunk).mean() / usual - 1) for chunk in chunks]
    assert values[:, 1].tolist() == pytest.approx(expected, abs=2e-3)


def test_a_category_that_is_missing_or_new_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    of_kinds(1, 2000, 0.8).to_parquet(path)
    profile, _ = build(BuildRequest(path, "outcomes"))
    assert profile.vectors is not None
    codes = profile.features["kind"].codes  # type: ignore[union-attr]
    vector_map = VectorMap.of(profile.vectors, ["size", "weight"], ["kind", "other"])
    kinds = np.array([[codes[value] for value in ("a", "e", "new", None)]] * 2)
    vectors = vector_map(np.zeros((2, 4)), kinds).values
    common, rare, new, missing = vectors[2].tolist()
    assert common > missing == 0 > rare > new
    assert profile.vectors.shares is not msgspec.UNSET
    for change in ({"kind": [0.5]}, {"size": [1.0], "kind": [0.5]}):
        damaged = msgspec.structs.replace(profile.vectors, shares=change)
        with pytest.raises(ValueError, match="vectors"):
            damaged.validate(list(profile.features), {"kind": 5, "other": 5})


def test_a_profile_from_before_takes_numbers_alone_whatever_the_categories() -> None:
    profile = load(CONFIG.with_name("flights.profile.json"))
    layout, vectors = Layout(profile), profile.vectors
    assert vectors is not None
    assert "shares" not in msgspec.to_builtins(vectors)
    rng = np.random.default_rng(1)
    numeric, codes = rng.normal(size=(len(layout.numeric), 100)), rng.integers(0, 3, (len(layout.categorical), 100))
    assert len(codes) == 2
    found = VectorMap.of(vectors, layout.numeric, layout.categorical)(numeric, codes)
    numbers = VectorMap.of(vectors, layout.numeric)(numeric)
    assert found.values.shape == (len(layout.numeric), 100)
    assert all((one == other).all() for one, other in zip(found, numbers, strict=True))
