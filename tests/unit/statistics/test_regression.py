import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn import metrics

from mlops_exporter.statistics import regression
from mlops_exporter.statistics.regression import moments, split

F64 = NDArray[np.float64]

pairs = hnp.arrays(np.float64, st.tuples(st.just(2), st.integers(2, 80)), elements=st.floats(-1e3, 1e3, width=32))


@pytest.mark.slow
@given(pairs, st.floats(-10, 10))
def test_equal_to_scikit_learn(pair: F64, offset: float) -> None:
    prediction, label = pair
    sums = moments(prediction, label, float(label.mean()) + offset)
    assert sums.shape == (regression.CELLS,)
    for metric, wanted in [
        (regression.mae, metrics.mean_absolute_error(label, prediction)),
        (regression.rmse, metrics.root_mean_squared_error(label, prediction)),
        (regression.bias, (prediction - label).mean()),
    ]:
        assert float(metric(sums).value) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@given(pairs)
def test_r2_equals_scikit_learn(pair: F64) -> None:
    prediction, label = pair
    assume(label.std() > 1e-3)
    sums = moments(prediction, label, float(label.mean()))
    assert float(regression.r2(sums).value) == pytest.approx(metrics.r2_score(label, prediction), rel=1e-9, abs=1e-9)


def test_labels_next_to_zero_are_zero_to_relative_errors() -> None:
    sums = moments(np.array([1.0, 3e4, 1.0]), np.array([5e-324, -1e-300, 1e-49]), 0.0)
    assert np.isfinite(sums).all()
    assert split(sums).zeros == 2
    assert regression.mape(sums).value == pytest.approx(1e49)
    assert np.isfinite(regression.mae(sums).value)


@given(pairs)
def test_mape_equals_scikit_learn_on_the_labels_other_than_zero(pair: F64) -> None:
    prediction, label = pair
    value = float(regression.mape(moments(prediction, label, 0.0)).value)
    known = label != 0
    if not known.any():
        assert np.isnan(value)
    else:
        assume(np.abs(label[known]).min() > 1e-9)  # scikit-learn divides by no less than the machine epsilon
        expected = metrics.mean_absolute_percentage_error(label[known], prediction[known])
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.slow
@given(pairs, pairs)
def test_sums_of_batches_add_up(one: F64, other: F64) -> None:
    both = np.concatenate([one, other], axis=1)
    np.testing.assert_allclose(
        moments(one[0], one[1], 0.5) + moments(other[0], other[1], 0.5),
        moments(both[0], both[1], 0.5),
        rtol=1e-9,
        atol=1e-6,
    )


@given(pairs)
def test_over_and_underprediction(pair: F64) -> None:
    error = pair[0] - pair[1]
    sums = moments(pair[0], pair[1], 0.0)
    assert float(regression.overprediction_sum(sums)) == pytest.approx(error.clip(0).sum(), abs=1e-7)
    assert float(regression.underprediction_sum(sums)) == pytest.approx((-error).clip(0).sum(), abs=1e-7)
    assert split(sums).absolute == pytest.approx(np.abs(error).sum())
    assert split(sums).error2 == pytest.approx((error**2).sum())


def test_r2_keeps_its_digits_far_from_zero() -> None:
    rng = np.random.default_rng(9)
    label = 1e6 + rng.standard_normal(1_000)
    prediction = label + 0.3 * rng.standard_normal(1_000)
    assert float(regression.r2(moments(prediction, label, 1e6 + 0.5)).value) == pytest.approx(
        metrics.r2_score(label, prediction), rel=1e-9
    )


def test_intervals_equal_the_definitions() -> None:
    rng = np.random.default_rng(10)
    label = 20 + 2 * rng.standard_normal(400)
    prediction = label + 0.1 + rng.standard_normal(400)
    error = prediction - label
    sums = moments(prediction, label, 19.0)

    def half(values: F64) -> float:
        return float(1.959963984540054 * values.std(ddof=1) / np.sqrt(400))

    for metric, values in [
        (regression.mae, abs(error)),
        (regression.bias, error),
        (regression.mape, abs(error / label)),
    ]:
        estimate = metric(sums)
        assert float(estimate.upper - estimate.value) == pytest.approx(half(values), rel=1e-9)
        assert float(estimate.value - estimate.lower) == pytest.approx(half(values), rel=1e-9)
    mse = (error**2).mean()
    rmse = regression.rmse(sums)
    assert float(rmse.upper) ** 2 == pytest.approx(mse * np.exp(half(error**2) / mse), rel=1e-9)
    assert float(rmse.lower) ** 2 == pytest.approx(mse / np.exp(half(error**2) / mse), rel=1e-9)
    centred = (label - label.mean()) ** 2
    ratio = (error**2).mean() / centred.mean()
    influence = (error**2 - ratio * centred) / centred.mean()
    r2 = regression.r2(sums)
    assert float(1 - r2.lower) == pytest.approx(ratio * np.exp(half(influence) / ratio), rel=1e-9)
    assert float(1 - r2.upper) == pytest.approx(ratio / np.exp(half(influence) / ratio), rel=1e-9)


def test_nothing_and_too_little_is_nan() -> None:
    empty = np.zeros((2, regression.CELLS))
    for metric in (regression.mae, regression.rmse, regression.mape, regression.bias, regression.r2):
        assert np.isnan(metric(empty).value).all()
    single = moments(np.array([1.0]), np.array([2.0]), 0.0)
    assert regression.mae(single).value == 1
    assert np.isnan(regression.mae(single).lower)
    assert np.isnan(regression.r2(single).value)
    constant = moments(np.array([1.0, 2.0]), np.array([3.0, 3.0]), 0.0)
    assert np.isnan(regression.r2(constant).value)


def test_perfect_predictions() -> None:
    label = np.array([1.0, 2.0, 4.0])
    sums = moments(label, label, 0.0)
    assert [float(part) for part in regression.rmse(sums)] == [0, 0, 0]
    assert [float(part) for part in regression.r2(sums)] == [1, 1, 1]
