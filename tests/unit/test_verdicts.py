"""Page and status call each situation by its name, and give a reason for whatever is not good."""

import time
from pathlib import Path

import pytest

from mlops_exporter.judging.judge import LIMITS, VERDICTS, WORDS
from prometheus.source.render import ALERTS
from prometheus.source.thresholds import THRESHOLDS
from tests.support.situations import SITUATIONS, model_in, observer_of


@pytest.mark.slow
@pytest.mark.parametrize("name", SITUATIONS)
def test_situation(name: str, tmp_path: Path) -> None:
    situation = SITUATIONS[name]
    (state,) = observer_of(model_in(situation, tmp_path)).states(time.time())
    assert (state.state, bool(state.reasons)) == (situation.verdict, situation.verdict != "good"), state.reasons


@pytest.mark.slow
def test_a_reason_says_how_much_against_what(tmp_path: Path) -> None:
    (state,) = observer_of(model_in(SITUATIONS["worse than agreed"], tmp_path)).states(time.time())
    assert state.reasons[0].startswith("accuracy 0.75 (0.7")
    assert state.reasons[0].endswith(" in 1h, at least 0.9 is agreed")
    (state,) = observer_of(model_in(SITUATIONS["groups are treated unlike"], tmp_path)).states(time.time())
    assert state.reasons[0].startswith("demographic_parity_ratio by sex 0.")


def test_a_version_that_was_replaced_is_not_silent(tmp_path: Path) -> None:
    model = model_in(SITUATIONS["healthy"], tmp_path)
    model.admit({"2"})
    states = {state.version: state for state in observer_of(model).states(time.time())}
    assert states["2"].predictions == 0
    assert states["2"].state == "unknown"


def test_every_verdict_has_words_and_an_alert() -> None:
    assert list(WORDS) == list(VERDICTS)
    told = {alert.verdict for alert in ALERTS if alert.verdict}
    assert told == set(VERDICTS) - {"unknown", "good"}


def test_the_numbers_stand_once() -> None:
    assert {name: THRESHOLDS[name] for name in LIMITS} == LIMITS
