"""The rules as Prometheus reads them: made from their source, linted, documented, and loadable by 2.42 and 3.x."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.source.environment import LABELS
from prometheus.source import addresses
from prometheus.source.__main__ import RULES, TESTS, descriptions, promtool_texts
from prometheus.source.alert import Alert
from prometheus.source.render import ALERTS, OWNED, RECORDS, rule_files
from prometheus.source.thresholds import THRESHOLDS
from tests.unit.alerting.promql import Lint, Series, catalogue_series, compares

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"

_OWN_LABELS = {"alertname", "alertstate", "severity", "category", "action"}
_PROMETHEUS = {
    "up": Series(frozenset({"job", "instance"})),
    "ALERTS": Series(
        frozenset(
            {"alertname", "alertstate", "severity", "category"} | {name for alert in ALERTS for name in alert.labels}
        )
    ),
    "ALERTS_FOR_STATE": Series(
        frozenset(
            {"alertname", "severity", "category", "action", "job", "instance", *OWNED}
            | {label for alert in ALERTS for label in alert.labels}
        )
    ),
    # Records that read themselves.
    "ml:exporter:up": Series(frozenset({"job", "instance"})),
    "ml:model_window:current": Series(frozenset({"job", "instance", "model", "version", "window"})),
    "ml:model_window:freshest": Series(frozenset({"job", "instance", "model", "version", "window"})),
    "ml:model_window:labelled": Series(frozenset({"job", "instance", "model", "version", "window"})),
    "process_start_time_seconds": Series(frozenset({"job", "instance"})),
    "process_resident_memory_bytes": Series(frozenset({"job", "instance"})),
    "process_cpu_seconds_total": Series(frozenset({"job", "instance"}), counter=True),
    "prometheus_rule_evaluation_failures_total": Series(frozenset({"job", "instance", "rule_group"}), counter=True),
    "prometheus_rule_group_iterations_missed_total": Series(frozenset({"job", "instance", "rule_group"}), counter=True),
}


def known_series() -> dict[str, Series]:
    return {**catalogue_series(), **_PROMETHEUS}


def linted(*more: str) -> Lint:
    """The lint, which knows the recording rules' results too; each rule is checked on the way.

    `more` are labels that a scrape adds to all series.
    """
    lint = Lint(
        {name: replace(series, labels=series.labels.union(more)) for name, series in known_series().items()},
        {alert.name: frozenset({*_OWN_LABELS, *OWNED, *alert.labels, *more}) for alert in ALERTS},
    )
    for rule in rules():
        if "record" in rule:
            labels = lint.check(rule["expr"]) | frozenset(rule.get("labels", {}))
            earlier = lint.known.setdefault(rule["record"], Series(labels))
            assert earlier.labels == labels, (
                f"{rule['record']} has {sorted(labels)}, and before {sorted(earlier.labels)}"
            )
    return lint


def rules() -> Iterator[dict[str, Any]]:
    files = [*RECORDS, *sorted(path.name for path in RULES.glob("*.yml") if path.name not in RECORDS)]
    for name in files:
        for group in yaml.safe_load((RULES / name).read_text())["groups"]:
            assert set(group) <= {"name", "interval", "rules"}, "2.42 knows no more, or 3.x alone does"
            yield from group["rules"]


TESTED = {
    test.get("name")
    for path in TESTS.glob("*.yml")
    for test in yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["tests"]
}
BY_NAME = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@pytest.fixture(scope="module")
def lint() -> Lint:
    return linted()


def test_committed_rules_are_those_of_their_source() -> None:
    assert {name: (RULES / name).read_text() for name in rule_files()} == rule_files()


def test_committed_tests_are_those_of_their_source() -> None:
    texts = promtool_texts(descriptions())
    assert {name: (TESTS / name).read_text() for name in texts} == texts


def test_every_threshold_is_used_and_only_there() -> None:
    text = " ".join(rule["expr"] for rule in rules())
    for name in THRESHOLDS:
        assert f"ml:threshold:{name})" in text, f"nothing reads {name}"


@pytest.mark.parametrize("name", BY_NAME)
def test_alert_has_a_test(name: str) -> None:
    assert name in TESTED


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_alert(alert: Alert, lint: Lint) -> None:
    rule = BY_NAME[alert.name]
    labels, annotations = rule["labels"], rule["annotations"]
    assert lint.check(rule["expr"]) == set(alert.labels)
    assert compares(rule["expr"]), "without a comparison it fires whenever the metric is there"
    assert labels["severity"] in ("critical", "warning", "info")
    assert set(labels) <= _OWN_LABELS | set(OWNED)
    steady = [value for name, value in labels.items() if name not in OWNED]
    assert not any("{{" in value for value in steady), "a label that changes makes a new alert each time"
    assert ("team" in labels) == ("model" in alert.labels)
    assert "for" in rule
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url", "query"}
    assert "{{" not in annotations["summary"]
    assert annotations["summary"].endswith(".")
    assert len(annotations["summary"]) <= 90, "it is a phone's title"
    assert " First: " in annotations["description"]
    if alert.category != "watchdog":
        assert " Since " in annotations["description"]
    if alert.name not in ("MLWatchdog", "MLModelFeedDown"):  # which nobody reads
        assert rule["for"] != "0m", "what fires at once does not know yet since when"
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values())))
    assert used <= {*alert.labels, *LABELS}
    for query in queries(rule):
        lint.check(query)


def test_rules_hold_where_a_scrape_adds_a_label() -> None:
    lint = linted("cluster")
    for rule in BY_NAME.values():
        lint.check(rule["expr"])


def queries(rule: dict[str, Any]) -> list[str]:
    """The queries in an alert's description, with any value in place of the alert's own labels."""
    return [re.sub(r"%\[\d\]q", '"x"', query) for query in re.findall(r"`([^`]*)`", rule["annotations"]["description"])]


@pytest.mark.parametrize("name", BY_NAME)
def test_runbook(name: str, lint: Lint) -> None:
    page = RUNBOOKS / f"{name}.md"
    assert page.exists(), "each alert has a page"
    text = page.read_text()
    assert BY_NAME[name]["annotations"]["runbook_url"] == f"{addresses.read().runbooks}/{name}.md"
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "Diagnosis", "What to do", "When it lies"]
    found = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    assert found, "the diagnosis has queries"
    for query in found:
        lint.check(re.sub(r"\$(\w+)", "x", query))


TWINS = {"job", "uuid", "mig", "currency", "slice", "profile_version", "of"}
"""Labels by which a runbook's first query need not choose: they come with others, or are many."""


@pytest.mark.parametrize("alert", [alert for alert in ALERTS if alert.name != "MLModelFeedDown"], ids=lambda a: a.name)
def test_a_runbook_begins_with_what_the_alert_is_about(alert: Alert, lint: Lint) -> None:
    """Its first query chooses by every label that the alert has; replicas of a model stand side by side."""
    text = (RUNBOOKS / f"{alert.name}.md").read_text()
    first = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)[0]
    wanted = set(alert.labels) - TWINS - ({"instance"} if "model" in alert.labels else set())
    known = set().union(*(lint.known[name].labels for name in re.findall(r"[\w:]+", first) if name in lint.known))
    assert set(re.findall(r'"\$(\w+)"', first)) >= wanted & known
    chosen = set(re.findall(r"\$(\w+)", re.sub(r"```sh.*?```", "", text, flags=re.DOTALL)))
    assert chosen - {"feature"} <= set(alert.labels), "the message does not tell it"


SAMPLES = {"min_labels", "min_predictions", "min_group_predictions", "busy_events", "rejected_events"}
"""Thresholds below which nothing is judged: they say nothing of how bad it is."""


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_a_runbook_has_thresholds_beside_its_numbers(alert: Alert) -> None:
    diagnosis = (RUNBOOKS / f"{alert.name}.md").read_text().partition("## Diagnosis")[2].partition("## What to do")[0]
    read = set(re.findall(r"ml:threshold:(\w+)", alert.expr)) - SAMPLES
    assert read <= set(re.findall(r"ml:threshold:(\w+)", diagnosis)) | {"benchmark_chance"}


def test_no_runbook_without_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(BY_NAME)
