"""The reference by hour: how it is counted, which hours a window covers, and what they make usual."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlops_exporter.arrays import Flags
from mlops_exporter.counting.ledger import Layout
from mlops_exporter.counting.model import Model
from mlops_exporter.counting.multivariate import VectorMap
from mlops_exporter.counting.windows import Window
from mlops_exporter.judging.drift import Comparison, Drift
from mlops_exporter.judging.hours import Clock, HourlyShares
from mlops_exporter.judging.multivariate import vector_drift
from mlops_exporter.profile.bins import NumericVariable
from mlops_exporter.profile.hours import HourlyReference, slots_of
from mlops_exporter.profile.profile import Profile, ProfileError, load, save
from mlops_exporter.profile.show import describe
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from mlops_exporter.profiling.hours import Timing
from mlops_exporter.settings.models import DriftSettings, Limits, ModelSettings

HOUR, DAY = 3600, 86_400
MONDAY = int(datetime(2026, 3, 23, tzinfo=UTC).timestamp())
DAYS = 14
FEATURES = ("amount", "flat", "colour")
"""As they lie in the ledger."""


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo"])
def test_slots_are_the_hours_of_the_zone(zone: str) -> None:
    start = datetime(2026, 3, 20, tzinfo=UTC)  # a week in which summer time begins
    hours = [start + timedelta(hours=number, minutes=30) for number in range(10 * 24)]
    local = [hour.astimezone(ZoneInfo(zone)) for hour in hours]
    numbers = np.array([hour.timestamp() // HOUR for hour in hours], np.intp)
    assert slots_of(numbers, "hour", zone).tolist() == [hour.hour for hour in local]
    assert slots_of(numbers, "weekday-hour", zone).tolist() == [hour.weekday() * 24 + hour.hour for hour in local]


def table(seed: int = 0) -> pd.DataFrame:
    """Two weeks of rows, fewer at night, whose amount and colour move with the hour."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, DAYS * DAY, 12_000)
    seconds = seconds[rng.random(len(seconds)) < 0.6 + 0.4 * np.sin(2 * np.pi * seconds / DAY)]
    wave = np.sin(2 * np.pi * seconds / DAY)
    amount = rng.normal(1.5 * wave)
    score = 1 / (1 + np.exp(-amount))
    return pd.DataFrame({
        "at": seconds + MONDAY, "amount": amount, "flat": rng.standard_normal(len(seconds)),
        "colour": np.where(rng.random(len(seconds)) < 0.5 + 0.4 * wave, "red", "blue"),
        "p": score, "y": (rng.random(len(seconds)) < score).astype(int),
    })  # fmt: skip


def built(directory: Path, rows: pd.DataFrame, timing: Timing | None = None, name: str = "rows.parquet") -> Profile:
    rows.to_parquet(directory / name) if name.endswith("parquet") else rows.to_csv(directory / name, index=False)
    request = BuildRequest(directory / name, "binary", label="y", scores={"1": "p"}, exclude=("at",), timing=timing)
    return build(request)[0]


BY_HOUR = Timing("at", "hour", "UTC")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return with_thresholds(built(tmp_path_factory.mktemp("plain"), table()))


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return with_thresholds(built(tmp_path_factory.mktemp("timed"), table(), BY_HOUR))


def with_thresholds(profile: Profile) -> Profile:
    profile.thresholds = Comparison(Layout(profile), DriftSettings(statistics=["psi", "ks"]), 100).fitted()
    return profile


@pytest.mark.parametrize("by", ["hour", "weekday-hour"])
def test_rows_are_counted_by_slot(by: Any, tmp_path: Path) -> None:
    rows = table()
    profile = built(tmp_path, rows, Timing("at", by, "Europe/Berlin"))
    hours = profile.hours
    assert isinstance(hours, HourlyReference)
    local = pd.to_datetime(rows["at"], unit="s", utc=True).dt.tz_convert("Europe/Berlin")
    slots = local.dt.hour if by == "hour" else local.dt.day_of_week * 24 + local.dt.hour
    assert hours.rows == np.bincount(slots, minlength=hours.slots).tolist()
    assert profile.score is not None
    for variable, counts, column in (
        (profile.features["amount"], hours.features["amount"], rows["amount"]),
        (profile.score, hours.score, rows["p"]),
    ):
        assert isinstance(variable, NumericVariable)
        assert np.sum(counts, axis=0).tolist() == variable.counts
        for slot in (3, 17):
            assert counts[slot][1:-3] == np.histogram(column[slots == slot], variable.edges)[0].tolist()


def test_times_are_read_in_every_form(timed: Profile, tmp_path: Path) -> None:
    rows, numbers = table(), timed.hours
    times = pd.to_datetime(rows["at"], unit="s")
    for name, column in (
        ("a.csv", times.dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("b.csv", rows["at"]),
        ("c.parquet", times),
    ):
        assert built(tmp_path, rows.assign(at=column), BY_HOUR, name).hours == numbers
    berlin = times.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin").dt.tz_localize(None)
    local = Timing("at", "hour", "Europe/Berlin")
    assert built(tmp_path, rows.assign(at=berlin), local).hours == built(tmp_path, rows, local).hours


def test_without_a_time_the_profile_is_as_ever(plain: Profile, timed: Profile, tmp_path: Path) -> None:
    assert plain.digest != timed.digest
    for profile, name in ((plain, "plain.json"), (timed, "timed.json")):
        save(profile, tmp_path / name)
        assert load(tmp_path / name).digest == profile.digest
    without = json.loads((tmp_path / "timed.json").read_text())
    assert without.pop("hours")["by"] == "hour"
    kept = json.loads((tmp_path / "plain.json").read_text())
    for each in (without, kept):
        del each["provenance"]
    assert kept == without
    assert "reference by hour of the day in UTC" in describe(timed)


@pytest.mark.parametrize(
    ("change", "by", "message"),
    [
        (lambda rows: rows[rows["at"] < MONDAY + DAY], "hour", "rows of 1.0 days are too few"),
        (lambda rows: rows[rows["at"] < MONDAY + 9 * DAY], "weekday-hour", "must span 14 days"),
        (lambda rows: rows.assign(at=rows["at"] * 1000), "hour", "no time in Unix seconds"),
        (lambda rows: rows.assign(at="noon"), "hour", "not all are times"),
        (lambda rows: rows.assign(at=None), "hour", "no row has a time"),
    ],
)
def test_times_of_no_use_are_refused(change: Any, by: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=message):
        built(tmp_path, change(table()), Timing("at", by, "UTC"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("timezone", "Mars/North", "no time zone"),
        ("rows", [1] * 23, "24 slots"),
        ("features", {"size": [[1]] * 24}, "variables of the profile"),
        ("features", {"amount": [[1]] * 24}, "counts of 0 or more"),
        ("by", "minute", "Invalid enum value"),
        ("vectors", {"rows": [1] * 24, "means": [[0.0]] * 24, "errors": [1.0] * 24}, "means of 128"),
    ],
)
def test_a_damaged_file_is_refused(key: str, value: object, message: str, timed: Profile, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    save(timed, path)
    content = json.loads(path.read_text())
    content["hours"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ProfileError, match=message):
        load(path)


@pytest.mark.parametrize("length", [900, 5 * HOUR, DAY, 30 * DAY])
def test_panes_are_made_up_of_the_hours_that_they_cover(length: float) -> None:
    rows = np.random.default_rng(1).integers(1, 100, 24)
    window = Window(length, 3)
    now = MONDAY + 1234.5
    found = Clock(HourlyReference("hour", "UTC", rows.tolist(), {})).of_panes(window, now)
    edges = window.edges(now)
    assert window.number(now) == round(edges[-2] / window.width)
    for pane in (0, 17, 59):
        moments = np.linspace(edges[pane], edges[pane + 1], 20_001)[:-1]
        slots = (moments // HOUR % 24).astype(int)
        expected = np.bincount(slots, rows[slots], minlength=24)
        assert found[pane] == pytest.approx(expected / expected.sum(), abs=1e-3)


def test_a_mixture_is_known_as_well_as_its_hours() -> None:
    rng = np.random.default_rng(2)
    counts = np.array([[100.0, 300.0], [900.0, 100.0], [2.0, 3.0]])
    hourly = HourlyShares.of(counts, counts.sum(0), np.array([0]))
    weights = np.array([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    mixture = hourly.mixed(weights)
    assert mixture.shares[0].tolist() == pytest.approx([0.3 * 0.25 + 0.7 * 0.9, 0.3 * 0.75 + 0.7 * 0.1])
    assert mixture.shares[1].tolist() == pytest.approx(counts.sum(0) / counts.sum()), "too few for an hour of its own"
    fair = rng.binomial([400, 1000], 0.5, (100_000, 2)) / [400, 1000] @ [0.3, 0.7]
    assert mixture.n[0, 0] == pytest.approx(0.25 / fair.var(), rel=0.02)


class Found(NamedTuple):
    """What drifts in each window, and which statistics of all features together are above their threshold."""

    drift: Drift
    joint: Flags


def lived(profile: Profile, hours: Iterable[float], rng: np.random.Generator, moved: float = 0.0) -> Found:
    """Compare windows that end at the last of these hours, each of which had 600 events; the last ones `moved`."""
    settings = ModelSettings.model_validate({
        "name": "m", "task": "binary", "profile": "p.json", "windows": ["1h", "6h"],
        "drift": {"statistics": ["psi", "ks"]},
    })  # fmt: skip
    reference = Model(settings, profile, Limits()).references[0]
    version, layout, vectors, joint = (
        reference.begin("1", 0),
        reference.layout,
        reference.vectors,
        vector_drift(reference),
    )
    assert profile.vectors is not None
    assert vectors is not None
    assert joint is not None
    vector_map = VectorMap.of(profile.vectors, layout.numeric, layout.categorical)
    known = list(hours)
    for hour in known:
        wave = np.sin(2 * np.pi * (hour + 0.5) / 24)
        numeric = np.stack([rng.normal(1.5 * wave, size=600), rng.standard_normal(600)])
        numeric[0] += moved if hour > known[-1] - 6 else 0.0
        red = profile.features["colour"].codes  # type: ignore[union-attr]
        codes = np.where(rng.random(600) < 0.5 + 0.4 * wave, red["red"], red["blue"])[np.newaxis]
        delta = layout.zeros()
        delta[layout.predictions] = 600
        vectors.count(delta[layout.cells_of(vectors)], vector_map(numeric, codes))
        layout.count_features(delta, numeric, codes)
        version.add(delta, MONDAY + (hour + 0.5) * HOUR)
    now = MONDAY + (known[-1] + 1) * HOUR - 1
    comparison, cells = Comparison(layout, settings.drift, settings.min_samples.drift), layout.cells_of(vectors)
    with np.errstate(divide="ignore", invalid="ignore"):
        drift = comparison.compare(version.totals(now), comparison.traffic(version, now))
        sums = vectors.sums(version.totals(now)[:, cells])
        values, thresholds = joint.compare(sums, joint.traffic(version, now, vectors, cells))
    return Found(drift, values > thresholds)


@pytest.mark.parametrize("end", [6, 18])
def test_a_rhythm_that_the_reference_knows_is_no_drift_and_a_change_is(
    end: int, plain: Profile, timed: Profile
) -> None:
    def found(profile: Profile, moved: float = 0.0) -> Found:  # of hours too few to tell how they differ
        return lived(profile, range(10 * 24 + end - 6, 10 * 24 + end), np.random.default_rng(3), moved)

    amount = FEATURES.index("amount")
    without, known, changed = found(plain), found(timed), found(timed, 1.0)
    assert without.drift.beyond[0, amount], "without hours, an hour seems to drift"
    assert without.joint[0].any()
    assert not known.drift.beyond.any()
    assert not known.joint.any()
    assert changed.drift.beyond[:, amount].all()
    assert changed.joint[:, 0].all()


def test_a_profile_by_hour_from_before_takes_features_together_as_a_whole(timed: Profile, tmp_path: Path) -> None:
    assert isinstance(timed.hours, HourlyReference)
    hours = msgspec.structs.replace(timed.hours, vectors=msgspec.UNSET)
    former = msgspec.structs.replace(timed, hours=hours)
    save(former, tmp_path / "p.json")
    assert "vectors" not in json.loads((tmp_path / "p.json").read_text())["hours"]
    again = load(tmp_path / "p.json")
    assert again.digest == former.digest != timed.digest
    found = lived(again, range(10 * 24, 10 * 24 + 6), np.random.default_rng(3))
    assert not found.drift.beyond.any()
    assert found.joint[0].any(), "an hour seems to drift"


def test_a_week_of_rhythm_leaves_the_power_of_short_windows(plain: Profile, timed: Profile) -> None:
    rng = np.random.default_rng(4)
    moved = [lived(profile, range(7 * 24), rng, 1.0) for profile in (plain, timed)]
    raised = [found.drift.thresholds["psi"][0, 0] for found in moved]
    assert raised[1] < raised[0] / 4, "what hours explain is no dependence"
    assert moved[1].drift.beyond[0, 0]
    assert moved[1].joint[0, 0]
    healthy = lived(timed, range(7 * 24), rng)
    assert not healthy.drift.beyond.any()
    assert not healthy.joint.any()


def test_windows_of_a_job_are_compared_with_the_whole_reference(timed: Profile) -> None:
    settings = ModelSettings.model_validate(
        {"name": "m", "task": "binary", "profile": "p.json", "windows": ["1d"], "cadence": "1d"}
    )
    reference = Model(settings, timed, Limits()).references[0]
    comparison = Comparison(reference.layout, settings.drift, settings.min_samples.drift)
    assert comparison.traffic(reference.begin("1", 0), MONDAY).hours is None
