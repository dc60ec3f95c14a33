"""The page of notifications, and the configuration that sends to it."""

import json
import re
import threading
from collections.abc import Iterator

import httpx
import pytest
import yaml

from alertmanager.sink import SWITCH, serving
from alertmanager.stack import DIRECTORY, SINK, WITHIN, stack


@pytest.fixture
def url() -> Iterator[str]:
    with serving(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def shown(url: str) -> str:
    return httpx.get(url, trust_env=False).text


def send(url: str, path: str, content: str) -> int:
    return httpx.post(f"{url}/{path}", content=content, trust_env=False).status_code


@pytest.mark.slow
def test_messages_read_as_people_would_get_them(url: str) -> None:
    text = "*Drift.*\nIt is 5 < 6. First: look.\n<http://runbook/x?a=1&b=2|Runbook>"
    chat = {"attachments": [{"title": "🔴 Critical: credit", "text": text, "color": "danger"}]}
    assert send(url, "slack/ml-alerts", json.dumps(chat)) == 200
    page = shown(url)
    assert "<h2>🔴 Critical: credit</h2>" in page
    assert "<b>Drift.</b>\nIt is 5 &lt; 6. First: look." in page
    assert '<a href="http://runbook/x?a=1&amp;b=2">Runbook</a>' in page
    assert "Chat to ml-alerts" in page


@pytest.mark.slow
def test_the_newest_message_comes_first(url: str) -> None:
    for number in range(3):
        send(url, "pagerduty/on-call", json.dumps({"attachments": [{"title": f"Message {number}"}]}))
    page = shown(url)
    assert page.index("Message 2") < page.index("Message 1") < page.index("Message 0")


@pytest.mark.slow
def test_nothing_that_is_sent_becomes_markup(url: str) -> None:
    send(url, "slack/<b>", json.dumps({"attachments": [{"title": "<script>", "text": "javascript:alert(1) <img>"}]}))
    page = shown(url)
    assert "<script>" not in page
    assert "<img>" not in page
    assert 'href="javascript' not in page


@pytest.mark.slow
def test_the_dead_mans_switch_is_told_of_and_not_listed(url: str) -> None:
    assert "Never held yet" in shown(url)
    alerts = [{"labels": {"alertname": "MLWatchdog"}}]
    assert send(url, f"webhook/{SWITCH}", json.dumps({"status": "firing", "alerts": alerts})) == 200
    page = shown(url)
    assert re.search(r"Held \d+ s ago: alerts arrive\.", page)
    assert "Nothing yet." in page


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"alerts": 3}', '{"alerts": [{}]}'])
def test_what_is_no_notification_is_refused(url: str, content: str) -> None:
    assert send(url, "slack/x", content) in (400, 413)


def test_the_stacks_configuration_is_made_from_the_shipped_one() -> None:
    assert (DIRECTORY / "stack.yml").read_text() == stack(), "run make rules"
    made, shipped = yaml.safe_load(stack()), yaml.safe_load((DIRECTORY / "alertmanager.yml").read_text())
    assert made["route"] == shipped["route"]
    assert made["inhibit_rules"] == shipped["inhibit_rules"]
    for receiver, own in zip(made["receivers"], shipped["receivers"], strict=True):
        sent, wanted = (
            [one for kind, configs in each.items() if kind.endswith("_configs") for one in configs]
            for each in (receiver, own)
        )
        shown = [one for one in sent if one.get("api_url", one.get("url")).startswith(SINK)]
        assert len(shown) == len(wanted)
        assert all(one["url"].startswith(WITHIN) for one in sent if one not in shown)
    assert set(re.findall(r"/run/secrets/\w+", stack())) <= {"/run/secrets/retraining_token"}
