"""How many independent events windows are worth: which stretches of time tell it."""

import numpy as np
import pytest

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.version import Version
from mlops_exporter.judging.dependence import Dependence, Measure
from mlops_exporter.statistics import dependence
from tests.models import profiles

DAY = 86_400.0
START = 20_000 * DAY
LAYOUT = Layout(profiles()["credit"])
A_DAY = 400


@pytest.mark.parametrize(
    ("windows", "told_of"),
    [
        ([900.0, 3600.0, DAY], [DAY]),
        ([DAY, 7 * DAY, 30 * DAY], [7 * DAY, 30 * DAY]),
        ([DAY, 2 * DAY], [DAY, 2 * DAY]),
        ([3600.0, 30 * DAY], [3600.0, 30 * DAY]),
        ([3600.0, 60 * 3600.0], [60 * 3600.0]),
    ],
)
def test_stretches_are_kept_for_the_windows_of_which_no_other_tells(windows: list[float], told_of: list[float]) -> None:
    """Not of one that is too near to the longer ones, nor of one whose panes are far longer than itself."""
    version = Version("1", LAYOUT, windows, 0.0)
    assert sorted(ring.width for ring in version.histories) == pytest.approx(told_of)


def lived(windows: list[float], days: int, right: list[float]) -> Floats:
    """Let days with these shares of right predictions follow each other; returns design effects, (W,)."""
    version = Version("1", LAYOUT, windows, 0.0)
    for half in range(2 * days):
        delta = LAYOUT.zeros()
        n = A_DAY / 2
        share = right[half // 2 % len(right)]
        delta[LAYOUT.confusion] = [n * share, 0.0, n * (1 - share), 0.0]
        delta[0] = n
        version.add(delta, START + half * DAY / 2)

    def correct(panes: Floats) -> list[dependence.PaneSums]:
        hits = panes[:, ::3].sum(-1)
        return [dependence.counts(np.stack([panes.sum(-1) - hits, hits], -1), np.zeros(1, np.intp))]

    measured = Dependence(Measure(LAYOUT.confusion, correct))
    return measured.effects(version, START + days * DAY - 1)[:, 0]


@pytest.mark.parametrize("longest", [2.0, 4.0])
def test_days_that_differ_widen_a_window_of_a_day_beside_one_that_evens_them_out(longest: float) -> None:
    """Good and bad days alternate: stretches of the longer window are all alike, and tell nothing of single days."""
    day, longer = lived([DAY, longest * DAY], 60, [0.9, 0.7])
    assert day == pytest.approx(1 + A_DAY * 0.1**2 / (0.8 * 0.2) / 0.455, rel=0.1)  # of the median of squares
    assert longer == 1.0
