"""A healthy shop with day and night, from a cold start at midnight: what the shipped rules say of three days.

    python -m tests.simulations.healthy_shop [--by-hour]

Its windows are the default ones. At most one event a second comes, a seventh of it at night, in sessions. Three of 25
features rise and fall by a standard deviation each day; at night the cases are harder, by four points of accuracy.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from prometheus.source.render import ALERTS
from tests.simulations.ordinary import Ordinary
from tests.simulations.scrapes import DAY, START, Exporter, asked, firings, record
from tests.simulations.streams import Floats

DAYS = 3
STEP = 300
HARDER = 0.04


class Shop(Ordinary):
    """An ordinary stream whose cases are harder at night."""

    def _outcomes(self, n: int, wrong: float) -> tuple[Floats, Floats, Floats]:
        phase = self._phases if self._now is None else np.full(n, self._now % DAY / DAY)
        scores, predictions, labels = super()._outcomes(n, wrong)
        night = np.maximum(0.0, np.cos(2 * np.pi * phase))
        flipped = self._rng.random(n) < HARDER * night
        return scores, predictions, np.where(flipped, 1 - labels, labels)


def lived(directory: Path, days: int = DAYS, *, by_hour: bool = False) -> Counter[tuple[str, str]]:
    """Return how many times each alert fires in that many days, by severity and name."""
    shop = Shop("shop", "binary", 7, directory, by_hour=by_hour)
    exporter = Exporter([shop], "a:10042", windows=None)
    record(exporter, directory, START, START + days * DAY, STEP)
    found: Counter[tuple[str, str]] = Counter()
    with asked(directory) as prometheus:
        for alert in ALERTS:
            if alert.category != "watchdog":
                for at, labels in firings(prometheus, alert, START + STEP, START + days * DAY, STEP):
                    found[alert.severity, alert.name] += 1
                    print(f"{alert.severity} {alert.name} after {(at - START) / 3600:.1f} h {labels.get('metric', '')}")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        print(lived(Path(directory), by_hour="--by-hour" in sys.argv))
