"""docs/events.md says what the code says."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlops_exporter.client import Monitor
from mlops_exporter.events.reasons import CLOCK_SKEW_SECONDS, MAX_ID_LENGTH, REASONS
from mlops_exporter.profile.values import PROBABILITY_TOLERANCE
from mlops_exporter.settings.sources import KServeModel, KServeSettings
from mlops_exporter.sources.kserve import OUTCOMES
from mlops_exporter.web.app import MAX_ERRORS

DOCS = Path(__file__).parents[2] / "docs"
EVENTS = (DOCS / "events.md").read_text()


@pytest.mark.parametrize(
    ("marker", "head", "rows"), [("reasons", "reason", REASONS), ("outcomes", "outcome", OUTCOMES)]
)
def test_tables_are_those_of_the_code(marker: str, head: str, rows: Mapping[str, str]) -> None:
    table = f"| {head} | meaning |\n|---|---|\n" + "".join(f"| `{name}` | {text} |\n" for name, text in rows.items())
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end -->", EVENTS, re.DOTALL)
    assert found is not None
    assert found[1] == table


def test_numbers_are_those_of_the_code() -> None:
    assert f"string of 1 to {MAX_ID_LENGTH} characters" in EVENTS
    assert f"Up to {CLOCK_SKEW_SECONDS:.0f} s ahead" in EVENTS
    assert f"add up to 1 within {PROBABILITY_TOLERANCE} a class" in EVENTS
    assert f"the first {MAX_ERRORS} refusals" in EVENTS
    settings = KServeSettings()
    assert f"waiting_events: {settings.waiting_events} " in EVENTS
    assert f"waiting_bytes: {settings.waiting_bytes} " in EVENTS
    assert f"remembered_events: {settings.remembered_events} " in EVENTS
    assert f"wait: {settings.wait:.0f}s " in EVENTS
    assert all(f"{name}:" in EVENTS for name in KServeModel.model_fields)


def test_the_client_takes_what_its_page_names() -> None:
    page = (DOCS / "client.md").read_text()
    parameters = inspect.signature(Monitor).parameters
    for name in ("queue_events", "exit_seconds", "token", "headers", "timeout"):
        assert f"`{name}`" in page
        assert name in parameters
    assert parameters["queue_events"].default == 10_000
    assert parameters["batch_events"].default == 500
    assert parameters["exit_seconds"].default == 3.0
