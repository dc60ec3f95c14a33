"""A short version of `make ordinary-quarter`: two of the faults, an hour into the life of models."""

from pathlib import Path

import pytest

from tests.simulations.ordinary_quarter import FAULTS, faults, in_time
from tests.simulations.scrapes import HOUR


@pytest.mark.simulation
def test_faults_are_told_in_time(tmp_path: Path) -> None:
    names = ["missing", "slow"]
    told = faults(tmp_path, names, lived=HOUR)
    assert {name for name, minutes in told.items() if minutes is not None} == set(names)


def test_what_was_told_before_proves_nothing() -> None:
    promised = FAULTS["missing"].minutes
    assert in_time([20.0, 30.0], promised) == 20.0
    assert in_time([promised + 1.0], promised) is None
    assert in_time([-10.0, 20.0], promised) is None
    assert in_time([], promised) is None
