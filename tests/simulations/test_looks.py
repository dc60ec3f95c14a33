"""A rule that is looked at all month: few false alarms, and still told of trouble."""

from tests.simulations.looks import WINDOWS, cautions, delay, false_alarms

PLAIN = [1.0] * len(WINDOWS)


def test_a_model_above_its_benchmark_brings_no_alert() -> None:
    assert false_alarms(0.01, 8, cautions(), months=3) == 0
    assert false_alarms(0.01, 8, PLAIN, months=3) > 3, "what the widening is for"


def test_a_drop_is_told_within_the_hour() -> None:
    assert delay(0.08, 60, cautions(), times=10) < 60
