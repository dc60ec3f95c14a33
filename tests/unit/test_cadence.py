"""When a batch is late: by a duration, by a calendar, with jitter, weekends and early Fridays."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from mlops_exporter.collectors.performance import ModelCollector
from mlops_exporter.judging.cadence import deadline, longest_pause
from mlops_exporter.settings.models import ModelSettings
from tests.support.one_model import feed, make_model

DAY = 86400.0
TABLE = {"x": [1.0, 2.0] * 50, "y": [1.0, 2.0] * 50}


def model(cadence: str, grace: str = "6h") -> ModelSettings:
    return ModelSettings.model_validate(
        {"name": "m", "task": "regression", "profile": "p", "cadence": cadence, "cadence_grace": grace}
    )


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cadence", "seconds"),
    [("continuous", 0.0), ("1d", DAY), ("1w", 7 * DAY), ("0 2 * * *", DAY), ("0 2 * * 1-5", 3 * DAY)],
)
def test_the_longest_pause(cadence: str, seconds: float) -> None:
    assert longest_pause(model(cadence)) == seconds


@pytest.mark.parametrize(
    ("cadence", "last", "late"),
    [
        ("1d", "2026-11-27T02:10", "2026-11-28T08:10"),
        ("0 2 * * 1-5", "2026-11-27T02:10", "2026-11-30T08:00"),  # from Friday to Monday
        ("0 2 * * 1-5", "2026-11-26T23:10", "2026-11-30T08:00"),  # Friday's batch, on Thursday evening
        ("0 2 * * 1-5", "2026-11-25T02:40", "2026-11-26T08:00"),
    ],
)
def test_a_batch_is_late_after_its_time_and_the_grace(cadence: str, last: str, late: str) -> None:
    assert deadline(model(cadence), at(last)) == at(late)


@pytest.mark.parametrize("cadence", ["0 2 * * *", "0 2 * * 1-5"])
def test_a_month_with_jitter_of_three_hours_is_never_late_and_a_missing_job_always(cadence: str) -> None:
    random = Random(4)
    settings = model(cadence)
    days = [datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=n) for n in range(30)]
    due = [day for day in days if cadence.endswith("* * *") or day.weekday() < 5]
    came = [day.timestamp() + random.uniform(-3, 3) * 3600 for day in due]
    assert all(deadline(settings, before) > after for before, after in pairwise(came))
    missing = [deadline(settings, before) - day.timestamp() for before, day in zip(came, due[1:], strict=False)]
    assert missing == [6 * 3600.0] * len(missing)


@pytest.mark.parametrize("cadence", ["daily", "0 25 * * *", "-1d"])
def test_what_is_no_rhythm_is_told(cadence: str) -> None:
    with pytest.raises(ValueError, match="is no rhythm: write continuous, a duration such as 1d, or a cron"):
        model(cadence)


def test_the_deadline_is_there_from_the_first_batch_on(tmp_path: Path) -> None:
    watched = make_model(tmp_path, TABLE, {"task": "regression", "label": "y"}, cadence="1d")

    def seen() -> dict[str, float]:
        samples = list(ModelCollector([watched]).collect(at("2026-11-28T00:00")))
        wanted = ("ml_model_cadence_seconds", "ml_model_batch_deadline_timestamp_seconds")
        return {each.rows.metric.name: float(each.values[0]) for each in samples if each.rows.metric.name in wanted}

    assert seen()["ml_model_cadence_seconds"] == DAY
    assert not seen()["ml_model_batch_deadline_timestamp_seconds"] > 0
    feed(watched, [{"id": "a", "ts": at("2026-11-27T02:00"), "prediction": 1.0}])
    assert seen()["ml_model_batch_deadline_timestamp_seconds"] == at("2026-11-28T08:00")
