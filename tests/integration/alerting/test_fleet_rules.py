"""Fleet rules over two exporters that share a stream equal the gauges of one exporter that sees all of it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import yaml

from exporter.config import read
from exporter.demo.feeder import Feeder
from exporter.demo.run import CONFIG
from exporter.service import Options, Service
from prometheus.source.render import rule_files
from tests.integration.prometheus import Prometheus, eventually, running_prometheus, scrape_job
from tests.integration.serving import served

SCRAPES = 15  # before and after the events, so that the ends to which increase extrapolates weigh little
REPLICAS = ("first", "second")


def services() -> dict[str, Service]:
    config, profiles = read(CONFIG)
    one_hour = [model.model_copy(update={"windows": [3600.0]}) for model in config.models]
    config = config.model_copy(update={"models": one_hour})
    exporters = {name: Service(config, profiles, Options()) for name in ("whole", *REPLICAS)}
    for exporter in exporters.values():
        exporter.intake.closed = None  # nothing to recover
    return exporters


async def feed(exporters: dict[str, Service], elapsed: float, feeder: Feeder) -> None:
    """Give the stream up to `elapsed` to one exporter whole, and half of the ids to each of the others."""
    now = time.time()
    body = feeder.batch(elapsed, now)
    lines = body.splitlines(keepends=True)
    halves: dict[str, list[bytes]] = {name: [] for name in REPLICAS}
    for line in lines:
        number = int(line.split(b'"id":"')[1].split(b'"')[0].rsplit(b"-", 1)[1])
        halves[REPLICAS[number % 2]].append(line)
    await exporters["whole"].intake.submit("push", body, now)
    for name, half in halves.items():
        await exporters[name].intake.submit("push", b"".join(half), now)
    for exporter in exporters.values():
        exporter.intake.flush()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("fleet")
    (directory / "rules").mkdir()
    for name, text in rule_files().items():
        if not name.endswith("_alerts.yml"):
            rules = yaml.safe_load(text)
            for group in rules["groups"]:
                group.pop("interval", None)
            (directory / "rules" / name).write_text(yaml.safe_dump(rules))
    exporters = services()
    feeder = Feeder()
    asyncio.run(feed(exporters, 0.5, feeder))  # the versions are there, and with them their counters
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(served(exporter.app)) for name, exporter in exporters.items()}
        config = {
            "rule_files": ["rules/*.yml"],
            "scrape_configs": [
                scrape_job("whole", addresses["whole"]),
                scrape_job("fleet", *(addresses[name] for name in REPLICAS)),
            ],
        }
        server = stack.enter_context(running_prometheus(config, directory))
        eventually(lambda: len(server.query("ml_model_labels_total")) == 6)
        time.sleep(SCRAPES)
        asyncio.run(feed(exporters, 100.0, feeder))
        time.sleep(SCRAPES)
        yield server


def values(result: list[dict[str, Any]], *labels: str) -> dict[tuple[str, ...], float]:
    found = {tuple(item["metric"].get(label, "") for label in labels): float(item["value"][1]) for item in result}
    assert len(found) == len(result), "several series of one label set"
    return found


def both(prometheus: Prometheus, gauge: str, rule: str, *labels: str) -> tuple[dict[Any, float], dict[Any, float]]:
    return (
        values(prometheus.query(f'{gauge}{{job="whole"}}'), *labels),
        values(prometheus.query(f'{rule}{{job="fleet"}}'), *labels),
    )


# increase() knows nothing of what came before the first scrape (0.5 s of 100 s), and extrapolates by up to half an
# interval at both ends, but not below 0: so its factor is nearly, not exactly, the same for all counters of a model.
# It nearly cancels in ratios, and remains in the 1/2 that is added to each bin. The largest difference seen is 1.4 %
# (the mean absolute error); drift differs by less than 1 %.
RELATIVE = 0.02


def test_drift(prometheus: Prometheus) -> None:
    labels = ("model", "feature", "statistic")
    gauges, rules = both(prometheus, "ml_feature_drift", "ml:feature_drift:1h", *labels)
    common = gauges.keys() & rules.keys()
    assert {statistic for _, _, statistic in common} == {"psi", "js"}
    assert len(common) == 2 * len({key[:2] for key in gauges}), "every feature of both models"
    for key in sorted(common):
        assert rules[key] == pytest.approx(gauges[key], rel=RELATIVE, abs=1e-3), key
    assert max(rules[key] for key in common) > 0.3, "the stream does drift"


def test_tvd(prometheus: Prometheus) -> None:
    """Half the sum of |p - q| over valid bins, from the whole exporter's counters themselves."""
    rules = values(prometheus.query('ml:feature_drift:1h{job="fleet",statistic="tvd"}'), "model", "feature")
    counts = values(
        prometheus.query('ml_feature_values_total{job="whole",bin!~"invalid|missing"}'),
        *("model", "feature", "bin"),
    )
    ratios = values(
        prometheus.query('ml_feature_reference_ratio{job="whole",bin!~"invalid|missing"}'),
        *("model", "feature", "bin"),
    )
    assert rules
    for model, feature in rules:
        bins = [key for key in counts if key[:2] == (model, feature)]
        current, reference = (np.array([source[key] for key in bins]) for source in (counts, ratios))
        expected = np.abs(current / current.sum() - reference / reference.sum()).sum() / 2
        assert rules[model, feature] == pytest.approx(expected, rel=RELATIVE, abs=2e-3)


def test_performance(prometheus: Prometheus) -> None:
    gauges, rules = both(prometheus, "ml_model_performance", "ml:model_performance:1h", "model", "metric")
    wanted = {
        *(("mpg", metric) for metric in ("mae", "rmse")),
        *(("flights", metric) for metric in ("accuracy", "precision", "recall", "f1", "expected_calibration_error")),
    }
    assert rules.keys() == wanted
    for key in wanted:
        assert rules[key] == pytest.approx(gauges[key], rel=RELATIVE, abs=2e-3), (key, rules[key], gauges[key])


def test_bad_predictions(prometheus: Prometheus) -> None:
    accuracy = values(prometheus.query('ml_model_performance{job="whole",metric="accuracy"}'), "model")
    bad = values(prometheus.query('ml:model_bad_predictions:ratio1h{job="fleet"}'), "model")
    assert bad.keys() == {("flights",)}
    assert bad["flights",] == pytest.approx(1 - accuracy["flights",], rel=RELATIVE)
    budget = values(prometheus.query('ml:model_error_budget:ratio{job="fleet"}'), "model")
    assert budget == {("flights",): pytest.approx(0.1)}


def test_reference_counts_are_exact(prometheus: Prometheus) -> None:
    _, profiles = read(CONFIG)
    rules = values(
        prometheus.query('sum without (bin, range) (ml:feature_reference:values{job="fleet"})'), "model", "feature"
    )
    expected = {
        (model, feature): pytest.approx(sum(variable.counts[:-2]))
        for model, profile in profiles.items()
        for feature, variable in profile.features.items()
    }
    assert rules == expected


def test_no_rule_fails(prometheus: Prometheus) -> None:
    groups = prometheus.api("rules")["groups"]
    faults = {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")}
    assert not faults
