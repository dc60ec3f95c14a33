import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mlops_exporter.statistics.intervals import (
    Z,
    bounded_mean,
    delta_multinomial,
    exact_share,
    mean_from_sums,
    normal,
    wilson,
)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilson_equals_scipy(n: int, share: float) -> None:
    successes = round(n * share)
    wanted = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    estimate = wilson(np.array(float(successes)), np.array(float(n)))
    assert float(estimate.value) == successes / n
    assert float(estimate.lower) == pytest.approx(wanted.low, abs=1e-12)
    assert float(estimate.upper) == pytest.approx(wanted.high, abs=1e-12)
    assert 0 <= estimate.lower <= estimate.value <= estimate.upper <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 100), (3, 100), (50, 100), (100, 100)])
def test_an_exact_share_equals_scipy(successes: int, n: int) -> None:
    value, lower, upper = exact_share(np.array([float(successes)]), np.array([float(n)]))
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert (value[0], lower[0], upper[0]) == pytest.approx((successes / n, expected.low, expected.high), abs=1e-9)


def test_an_exact_share_of_nothing_is_unknown() -> None:
    assert np.isnan(exact_share(np.zeros(1), np.zeros(1))).all()


def test_wilson_of_nothing_is_nan() -> None:
    assert all(np.isnan(part) for part in wilson(np.array(float(0)), np.array(float(0))))


def test_normal_is_cut_to_its_range() -> None:
    estimate = normal(np.array([0.1, 0.5, 0.9]), np.array([0.01, 0.01, 0.01]), 0.0, 1.0)
    np.testing.assert_allclose(estimate.lower, [0, 0.5 - 0.1 * Z, 0.9 - 0.1 * Z])
    np.testing.assert_allclose(estimate.upper, [0.1 + 0.1 * Z, 0.5 + 0.1 * Z, 1])


def test_mean_from_sums_equals_the_textbook() -> None:
    x = np.random.default_rng(8).gamma(2, 3, (4, 50))
    estimate = mean_from_sums(np.full(4, 50.0), x.sum(1), (x**2).sum(1))
    np.testing.assert_allclose(estimate.value, x.mean(1))
    np.testing.assert_allclose(estimate.upper - estimate.value, Z * x.std(1, ddof=1) / np.sqrt(50))


def test_delta_method_of_a_share_is_its_binomial_variance() -> None:
    shares = np.array([0.2, 0.3, 0.5])
    variance = delta_multinomial(shares, np.array([1.0, 0.0, 0.0]), np.array(float(40)), (-1,))
    assert float(variance) == pytest.approx(0.2 * 0.8 / 40)


def test_a_bounded_mean_is_wilsons_for_two_values_and_stays_within_its_range() -> None:
    hits, n = np.array([0.0, 3.0, 50.0, 100.0]), np.full(4, 100.0)
    share = wilson(hits, n)
    found = bounded_mean(n, 5 * hits - 2 * (n - hits), 25 * hits + 4 * (n - hits), -2.0, 5.0)
    for part, expected in zip(found, share, strict=True):
        assert part == pytest.approx(expected * 7 - 2, abs=1e-9)
    assert (found.lower >= -2).all()
    assert (found.upper <= 5).all()


def test_a_bounded_mean_of_many_values_is_the_central_limit_theorems() -> None:
    values = np.random.default_rng(1).uniform(1, 5, 20_000)
    sums = np.array(20_000.0), values.sum(), (values**2).sum()
    for part, expected in zip(bounded_mean(*sums, 1.0, 5.0), mean_from_sums(*sums), strict=True):
        assert part == pytest.approx(expected, abs=1e-4)


def test_a_bounded_mean_of_nothing_is_unknown_and_of_one_possible_value_certain() -> None:
    none = np.zeros(1)
    assert np.isnan(bounded_mean(none, none, none, 0.0, 1.0).value).all()
    assert [float(part) for part in bounded_mean(np.array(7.0), np.array(21.0), np.array(63.0), 3.0, 3.0)] == [3.0] * 3
