"""Every PromQL expression of README.md, docs/*.md and the runbooks, asked of a Prometheus that scrapes two replicas."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlops_exporter.exposition.catalogue import all_metrics
from tests.support.exporter import ENVIRONMENT, running_exporter
from tests.support.pages import blocks
from tests.support.prometheus import eventually, running_prometheus, scrape_job

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

Ask = Callable[[str], list[Any]]

NOT_SHOWN = {
    "ml_challenger_": "the demonstration has no challenger",
    "ml_forecast_": "the demonstration's models do not forecast",
    "ml_horizon_": "the demonstration's models do not forecast",
    "ml_interval_": "the demonstration's models announce no quantiles",
    "ml_quantile_": "the demonstration's models announce no quantiles",
    "ml_fairness_benchmark_min": "the demonstration agrees on no ratio",
    "ml_outcome_": "the demonstration's models have labels, and no outcomes",
    "ml_ranking_": "the demonstration has no model that ranks",
    "ml_retraining_": "the demonstration retrains nothing",
    "ml_gpu_": "a machine for tests has no GPU",
    "ml_model_batch_": "the demonstration's models predict all the time",
    "ml_exporter_source_rewritten_files": "the demonstration reads no table",
}
"""Metrics that the demonstration lacks: a query of them must be understood, and finds nothing."""


def _queries() -> Iterator[tuple[str, str]]:
    """Yield page and query: each line of a block is one."""
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"^ *```promql\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            yield from ((page.name, line.strip()) for line in block.splitlines() if line.strip())
        yield from ((page.name, expression) for expression in re.findall(r"^ +expr: (.+)$", text, re.MULTILINE))


QUERIES = list(_queries())


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Two demonstrations, scraped as replicas, with the shipped rules, asked of the moment at which all is shown."""
    one, other, server = (tmp_path_factory.mktemp(name) for name in ("one", "other", "server"))
    rules = [str(path) for path in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))]
    demo = ("demo", "--demo.speed=5")
    without_gpus = pytest.MonkeyPatch()
    without_gpus.delitem(ENVIRONMENT, "LD_LIBRARY_PATH", raising=False)  # other tests let exporters see some
    with (
        running_exporter(one, *demo) as first,
        running_exporter(other, *demo) as second,
    ):
        config = {"scrape_configs": [scrape_job("mlops-exporter", first.address, second.address)], "rule_files": rules}
        with running_prometheus(config, server) as running:
            for metric in ("ml_fairness", "ml_feature_drift", "ml_model_performance", "ml_model_performance_estimated"):
                eventually(partial(running.query, f"count(count by (model, instance) ({metric})) == 4"), seconds=90)
            eventually(partial(running.query, "sum(increase(ml_model_confusion_total[1m])) > 0"))
            eventually(partial(running.query, "ml:model_profiles:1h"), seconds=90)  # rules come at their own times
            yield running.without_gaps(2).query
    without_gpus.undo()


def _matching(query: str) -> str:
    """Return the query with every comparison told by 0 or 1, so that it finds whatever both sides share."""
    outside = re.split(r"(\{[^}]*\}|\"[^\"]*\")", query)
    return "".join(
        part if number % 2 else re.sub(r"(<=|>=|==|!=|<|>)(?!\s*bool)", r"\1 bool", part)
        for number, part in enumerate(outside)
    )


def test_the_pages_have_queries() -> None:
    assert {"README.md", "concepts.md", "judgement.md"} <= {page for page, _ in QUERIES}


@pytest.mark.parametrize(
    ("page", "query"), QUERIES, ids=[f"{page}-{number}" for number, (page, _) in enumerate(QUERIES)]
)
def test_a_documented_query_is_understood_and_its_sides_match(ask: Ask, page: str, query: str) -> None:
    names = set(re.findall(r"\bml_\w+", re.sub(r"\{[^}]*\}", "", query)))
    known = {metric.name for metric in all_metrics()}
    assert all(re.sub(r"_(bucket|sum|count)$", "", name) in known | {name} & known for name in names), names
    ask(query)
    found = ask(_matching(query))
    reason = next((why for start, why in NOT_SHOWN.items() if any(name.startswith(start) for name in names)), None)
    assert bool(found) != bool(reason), reason or "both sides have series, but none match: labels differ"


def _of_runbooks() -> Iterator[tuple[str, str]]:
    """Yield runbook and query, of anything that an alert may be about."""
    for page in sorted((ROOT / "docs" / "runbooks").glob("*.md")):
        for block in blocks(page.read_text(), "promql"):
            yield page.stem, re.sub(r'="\$\w+"', '=~".+"', " ".join(block.split()))


_SELECTOR = r"(?:ALERTS(?:_FOR_STATE)?|up|(?:ml|instance|process|prometheus)[_:][\w:]+)\b(?:\{[^}]*\})?"


def test_the_queries_of_runbooks_are_understood_and_their_sides_match(ask: Ask) -> None:
    """Of series that the demonstration has; a lint knows the labels of the others."""
    queries = list(_of_runbooks())
    shown = {
        (page, query)
        for page, query in queries
        if ask(query) or (" offset " not in query and all(map(ask, re.findall(_SELECTOR, query))))
    }
    assert len(shown) > len(queries) / 2
    assert not [(page, query) for page, query in sorted(shown) if not ask(_matching(query))]


_COMPUTES = r" [<>=!]=? | (and|or|unless) |\b(rate|increase|sum|count|topk|max|min|avg|histogram_quantile)\b.*\("


def test_no_page_hides_a_query_in_a_sentence() -> None:
    """What compares or computes stands in a block, where the tests above find it."""
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for code in re.findall(r"`([^`\n]+)`", prose):
            hidden = re.search(r"\bml_\w+", code) and re.search(_COMPUTES, code)
            assert not hidden, f"{page.name}: {code}"
