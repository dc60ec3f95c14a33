import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import chdtri
from scipy.stats import kstwobign, norm

from mlops_exporter.statistics import thresholds
from mlops_exporter.statistics.drift import STATISTICS, Statistic

F64 = NDArray[np.float64]
ONE = np.array([0], dtype=np.intp)


def critical(
    statistic: Statistic, reference: F64, n: float, alpha: float = 0.01, positions: F64 | None = None
) -> float:
    """Critical value of a single variable."""
    table = thresholds.coefficients([statistic], reference, ONE, positions, alpha)[statistic]
    return float(thresholds.critical_value(statistic, table, np.array([n]), np.array([reference.sum()]))[0])


@pytest.mark.slow
@pytest.mark.parametrize("bins", [2, 5, 10, 20])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_many_counts_in_every_bin_meet_the_chi_square(bins: int, alpha: float) -> None:
    reference = np.full(bins, 1e6)
    v = 1 / 1e6 + 1 / reference.sum()
    chi_square = chdtri(bins - 1, alpha) * v
    assert critical("psi", reference, 1e6, alpha) == pytest.approx(chi_square, rel=0.06)
    assert critical("js", reference, 1e6, alpha) == pytest.approx(np.sqrt(chi_square / (8 * np.log(2))), rel=0.03)
    assert critical("hellinger", reference, 1e6, alpha) == pytest.approx(np.sqrt(chi_square / 8), rel=0.03)


def test_limits_with_a_closed_form() -> None:
    v = 1 / 1_000 + 1 / 2e6
    fine = np.full(1_000, 2_000.0)
    assert critical("ks", fine, 1_000) == pytest.approx(kstwobign.isf(0.01) * np.sqrt(v), rel=0.03)
    # Of two bins every distance is that of a single share.
    two = np.array([0.5e6, 1.5e6])
    share = norm.isf(0.005) * np.sqrt(0.25 * 0.75 * v)
    assert critical("ks", two, 1_000) == pytest.approx(share, rel=0.03)
    assert critical("tvd", two, 1_000) == pytest.approx(share, rel=0.03)
    assert critical("wasserstein", two, 1_000, positions=np.array([1.0, 4.0])) == pytest.approx(3 * share, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_variables_side_by_side_are_as_if_alone(statistic: Statistic) -> None:
    rng = np.random.default_rng(1)
    reference, positions = rng.integers(0, 500, 24).astype(float), np.tile(np.arange(8.0), 3)
    starts = np.array([0, 8, 16], dtype=np.intp)
    total = reference.reshape(3, 8).sum(1)
    n = np.array([[30.0, 300.0, 3_000.0], [0.0, 1.0, 1e7]])
    together = thresholds.critical_value(
        statistic, thresholds.coefficients([statistic], reference, starts, positions, 0.05)[statistic], n, total
    )
    assert together.shape == (2, 3)
    assert np.isnan(together[1, 0])  # an empty window has no critical value
    for variable in range(3):
        own = reference.reshape(3, 8)[variable]
        # The random numbers fall differently on the edges of more variables, so only nearly equal.
        assert together[0, variable] == pytest.approx(
            critical(statistic, own, n[0, variable], 0.05, positions[:8]), rel=0.05
        )


@pytest.mark.slow
@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_falls_with_n_and_rises_with_certainty(statistic: Statistic) -> None:
    reference = np.array([0.0, 700, 200, 90, 10, 0])
    positions = np.arange(6.0)
    sizes = np.geomspace(25, 1e6, 60)
    curves = []
    for alpha in (0.05, 0.01, 0.001):
        table = thresholds.coefficients([statistic], reference, ONE, positions, alpha)[statistic]
        curves.append(thresholds.critical_value(statistic, table, sizes[:, np.newaxis], np.array([1_000.0]))[:, 0])
    assert (np.diff(curves, axis=1) < 0).all()
    assert (np.diff(curves, axis=0) > 0).all()


@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_variables_without_reference_are_nan_and_spoil_no_other(statistic: Statistic) -> None:
    reference = np.array([50.0, 60, 70, 0, 0, 0, 50, 60, 70])
    starts = np.array([0, 3, 6], dtype=np.intp)
    table = thresholds.coefficients([statistic], reference, starts, np.arange(9.0), 0.01)[statistic]
    value = thresholds.critical_value(statistic, table, np.full(3, 200.0), np.array([180.0, 0.0, 180.0]))
    assert np.isnan(value).tolist() == [False, True, False]
    assert value[0] == pytest.approx(value[2])


@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_no_variables_have_no_critical_values(statistic: Statistic) -> None:
    none = np.empty(0)
    table = thresholds.coefficients([statistic], none, np.empty(0, dtype=np.intp), none, 0.01)[statistic]
    assert thresholds.critical_value(statistic, table, np.empty((3, 0)), none).shape == (3, 0)


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        thresholds.coefficients(["psi"], np.ones(3), ONE, None, 0.0001)["psi"]
    with pytest.raises(ValueError, match="needs the positions"):
        thresholds.coefficients(["wasserstein"], np.ones(3), ONE, None, 0.01)["wasserstein"]
