"""Where an alert leads: its dashboard, opened on what it is about, and commands in its runbook that exist."""

import json
import re
from functools import cache
from urllib.parse import parse_qs, urlsplit

import pytest

from grafana.source.environment import LABELS
from mlops_exporter import cli
from prometheus.source.alert import Alert
from prometheus.source.render import ALERTS, DASHBOARDS, RENAMED, alert_rule
from tests.dashboards import DIRECTORY
from tests.unit.alerting.test_rules import RUNBOOKS

READ = [alert for alert in ALERTS if alert.name != "MLModelFeedDown"]  # which only holds others back


@cache
def variables(uid: str) -> frozenset[str]:
    dashboard = json.loads((DIRECTORY / f"{uid}.json").read_text())
    return frozenset(variable["name"] for variable in dashboard["templating"]["list"])


@pytest.mark.parametrize("alert", READ, ids=lambda alert: str(alert.name))
def test_a_dashboard_opens_on_what_the_alert_is_about(alert: Alert) -> None:
    url = re.sub(r"{{ (?:with|end)[^}]*}}", "", alert_rule(alert)["annotations"]["dashboard_url"])
    parts = urlsplit(url)
    uid = parts.path.rpartition("/")[2]
    chosen = {name.removeprefix("var-"): value for name, [value] in parse_qs(parts.query).items() if "var-" in name}
    own = {RENAMED.get(alert.category, {}).get(label, label): label for label in alert.labels}
    assert uid == DASHBOARDS[alert.category]
    assert set(chosen) <= variables(uid), "the dashboard takes no notice of a variable that it lacks"
    assert set(chosen) - set(LABELS) == set(own) & variables(uid), "a dashboard would open on something else"
    for name in set(chosen) - set(LABELS):
        assert chosen[name] == f"{{{{ $labels.{own[name]} | urlquery }}}}"


def commands() -> list[str]:
    pages = sorted(RUNBOOKS.glob("*.md"))
    return sorted({found for page in pages for found in re.findall(r"`(mlops-exporter [^`]+)`", page.read_text())})


@pytest.mark.parametrize("command", commands())
def test_commands_of_runbooks_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.split()[1:]
    names = words[: next((n for n, word in enumerate(words) if not re.fullmatch("[a-z]+", word)), len(words))]
    with pytest.raises(SystemExit) as ended:
        cli.main([*names, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"mlops-exporter {' '.join(names)} " in told
    for flag in re.findall(r"--[a-z.-]+", command):
        assert re.search(rf"{re.escape(flag)}\b", told), f"{flag} is unknown"
