"""A short version of `make healthy-month`: models that nothing happens to bring no alert, and one in trouble does."""

from pathlib import Path

from prometheus.source.render import ALERTS
from tests.simulations.healthy_month import STEP, TASKS
from tests.simulations.scrapes import START, Exporter, asked, firings, record
from tests.simulations.streams import Stream, Trouble

HOURS, TROUBLED = 6, 4


def test_healthy_day(tmp_path: Path) -> None:
    at = START + TROUBLED * 3600
    healthy = [Stream(f"healthy-{task}", task, number, tmp_path) for number, task in enumerate(TASKS)]
    troubled = Stream("troubled", "binary", 100, tmp_path, Trouble(at, shift=1.0, wrong=0.25))
    end = START + HOURS * 3600
    record(Exporter([*healthy, troubled], "a:10042"), tmp_path, START, end, STEP)
    with asked(tmp_path) as prometheus:
        fired = {
            (labels.get("model", ""), alert.name, when >= at)
            for alert in ALERTS
            if alert.category != "watchdog"
            for when, labels in firings(prometheus, alert, START + STEP, end, STEP)
        }
    assert not {key for key in fired if key[0] != "troubled"}
    assert all(after for _, _, after in fired), "only when there is trouble"
    assert {name for _, name, _ in fired} >= {
        "MLModelPerformanceBelowBenchmark",
        "MLModelConceptDrift",
        "MLFeatureDrift",
        "MLFeatureDriftSevere",
        "MLMultivariateDrift",
    }
