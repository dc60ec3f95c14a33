"""Labelled events of days ago, delivered beside live traffic: by the shipped rules they are history."""

from pathlib import Path

import numpy as np

from mlops_exporter.counting.model import Model
from prometheus.source.render import ALERTS
from tests.simulations.scrapes import DAY, START, Exporter, asked, firings, record
from tests.simulations.streams import Stream, Trouble

STEP, HOURS = 600, 4


class Backfilled(Stream):
    """Healthy traffic, into which 30,000 events and then 8,000 with more errors come that are days old."""

    def live(self, model: Model, start: float, seconds: int) -> None:
        super().live(model, start, seconds)
        past = {2: (30_000, 9, 0.0), 3: (8000, 5, 0.3)}.get(int(start - START) // STEP // 4)
        if past is not None and (start - START) // STEP % 4 == 0:
            count, age, wrong = past
            times = start - np.linspace(age, 3, count) * DAY
            self.deliver(model, times, start + seconds, Trouble(0.0, wrong=wrong))


def test_history_alarms_nobody(tmp_path: Path) -> None:
    end = START + HOURS * 3600
    record(Exporter([Backfilled("m", "binary", 7, tmp_path)], "a:10042"), tmp_path, START, end, STEP)
    with asked(tmp_path) as prometheus:
        fired = {
            alert.name
            for alert in ALERTS
            if alert.category != "watchdog" and firings(prometheus, alert, START + STEP, end, STEP)
        }
    assert not fired
