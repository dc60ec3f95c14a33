import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_exporter.exposition.registry import Registry
from mlops_exporter.judging.judge import VERDICTS
from mlops_exporter.judging.status import HISTORY_POINTS, Headline, ModelState, Report, SourceState
from mlops_exporter.logs import Notice
from mlops_exporter.web.app import App
from tests.dom import assert_accessible
from tests.standin import StandIn
from tests.support.chromium import Page, browser
from tests.support.prometheus import eventually
from tests.support.serving import served

LONG = "a_feature_with_a_rather_long_name_such_as_feature_stores_make_them_up_every_day"


def report() -> Report:
    """A full page: every state, long names, down sources, a wall of errors."""
    history = [0.9 + 0.05 * math.sin(point / 5) for point in range(HISTORY_POINTS)]
    headline = Headline("balanced_accuracy", "15m", 0.91, 0.9, 0.92, 0.93, None, list(history))
    now = time.time()
    models = [
        ModelState(
            f"{verdict}-model/of.some:namespace-{LONG}",
            "2026-11-22.alpha+build",
            "binary",
            "0123456789ab",
            verdict,
            [f"{LONG}, {LONG} drifted in 15m"],
            headline,
            200,
            [LONG],
            0.5,
            10**12,
            10**9,
            10**7,
            10**6,
            now - 5,
            None,
        )
        for verdict in VERDICTS
    ]
    sources = [
        SourceState(f"source-{n}", n % 2 == 0, LONG, 1e9, 10**12, 10**9, {"unknown_model": 10**9}, 5, now - 10**6)
        for n in range(3)
    ]
    errors = [Notice("error", f"{LONG} {n} " * 5, now - 100, now - n, 10**6) for n in range(20)]
    return Report("1.2.3", now - 10**6, now, "starting or stopping", models, sources, errors)


class Service(StandIn):
    """Tells another version each time, or fails."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = itertools.count()
        self.fails = False

    def status(self) -> Report:
        if self.fails:
            raise RuntimeError("the status is broken")
        return dataclasses.replace(report(), version=f"1.2.{next(self.asked)}")


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with served(App(Registry([], lambda: 0), service, service)) as address:
        yield f"http://{address}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.mark.parametrize("path", ["/", "/docs"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1440], ids=["narrow phone", "phone", "tablet", "desktop"])
def test_a_page_fits_and_loads_nothing_else(page: Page, address: str, path: str, scheme: str, width: int) -> None:
    page.problems.clear()
    page.open(f"{address}{path}", width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("innerWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 22, 26)")
    assert page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert page.problems == []


@pytest.mark.parametrize("width", [768, 1440], ids=["tablet", "desktop"])
def test_a_long_error_does_not_break_the_words_of_a_table(page: Page, address: str, width: int) -> None:
    page.open(address, width=width)
    broken = """
      [...document.querySelectorAll("thead th, td:not([data-label=State], [data-label=What])")].flatMap(cell =>
      [...cell.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).flatMap(node =>
        [...node.data.matchAll(/\\S+/g)].filter(word => {
          const range = document.createRange();
          range.setStart(node, word.index);
          range.setEnd(node, word.index + word[0].length);
          return range.getClientRects().length > 1;
        }).map(word => word[0])))"""
    assert page.evaluate(broken) == []


@pytest.mark.parametrize("width", [1280, 1440], ids=["laptop", "desktop"])
def test_no_name_of_a_metric_is_broken(page: Page, address: str, width: int) -> None:
    page.open(f"{address}/docs", width=width)
    names = "[...document.querySelectorAll('tbody th code')]"
    assert page.evaluate(f"{names}.length") > 100
    assert page.evaluate(f"{names}.filter(e => e.getClientRects().length > 1).map(e => e.textContent)") == []


def test_it_is_readable_on_a_phone(page: Page, address: str) -> None:
    page.open(address, width=390)
    sizes = "[...document.querySelectorAll('main *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(page.evaluate(sizes)) >= 14
    targets = "[...document.querySelectorAll('a')].map(e => e.getBoundingClientRect().height)"
    assert min(page.evaluate(targets)) >= 24  # WCAG 2.2, target size
    label = page.evaluate("getComputedStyle(document.querySelector('td'), '::before').content")
    assert label == '"State: "'


def test_what_assistive_technology_gets(page: Page, address: str) -> None:
    page.open(address, width=1440)
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    named = {
        n["role"]["value"]: n.get("name", {}).get("value") for n in nodes if n["role"]["value"] in ("table", "image")
    }
    for role in ("banner", "navigation", "main", "heading", "list", "status", "table", "columnheader", "rowheader"):
        assert role in roles, role
    assert named["image"].startswith("balanced_accuracy over the last 10 min")
    assert_accessible(page.evaluate("'<!doctype html>' + document.documentElement.outerHTML"))


def test_the_script_renews_the_page_and_says_when_it_cannot(page: Page, address: str, service: Service) -> None:
    page.open(address, width=1440)
    renew = "document.dispatchEvent(new Event('visibilitychange'))"
    version = "document.querySelector('main p').textContent.match(/1\\.2\\.\\d+/)[0]"
    before = page.evaluate(version)
    page.evaluate(renew)
    eventually(lambda: page.evaluate(version) != before, 5)
    service.fails = True
    try:
        page.evaluate(renew)
        note = "document.getElementById('renewal').textContent"
        eventually(lambda: "does not answer (status 500)" in page.evaluate(note), 5)
    finally:
        service.fails = False
    page.evaluate(renew)
    eventually(lambda: page.evaluate(note) == "", 5)


def test_the_screenshot_in_the_documentation_is_there_and_small() -> None:
    screenshot = Path(__file__).parents[2] / "docs" / "images" / "landing.png"
    content = screenshot.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 100_000
