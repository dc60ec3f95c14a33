"""From events to notifications: exporter, Prometheus, Alertmanager and a receiver, all real, with the shipped rules.

One exporter serves two copies of the demonstration's model. Both get cars that it was trained on; then one gets the
cars of later years, and the other goes on as before, for just as long.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import yaml

from mlops_exporter.demo.feeder import Feeder
from mlops_exporter.demo.run import CONFIG
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from prometheus.source.render import rule_files
from tests.integration.alerting.alertmanager import SHIPPED, Inbox, Notification, local, receiving, running_alertmanager
from tests.integration.alerting.hastened import HELD, hastened
from tests.support.prometheus import running_prometheus, scrape_job
from tests.support.serving import served

FACTOR = 60  # a minute of waiting is a second here
HEALTHY_SECONDS = 15.0
DRIFTED_SECONDS = 40.0
EVENTS_PER_SECOND = 200
WINDOWS = [10.0, 60.0]
TICK = 0.25


class Cars:
    """Labelled events drawn at random from two stretches of the demonstration: the training years, and later ones."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        feeder = Feeder()
        self.usual = self._pairs(feeder.batch(38.0, 38.0))
        feeder.batch(60.0, 60.0)
        self.later = self._pairs(feeder.batch(110.0, 110.0))

    def _pairs(self, body: bytes) -> list[dict[str, Any]]:
        events = [event for line in body.splitlines() if (event := msgspec.json.decode(line))["model"] == "mpg"]
        labels = {event["id"]: event["label"] for event in events if "label" in event}
        return [
            {**event, "label": labels[event["id"]]}
            for event in events
            if "prediction" in event and event["id"] in labels
        ]

    def draw(self, pool: list[dict[str, Any]], model: str, number: int, now: float) -> bytes:
        """Events of `model`, each a prediction with its label, spread over the last tick."""
        rows = self._rng.integers(0, len(pool), number)
        encoder = msgspec.json.Encoder()
        return encoder.encode_lines(
            [
                {**pool[row], "model": model, "id": f"{model}-{now}-{i}", "ts": now - TICK * (1 - i / number)}
                for i, row in enumerate(rows.tolist())
            ]
        )


@dataclass
class Outcome:
    inbox: Inbox
    drifted_at: float
    found: dict[tuple[str, str], list[dict[str, Any]]]
    """What the query of each alert that was told of a model finds, by the alert's name and the query."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory = tmp_path_factory.mktemp("end-to-end")
    (directory / "rules").mkdir()
    for name, text in hastened(FACTOR).items():
        (directory / "rules" / name).write_text(text)
    config, profiles = read(CONFIG)
    mpg = next(model for model in config.models if model.name == "mpg").model_copy(update={"windows": WINDOWS})
    models = [mpg, mpg.model_copy(update={"name": "healthy"})]
    service = Service(
        config.model_copy(update={"models": models}), {model.name: profiles["mpg"] for model in models}, Options()
    )
    service.intake.closed = None  # nothing to recover
    service.compute.start()
    shipped = yaml.safe_load((SHIPPED.parent / "prometheus" / "prometheus.yml").read_text())
    team = {**shipped["alerting"]["alert_relabel_configs"][0], "regex": "mpg", "replacement": "cars"}
    with ExitStack() as stack:
        inbox = stack.enter_context(receiving())
        stack.callback(service.compute.stop)
        address = stack.enter_context(served(service.app))
        routes = local(inbox, "4s", "60s")
        retraining = next(route for route in routes["route"]["routes"] if route["receiver"] == "retraining")
        retraining["group_interval"] = "5s"  # a later reason is told sooner than elsewhere, as in the shipped route
        alertmanager = stack.enter_context(running_alertmanager(routes, directory))
        prometheus = {
            "rule_files": ["rules/*.yml"],
            "alerting": {
                "alert_relabel_configs": [team],
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}],
            },
            "scrape_configs": [scrape_job("mlops-exporter", address)],
        }
        server = stack.enter_context(running_prometheus(prometheus, directory, "--rules.alert.resend-delay=5s"))
        cars = Cars()
        start = time.time()
        number = int(EVENTS_PER_SECOND * TICK)
        client = stack.enter_context(httpx.Client(trust_env=False))
        while (elapsed := time.time() - start) < HEALTHY_SECONDS + DRIFTED_SECONDS:
            pool = cars.usual if elapsed < HEALTHY_SECONDS else cars.later
            now = time.time()
            body = cars.draw(pool, "mpg", number, now) + cars.draw(cars.usual, "healthy", number, now)
            answer = client.post(
                f"http://{address}/v1/events", content=body, headers={"Content-Type": "application/x-ndjson"}
            )
            assert answer.json()["rejected"] == 0, answer.text
            time.sleep(max(0.0, now + TICK - time.time()))
        groups = server.api("rules")["groups"]
        faults = {rule["name"]: rule.get("lastError") for group in groups for rule in group["rules"]}
        assert not {name: fault for name, fault in faults.items() if fault}
        asked = {
            (alert["labels"]["alertname"], alert["annotations"]["query"])
            for notification in inbox.notifications
            for alert in notification.body.get("alerts", ())
            if "model" in alert["labels"]
        }
        yield Outcome(inbox, start + HEALTHY_SECONDS, {one: server.query(one[1]) for one in asked})


def about(notifications: list[Notification], category: str, model: str = "mpg") -> list[dict[str, Any]]:
    return [
        notification.body
        for notification in notifications
        if notification.body["commonLabels"].get("category") == category
        and notification.body["commonLabels"].get("model") == model
    ]


def test_drift_is_told_once(outcome: Outcome) -> None:
    (told,) = about(outcome.inbox.to("slack"), "drift")
    assert told["status"] == "firing"
    alerts = {alert["labels"]["alertname"]: alert for alert in told["alerts"]}
    assert "MLFeatureDrift" in alerts
    labels, text = alerts["MLFeatureDrift"]["labels"], alerts["MLFeatureDrift"]["annotations"]["description"]
    assert labels["team"] == "cars"
    assert " of model mpg version 1 " in text
    assert "horsepower (" in text
    assert "10% are tolerated" in text
    assert " First: " in text


def test_performance_is_told_once_to_whom_is_on_call(outcome: Outcome) -> None:
    (told,) = about(outcome.inbox.to("on-call"), "performance")
    mae = next(alert for alert in told["alerts"] if alert["labels"].get("metric") == "mae")
    assert mae["labels"]["alertname"] == "MLModelPerformanceBelowBenchmark"
    assert mae["labels"]["severity"] == "critical"
    text = mae["annotations"]["description"]
    assert text.startswith("mae of model mpg version 1 ")
    assert "; agreed is at most " in text
    assert "Even with chance allowed for, it is off by " in text


def test_slack_message_reads_well(outcome: Outcome) -> None:
    messages = [notification.body["attachments"][0] for notification in outcome.inbox.to("slack/on-call")]
    (message,) = [message for message in messages if "mpg" in message["title"]]
    assert message["title"].startswith("🔴 Critical: mpg: A model performs worse than agreed.")
    assert message["color"] == "danger"
    assert "mae of model mpg" in message["text"]
    assert "|Runbook>" in message["text"]


def test_reasons_to_retrain_are_told(outcome: Outcome) -> None:
    told = outcome.inbox.to("retraining")
    assert {notification.body["groupLabels"]["model"] for notification in told} == {"mpg"}
    actions = {alert["labels"]["action"] for notification in told for alert in notification.body["alerts"]}
    assert actions == {"retrain", "consider_retraining"}


def test_the_query_of_a_message_finds_what_it_tells(outcome: Outcome) -> None:
    assert {"MLFeatureDrift", "MLModelPerformanceBelowBenchmark"} <= {name for name, _ in outcome.found}
    assert all('model="mpg"' in query for _, query in outcome.found)
    assert not [one for one, found in outcome.found.items() if not found]


def test_dead_mans_switch_is_held(outcome: Outcome) -> None:
    assert outcome.inbox.to("dead-mans-switch")


def test_a_healthy_model_brings_nothing(outcome: Outcome) -> None:
    about_models = [
        notification for notification in outcome.inbox.notifications if "mpg" in json.dumps(notification.body)
    ]
    assert about_models, "the receiver works"
    assert not [
        notification for notification in outcome.inbox.notifications if "healthy" in json.dumps(notification.body)
    ]
    assert not [
        (notification.path, notification.body)
        for notification in outcome.inbox.notifications
        if notification.time < outcome.drifted_at and notification.path != "/dead-mans-switch"
    ]


def test_rules_are_the_shipped_ones() -> None:
    slow = {name: yaml.safe_load(text) for name, text in rule_files().items()}
    fast = {name: yaml.safe_load(text) for name, text in hastened(FACTOR).items()}
    for name in slow:
        for group, quick in zip(slow[name]["groups"], fast[name]["groups"], strict=True):
            for rule, hasty in zip(group["rules"], quick["rules"], strict=True):
                assert _without_times(rule) == _without_times(hasty)


def _without_times(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule without how long a condition must hold, its own or another alert's."""
    kept = {name: value for name, value in rule.items() if name not in ("for", "keep_firing_for")}
    return kept | {"expr": HELD.sub(r"\1", rule["expr"])}
