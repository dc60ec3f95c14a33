"""The Alertmanager configuration: loads, routes, inhibits, and says it well."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
from tests.requirements import require_program
from tests.support.prometheus import eventually

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
        ("MLFeatureDrift", "", "retraining,slack"),
        ("MLFeatureDrift", "risk", "retraining,risk"),
        ("MLFeatureMissing", "risk", "risk"),
        ("MLFeatureMissing", "", "slack"),
        ("MLFeatureUnusable", "", "on-call"),
        ("MLNoPredictions", "risk", "risk-on-call"),
        ("MLExporterDown", "", "on-call"),
        ("MLManyModelsFailing", "", "on-call"),
        ("MLManyModelsTroubled", "", "slack"),
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
        if name in alert.labels and operator.startswith("=") and wanted:
            continue
        value = fixed.get(name, "")
        same = re.fullmatch(wanted, value) is not None if "~" in operator else value == wanted
        if same == operator.startswith("!"):
            return False
    return True


ENVIRONMENT = {"cluster", "namespace"}


def test_environments_are_kept_apart() -> None:
    assert all(set(rule["equal"]) >= ENVIRONMENT for rule in shipped()["inhibit_rules"])
    assert set(shipped()["route"]["group_by"]) >= ENVIRONMENT


@pytest.mark.parametrize("number", range(len(shipped()["inhibit_rules"])))
def test_inhibition_compares_labels_that_all_have(number: int) -> None:
    rule = shipped()["inhibit_rules"][number]
    sources = [alert for alert in ALERTS if matches(rule["source_matchers"], alert)]
    targets = [alert for alert in ALERTS if matches(rule["target_matchers"], alert)]
    assert sources
    assert targets
    assert not {alert.name for alert in sources} & {alert.name for alert in targets}
    compared = set(rule["equal"]) - {"category", "severity"} - ENVIRONMENT
    for alert in (*sources, *targets):
        assert compared <= set(alert.labels), f"{alert.name} lacks {sorted(compared - set(alert.labels))}"


def test_nothing_that_pages_is_silenced_by_something_that_does_not() -> None:
    shadow = BY_NAME["MLModelFeedDown"]
    assert 'ALERTS{alertname=~"MLExporterDown|MLSourceDown",alertstate="firing"}' in shadow.expr, (
        "fires with a page only"
    )
    for rule in shipped()["inhibit_rules"]:
        for source in ALERTS:
            if source is shadow:
                continue
            for target in ALERTS:
                if "severity" in rule["equal"] and source.severity != target.severity:
                    continue
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
        ("MLExporterDown", A, ["MLErrorBudgetBurnFast", "MLWatchdog", "MLNoPredictions", "MLNoLabels"], "none"),
        ("MLSourceDown", {**A, "source": "log"}, ["MLSourceLagging", "MLLabelCoverageLow"], "all"),
        ("MLSourceDown", {**A, "source": "log"}, ["MLFeatureDrift", "MLCollectorFailing", "MLNoPredictions"], "none"),
        ("MLModelFeedDown", {**A, "model": "credit"}, ["MLNoPredictions", "MLNoLabels", "MLLabelsUnmatched"], "all"),
        ("MLFeatureMissing", MODEL, ["MLFeatureDrift", "MLModelCalibrationOff", "MLErrorBudgetBurnSlow"], "all"),
        ("MLFeatureMissing", MODEL, ["MLModelPerformanceBelowBenchmark", "MLFairnessOutsideBenchmark"], "none"),
        ("MLFeatureOutOfRange", MODEL, ["MLFeatureDrift", "MLPredictionDrift"], "none"),
        ("MLFeatureUnusable", MODEL, ["MLModelPerformanceBelowBenchmark", "MLFeatureDrift", "MLFeatureMissing"], "all"),
        ("MLFeatureDrift", MODEL, ["MLModelCalibrationOff", "MLErrorBudgetBurnSlow"], "all"),
        ("MLFeatureDrift", MODEL, ["MLModelEstimatedPerformanceBelowBenchmark", "MLModelConceptDrift"], "none"),
        ("MLFeatureDrift", MODEL, ["MLModelPerformanceBelowBenchmark", "MLNoLabels"], "none"),
        ("MLModelPerformanceBelowBenchmark", MODEL, ["MLModelCalibrationOff"], "all"),
        ("MLModelPerformanceBelowBenchmark", MODEL, ["MLFeatureDrift", "MLErrorBudgetBurnFast"], "none"),
        ("MLManyModelsFailing", {"of": "freshness"}, ["MLNoPredictions"], "all"),
        ("MLManyModelsFailing", {"of": "freshness"}, ["MLNoLabels", "MLFeatureUnusable"], "none"),
        ("MLManyModelsTroubled", {"of": "data_quality"}, ["MLFeatureMissing", "MLFeatureOutOfRange"], "all"),
        ("MLManyModelsTroubled", {"of": "data_quality"}, ["MLFeatureUnusable", "MLNoLabels"], "none"),
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
        alertmanager.post(real(name, namespace=f"staging-{number}"))

    def states(job: str, namespace: str = "") -> dict[str, str]:
        filters = {"filter": [f'job="{job}"', f'namespace=~"{namespace}"']}
        answer = httpx.get(f"{alertmanager.url}/api/v2/alerts", params=filters, trust_env=False)
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in answer.json()}

    wanted = "suppressed" if silenced == "all" else "active"
    expected = {cause: "active", **dict.fromkeys(others, wanted)}
    eventually(lambda: states(job) == expected, 8.0)
    assert set(states(f"{job}-other").values()) == {"active"}, "another machine's or model's alerts go on"
    assert set(states(job, "staging-.*").values()) == {"active"}, "another environment's too"


def test_reasons_to_retrain_are_told_when_they_come_and_when_they_go(tmp_path: Path) -> None:
    """A minute is a second."""
    (route,) = [route for route in shipped()["route"]["routes"] if route["receiver"] == "retraining"]
    (receiver,) = [each for each in shipped()["receivers"] if each["name"] == "retraining"]
    assert route["group_interval"] == "1m"
    route = {key: value for key, value in route.items() if key != "mute_time_intervals"}
    route |= {"group_wait": "500ms", "group_interval": "1s"}
    with receiving() as inbox:
        webhook = {"url": f"{inbox.url}/retraining", "send_resolved": receiver["webhook_configs"][0]["send_resolved"]}
        config = {
            "route": {"receiver": "nobody", "routes": [route]},
            "receivers": [{"name": "nobody"}, {"name": "retraining", "webhook_configs": [webhook]}],
        }
        with running_alertmanager(config, tmp_path) as server:
            server.post({**labels_of("MLModelCalibrationOff"), **MODEL}, {**labels_of("MLFeatureDrift"), **MODEL})
            eventually(lambda: inbox.to("retraining"))
            server.post({**labels_of("MLModelEstimatedPerformanceBelowBenchmark"), **MODEL})
            eventually(lambda: len(inbox.to("retraining")) == 2)
            named = {alert["labels"]["alertname"] for alert in inbox.to("retraining")[1].body["alerts"]}
            assert named == {"MLFeatureDrift", "MLModelEstimatedPerformanceBelowBenchmark"}
            over = {"labels": {**labels_of("MLFeatureDrift"), **MODEL}, "endsAt": "2026-01-01T00:00:00Z"}
            httpx.post(f"{server.url}/api/v2/alerts", json=[over], trust_env=False).raise_for_status()
            eventually(lambda: "resolved" in str(inbox.to("retraining")[-1].body["alerts"]))


MACHINE = {"cluster": "c", "namespace": "n", "job": "j", "instance": "a:1"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("MLExporterDown", {}), ("MLSourceDown", {"source": "s"})),
        (("MLMemoryExhausted", {}), ("MLMemoryExhausted", {"instance": "b:1"})),
        (("MLExporterDown", {}), ("MLExporterDown", {"instance": "b:1"})),
        (("MLMemoryNearLimit", {}), ("MLMemoryNearLimit", {"instance": "b:1"})),
        (("MLGpuLost", {"gpu": "0"}), ("MLGpuLost", {"gpu": "1"})),
        (("MLSourceLagging", {"source": "s"}), ("MLSourceLagging", {"source": "t"})),
        (("MLNoPredictions", {"model": "m"}), ("MLNoPredictions", {"model": "o"})),
        (("MLNoLabels", {"model": "m"}), ("MLLabelCoverageLow", {"model": "m"})),
        (("MLFeatureDrift", {"model": "m"}), ("MLFeatureDrift", {"model": "m", "cluster": "d"})),
        (("MLFeatureDrift", {"model": "m"}), ("MLFeatureMissing", {"model": "m"})),
    ],
)
def test_different_incidents_are_different_notifications(
    alertmanager: Alertmanager, one: tuple[str, dict[str, str]], other: tuple[str, dict[str, str]]
) -> None:
    assert len(groups(alertmanager, one, other)) == 2


@pytest.mark.parametrize(
    "incident",
    [
        [
            (name, {"model": "m", "version": version, "instance": instance})
            for name in ("MLFeatureDrift", "MLFeatureDriftSevere", "MLMultivariateDrift")
            for version in ("2026.10", "2026.11")
            for instance in ("a:1", "b:1")
        ],
        [("MLModelPerformanceBelowBenchmark", {"model": "m", "metric": metric}) for metric in ("accuracy", "f1")],
    ],
)
def test_one_incident_is_one_notification(
    alertmanager: Alertmanager, incident: list[tuple[str, dict[str, str]]]
) -> None:
    assert len(groups(alertmanager, *incident)) == 1


def groups(server: Alertmanager, *alerts: tuple[str, dict[str, str]]) -> set[tuple[tuple[str, str], ...]]:
    """The groups that Alertmanager makes of alerts, those that start a pipeline left out."""
    case = f"j{abs(hash(str(alerts)))}"
    for name, more in alerts:
        labels = {key: value for key, value in labels_of(name).items() if key not in BY_NAME[name].labels}
        server.post({**labels, **MACHINE, **more, "job": case})

    def found() -> list[Any]:
        answer = httpx.get(f"{server.url}/api/v2/alerts/groups", trust_env=False).json()
        return [
            group for group in answer
            if group["labels"].get("job") == case and group["receiver"]["name"] != "retraining"
        ]  # fmt: skip

    eventually(lambda: sum(len(group["alerts"]) for group in found()) == len(alerts), 8.0)
    return {tuple(sorted(group["labels"].items())) for group in found()}


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


def alert(summary: str, status: str = "firing", severity: str = "critical", **labels: str) -> dict[str, Any]:
    own = {"alertname": summary.replace(" ", ""), "model": "credit", "version": "3", "severity": severity, **labels}
    return {
        "status": status,
        "fingerprint": str(sorted(own.items())),
        "generatorURL": "http://query",
        "labels": own,
        "annotations": {
            "summary": summary,
            "description": "Accuracy is 0.86. First: look.",
            "runbook_url": "http://runbook",
            "dashboard_url": "http://dashboard?from=now-6h&to=now",
        },
        "startsAt": "2026-11-22T10:00:00Z",
        "endsAt": "2026-11-22T11:05:00Z",
    }


def test_title_fits_a_lock_screen(tmp_path: Path) -> None:
    one = alert("A model performs worse than agreed.")
    assert rendered("mlops.title", tmp_path, one).strip() == "🔴 Critical: credit: A model performs worse than agreed."
    warning = alert("Values are missing.", severity="warning")
    other = {**warning, "labels": {**warning["labels"], "instance": "b"}}
    assert rendered("mlops.title", tmp_path, warning, other).strip() == "🟠 Warning: credit: Values are missing."
    second = alert("Values are invalid.", severity="warning")
    assert rendered("mlops.title", tmp_path, warning, second).strip() == (
        "🟠 Warning: credit: Values are missing. And more."
    )
    over = alert("Values are missing.", "resolved")
    assert rendered("mlops.title", tmp_path, over, status="resolved").strip() == "✅ Over: credit: Values are missing."
    for known in ALERTS:
        assert len(rendered_title := f"🔴 Critical: some-model-name: {known.summary}") <= 120, rendered_title


def test_one_incident_on_many_replicas_and_versions_is_told_once(tmp_path: Path) -> None:
    places = [(version, instance) for version in ("2026.10", "2026.11") for instance in ("a", "b", "c")]
    alerts = [alert("Drift.", version=version, instance=instance) for version, instance in places]
    for template in ("mlops.slack", "mlops.plain", "mlops.html"):
        text = rendered(template, tmp_path, *alerts)
        assert text.count("First: look.") == 1
        also = text.partition("Also: ")[2].partition(".\n")[0].partition(".<")[0]
        assert also.split("; ") == [f"instance {instance} version {version}" for version, instance in places[1:]]


def test_a_link_shows_the_time_since_an_hour_before(tmp_path: Path) -> None:
    assert rendered("mlops.link", tmp_path, alert("x.")) == "http://dashboard?from=1795338000000&to=now"


def query_of(alert: Mapping[str, Any], directory: Path) -> str:
    return rendered("mlops.plain", directory, alert).partition("Query: ")[2].splitlines()[0]


def test_a_link_asks_the_first_query_of_the_runbook(tmp_path: Path) -> None:
    one = alert("x.")
    one["annotations"]["query"] = 'ml_exporter_source_up{source="a+b & $1"}'
    one["generatorURL"] = "http://prometheus:9090/graph?g0.expr=ml_exporter_source_up+%3D%3D+0&g0.tab=1"
    asked = urlsplit(query_of(one, tmp_path))
    assert asked.netloc == "prometheus:9090"
    assert parse_qs(asked.query)["g0.expr"] == ['ml_exporter_source_up{source="a+b & $1"}']
    assert "g0.tab=0" in asked.query
    one["generatorURL"] = "https://grafana/explore?left=x"
    assert query_of(one, tmp_path) == "https://grafana/explore?left=x", "no address of Prometheus"


def test_title_says_where(tmp_path: Path) -> None:
    machine = alert("A machine is nearly out of memory.", model="", instance="gpu-7:10042")
    assert "Critical: gpu-7:10042: A machine is nearly" in rendered("mlops.title", tmp_path, machine)
    here = alert("Values are missing.", cluster="eu", namespace="production")
    assert "Critical: eu/production/credit: Values" in rendered("mlops.title", tmp_path, here)


def test_what_still_fires_is_told_first(tmp_path: Path) -> None:
    alerts = [*(alert(f"Trouble {number}.", "resolved") for number in range(6)), alert("Still there.")]
    assert rendered("mlops.title", tmp_path, *alerts).strip() == "🔴 Critical: credit: Still there."
    for template in ("mlops.slack", "mlops.plain"):
        lines = rendered(template, tmp_path, *alerts).strip().splitlines()
        assert "Still there." in lines[0]
        assert "✅ Over since 11:05 UTC: Trouble 0. version 3" in lines
        assert lines[-1] == "… and more."


def test_text_says_what_to_do_and_stays_short(tmp_path: Path) -> None:
    text = rendered("mlops.slack", tmp_path, alert("A model performs worse than agreed.", owner="a b"))
    silence = "%2C%20".join(
        f"{name}%3D%22{value}%22"
        for name, value in (
            ("alertname", "Amodelperformsworsethanagreed."),
            *(("model", "credit"), ("owner", "a%20b"), ("severity", "critical"), ("version", "3")),
        )
    )
    assert text.strip().splitlines() == [
        "*A model performs worse than agreed.*",
        "Accuracy is 0.86. First: look.",
        "<http://runbook|Runbook> · <http://dashboard?from=1795338000000&to=now|Dashboard> · <http://query|Query>",
        "",
        f"<http://x/#/silences/new?filter=%7B{silence}%7D|Silence>",
    ]
    many = rendered("mlops.plain", tmp_path, *(alert(f"Trouble {number}.") for number in range(9)))
    assert "Trouble 4." in many
    assert "Trouble 5." not in many
    assert "… and more" in many
    over = rendered("mlops.slack", tmp_path, alert("x.", "resolved"), status="resolved")
    assert over.strip() == "✅ Over since 11:05 UTC: x. version 3"
    assert '<a href="http://runbook">Runbook</a>' in rendered("mlops.html", tmp_path, alert("x."))
