"""The judgement of a soak: it finds what is wrong, and only that."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.soak.__main__ import BEGIN, END, written
from tests.soak.report import Book, Incident, Report
from tests.soak.traffic import lost_and_doubled
from tests.soak.watch import Look

GOOD = Book("pushed", sent=100, acknowledged=100, refused=5, counted=100, lost=0, doubled=0)


def looks(change: Callable[[Look], Look] = lambda look: look) -> list[Look]:
    """Ten minutes of two lives, once a second; `change` applies to the last five minutes."""
    steady = [Look(float(t), 1 + (t > 60), 10 * t, 0.02, 100_000_000, 20, 8) for t in range(600)]
    return [change(look) if look.time >= 300 else look for look in steady]


def test_losses_and_doubles_do_not_cancel_each_other() -> None:
    sent = Counter({"s0": 25, "s1": 25, "s2": 10})
    assert lost_and_doubled(sent, {"s0": 25.0, "s1": 25.0, "s2": 10.0, "other": 0.0}) == (0, 0)
    assert lost_and_doubled(sent, {"s0": 0.0, "s1": 50.0, "s2": 10.0}) == (25, 25)
    assert lost_and_doubled(sent, {"s0": 25.0, "s1": 25.0, "unknown": 3.0}) == (10, 3)


def test_a_good_run_is_good() -> None:
    assert Report(looks(), [GOOD], [Incident("kill", 30.0, 1.0, 2.0)]).judge() == []


@pytest.mark.parametrize(
    ("book", "fault"),
    [
        (replace(GOOD, lost=25, doubled=25), "pushed: 25 events lost, 25 counted twice"),
        (replace(GOOD, acknowledged=99), "pushed: 99 of 100 events were acknowledged"),
    ],
)
def test_miscounts_are_named(book: Book, fault: str) -> None:
    assert Report(looks(), [book]).judge() == [fault]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda look: replace(look, memory=111_000_000), "memory grew from 100 to 111 MB"),
        (lambda look: replace(look, files=26), "file descriptors grew to 26"),
        (lambda look: replace(look, threads=11), "threads grew to 11"),
    ],
)
def test_growth_is_named(change: Callable[[Look], Look], fault: str) -> None:
    assert Report(looks(change), [GOOD]).judge() == [fault]


def test_the_first_minute_of_a_life_and_earlier_lives_may_differ() -> None:
    history = [replace(look, memory=50_000_000) if look.time < 115 else look for look in looks()]
    assert Report(history, [GOOD]).judge() == []


def test_what_happened_meanwhile_is_named() -> None:
    assert Report(looks(), [GOOD], faults=["a scrape failed"]).judge() == ["a scrape failed"]


def test_tables_take_the_place_of_former_ones() -> None:
    document = f"# Title\n{BEGIN}\nold\n{END}\nmore\n"
    tables = Report(looks(), [GOOD], [Incident("kill", 30.0, 1.0, 2.0)], left_out={"disk full": "no root"}).tables()
    new = written(document, tables)
    assert new == f"# Title\n{BEGIN}\n{tables}{END}\nmore\n"
    assert written(new, "newer\n") == f"# Title\n{BEGIN}\nnewer\n{END}\nmore\n"
    assert "| pushed | 100 | 100 | 5 | 100 | 0 | 0 |" in tables
    assert "| kill | 1 | 2.0 |" in tables
    assert "2 lives" in tables
    assert "Left out: disk full (no root)." in tables
