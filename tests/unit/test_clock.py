"""A clock that leaps for a moment changes nothing; one that stands by its leap is followed."""

import pytest

from mlops_exporter.events.clock import LASTING_SECONDS, Clock
from tests.models import NOW
from tests.support.one_model import feed
from tests.unit.test_releases import model_of, own, predicted


class Times:
    """Two clocks, of which the one on the wall can be set."""

    def __init__(self) -> None:
        self.steady, self.ahead = 1000.0, 0.0

    def clock(self) -> Clock:
        return Clock(lambda: NOW + self.steady - 1000.0 + self.ahead, lambda: self.steady)


@pytest.mark.parametrize("ahead", [-3600.0, 40 * 86400.0])
def test_a_leap_of_four_seconds_loses_nothing(ahead: float) -> None:
    times, model = Times(), model_of(own("1"))
    clock = times.clock()
    feed(model, predicted("1", 9))
    before = model.window_predictions(NOW).tolist()
    for second in range(12):
        times.steady += 1.0
        times.ahead = ahead if 3 <= second < 7 else 0.0
        now = clock.now()
        assert now == pytest.approx(NOW + second + 1)
        model.expire(now)
        assert model.window_predictions(now).tolist() == before
    assert model.waiting == 9


@pytest.mark.parametrize("ahead", [-3600.0, 40 * 86400.0])
def test_a_leap_that_lasts_is_believed(ahead: float) -> None:
    times = Times()
    clock = times.clock()
    times.ahead = ahead
    assert clock.now() == pytest.approx(NOW)
    times.steady += LASTING_SECONDS - 1
    assert clock.now() == pytest.approx(NOW + LASTING_SECONDS - 1)
    times.steady += 1
    assert clock.now() == pytest.approx(NOW + LASTING_SECONDS + ahead)


def test_a_small_correction_is_followed_at_once() -> None:
    times = Times()
    clock = times.clock()
    times.ahead = -5.0
    assert clock.now() == pytest.approx(NOW - 5)
