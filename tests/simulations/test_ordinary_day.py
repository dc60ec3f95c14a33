"""A short form of `make ordinary-quarter`: a release, its canary and a restart bring no alert, and two faults do."""

from pathlib import Path

from prometheus.source.render import ALERTS
from tests.simulations.calendar import RELEASED, RESTARTS
from tests.simulations.ordinary import Ordinary
from tests.simulations.ordinary_quarter import FAULTS, STEP, Breaking, Restarting
from tests.simulations.scrapes import HOUR, START, asked, firings, record

BEGIN = START + RELEASED - HOUR
END = START + RESTARTS[0] + 4 * HOUR
BROKEN = END - 2 * HOUR


def test_ordinary_day(tmp_path: Path) -> None:
    calm = Ordinary("calm", "binary", 1, tmp_path, sleeps=True)
    broken = [Breaking(name, number, tmp_path, BROKEN) for number, name in enumerate(("drifted", "failing"))]
    record(Restarting([calm, *broken], "a:10042"), tmp_path, BEGIN, END, STEP)
    with asked(tmp_path) as server:
        told = {
            (firing.labels.get("model", ""), alert.name): firing.at
            for alert in ALERTS
            if alert.severity in ("critical", "warning")
            for firing in firings(server, alert, BEGIN + STEP, END, STEP)
        }
    assert {key for key, at in told.items() if at < BROKEN or key[0] == "calm"} == set()
    for name in ("drifted", "failing"):
        fault = FAULTS[name]
        assert told[name, fault.alert] <= BROKEN + 60 * fault.minutes, fault.what
