"""The speed that the project keeps, as ratios within one run, so that a slow machine does not matter.

Another process on the same cores spoils a run all the same: a promise is broken when no run of a few keeps it.
"""

from collections.abc import Callable

import pytest

from tests.benchmarks import busy, exposition, ingest, judgement, panes, refresh, restore, scrape

pytestmark = pytest.mark.benchmark

RUNS = 5


def best_of_runs(measure: Callable[[], float], kept: Callable[[float], bool]) -> float:
    """Return the first measure that keeps the promise, or the last of several."""
    for _ in range(RUNS):
        if kept(found := measure()):
            break
    return found


def test_ingest_beside_orjson() -> None:
    def share_of_goal() -> float:
        rates = ingest.measure()
        return rates["pipeline, bodies of 1000"] / rates["orjson.loads, line by line"] / ingest.ORJSON_GOAL

    assert best_of_runs(share_of_goal, lambda share: share >= 1) >= 1


@pytest.mark.soak  # minutes, and the slowest of a hundred scrapes: `make soak`
def test_scrapes_while_events_pour_in() -> None:
    """As many events a second, and scrapes as quick, as the machine of the goals had, for the speed of this one."""

    def share_of_goal() -> float:
        slowness = ingest.slowness()
        asked = busy.RATE / slowness
        _, p99, reached, series = busy.measure(asked, scrapes=10)
        assert series > 10_000
        return p99 / slowness / scrape.GOAL_MILLISECONDS if reached > 0.95 * asked else float("inf")

    assert best_of_runs(share_of_goal, lambda share: share < 1) < 1


def test_exposition_beside_prometheus_client() -> None:
    theirs, ours = exposition.measure(rounds=15)
    assert theirs / ours >= 15, f"{theirs / ours:.1f}"


def test_a_scrape_costs_the_same_however_many_events_there_were() -> None:
    few, _, _ = refresh.measure(10_000)
    many, _, _ = refresh.measure(200_000)
    assert many < 1.5 * few, f"{few:.2f} and {many:.2f} ms"


def test_a_refresh_is_quick() -> None:
    milliseconds = best_of_runs(
        lambda: refresh.measure(10_000)[0], lambda found: found < refresh.REFRESH_GOAL_MILLISECONDS
    )
    assert milliseconds < refresh.REFRESH_GOAL_MILLISECONDS


def test_a_model_version_is_small() -> None:
    assert refresh.memory() < refresh.MEMORY_GOAL_BYTES


def test_ingest_with_every_judgement_keeps_most_of_its_speed() -> None:
    def share() -> float:
        seconds = judgement.shares()
        return seconds["off"][1] / seconds["all"][1]

    assert best_of_runs(share, lambda found: found >= judgement.GOAL) >= judgement.GOAL


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_a_large_scrape_is_15_times_faster_than_prometheus_client(openmetrics: bool) -> None:
    theirs, ours = exposition.measure(series=10_000, rounds=5, openmetrics=openmetrics)
    assert theirs / ours >= 15, f"{theirs * 1e3:.1f} ms against {ours * 1e3:.1f} ms"


def test_events_in_panes_of_their_own_cost_at_most_three_times_as_much() -> None:
    best = panes.measure()
    assert max(best.values()) <= 3 * best["0 s apart"], best


def test_restoring_takes_hardly_more_memory_than_running() -> None:
    peaks = restore.measure(1_000_000)
    assert peaks["restore"] <= 1.1 * peaks["fill"], peaks
