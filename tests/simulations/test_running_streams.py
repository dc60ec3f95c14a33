"""Real streams through a running exporter: what it tells of windows holds in the long run."""

import numpy as np
import pytest

from tests.simulations import running_streams
from tests.simulations.real_streams import REAL, predicted

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(1800)]

QUARTER = 80_000
"""Flights of three months."""


def test_flights_neither_mislead_nor_flag_through_a_running_exporter() -> None:
    found = running_streams.told(predicted(REAL["flights"].table()).rows(slice(QUARTER)), REAL["flights"].windows)
    for interval in found.intervals.values():
        assert interval.plain < 0.7
        assert interval.ordered >= 0.9
        assert interval.in_blocks >= 0.9
        assert interval.shuffled >= 0.9
    assert found.drift["2d", "features"].ordered <= 0.01
    assert found.drift["12h", "features"].ordered <= 0.035  # half days differ by when in the day they begin
    for flags in found.drift.values():
        assert max(flags.ordered, flags.in_blocks) <= 0.05
        assert flags.shuffled <= 0.01


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in REAL if name != "flights"])
def test_a_real_stream_without_its_trend_neither_misleads_nor_flags(name: str) -> None:
    """In the order in which it happened it may have changed: more bicycles were hired, tips were harder to tell."""
    windows = REAL[name].windows
    found = running_streams.told(predicted(REAL[name].table()), windows)
    for window in windows:
        intervals = np.array([interval[1:] for (of, _), interval in found.intervals.items() if of == window])
        plain, ordered, in_blocks, shuffled, _ = intervals.mean(axis=0)
        assert in_blocks >= 0.87
        assert shuffled >= 0.9
        assert ordered >= max(0.83, plain)
        flags = found.drift[window, "features"]
        assert flags.in_blocks <= 0.035
        assert flags.shuffled <= 0.015
