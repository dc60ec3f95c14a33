"""Fleet rules over two exporters that share a stream equal the gauges of one exporter that sees all of it."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.special import ndtri

from mlops_exporter.demo.feeder import Feeder
from mlops_exporter.demo.run import CONFIG
from mlops_exporter.profile.profile import Profile
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.models import ModelSettings
from prometheus.source.render import RECORDS, rule_files
from prometheus.source.thresholds import THRESHOLDS
from tests.models import profiles as small_profiles
from tests.support.prometheus import Prometheus, eventually, running_prometheus, scrape_job
from tests.support.serving import served

SCRAPES = 15  # before and after the events, so that the ends to which increase extrapolates weigh little
REPLICAS = ("first", "second")
FAILED = 0.05  # of the predictions of iris
LEAST = 100  # ml:threshold:min_group_predictions


def all_profiles() -> dict[str, Profile]:
    """Those of the demonstration's models, and of one with several classes."""
    return {**{name: several.newest for name, several in read(CONFIG)[1].items()}, "iris": small_profiles()["iris"]}


def services() -> dict[str, Service]:
    config, _ = read(CONFIG)
    profiles = all_profiles()
    models = [
        model.model_copy(
            update={
                "windows": [3600.0],
                "fairness": model.fairness and model.fairness.model_copy(update={"min_group_size": LEAST}),
            }
        )
        for model in config.models
    ]
    iris = ModelSettings.model_validate({
        "name": "iris", "task": "multiclass", "profile": "iris.json", "windows": ["1h"],
    })  # fmt: skip
    config = config.model_copy(update={"models": [*models, iris]})
    exporters = {name: Service(config, profiles, Options()) for name in ("whole", *REPLICAS)}
    for exporter in exporters.values():
        exporter.intake.closed = None  # nothing to recover
    return exporters


def flowers(count: int) -> bytes:
    """Labelled predictions of iris, most of them right, and some that failed."""
    rng = np.random.default_rng(count)
    classes = small_profiles()["iris"].classes
    lines = []
    for number in range(count):
        event: dict[str, Any] = {"model": "iris", "version": "1", "id": f"{count}-{number}"}
        event["features"] = {name: rng.uniform(0, 30) ** 0.9 for name in ("width", "length")}
        if rng.random() < FAILED:
            event["error"] = "timeout"
        else:
            scores = rng.dirichlet([0.3, 0.5, 0.8])
            event["scores"] = dict(zip(classes, scores.tolist(), strict=True))
            event["label"] = str(rng.choice(classes, p=(scores + 0.2) / 1.6))
        lines.append(json.dumps(event, separators=(",", ":")))
    return "".join(f"{line}\n" for line in lines).encode()


async def feed(exporters: dict[str, Service], elapsed: float, feeder: Feeder, iris: int) -> None:
    """Give the stream up to `elapsed` to one exporter whole, and half of the ids to each of the others."""
    now = time.time()
    body = feeder.batch(elapsed, now) + flowers(iris)
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
    asyncio.run(feed(exporters, 0.5, feeder, 10))  # the versions are there, and with them their counters
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
        eventually(lambda: len(server.query("ml_model_labels_total")) == 9)
        time.sleep(SCRAPES)
        asyncio.run(feed(exporters, 100.0, feeder, 4000))
        time.sleep(SCRAPES)
        yield server.without_gaps(1 + len(REPLICAS))


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

_LABELS = (
    "model", "version", "feature", "bin", "range", "statistic", "metric", "class", "predicted", "actual", "attribute",
    "group", "instance",
)  # fmt: skip


def test_drift(prometheus: Prometheus) -> None:
    labels = ("model", "feature", "statistic")
    gauges, rules = both(prometheus, "ml_feature_drift", "ml:feature_drift:1h", *labels)
    common = gauges.keys() & rules.keys()
    assert {statistic for _, _, statistic in common} == {"psi", "js"}
    assert len(common) == 2 * len({key[:2] for key in gauges}), "every feature of all models"
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
        *(
            (model, metric)
            for model in ("flights", "iris")
            for metric in ("accuracy", "precision", "recall", "f1", "expected_calibration_error")
        ),
    }
    assert rules.keys() == wanted
    for key in wanted:
        assert rules[key] == pytest.approx(gauges[key], rel=RELATIVE, abs=2e-3), (key, rules[key], gauges[key])


def test_bad_predictions(prometheus: Prometheus) -> None:
    accuracy = values(prometheus.query('ml_model_performance{job="whole",metric="accuracy"}'), "model")
    failed = values(
        prometheus.query('ml_model_prediction_failures_total{job="whole"} / ml_model_predictions_total'), "model"
    )
    assert failed["iris",] == pytest.approx(FAILED, rel=0.2)
    rules = values(prometheus.query('ml:model_failed_predictions:ratio1h{job="fleet"}'), "model")
    assert rules == {key: pytest.approx(share, rel=RELATIVE) for key, share in failed.items()}
    bad = values(prometheus.query('ml:model_bad_predictions:ratio1h{job="fleet"}'), "model")
    assert bad == {
        key: pytest.approx(1 - (1 - failed[key]) * accuracy[key], rel=RELATIVE) for key in (("flights",), ("iris",))
    }
    budget = values(prometheus.query('ml:model_error_budget:ratio{job="fleet"}'), "model")
    assert budget == {("flights",): pytest.approx(0.1)}


def test_reference_counts_are_exact(prometheus: Prometheus) -> None:
    rules = values(
        prometheus.query('sum without (bin, range) (ml:feature_reference:values{job="fleet"})'), "model", "feature"
    )
    expected = {
        (model, feature): pytest.approx(sum(variable.counts[:-2]))
        for model, profile in all_profiles().items()
        for feature, variable in profile.features.items()
    }
    assert rules == expected


def test_classes(prometheus: Prometheus) -> None:
    labels = ("model", "class", "metric")
    gauges, rules = both(prometheus, "ml_model_class_performance", "ml:class_performance:1h", *labels)
    common = {key: rules[key] for key in gauges if key[2] in ("precision", "recall", "f1")}
    assert len(common) == 3 * 3
    assert common == {key: pytest.approx(gauges[key], rel=RELATIVE) for key in common}


GROUPS = ("model", "attribute", "group")


def test_selection_ratios(prometheus: Prometheus) -> None:
    gauges = values(prometheus.query('ml_group_selection_ratio{job="whole"}'), *GROUPS)
    rules = values(prometheus.query('ml:group_selection_ratio:1h{job="fleet",predicted="1"}'), *GROUPS)
    assert {attribute for _, attribute, _ in rules} == {"origin", "carrier"}
    assert rules == {key: pytest.approx(gauges[key], rel=RELATIVE, abs=1e-3) for key in gauges}
    shares = values(
        prometheus.query('sum without (predicted) (ml:group_selection_ratio:1h{job="fleet"})'), "job", *GROUPS
    )
    assert {model for _, model, _, _ in shares} == {"flights"}, "a regression selects nobody"
    assert shares == dict.fromkeys(shares, pytest.approx(1))


def test_demographic_parity(prometheus: Prometheus) -> None:
    labels = ("model", "attribute", "metric")
    gauges = values(prometheus.query('ml_fairness{job="whole",metric=~"demographic_parity.*"}'), *labels)
    rules = values(prometheus.query('ml:fairness:1h{job="fleet",predicted="1"}'), *labels)
    assert len(rules) == 2 * 2
    assert rules == {key: pytest.approx(gauges[key], rel=2 * RELATIVE, abs=1e-3) for key in gauges}


def _same(prometheus: Prometheus, *records: str) -> bool:
    """Whether the fleet's values of two records are, and are about equal."""
    first, second = (values(prometheus.query(f'{record}{{job="fleet"}}'), *_LABELS) for record in records)
    assert first, f"{records[0]} has no value"
    return second == {key: pytest.approx(value, rel=RELATIVE, abs=1e-3) for key, value in first.items()}


def test_windows_agree(prometheus: Prometheus) -> None:
    """All events came within minutes, so that every window has seen them all."""
    names = {
        record.record
        for _, groups in RECORDS.values()
        for group in groups
        for record in group.rules
        if not record.record.startswith("ml:threshold:")
    }
    now = replace(prometheus, moment=None)
    checked = 0
    for name in sorted(names):
        for window in ("5m", "30m", "2h", "6h", "1d", "3d"):
            other = f"{name.removesuffix('1h')}{window}"
            if name.endswith("1h") and other in names:
                with suppress(AssertionError):  # groups of rules are evaluated at different times
                    eventually(partial(_same, now, name, other), 30)
                assert _same(now, name, other), f"{name} and {other} differ"
                checked += 1
    assert checked == 13 + 5 * 6  # the fleet's for a day, the labels' for all others


def test_caution_is_a_normal_quantile(prometheus: Prometheus) -> None:
    found = prometheus.query('ml:model_window:caution{job="whole"}')
    assert found
    chance = 3600 * THRESHOLDS["benchmark_chance"].value / (30 * 86400)
    for item in found:
        assert float(item["value"][1]) == pytest.approx(-ndtri(chance) / 1.96, abs=0.002)


WAITING = {f"ml:model_window:{name}" for name in ("full", "current", "labelled")} | {"ml:model_performance:loss"}
WAITING |= {"ml:feature_last_week:psi", "ml:feature_last_week:psi_threshold"}
"""What waits for a full window or last week, which exporters that have just begun do not have."""
EVIDENT = "ml:model:harm"
"""Is there as soon as there is evidence of a change, which needs no window."""


def test_every_rule_has_a_value(prometheus: Prometheus) -> None:
    for _, groups in RECORDS.values():
        for group in groups:
            for record in group.rules:
                found = prometheus.query(record.record)
                if record.record != EVIDENT:
                    assert bool(found) != (record.record in WAITING), f"{record.record}: {found}"


def test_no_rule_fails(prometheus: Prometheus) -> None:
    groups = prometheus.api("rules")["groups"]
    faults = {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")}
    assert not faults
