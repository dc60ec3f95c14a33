"""Windows of a job hold batches: over weekends, jitter and a batch that has not come, and not one more or less."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mlops_exporter.counting.rhythm import Rhythm
from mlops_exporter.counting.windows import Window
from mlops_exporter.settings.models import ModelSettings
from tests.support.one_model import feed, make_model

HOUR, DAY = 3600.0, 86400.0
START = datetime(2026, 6, 1, 2, tzinfo=UTC).timestamp()  # a Monday
WEEKDAYS = "0 2 * * 1-5"
EVENTS = 100


def model(cadence: str, **more: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": "m", "task": "regression", "profile": "p", "cadence": cadence, **more})


def rhythm(cadence: str) -> Rhythm:
    found = Rhythm.of(model(cadence))
    assert found is not None
    return found


def nights(cadence: str, days: int, jitter: float, seed: int = 5) -> list[float]:
    """When batches come: daily or on weekdays, early or late."""
    random = np.random.default_rng(seed)
    due = [START + day * DAY for day in range(days)]
    if cadence == WEEKDAYS:
        due = [each for each in due if datetime.fromtimestamp(each, UTC).weekday() < 5]
    return [each + random.uniform(-jitter, jitter) for each in due]


def add_batch(window: Window, at: float) -> None:
    """Add a batch whose events take ten minutes."""
    for event in range(EVENTS):
        window.add(np.array([1.0, 0.0]), at + event * 6.0)


@pytest.mark.parametrize("cadence", ["1d", "0 2 * * *", WEEKDAYS])
@pytest.mark.parametrize("batches", [1, 7, 30])
def test_a_window_holds_so_many_batches_at_every_hour(cadence: str, batches: int) -> None:
    window = Window.of(batches * DAY, 2, rhythm(cadence))
    seen = nights(cadence, 70, 2.9 * HOUR)
    for number, (at, following) in enumerate(pairwise(seen)):
        add_batch(window, at)
        for now in np.arange(at + 600, following, 5 * HOUR).tolist():
            assert window.total(now)[0] == EVENTS * min(batches, number + 1), datetime.fromtimestamp(now, UTC)
            assert window.in_order(now, slice(0, 1)).sum() == window.total(now)[0]


@pytest.mark.parametrize("cadence", ["1d", WEEKDAYS])
def test_labels_that_come_after_the_batch_are_shown_at_once(cadence: str) -> None:
    window = Window.of(DAY, 2, rhythm(cadence))
    at = START + 3 * DAY
    add_batch(window, at)
    window.add(np.array([0.0, 1.0]), at + 18 * HOUR)
    assert window.total(at + 19 * HOUR).tolist() == [EVENTS, 1]


def test_nights_of_the_past_that_come_at_once_are_batches_of_their_own(tmp_path: Path) -> None:
    table = {"x": [1.0, 2.0] * 50, "y": [1.0, 2.0] * 50}
    watched = make_model(
        tmp_path, table, {"task": "regression", "label": "y"}, cadence=WEEKDAYS, windows=["1d", "7d", "30d"]
    )
    seen = nights(WEEKDAYS, 60, 2.9 * HOUR)
    now = seen[-1] + HOUR

    def predictions() -> list[float]:
        return [float(each) for each in watched.window_predictions(now)]

    assert predictions() == [0, 0, 0]
    feed(watched, [{"id": f"{at}", "ts": at, "prediction": 1.0} for at in seen], arrived=now)
    assert predictions() == [1, 7, 30]
    assert [*next(iter(watched.versions.values())).filled(now)] == [1, 1, 1]
    assert watched.horizon >= 42 * DAY


def test_windows_of_a_job_that_has_stopped_empty() -> None:
    """The batch of Friday is shown until Monday's is late, and some of a pause beyond."""
    window, week = Window.of(DAY, 2, rhythm(WEEKDAYS)), Window.of(7 * DAY, 2, rhythm(WEEKDAYS))
    for day in range(5):
        add_batch(window, START + day * DAY)
        add_batch(week, START + day * DAY)
    monday = START + 7 * DAY
    late = monday + 6 * HOUR
    assert window.total(late)[0] == EVENTS
    assert window.total(late + DAY)[0] == 0
    assert week.total(late + DAY)[0] == 5 * EVENTS
    assert week.total(late + 14 * DAY)[0] == 0


def test_a_window_is_whole_again_after_a_restart_only_with_its_own_rhythm() -> None:
    window, twin = Window.of(7 * DAY, 2, rhythm("1d")), Window.of(7 * DAY, 2, rhythm("1d"))
    add_batch(window, START)
    twin.restore(window.state())
    assert twin.total(START + HOUR)[0] == EVENTS
    assert window.name == twin.name
    assert window.name != Window.of(7 * DAY, 2, rhythm("0 2 * * *")).name != Window.of(7 * DAY, 2, None).name


def test_a_window_is_filled_by_its_batches_over_a_weekend() -> None:
    window = Window.of(7 * DAY, 2, rhythm(WEEKDAYS))
    seen = nights(WEEKDAYS, 12, 0.0)
    assert window.filled(seen[0], seen[0]) == 0.0
    for at in seen[:4]:
        add_batch(window, at)
    assert window.filled(seen[0], seen[3] + HOUR) < 0.7
    for at in seen[4:7]:
        add_batch(window, at)
    assert window.filled(seen[0], seen[6] + HOUR) == window.filled(seen[0], seen[6] + 1 * DAY) == 1.0


@pytest.mark.parametrize(
    ("cadence", "windows"),
    [
        ("continuous", [900.0, HOUR, DAY]),
        ("1d", [DAY, 7 * DAY, 30 * DAY]),
        (WEEKDAYS, [DAY, 7 * DAY, 30 * DAY]),
        ("1w", [7 * DAY, 49 * DAY, 210 * DAY]),
    ],
)
def test_windows_follow_from_the_rhythm_unless_they_are_given(cadence: str, windows: list[float]) -> None:
    assert model(cadence).windows == windows
    assert model(cadence, windows=["2d"]).windows == [2 * DAY]


def test_how_far_back_windows_go_by_the_clock() -> None:
    assert rhythm("1d").reach(7 * DAY) == 8 * DAY + 6 * HOUR
    assert rhythm(WEEKDAYS).reach(DAY) == 4 * DAY + 6 * HOUR
    assert rhythm(WEEKDAYS).reach(30 * DAY) >= 42 * DAY


@pytest.mark.parametrize("cadence", ["1d", "0 2 * * *", WEEKDAYS, "0 2 1 * *", "*/5 8-18 * * 1-5"])
def test_the_time_of_a_job_grows_steadily(cadence: str) -> None:
    moments, found = np.linspace(START - 7 * 365 * DAY, START - 5 * 365 * DAY, 2001), rhythm(cadence)
    times = [found.time(moment) for moment in moments.tolist()]
    assert (np.diff(times) > 0).all()


def test_no_rhythm_is_told() -> None:
    with pytest.raises(ValidationError, match="is no rhythm"):
        model("nightly")


@pytest.mark.parametrize("cadence", ["1d", WEEKDAYS])
def test_label_coverage_is_that_of_the_newest_batches_whose_labels_are_due(cadence: str, tmp_path: Path) -> None:
    """Labels are due after three days: those of nine tenths of the even batches come, and of half of the odd ones."""
    table = {"x": [1.0, 2.0] * 50, "y": [1.0, 2.0] * 50}
    settings = {"cadence": cadence, "windows": ["1d", "7d"], "label_delay": "3d"}
    watched = make_model(tmp_path, table, {"task": "regression", "label": "y"}, **settings)
    seen = nights(cadence, 40, 2.9 * HOUR)
    shares = [0.9 if number % 2 == 0 else 0.5 for number in range(len(seen))]
    rows = [(at + event, f"{at} {event}") for at in seen for event in range(10)]
    feed(watched, [{"id": id_, "ts": at, "prediction": 1.0} for at, id_ in rows], arrived=seen[-1] + HOUR)
    labelled = [
        (at, id_)
        for number, share in enumerate(shares)
        for at, id_ in rows[10 * number : 10 * number + round(10 * share)]
    ]
    feed(watched, [{"id": id_, "ts": at + HOUR, "label": 1.0} for at, id_ in labelled], arrived=seen[-1] + 2 * HOUR)
    version = next(iter(watched.versions.values()))
    looked = np.arange(seen[-1] + 2 * HOUR, seen[-1] + 3 * DAY, 5 * HOUR)
    if cadence == WEEKDAYS:  # as long as the batch after the last is not late
        looked = looked[looked < seen[-1] + DAY]
    for now in looked.tolist():
        due = [number for number, at in enumerate(seen) if at < now - 3 * DAY][-7:]
        found = version.label_coverage(now, 3 * DAY)
        assert found == pytest.approx([shares[due[-1]], np.mean([shares[number] for number in due])])


def test_changes_are_looked_for_in_all_that_windows_show(tmp_path: Path) -> None:
    """The thirty batches of a job of weekdays go back six weeks: an error of 40 days ago is one of theirs."""
    table = {"x": [1.0, 2.0] * 50, "y": [1.0, 2.0] * 50, "p": [1.0, 2.0] * 49 + [3.0, 4.0]}
    request = {"task": "regression", "label": "y", "prediction": "p"}
    now = START + 41 * DAY
    for cadence, evidence in ((WEEKDAYS, True), ("continuous", False)):
        (tmp_path / cadence[:1]).mkdir()
        watched = make_model(tmp_path / cadence[:1], table, request, cadence=cadence, windows=["1d", "30d"])
        events = [{"id": f"{row}", "ts": START + row, "prediction": 9.0, "label": 1.0} for row in range(400)]
        feed(watched, events, arrived=now)
        changes = next(iter(watched.versions.values())).changes
        assert changes is not None
        assert (changes.streams["error"].log_evidence > 5) == evidence


@pytest.mark.parametrize("cadence", [WEEKDAYS, "continuous"])
def test_champion_and_challenger_are_compared_by_batch(cadence: str, tmp_path: Path) -> None:
    table = {"x": [1.0, 2.0] * 50, "y": [1.0, 2.0] * 50}
    settings: dict[str, Any] = {"windows": ["1d", "7d"], "challenge": {"champion": "1", "challenger": "2"}}
    watched = make_model(tmp_path, table, {"task": "regression", "label": "y"}, cadence=cadence, **settings)
    seen = nights(WEEKDAYS, 12, 2.9 * HOUR)  # the last is of a Friday
    now = seen[-1] + HOUR
    for version in ("1", "2"):
        events = [{"id": f"{at}", "version": version, "ts": at, "prediction": 1.0, "label": 2.0} for at in seen]
        feed(watched, events, arrived=now)
    assert watched.challenge is not None
    sunday = watched.challenge.totals(seen[-1] + 2.2 * DAY)[0].tolist()
    assert sunday == ([1, 7] if cadence == WEEKDAYS else [0, 5])
    twin = make_model(tmp_path, table, {"task": "regression", "label": "y"}, cadence=cadence, **settings)
    twin.restore(watched.state())
    assert twin.challenge is not None
    assert twin.challenge.totals(seen[-1] + 2.2 * DAY)[0].tolist() == sunday
