"""Events that resemble their neighbours: coverage and false alarms, and what independence costs."""

import pytest

from tests.simulations import dependent_streams as streams
from tests.simulations.dependent_streams import DEPENDENT


@pytest.mark.simulation
@pytest.mark.parametrize("name", DEPENDENT)
def test_dependent_events_neither_flag_nor_mislead(name: str) -> None:
    found = streams.held(DEPENDENT[name](), 500, 200)
    assert found.covered_plain < 0.5
    assert found.covered >= 0.9
    assert found.flagged <= 0.03


@pytest.mark.simulation
@pytest.mark.parametrize("name", ["flights", "blocks of people alike", "sessions"])
def test_the_same_events_in_no_order_cost_nothing(name: str) -> None:
    found = streams.held(streams.shuffled(DEPENDENT[name]()), 500, 200)
    assert found.covered >= 0.9
    assert found.widened <= 1.01
    assert found.raised <= 1.01


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "tenths", "least"),
    [
        ("calm feature of day and night", 1, 0.99),
        ("flights' departure delay", 1, 0.5),
        ("flights' departure delay", 4, 0.95),
        ("sessions", 4, 0.9),
    ],
)
def test_what_moves_is_told(name: str, tenths: int, least: float) -> None:
    flagged, _ = streams.power(streams.MOVED[name](), 500, tenths)
    assert flagged >= least


@pytest.mark.soak
@pytest.mark.parametrize("name", streams.MOVED)
def test_what_does_not_move_is_not_told(name: str) -> None:
    flagged, _ = streams.power(streams.MOVED[name](), 500, 0)
    assert flagged <= 0.05
