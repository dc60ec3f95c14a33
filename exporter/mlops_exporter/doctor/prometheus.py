"""What Prometheus makes of the exporter: whether it scrapes it, how often, and whether the rules are loaded."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.exposition.catalogue import EXPORTER_BUILD_INFO
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.durations import format_duration, parse_duration

AREA = "prometheus"
JOB = "mlops-exporter"
"""The scrape job in the shipped prometheus.yml; the alerts also know exporters of other jobs, by their metrics."""

TIMEOUT_SECONDS = 5.0
LONGEST_INTERVAL = 120.0
"""Prometheus looks back five minutes: above two, one scrape that fails makes a gap."""

_CAUSES = (
    (
        "connection refused",
        "nothing listens there: correct the target; in a container, localhost is the container itself",
    ),
    ("no such host", "Prometheus cannot resolve that name: correct the target, or put both on one network"),
    ("401", "add basic_auth or authorization to the scrape_config"),
    ("404", "set metrics_path to the exporter's --web.telemetry-path"),
    ("x509", "give the exporter's certificate to tls_config.ca_file in the scrape_config"),
    ("http response to https client", "write scheme: http in the scrape_config"),
    ("http request to an https server", "write scheme: https in the scrape_config"),
    ("malformed http response", "write scheme: https in the scrape_config"),
    ("sample limit", "raise sample_limit in the scrape_config, or lower limits in the exporter's configuration"),
    ("body size", "raise body_size_limit in the scrape_config"),
    ("label_", "raise the label limits of the scrape_config"),
    ("deadline exceeded", "raise scrape_timeout; see ml_exporter_collector_duration_seconds"),
    ("no route to host", "a firewall or the network is in between"),
)

Target = dict[str, Any]


def check(url: str, addresses: Sequence[str], settings: Config | None) -> Iterator[Finding]:
    """Yield how the Prometheus at `url` sees the exporter that listens at `addresses`."""
    url = url.rstrip("/")
    try:
        targets: list[Target] = _ask(url, "targets", state="active")["activeTargets"]
    except (OSError, ValueError, KeyError) as error:
        remedy = "give the address at which a browser sees Prometheus, with its path prefix if it has one"
        yield problem(AREA, f"{url} does not answer as Prometheus does: {error}", remedy)
        return
    mine = _mine(targets, addresses)
    if not mine:
        yield _not_scraped(url, targets, addresses)
    for target in mine:
        yield from _scrape(target, settings)
    yield from _rules(url, {str(target["labels"].get("job", "")) for target in mine})


def _ask(url: str, endpoint: str, **parameters: str) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ValueError("write http://HOST:PORT")
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}/api/v1/{endpoint}?{query}", timeout=TIMEOUT_SECONDS) as answer:  # nosec B310
        return json.load(answer)["data"]


def _mine(targets: Sequence[Target], addresses: Sequence[str]) -> list[Target]:
    """Return the targets that are the exporter: by port, as Prometheus may know its host by another name."""
    ports = {address.rpartition(":")[2] for address in addresses}
    return [target for target in targets if str(urllib.parse.urlsplit(target["scrapeUrl"]).port) in ports]


def _not_scraped(url: str, targets: Sequence[Target], addresses: Sequence[str]) -> Finding:
    others = [target["scrapeUrl"] for target in targets if target["labels"].get("job") == JOB]
    elsewhere = f"; its job {JOB} scrapes {', '.join(others[:3])}" if others else ""
    port = addresses[0].rpartition(":")[2]
    entry = f"{{job_name: {JOB}, static_configs: [{{targets: ['HOST:{port}']}}]}}"
    return problem(
        AREA,
        f"none of the {len(targets)} targets of {url} has port {port}{elsewhere}",
        f"add - {entry} to scrape_configs in prometheus.yml, and reload Prometheus",
    )


def _scrape(target: Target, settings: Config | None) -> Iterator[Finding]:
    where = target["scrapeUrl"]
    if target["health"] == "down":
        error = str(target["lastError"])
        remedy = next(
            (what for part, what in _CAUSES if part in error.lower()), "see the page of targets in Prometheus"
        )
        yield problem(AREA, f"the scrape of {where} fails: {error}", remedy)
    elif target["health"] == "unknown":
        yield warning(AREA, f"{where} has not been scraped yet", "wait for a scrape interval")
    else:
        yield ok(
            AREA, f"scrapes {where} every {target['scrapeInterval']}, the last in {target['lastScrapeDuration']:.3g} s"
        )
    interval = parse_duration(target["scrapeInterval"])
    shortest = (
        min((min(model.windows) for model in settings.models), default=interval)
        if settings and settings.models
        else interval
    )
    if interval > LONGEST_INTERVAL:
        what = f"a scrape every {target['scrapeInterval']} makes gaps, as Prometheus looks back 5 minutes only"
        yield warning(AREA, what, "set scrape_interval to 2m or less")
    elif interval > shortest / 2:
        what = f"a scrape every {target['scrapeInterval']} sees little of windows of {format_duration(shortest)}"
        yield warning(AREA, what, "scrape at least twice in the shortest window, or lengthen it")


def _rules(url: str, jobs: set[str]) -> Iterator[Finding]:
    groups = _ask(url, "rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"] if _is_ours(rule)]
    broken = [rule for rule in rules if rule["health"] == "err"]
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    if not alerts:
        remedy = "copy prometheus/rules beside prometheus.yml, name rules/*.yml under rule_files, and reload Prometheus"
        yield warning(AREA, "no alert is about ml_ metrics: nobody will be told", remedy)
    else:
        yield ok(AREA, f"{len(alerts)} alerts and {len(rules) - len(alerts)} recording rules are loaded")
        if not any(rule["name"].startswith("ml:threshold:") for rule in rules) and any(
            "ml:threshold:" in rule["query"] for rule in alerts
        ):
            remedy = "load all files of prometheus/rules together"
            yield problem(AREA, "alerts need ml:threshold:*, which no rule records: they cannot fire", remedy)
        managers = _ask(url, "alertmanagers")["activeAlertmanagers"]
        if not managers:
            remedy = "add alerting.alertmanagers to prometheus.yml"
            yield warning(AREA, "Prometheus knows no Alertmanager: alerts fire, and nobody is told", remedy)
        firing = sorted({rule["name"] for rule in alerts if rule["state"] == "firing"} - {"MLWatchdog"})
        if firing:
            yield warning(AREA, f"firing: {', '.join(firing)}", "docs/runbooks has a page for each")
    for rule in broken:
        yield problem(
            AREA, f"rule {rule['name']} fails: {rule['lastError']}", "load the rules of the exporter's version"
        )
    if jobs:
        yield from _samples(url)


def _is_ours(rule: dict[str, Any]) -> bool:
    return any(mark in text for text in (rule["name"], rule["query"]) for mark in ("ml_", "ml:"))


def _samples(url: str) -> Iterator[Finding]:
    found = _ask(url, "query", query=f"count({EXPORTER_BUILD_INFO.name})")["result"]
    if not found:
        remedy = "a metric_relabel_configs may drop it; or wait for the first scrape"
        yield problem(AREA, f"Prometheus holds no {EXPORTER_BUILD_INFO.name}", remedy)
