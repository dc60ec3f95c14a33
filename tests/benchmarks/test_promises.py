"""The speed that the project keeps, as ratios within one run, so that a slow machine does not matter.

The goals that are not reached yet, of ingest and of scrapes under load, are printed by `make bench`.
"""

import pytest

from tests.benchmarks import exposition, judgement, refresh

pytestmark = pytest.mark.benchmark


def test_exposition_beside_prometheus_client() -> None:
    theirs, ours = exposition.measure(rounds=15)
    assert theirs / ours >= 15, f"{theirs / ours:.1f}"


def test_a_scrape_costs_the_same_however_many_events_there_were() -> None:
    few, _, _ = refresh.measure(10_000)
    many, _, _ = refresh.measure(200_000)
    assert many < 1.5 * few, f"{few:.2f} and {many:.2f} ms"


def test_a_model_version_is_small() -> None:
    assert refresh.memory() < refresh.MEMORY_GOAL_BYTES


def test_ingest_with_every_judgement_keeps_most_of_its_speed() -> None:
    best = judgement.shares()
    share = best["off"][1] / best["all"][1]
    assert share >= 0.70, f"{share:.2f}"
