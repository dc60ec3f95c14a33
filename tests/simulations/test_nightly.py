"""A month of nightly models by the shipped rules: jitter, weekends and late labels page nobody, a missing job does.

Jobs come within three hours of their time, five days a week for half of the models; labels come three nights later.
A scrape is every two hours, and every five minutes around the night that is missed.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mlops_exporter.counting.model import Model
from mlops_exporter.events.columns import Columns, Encoded, Features
from mlops_exporter.settings.models import ModelSettings
from prometheus.source.alert import Alert
from prometheus.source.render import ALERTS
from tests.simulations import scrapes
from tests.simulations.healthy_month import TASKS
from tests.simulations.scrapes import DAY, HOUR, START, Exporter, asked, firings, record
from tests.simulations.streams import Floats, Stream

FINE = 300
DUE, JITTER, GRACE = 2 * HOUR, 3 * HOUR, 6 * HOUR
LABELS_LATER = 3
BATCH = 1000
DAILY, WEEKDAYS = "0 2 * * *", "0 2 * * 1-5"
TOLD_WITHIN = 10 * 60


class Nightly(Stream):
    """A model that scores a table each night, or each working day's, but for the night that it misses."""

    def __init__(self, number: int, directory: Path, nights: int, *, missed: int | None = None) -> None:
        super().__init__(f"nightly-{number}", TASKS[number % len(TASKS)], number, directory)
        self.cadence = (DAILY, WEEKDAYS)[number % 2]
        self._jobs = {
            START + night * DAY + DUE + self._rng.uniform(-JITTER, JITTER): night
            for night in range(1, nights)
            if night != missed and (self.cadence == DAILY or _weekday(START + night * DAY) < 5)
        }
        self._waiting: dict[int, tuple[list[str | int | float | None], Floats]] = {}

    @property
    def settings(self) -> ModelSettings:
        """The model as a user of nightly tables would configure it."""
        rhythm = {"cadence": self.cadence, "cadence_grace": float(GRACE), "windows": [1.0 * DAY, 7.0 * DAY, 30.0 * DAY]}
        return super().settings.model_copy(update=rhythm)

    def live(self, model: Model, start: float, seconds: int) -> None:
        """Let the job of a night run, if it is due, and deliver the labels that are known by then."""
        for at, night in self._jobs.items():
            if start <= at < start + seconds:
                self._score(model, at, night)
                for known in [past for past in self._waiting if past <= night - LABELS_LATER]:
                    self._label(model, at, *self._waiting.pop(known))

    def _score(self, model: Model, at: float, night: int) -> None:
        events = self._events(BATCH, 0.0, 0.0)
        codes = np.take_along_axis(self._codes, events.categories, axis=1)
        ids: list[str | int | float | None] = [f"{night}/{row}" for row in range(BATCH)]
        features = Features([True] * BATCH, Encoded(events.numeric, codes, np.empty((0, BATCH), np.float32)))
        self._count(model, at, ids, events.predictions, self._as_decoded(events.scores), None, features)
        self._waiting[night] = ids, events.labels

    def _label(self, model: Model, at: float, ids: list[str | int | float | None], labels: Floats) -> None:
        nothing = np.empty((0, 0))
        features = Features(
            [False] * BATCH, Encoded(np.empty((20, 0)), np.empty((5, 0), np.intp), nothing.astype("f4"))
        )
        absent = np.full(BATCH, np.nan)
        scores = [None] * BATCH if self.task == "multiclass" else absent
        self._count(model, at, ids, absent, scores, labels, features)

    def _count(self, model: Model, at: float, ids: list[str | int | float | None], predictions: Floats,
               scores: "list[None] | list[tuple[float, ...] | None] | Floats", labels: Floats | None,
               features: Features) -> None:  # fmt: skip
        count = len(ids)
        model.count(
            Columns(
                features=features,
                lines=range(count),
                ids=ids,
                times=np.full(count, at),
                versions=[self.version if labels is None else None] * count,
                groups=np.empty((count, 0), np.intp),
                outcomes=np.empty((count, 0)),
                forecasts=np.empty((count, 0)),
                scores=scores,
                predictions=predictions,
                labels=np.full(count, np.nan) if labels is None else labels,
                latencies=np.full(count, np.nan),
                errors=[None] * count,
            ),
            at,
        )


def _weekday(at: float) -> int:
    return datetime.fromtimestamp(at, UTC).weekday()


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("healthy", "failing", "nights", "step"),
    [
        pytest.param([1], [2], 6, 2 * HOUR, id="five nights"),
        pytest.param([*range(10)], [10, 11], 30, 2 * HOUR, id="a month", marks=pytest.mark.soak),
    ],
)
def test_nightly_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: list[int], failing: list[int], nights: int, step: int
) -> None:
    monkeypatch.setattr(scrapes, "_is_read", lambda prefix, _: "statistic=" not in prefix or '"psi"' in prefix)
    missed = next(night for night in range(nights - 2, 0, -1) if _weekday(START + night * DAY) < 5)
    well = [Nightly(number, tmp_path, nights) for number in healthy]
    ill = [Nightly(number, tmp_path, nights, missed=missed) for number in failing]
    exporter = Exporter([*well, *ill], "a:10042")
    late = START + missed * DAY + DUE + GRACE
    record(exporter, tmp_path, START, late - 2 * HOUR, step)
    record(exporter, tmp_path, late - 2 * HOUR, late + 2 * HOUR, FINE)
    record(exporter, tmp_path, late + 2 * HOUR, START + nights * DAY, step)
    with asked(tmp_path) as prometheus:

        def fired(alert: Alert, start: float, end: float, step: int) -> list[tuple[str, str, float]]:
            found = firings(prometheus, alert, start, end, step)
            return [(labels.get("model", ""), alert.name, when) for when, labels in found]

        rules = [alert for alert in ALERTS if alert.category != "watchdog" and alert.severity != "info"]
        end = START + nights * DAY
        found = [each for alert in rules for each in fired(alert, START + step, end, step)]
        (rule,) = [alert for alert in rules if alert.name == "MLBatchLate"]
        told = {model: when for model, _, when in fired(rule, late - 2 * HOUR + FINE, late + 2 * HOUR, FINE)}
    names = {each.name for each in ill}
    print(f"{len(well)} models, {nights} nights: {sorted({(model, name) for model, name, _ in found})}")
    assert {(model, name) for model, name, _ in found} == {(name, "MLBatchLate") for name in names}
    assert told.keys() == names
    assert all(0 < when - late <= TOLD_WITHIN for when in told.values())
