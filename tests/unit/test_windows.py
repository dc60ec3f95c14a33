"""Windows against a brute-force list of everything that was ever added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_exporter.counting.windows import PANES, Window

START = 1_800_000_000.0


class Everything:
    """What a window should hold: all additions kept, none forgotten unless a later pane took the slot."""

    def __init__(self, length: float) -> None:
        self.width = length / PANES
        self.added: list[tuple[int, float]] = []
        self.newest: dict[int, int] = {}

    def add(self, value: float, time: float) -> bool:
        pane = int(time // self.width)
        self.newest[pane % PANES] = max(pane, self.newest.get(pane % PANES, pane))
        if self.newest[pane % PANES] > pane:
            return False
        self.added.append((pane, value))
        return True

    def total(self, now: float) -> float:
        last = now // self.width
        return sum(
            value for pane, value in self.added if last - PANES < pane <= last and self.newest[pane % PANES] == pane
        )


lengths = st.sampled_from([1.0, 60.0, 90.0, 900.0, 86400.0])
steps = st.lists(st.tuples(st.floats(-2.0, 2.0), st.floats(-0.5, 0.5), st.integers(0, 1000)), max_size=60)


@given(lengths, steps)
def test_a_window_holds_the_panes_within_its_length(length: float, steps: list[tuple[float, float, int]]) -> None:
    """Clocks go forth and back by up to twice the length, and events are up to twice the length late or early."""
    window, everything, now = Window(length, 1), Everything(length), START
    for offset, drift, value in steps:
        now += drift * length
        time = now + offset * length
        assert window.add(np.array([float(value)]), time) == everything.add(value, time)
        assert window.total(now)[0] == everything.total(now)
        assert window.total(now + length / 3)[0] == everything.total(now + length / 3)


@given(lengths, st.floats(1.1, 100.0), st.floats(0.0, 0.9))
def test_a_clock_that_was_ahead_leaves_nothing_behind(length: float, ahead: float, passed: float) -> None:
    """What was counted before and comes after the jump is there; only what a wrong clock has seen is gone."""
    window = Window(length, 1)
    for pane in range(PANES):
        window.add(np.ones(1), START + ahead * length + (pane + 0.5) * window.width)
    for pane in range(PANES):
        assert not window.add(np.ones(1), START - (pane + 0.5) * window.width)
    later = START + (ahead + 1) * length - window.width / 2
    assert window.total(later)[0] == PANES
    now = START + passed * length
    assert window.forget_after(now)
    assert window.total(later)[0] == 0
    assert not window.forget_after(now)
    for pane in range(PANES):
        assert window.add(np.ones(1), now - (pane + 0.01) * window.width)
    assert PANES - 1 <= window.total(now)[0] <= PANES


@given(lengths, st.floats(0.0, 1.0))
def test_a_clock_that_steps_back_by_less_than_a_pane_loses_nothing(length: float, step: float) -> None:
    window = Window(length, 1)
    window.add(np.ones(1), START)
    assert not window.forget_after(START - step * window.width)
    assert window.total(START)[0] == 1


@given(lengths, st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), max_size=80))
def test_with_a_steady_clock_nothing_within_the_length_is_lost(length: float, steps: list[tuple[float, float]]) -> None:
    """Events come in any order, as late as they like, but none from the future."""
    window, now, times = Window(length, 1), START, []
    for wait, age in steps:
        now += wait * length
        times.append(now - age * length)
        window.add(np.ones(1), times[-1])
        total = window.total(now)[0]
        width = length / PANES
        assert total >= sum(time > now - length + width for time in times)
        assert total <= sum(time >= now - length for time in times)


def test_a_window_empties_when_traffic_stops() -> None:
    window = Window(60.0, 2)
    for second in range(60):
        window.add(np.array([1.0, 2.0]), START + second)
    assert window.total(START + 59).tolist() == [60.0, 120.0]
    left = [window.total(START + 59 + waited)[0] for waited in range(0, 70, 10)]
    assert left == [60.0, 50.0, 40.0, 30.0, 20.0, 10.0, 0.0]
    assert window.total(START + 1e9).tolist() == [0.0, 0.0]


def test_what_comes_after_a_pause_counts_alone() -> None:
    window = Window(60.0, 1)
    window.add(np.array([5.0]), START)
    window.add(np.array([7.0]), START + 60 * 1000)
    assert window.total(START + 60 * 1000)[0] == 7.0


def test_an_event_older_than_the_window_is_refused_and_changes_nothing() -> None:
    window = Window(60.0, 1)
    for second in range(60):
        window.add(np.ones(1), START + second)
    assert not window.add(np.array([1000.0]), START - 1)
    assert window.total(START + 59)[0] == 60.0


def test_an_event_as_old_as_the_epoch_is_in_no_window() -> None:
    window = Window(60.0, 1)
    window.add(np.ones(1), 0.0)
    assert window.total(START)[0] == 0.0


def test_an_event_of_the_future_shows_when_its_time_has_come() -> None:
    window = Window(60.0, 1)
    window.add(np.ones(1), START + 30)
    assert [window.total(START + wait)[0] for wait in (0, 29, 30, 89, 90)] == [0, 0, 1, 1, 0]


def test_sums_do_not_lose_precision_over_a_long_time() -> None:
    window = Window(60.0, 1)
    for second in range(5000):
        window.add(np.array([0.1 if second % 2 else 1e9]), START + second)
    window.add(np.zeros(1), START + 10_000)
    assert window.total(START + 10_000)[0] == 0.0


def test_older_than_leaves_the_newest_out() -> None:
    window = Window(60.0, 1)
    for second in range(60):
        window.add(np.ones(1), START + second)
    assert window.total(START + 59, older_than=20.0)[0] == pytest.approx(40.0)


def test_holds_says_whether_a_time_is_still_in_the_ring() -> None:
    window = Window(60.0, 1)
    window.add(np.ones(1), START)
    assert window.holds(START + 0.5)
    assert not window.holds(START + 1)
    window.add(np.ones(1), START + 60)
    assert not window.holds(START)


@pytest.mark.parametrize("huge", [1e300, -1e300, 1e17])
def test_a_huge_number_is_gone_with_its_pane(huge: float) -> None:
    window = Window(60.0, 1)
    for second in range(180):
        window.add(np.array([huge if second == 10 else 0.1]), START + second)
        window.total(START + second)  # which keeps the sum
    assert window.total(START + 179)[0] == pytest.approx(6.0)


def test_a_stray_old_event_fills_no_window() -> None:
    window = Window(900.0, 3)
    assert window.begins(START) == np.inf
    for age in range(0, 300, 15):
        window.add(np.array([10.0, 0.0, 0.0]), START - age)
    assert START - 300 <= window.begins(START) <= START - 270
    window.add(np.array([1.0, 0.0, 0.0]), START - 880)
    assert START - 300 <= window.begins(START) <= START - 270, "one of two hundred"
    window.add(np.array([5.0, 0.0, 0.0]), START - 880)
    assert window.begins(START) <= START - 870, "six of two hundred are no accident"
