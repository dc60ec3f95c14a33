"""A rhythm is told from what merely resembles its neighbours, by what windows of several lengths have counted."""

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.model import Model
from mlops_exporter.judging.drift import Comparison
from mlops_exporter.judging.seasonality import Seasonality
from mlops_exporter.judging.verdicts import Bench
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.models import profiles

QUARTER, DAY = 900.0, 86400.0
DAYS = 10
EVENTS = 1000
"""In a quarter of an hour."""


def found(high: Floats, windows: list[str]) -> Seasonality | None:
    """What is recognised after days in which each quarter of an hour had such a share of high amounts."""
    settings = ModelSettings.model_validate({
        "name": "credit", "task": "binary", "profile": "p.json", "windows": windows,
        "drift": {"statistics": ["tvd"]},
    })  # fmt: skip
    reference = Model(settings, profiles()["credit"], Limits()).references[0]
    version, layout = reference.begin("3", 0), reference.layout
    amounts = layout.features["amount"]
    rng = np.random.default_rng(7)
    now = DAYS * DAY
    for number, share in enumerate(high):
        delta = layout.zeros()
        drawn = rng.binomial(EVENTS, share)
        delta[layout.predictions] = EVENTS
        delta[amounts.start + 1 : amounts.start + 3] = drawn, EVENTS - drawn
        version.add(delta, now - (len(high) - number - 0.5) * QUARTER)
    comparison = Comparison(layout, settings.drift, settings.min_samples.drift)
    return Bench(reference, comparison).seasonality(version, now)


TIMES = np.arange(DAYS * DAY / QUARTER) * QUARTER
BY_HOUR = 0.5 + 0.3 * np.sin(2 * np.pi * TIMES / DAY)


def test_a_day_evens_its_hours_out() -> None:
    rhythm = found(BY_HOUR, ["15m", "1h", "24h"])
    assert rhythm is not None
    assert (rhythm.features, rhythm.even) == (["amount"], "1d")
    assert rhythm.worth < rhythm.predictions / 4


def test_without_a_window_of_a_day_none_evens_it_out() -> None:
    rhythm = found(BY_HOUR, ["15m", "1h"])
    assert rhythm is not None
    assert rhythm.even is None


def test_sessions_are_no_rhythm() -> None:
    steps = np.random.default_rng(3).standard_normal(len(TIMES))
    slow = np.convolve(steps, 0.9 ** np.arange(200))[: len(TIMES)]
    rhythm = found(1 / (1 + np.exp(-slow / 2)), ["15m", "1h", "24h"])
    assert rhythm is not None
    assert rhythm.even is None


def test_independent_events_have_none() -> None:
    assert found(np.full(len(TIMES), 0.5), ["15m", "1h", "24h"]) is None


def test_a_change_of_some_days_ago_is_none() -> None:
    assert found(np.where(TIMES >= (DAYS - 2) * DAY, 0.7, 0.5), ["15m", "1h", "24h"]) is None
