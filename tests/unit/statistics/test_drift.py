from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, ks_2samp, wasserstein_distance

from mlops_exporter.statistics import drift

F64 = NDArray[np.float64]

STARTS = np.array([0, 3, 4, 9], dtype=np.intp)  # variables of 3, 1, 5 and 4 bins
CELLS = 13
POSITIONS = np.array([-1.0, 0.0, 2.5, 0.0, -2.0, -1.0, 0.5, 1.0, 7.0, 0.1, 0.2, 0.3, 0.4])
VARIABLES = [slice(0, 3), slice(3, 4), slice(4, 9), slice(9, 13)]

counts = hnp.arrays(np.float64, CELLS, elements=st.integers(0, 10_000).map(float))
windows = hnp.arrays(np.float64, (2, 3, CELLS), elements=st.integers(0, 1_000).map(float))


def wasserstein(current: F64, reference: F64, starts: drift.Starts) -> F64:
    return drift.wasserstein(current, reference, starts, POSITIONS)


STATISTICS = [drift.psi, drift.js, drift.hellinger, drift.tvd, drift.ks, wasserstein]
DISTANCES_TO_ONE = [drift.js, drift.hellinger, drift.tvd, drift.ks]


def expected(name: str, current: F64, reference: F64, positions: F64) -> float:
    """The statistic of one variable by SciPy or its plain formula."""
    if current.sum() == 0 or reference.sum() == 0:
        return np.nan
    p, q = current + 0.5, reference + 0.5
    p, q = p / p.sum(), q / q.sum()
    raw_p, raw_q = current / current.sum(), reference / reference.sum()
    match name:
        case "psi":
            return float(entropy(p, q) + entropy(q, p))
        case "js":
            return float(jensenshannon(p, q, base=2))
        case "hellinger":
            return float(np.sqrt(max(0.0, 1 - np.sqrt(p * q).sum())))
        case "tvd":
            return float(np.abs(raw_p - raw_q).sum() / 2)
        case "wasserstein":
            return float(wasserstein_distance(positions, positions, current, reference))
    return float(np.abs(np.cumsum(raw_p) - np.cumsum(raw_q)).max())


@pytest.mark.slow
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
@given(current=windows, reference=counts)
def test_every_variable_equals_scipy(statistic, current, reference):  # type: ignore[no-untyped-def]
    result = statistic(current, reference, STARTS)
    assert result.shape == (2, 3, 4)
    # 1 − BC under a root doubles the digits that rounding takes near 0.
    tolerance = 1e-7 if statistic in (drift.js, drift.hellinger) else 1e-9
    for window in np.ndindex(2, 3):
        for variable, own in enumerate(VARIABLES):
            wanted = expected(statistic.__name__, current[window][own], reference[own], POSITIONS[own])
            np.testing.assert_allclose(result[window][variable], wanted, atol=tolerance, rtol=1e-9)


def test_ks_and_wasserstein_equal_scipy_on_the_raw_samples_of_discrete_values() -> None:
    rng = np.random.default_rng(1)
    reference, current = rng.binomial(9, 0.4, 5_000), rng.binomial(9, 0.5, 700)
    bins = np.arange(11)
    counts = [np.histogram(x, bins)[0].astype(float) for x in (current, reference)]
    starts = np.array([0], dtype=np.intp)
    assert drift.ks(counts[0], counts[1], starts)[0] == pytest.approx(ks_2samp(current, reference).statistic, abs=1e-12)
    scale = reference.std()
    assert drift.wasserstein(counts[0], counts[1], starts, np.arange(10.0) / scale)[0] == pytest.approx(
        wasserstein_distance(current / scale, reference / scale), rel=1e-12
    )


def test_a_known_value_by_hand() -> None:
    # Shares after adding 1/2: (10, 30)/40 against (20, 20)/40.
    current, reference = np.array([9.5, 29.5]), np.array([19.5, 19.5])
    starts = np.array([0], dtype=np.intp)
    assert drift.psi(current, reference, starts)[0] == pytest.approx(0.25 * np.log(3))
    assert drift.hellinger(current, reference, starts)[0] == pytest.approx(
        np.sqrt(1 - (np.sqrt(0.125) + np.sqrt(0.375)))
    )
    assert drift.tvd(np.array([1.0, 3.0]), np.array([2.0, 2.0]), starts)[0] == 0.25
    assert drift.ks(np.array([1.0, 3.0]), np.array([2.0, 2.0]), starts)[0] == 0.25


@pytest.mark.slow
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
@given(one=counts, other=counts)
def test_symmetric_and_not_negative(statistic, one, other):  # type: ignore[no-untyped-def]
    there, back = statistic(one, other, STARTS), statistic(other, one, STARTS)
    np.testing.assert_allclose(there, back, rtol=1e-9, atol=1e-7)
    assert not (there < 0).any()
    if statistic in DISTANCES_TO_ONE:
        assert not (there > 1 + 1e-12).any()


@pytest.mark.slow
@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
@given(reference=counts)
def test_zero_against_itself(statistic, reference):  # type: ignore[no-untyped-def]
    result = statistic(reference, reference, STARTS)
    empty = drift.totals(reference, STARTS) == 0
    assert np.isnan(result[empty]).all()
    np.testing.assert_allclose(result[~empty], 0, atol=1e-7)


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda f: f.__name__)
def test_a_variable_without_counts_is_nan_and_spoils_no_other(statistic):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    reference, current = rng.integers(1, 99, CELLS).astype(float), rng.integers(1, 99, CELLS).astype(float)
    whole = statistic(current, reference, STARTS)
    for side in (0, 1):
        pair = [current.copy(), reference.copy()]
        pair[side][VARIABLES[2]] = 0
        result = statistic(*pair, STARTS)
        assert np.isnan(result[2])
        np.testing.assert_allclose(np.delete(result, 2), np.delete(whole, 2), rtol=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS[:-1], ids=lambda f: f.__name__)
def test_no_variables_give_no_values(statistic):  # type: ignore[no-untyped-def]
    assert statistic(np.empty((3, 0)), np.empty(0), np.empty(0, dtype=np.intp)).shape == (3, 0)


@given(reference=counts, current=counts)
def test_bounds_between_the_distances(reference, current):  # type: ignore[no-untyped-def]
    # Total variation bounds Kolmogorov–Smirnov: an interval is one event among all.
    ks, tvd = drift.ks(current, reference, STARTS), drift.tvd(current, reference, STARTS)
    assert not (ks > tvd + 1e-12).any()


def test_every_statistic_has_its_traits() -> None:
    assert list(drift.STATISTICS) == list(get_args(drift.Statistic))
    reference, starts, positions = np.array([5.0, 3.0, 2.0]), np.array([0]), np.array([0.0, 1.0, 2.0])
    for name, its in drift.STATISTICS.items():
        same = its.function(reference, reference, starts, positions)
        moved = its.function(reference[::-1], reference, starts, positions)
        assert same == pytest.approx(0, abs=1e-9)
        assert moved > 0.1
        assert its.unit
        assert its.source
        doubled = its.function(2 * reference[::-1], 2 * reference, starts, positions)
        assert (doubled == pytest.approx(moved)) == its.homogeneous, name


def test_an_unknown_statistic_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown drift statistic chi2: there are psi, js"):
        drift.traits("chi2")
