"""The Alertmanager configuration: loads, routes, inhibits, and says it well."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from prometheus.source.alert import Alert
from prometheus.source.render import ALERTS
from tests.integration.alerting.alertmanager import (
    SHIPPED,
    Alertmanager,
    local,
    receiving,
    running_alertmanager,
    shipped,
)
from tests.integration.prometheus import eventually
from tests.requirements import require_program

BY_NAME = {alert.name: alert for alert in ALERTS}


def amtool(*arguments: str) -> str:
    run = subprocess.run([require_program("amtool"), *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_configuration_loads() -> None:
    assert "SUCCESS" in amtool("check-config", str(SHIPPED / "alertmanager.yml"))


def test_every_secret_is_a_file() -> None:
    text = (SHIPPED / "alertmanager.yml").read_text()
    secrets = re.findall(r"^\s*(?:- )?(\w*(?:key|token|password|api_url|credentials)\w*): (.*)$", text, re.MULTILINE)
    assert len(secrets) >= 5
    for name, value in secrets:
        assert name.endswith("_file"), f"{name} would hold the secret itself"
        assert value.startswith("/run/secrets/")


def labels_of(name: str, **more: str) -> dict[str, str]:
    """Labels with which an alert comes to Alertmanager: each of its own labels is set."""
    alert = BY_NAME[name]
    own = {label: f"some-{label}" for label in alert.labels}
    fixed = {"alertname": name, "severity": alert.severity, "category": alert.category}
    if alert.action is not None:
        fixed["action"] = alert.action
    return {**own, **fixed, **more}


@pytest.mark.parametrize(
    ("alert", "team", "receivers"),
    [
        ("MLWatchdog", "", "dead-mans-switch"),
        ("MLModelPerformanceBelowBenchmark", "", "retraining,on-call"),
        ("MLModelPerformanceBelowBenchmark", "risk", "retraining,risk-on-call"),
        ("MLModelConceptDrift", "", "retraining,slack"),
        ("MLModelConceptDrift", "risk", "retraining,risk"),
        ("MLFeatureDrift", "", "slack"),
        ("MLFeatureDrift", "risk", "risk"),
        ("MLFeatureMissing", "risk", "risk"),
        ("MLFeatureMissing", "", "slack"),
        ("MLFeatureUnusable", "", "on-call"),
        ("MLNoPredictions", "risk", "risk-on-call"),
        ("MLExporterDown", "", "on-call"),
        ("MLProfileOld", "", "digest"),
        ("MLComputeIdle", "", "digest"),
        ("MLGpuThermalThrottling", "", "slack"),
    ],
)
def test_route(alert: str, team: str, receivers: str) -> None:
    labels = labels_of(alert, **({"team": team} if team else {}))
    pairs = [f"{name}={value}" for name, value in labels.items()]
    amtool(
        *("config", "routes", "test", f"--config.file={SHIPPED / 'alertmanager.yml'}"),
        *(f"--verify.receivers={receivers}", *pairs),
    )


def test_no_alert_falls_through_to_the_default() -> None:
    for alert in ALERTS:
        pairs = [f"{name}={value}" for name, value in labels_of(alert.name).items()]
        config = f"--config.file={SHIPPED / 'alertmanager.yml'}"
        assert amtool("config", "routes", "test", config, *pairs).strip(), alert.name


def matches(matchers: list[str], alert: Alert) -> bool:
    """Whether all matchers can hold for the alert; a label of its own may have any value but the empty one."""
    fixed = labels_of(alert.name)
    for matcher in matchers:
        found = re.fullmatch(r'(\w+)(=~|!=|!~|=)"(.*)"', matcher)
        assert found is not None, f"{matcher} is written otherwise than the rest, which old and new parsers read alike"
        name, operator, wanted = found.groups()
        value = fixed.get(name, "")
        same = re.fullmatch(wanted, value) is not None if "~" in operator else value == wanted
        if same == operator.startswith("!"):
            return False
    return True


@pytest.mark.parametrize("number", range(len(shipped()["inhibit_rules"])))
def test_inhibition_compares_labels_that_all_have(number: int) -> None:
    rule = shipped()["inhibit_rules"][number]
    sources = [alert for alert in ALERTS if matches(rule["source_matchers"], alert)]
    targets = [alert for alert in ALERTS if matches(rule["target_matchers"], alert)]
    assert sources
    assert targets
    assert not {alert.name for alert in sources} & {alert.name for alert in targets}
    compared = set(rule["equal"]) - {"category"}
    for alert in (*sources, *targets):
        if alert.name == "MLExporterAbsent" or compared <= set(alert.labels):
            continue
        raise AssertionError(f"{alert.name} lacks {sorted(compared - set(alert.labels))}")


def test_nothing_that_pages_is_silenced_by_something_that_does_not() -> None:
    for rule in shipped()["inhibit_rules"]:
        for source in ALERTS:
            for target in ALERTS:
                if matches(rule["source_matchers"], source) and matches(rule["target_matchers"], target):
                    assert source.severity == "critical" or target.severity != "critical"


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    with (
        receiving() as inbox,
        running_alertmanager(local(inbox), tmp_path_factory.mktemp("alertmanager")) as server,
    ):
        yield server


A = {"job": "mlops-exporter", "instance": "a"}
MODEL = {**A, "model": "credit", "version": "3"}


@pytest.mark.parametrize(
    ("cause", "labels", "others", "silenced"),
    [
        (
            "MLExporterDown",
            A,
            ["MLFeatureDrift", "MLModelPerformanceBelowBenchmark", "MLSourceDown", "MLGpuLost"],
            "all",
        ),
        ("MLExporterDown", A, ["MLNoPredictions", "MLNoLabels"], "all"),
        ("MLExporterDown", A, ["MLErrorBudgetBurnFast", "MLWatchdog"], "none"),
        ("MLSourceDown", {**A, "source": "log"}, ["MLSourceLagging", "MLNoLabels", "MLLabelCoverageLow"], "all"),
        ("MLSourceDown", {**A, "source": "log"}, ["MLFeatureDrift", "MLCollectorFailing"], "none"),
        ("MLFeatureMissing", MODEL, ["MLFeatureDrift", "MLModelCalibrationOff", "MLErrorBudgetBurnSlow"], "all"),
        ("MLFeatureMissing", MODEL, ["MLModelPerformanceBelowBenchmark", "MLFairnessOutsideBenchmark"], "none"),
        ("MLFeatureUnusable", MODEL, ["MLModelPerformanceBelowBenchmark", "MLFeatureDrift", "MLFeatureMissing"], "all"),
        ("MLFeatureDrift", MODEL, ["MLModelEstimatedPerformanceBelowBenchmark", "MLModelConceptDrift"], "all"),
        ("MLFeatureDrift", MODEL, ["MLModelPerformanceBelowBenchmark", "MLNoLabels"], "none"),
        ("MLModelPerformanceBelowBenchmark", MODEL, ["MLModelCalibrationOff"], "all"),
        ("MLModelPerformanceBelowBenchmark", MODEL, ["MLFeatureDrift", "MLErrorBudgetBurnFast"], "none"),
        ("MLMemoryExhausted", A, ["MLMemoryNearLimit"], "all"),
        ("MLGpuLost", {**A, "gpu": "0", "uuid": "u", "mig": ""}, ["MLGpuThermalThrottling"], "all"),
        ("MLGpuDriverDown", {**A, "vendor": "nvidia"}, ["MLGpuLost"], "all"),
    ],
)
def test_inhibition(
    alertmanager: Alertmanager, request: pytest.FixtureRequest, cause: str, labels: dict[str, str], others: list[str],
    silenced: str,
) -> None:  # fmt: skip
    # Every case has a job of its own, so that it sees no other's alerts.
    job = f"job-{abs(hash(request.node.name))}"
    known = {**MODEL, "source": "log", "gpu": "0", "uuid": "u", "mig": "", **labels, "job": job}

    def real(name: str, **more: str) -> dict[str, str]:
        alert = BY_NAME[name]
        own = {label: known.get(label, f"some-{label}") for label in alert.labels} | {"job": job}
        fixed = {key: value for key, value in labels_of(name).items() if key not in alert.labels}
        return {**own, **fixed, **more}

    alertmanager.post(real(cause))
    alertmanager.post(*(real(name) for name in others))
    for number, name in enumerate(others):
        elsewhere = {
            label: f"{label}-{number}" for label in ("instance", "model", "gpu", "source") if label in real(name)
        }
        alertmanager.post(real(name, job=f"{job}-other", **elsewhere))

    def states(job: str) -> dict[str, str]:
        answer = httpx.get(f"{alertmanager.url}/api/v2/alerts", params={"filter": f'job="{job}"'}, trust_env=False)
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in answer.json()}

    wanted = "suppressed" if silenced == "all" else "active"
    expected = {cause: "active", **dict.fromkeys(others, wanted)}
    eventually(lambda: states(job) == expected, 8.0)
    assert set(states(f"{job}-other").values()) == {"active"}, "another machine's or model's alerts go on"


def rendered(template: str, directory: Path, *alerts: Mapping[str, Any], status: str = "firing") -> str:
    common = dict(set.intersection(*(set(alert["labels"].items()) for alert in alerts)))
    content = {
        "receiver": "x", "status": status, "alerts": alerts, "groupLabels": {}, "commonLabels": common,
        "commonAnnotations": {}, "externalURL": "http://x",
    }  # fmt: skip
    data = directory / "data.json"
    data.write_text(json.dumps(content))
    return amtool(
        *("template", "render", f"--template.glob={SHIPPED / 'templates' / '*.tmpl'}", f"--template.data={data}"),
        *("--template.text", f'{{{{ template "{template}" . }}}}'),
    )


def alert(summary: str, status: str = "firing", severity: str = "critical") -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"model": "credit", "severity": severity},
        "annotations": {
            "summary": summary,
            "description": "Accuracy is 0.86. First: look.",
            "runbook_url": "http://runbook",
            "dashboard_url": "http://dashboard",
        },
        "startsAt": "2026-11-22T10:00:00Z",
        "endsAt": "2026-11-22T11:05:00Z",
    }


def test_title_fits_a_lock_screen(tmp_path: Path) -> None:
    one = alert("A model performs worse than agreed.")
    assert rendered("mlops.title", tmp_path, one).strip() == "🔴 Critical: credit: A model performs worse than agreed."
    warning = alert("Values are missing.", severity="warning")
    assert rendered("mlops.title", tmp_path, warning, warning).strip() == (
        "🟠 Warning: credit: Values are missing. (2 alerts)"
    )
    over = alert("Values are missing.", "resolved")
    assert rendered("mlops.title", tmp_path, over, status="resolved").strip() == "✅ Over: credit: Values are missing."
    for known in ALERTS:
        assert len(rendered_title := f"🔴 Critical: some-model-name: {known.summary}") <= 120, rendered_title


def test_text_says_what_to_do_and_stays_short(tmp_path: Path) -> None:
    text = rendered("mlops.slack", tmp_path, alert("A model performs worse than agreed."))
    assert text.strip().splitlines() == [
        "*A model performs worse than agreed.*",
        "Accuracy is 0.86. First: look.",
        "<http://runbook|Runbook> · <http://dashboard|Dashboard>",
    ]
    many = rendered("mlops.plain", tmp_path, *(alert(f"Trouble {number}.") for number in range(9)))
    assert "Trouble 4." in many
    assert "Trouble 5." not in many
    assert "… and more" in many
    assert "Over since 11:05 UTC" in rendered("mlops.slack", tmp_path, alert("x.", "resolved"), status="resolved")
    assert '<a href="http://runbook">Runbook</a>' in rendered("mlops.html", tmp_path, alert("x."))
