"""A short soak, and whether the soak would notice."""

import os
from pathlib import Path

import pytest

from tests.soak.faults import FAULTS
from tests.soak.run import soak


def test_every_fault_once_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    report = soak(tmp_path, 30, print)
    print(report.tables())
    assert report.judge() == []
    assert not (os.environ.get("CI") and "clock jumps" in report.left_out), report.left_out
    assert {incident.name for incident in report.incidents} == FAULTS.keys() - report.left_out.keys()
    assert all(book.counted > 1000 for book in report.books)


@pytest.mark.soak
def test_without_state_a_kill_is_noticed(tmp_path: Path) -> None:
    faults = soak(tmp_path, 5, print, faults=["kill -9 and start"], durable=False).judge()
    assert any("pushed went back from" in fault for fault in faults), faults
    assert any(fault.startswith("pushed: ") and "events lost, 0 counted twice" in fault for fault in faults), faults
