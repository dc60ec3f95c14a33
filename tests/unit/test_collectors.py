"""What the collectors show: all of the catalogue and nothing else, zeros from the start, and no made-up numbers."""

import asyncio
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics import parser as openmetrics

from mlops_exporter import cli, collectors
from mlops_exporter.collectors.kinds import made_of
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.demo.run import CONFIG as DEMO
from mlops_exporter.events.reasons import REASONS
from mlops_exporter.exposition.catalogue import all_metrics
from mlops_exporter.logs import escaped
from mlops_exporter.profile.profile import NUMERIC, Task
from mlops_exporter.service import service
from mlops_exporter.service.service import Options, Service
from mlops_exporter.service.switches import switched
from mlops_exporter.settings.models import Limits
from tests.support import pipeline
from tests.support.pipeline import CLASSES, Event

TASKS: tuple[Task, ...] = ("binary", "multiclass", "multilabel", "regression", "forecast")
DEFAULTS: dict[str, Any] = {
    "min_samples": {"performance": 30, "drift": 100},
    "drift": {"statistics": ["psi", "js", "ks"]},
}


def traffic(task: Task, size: int, seed: int = 0, **members: object) -> list[Event]:
    """Predictions with labels, most of them later, as the reference has them."""
    events: list[Event] = []
    now = time.time()
    for number, row in enumerate(pipeline.reference_rows(task, size, seed=100 + seed)):
        event: Event = {"model": task, "version": "7", "id": f"{task}-{seed}-{number}", "ts": now - 1}
        event["features"] = {name: row[name] for name in ("amount", "rooms", "age", "country", "owner")}
        event["latency_seconds"] = 0.02
        if task == "binary":
            event["score"] = row["p_yes"]
            event["outcomes"] = {"rating": 1 + number % 5, "tokens": 7 * number}
        elif task in ("multiclass", "multilabel"):
            event["scores"] = {name: row[f"p_{name}"] for name in CLASSES[task]}
        else:
            event["prediction"] = row["p"]
        if task == "forecast":
            event |= {"horizon": row["ahead"], "naive": row["naive"]}
            event["quantiles"] = {"0.1": row["low"], "0.5": row["p"], "0.9": row["high"]}
        if task == "multilabel":
            row["y"] = [name for name in row["y"].split("|") if name]
        if number % 3 == 0:
            events.append(event | {"label": row["y"]} | members)
        else:
            events += [event | members, {"model": task, "id": event["id"], "label": row["y"]} | members]
    return events


SETTINGS: dict[Task, dict[str, Any]] = {
    "binary": {
        "benchmarks": {"accuracy": {"max_drop": 0.1, "max": 0.99}},
        "segments": ["country", "owner"],
        "outcomes": {
            "rating": {"low": 1, "high": 5, "benchmark": 2},
            "tokens": {"low": 0, "high": 3000, "better": "lower", "benchmark": 2900},
        },
        "fairness": {"attributes": ["country"], "benchmarks": {"demographic_parity_ratio": {"min": 0.8, "max": 1}}},
    },
    "multiclass": {"benchmarks": {"f1": {"max_drop": 0.1}}},
    "multilabel": {"benchmarks": {"f1": {"max_drop": 0.1}}},
    "regression": {"benchmarks": {"mae": {"max_increase": 1.0}}, "fairness": {"attributes": ["country"]}},
    "forecast": {"segments": ["country"], "fairness": {"attributes": ["owner"]}},
}


@pytest.fixture(scope="module")
def busy() -> Service:
    """A service that has seen every kind of traffic."""
    service = pipeline.service(*TASKS, only=SETTINGS, label_delay="0s", **DEFAULTS)
    pipeline.submit(service, *(pipeline.ndjson(traffic(task, 400)) for task in TASKS))
    pipeline.submit(service, b'{"model": "nobody"}\n')
    return service


NEED_MORE = {
    metric.name
    for metric in all_metrics()
    if metric.pillar == "compute"
    or metric.name.startswith(("ml_exporter_checkpoint_", "ml_challenger_", "ml_feature_embedding_"))
    or metric.name.startswith(("ml_probe_", "ml_retraining_", "ml_registry_"))  # test_probing.py, test_retraining.py …
    or metric.name.startswith("ml_ranking_")  # test_ranking.py
    or metric.name.startswith("ml_segment_drift")  # test_segments.py
    or metric.name.startswith("ml_outcome_drift")  # test_outcomes.py
    or metric.name in ("ml_model_owner_info", "ml_exporter_model_file_broken")  # test_models_dir.py
    or metric.name == "ml_exporter_state_damaged_timestamp_seconds"  # test_store.py
    or metric.name == "ml_model_batch_deadline_timestamp_seconds"  # test_cadence.py
    or metric.name in ("ml_feature_importance_ratio", "ml_model_weighted_drift")  # here nothing explains the scores
    or metric.name in ("ml_exporter_source_lag_events", "ml_exporter_source_rewritten_files")  # test_table.py
    or metric.name == "ml_exporter_source_refill_events"  # test_kafka_mock_cluster.py
    or metric.name == "ml_exporter_events_passed_total"  # integration/test_members.py
}
"""Metrics that this traffic does not bring about."""


@pytest.mark.slow
def test_the_catalogue_is_what_a_busy_service_shows(busy: Service) -> None:
    shown = pipeline.scrape(busy)
    catalogue = {metric.name: metric for metric in all_metrics()}
    own = {name for name in shown.families if not name.startswith(("process_", "python_"))}
    names = {name + "_total" if shown.families[name].type == "counter" else name for name in own}
    assert names - catalogue.keys() == set()
    assert catalogue.keys() - names - NEED_MORE == set()
    for name in own:
        family = shown.families[name]
        metric = catalogue[name + "_total" if family.type == "counter" else name]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            labels = tuple(label for label in sample.labels if label != "le")
            assert labels == metric.labels, sample


BY_ARRIVAL = {"ml_model_window_filled_ratio", "ml_model_label_delay_seconds_sum", "ml_model_change_evidence"}
"""What the moment or the order of arrival has a part in."""


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_second_version_shows_what_the_first_does(task: Task) -> None:
    """Versions of one profile are worked out together, and none takes the place of another."""
    service = pipeline.service(task, only=SETTINGS, label_delay="0s", windows=["15m", "1h"], **DEFAULTS)
    events = traffic(task, 400)
    pipeline.submit(service, pipeline.ndjson(events))
    alone = _of_version(service, "7")
    other = [event | {"id": f"b-{event['id']}"} | ({"version": "8"} if "version" in event else {}) for event in events]
    pipeline.submit(service, pipeline.ndjson(other))
    assert len(alone) > 100
    assert _of_version(service, "7") == pytest.approx(alone, nan_ok=True)
    assert _of_version(service, "8") == pytest.approx(alone, nan_ok=True)


def _of_version(service: Service, version: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    shown = pipeline.scrape(service)
    successes = shown.by("collector", "ml_exporter_collector_success")
    assert set(successes.values()) == {1.0}, successes
    return {
        (sample.name, tuple(sorted(sample.labels.items() - {("version", version)}))): sample.value
        for family in shown.families.values()
        for sample in family.samples
        if sample.labels.get("version") == version and sample.name not in BY_ARRIVAL
    }


@pytest.mark.slow
def test_both_formats_say_the_same(busy: Service) -> None:
    def samples(families: Iterable[Any]) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in families
            for sample in family.samples
            if family.name.startswith("ml_")
        }

    assert samples(pipeline.scrape(busy).families.values()) == samples(_openmetrics(busy))


def _openmetrics(service: Service) -> list[Any]:
    text = asyncio.run(service.registry.scrape(openmetrics=True, gzipped=False)).decode()
    return list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def test_no_value_is_made_up(busy: Service) -> None:
    for name in (shown := pipeline.scrape(busy)).names:
        for labels, value in shown.series(name).items():
            assert math.isfinite(value), (name, labels)
            if name.endswith(("_ratio", "_total", "_bucket", "_count")):
                assert value >= 0, (name, labels)
            if name.endswith("_ratio"):
                assert value <= 1, (name, labels)


@pytest.mark.slow
def test_what_is_not_of_a_version_is_there_from_the_start() -> None:
    shown = pipeline.scrape(pipeline.service(*TASKS))
    rejected = shown.by("reason", "ml_exporter_events_rejected_total", source="push")
    assert rejected == dict.fromkeys(REASONS, 0)
    assert shown.value("ml_exporter_events_total", source="push") == 0
    assert shown.value("ml_exporter_events_late_total", source="push") == 0
    for task in TASKS:
        for name in ("labels_unmatched", "labels_duplicate", "labels_corrected", "predictions_duplicate"):
            assert shown.value(f"ml_model_{name}_total", model=task) == 0


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_all_counters_of_a_version_begin_with_its_first_event(task: Task) -> None:
    """rate() and increase() need the zero before the first count."""
    service = pipeline.service(task)
    (event,) = traffic(task, 1)
    del event["label"]
    pipeline.submit(service, pipeline.ndjson([event]))
    shown = pipeline.scrape(service)
    profile = pipeline.profile(task)
    for name, variable in profile.features.items():
        bins = shown.series("ml_feature_values_total", feature=name)
        assert len(bins) == len(variable.exported_labels)
        assert sum(bins.values()) == 1
    if profile.of_numbers:
        assert shown.value("ml_model_absolute_error_sum_total") == 0
        assert shown.value("ml_model_overprediction_sum_total") == 0
        horizons = profile.forecast.horizons if profile.forecast else []
        assert shown.by("horizon", "ml_horizon_labels_total") == dict.fromkeys(horizons, 0)
    else:
        k = len(profile.classes)
        name, cells = ("class_confusion", 4 * k) if task == "multilabel" else ("confusion", k * k)
        assert list(shown.series(f"ml_model_{name}_total").values()) == [0.0] * cells
        assert shown.by("bin", "ml_model_calibration_predictions_total") == dict.fromkeys(
            ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"], 0
        )
    for counter in ("labels", "prediction_failures", "predictions_unlabelled"):
        assert shown.value(f"ml_model_{counter}_total") == 0
    assert shown.value("ml_model_label_delay_seconds_count") == 0


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_reference_shares_add_up_to_one(task: Task) -> None:
    service = pipeline.service(task)
    pipeline.submit(service, pipeline.ndjson(traffic(task, 1)))
    shown = pipeline.scrape(service)
    for name in pipeline.profile(task).features:
        assert sum(shown.series("ml_feature_reference_ratio", feature=name).values()) == pytest.approx(1, abs=1e-12)
    reference = shown.by("metric", "ml_model_performance_reference")
    assert reference == pytest.approx(pipeline.profile(task).performance)


def test_below_min_samples_there_is_a_sample_size_and_no_value() -> None:
    service = pipeline.service("binary", **DEFAULTS)
    events = [event for event in traffic("binary", 90) if "label" not in event or "score" in event][:29]
    pipeline.submit(service, pipeline.ndjson(event | {"label": "yes"} for event in events))
    shown = pipeline.scrape(service)
    assert shown.by("window", "ml_model_window_labels") == {"15m": 29, "1h": 29}
    for name in ("performance", "performance_lower", "performance_upper"):
        assert shown.series(f"ml_model_{name}") == {}
    for name in ("ml_feature_drift", "ml_feature_drift_threshold", "ml_prediction_drift", "ml_label_drift"):
        assert shown.series(name) == {}
    assert shown.series("ml_model_drifted_features") == {}
    pipeline.submit(service, pipeline.ndjson(traffic("binary", 100, seed=1)))
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_performance", metric="accuracy", window="1h") is not None
    assert shown.value("ml_feature_drift", feature="amount", statistic="ks", window="1h") is not None
    assert shown.value("ml_model_drifted_features", window="1h") == 0


@pytest.mark.slow
def test_with_one_class_only_what_needs_two_is_absent() -> None:
    service = pipeline.service("binary")
    events = [event | {"label": "yes"} for event in traffic("binary", 60) if "score" in event]
    pipeline.submit(service, pipeline.ndjson(events))
    shown = pipeline.scrape(service).by("metric", "ml_model_performance", window="1h")
    assert shown.keys() >= {"accuracy", "recall", "log_loss", "brier_score"}
    assert not shown.keys() & {"roc_auc", "mcc", "balanced_accuracy", "specificity"}


def test_without_scores_their_metrics_are_absent() -> None:
    service = pipeline.service("binary")
    event = {"model": "binary", "prediction": "yes", "label": "yes"}
    pipeline.submit(service, pipeline.ndjson([event] * 50))
    shown = pipeline.scrape(service).by("metric", "ml_model_performance", window="1h")
    assert "accuracy" in shown
    assert not shown.keys() & {"roc_auc", "average_precision", "log_loss", "brier_score", "expected_calibration_error"}


@pytest.mark.slow
def test_windows_forget_and_counters_do_not() -> None:
    service = pipeline.service("regression", windows=["2s", "1h"])
    pipeline.submit(service, pipeline.ndjson(traffic("regression", 50)))
    now = time.time()
    late = pipeline.Exposition(_render_at(service, now + 3))
    assert late.by("window", "ml_model_window_labels") == {"2s": 0, "1h": 50}
    assert late.by("window", "ml_model_performance", metric="mae").keys() == {"1h"}
    later = pipeline.Exposition(_render_at(service, now + 4000))
    assert later.by("window", "ml_model_window_labels") == {"2s": 0, "1h": 0}
    assert later.series("ml_model_performance") == {}
    assert later.series("ml_feature_drift") == {}
    assert later.value("ml_model_labels_total") == 50


def _render_at(service: Service, now: float) -> str:
    service.registry._now = lambda: now
    service.registry._rendered = object()
    return asyncio.run(service.registry.scrape(openmetrics=False, gzipped=False)).decode()


@pytest.mark.slow
def test_drift_is_shown_where_it_is() -> None:
    service = pipeline.service("binary", **DEFAULTS)
    events = [event | {} for event in traffic("binary", 300) if "features" in event]
    for event in events:
        event["features"] = event["features"] | {"amount": event["features"]["amount"] * 3 + 1}
    pipeline.submit(service, pipeline.ndjson(events))
    shown = pipeline.scrape(service)
    over = {
        feature
        for feature in pipeline.profile("binary").features
        if shown.value("ml_feature_drift", feature=feature, statistic="psi", window="1h")  # type: ignore[operator]
        > shown.value("ml_feature_drift_threshold", feature=feature, statistic="psi", window="1h")
    }
    assert over == {"amount"}
    assert shown.value("ml_model_drifted_features", window="1h") == 1


HOSTILE = ['a"b', "back\\slash", "line\nfeed", "{}", "le", "", " ", "\u2028", "é", "\x00", "x" * 300, 'a="1"} 7']


@pytest.mark.slow
def test_hostile_categories_and_versions_cannot_break_a_scrape() -> None:
    service = pipeline.service("binary")
    events: list[Event] = [
        {"model": "binary", "version": text[:64] or "v", "prediction": "yes", "features": {"country": text}}
        for text in HOSTILE
    ]
    accepted, refused = pipeline.submit(service, pipeline.ndjson(events))
    assert (accepted, refused) == (len(HOSTILE), [])
    shown = pipeline.scrape(service)
    versions = shown.by("version", "ml_model_predictions_total")
    shown_as = ["\n".join(map(escaped, (text[:64] or "v").split("\n"))) for text in HOSTILE]
    assert versions == dict.fromkeys(shown_as, 1)
    named = [text for text in HOSTILE if text]  # an empty text is a missing value
    assert sum(shown.by("version", "ml_feature_values_total", feature="country", bin="other").values()) == len(named)
    assert shown.value("ml_feature_values_total", version="v", feature="country", bin="missing") == 1
    _openmetrics(service)


def test_benchmarks_are_absolute_or_relative_to_the_reference(busy: Service) -> None:
    shown = pipeline.scrape(busy)
    reference = pipeline.profile("binary").performance["accuracy"]
    assert shown.value("ml_model_benchmark_min", model="binary", metric="accuracy") == pytest.approx(reference - 0.1)
    assert shown.value("ml_model_benchmark_max", model="binary", metric="accuracy") == 0.99
    mae = pipeline.profile("regression").performance["mae"]
    assert shown.value("ml_model_benchmark_max", model="regression", metric="mae") == pytest.approx(mae + 1)


def test_histograms_are_cumulative(busy: Service) -> None:
    shown = pipeline.scrape(busy)
    buckets = shown.by("le", "ml_model_prediction_latency_seconds_bucket", model="binary")
    values = list(buckets.values())
    assert values == sorted(values)
    assert buckets["0.01"] == 0
    assert buckets["0.025"] == buckets["+Inf"] == 400
    assert shown.value("ml_model_prediction_latency_seconds_sum", model="binary") == pytest.approx(8.0)


@pytest.mark.slow
def test_more_versions_than_allowed_are_refused() -> None:
    service = pipeline.service("binary")
    events = [{"model": "binary", "version": f"v{number}", "prediction": "yes"} for number in range(20)]
    accepted, refused = pipeline.submit(service, pipeline.ndjson(events))
    assert accepted == 16
    assert [reason for _, reason in refused] == ["too_many_versions"] * 4
    shown = pipeline.scrape(service)
    assert len(shown.series("ml_model_predictions_total")) == 16
    assert shown.value("ml_exporter_events_rejected_total", reason="too_many_versions") == 4


def test_a_failing_model_server_is_counted() -> None:
    service = pipeline.service("binary")
    events = [{"model": "binary", "error": "timeout"}] * 3 + [{"model": "binary", "prediction": "no"}]
    pipeline.submit(service, pipeline.ndjson(events))
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_predictions_total") == 4
    assert shown.value("ml_model_prediction_failures_total") == 3


def test_ledgers_stay_whole_numbers(busy: Service) -> None:
    for model in busy.models:
        for version in model.versions.values():
            counts = version.lifetime[model.reference.layout.predictions.start : model.reference.layout.labels.stop]
            assert np.array_equal(counts, np.round(counts))
            assert model.reference.vectors is not None
            # Sums of cosines and products are of either sign.
            vectors = model.reference.layout.cells_of(model.reference.vectors)
            others = np.delete(version.lifetime, np.arange(vectors.start, vectors.stop))
            assert others.min() >= 0 or model.name in NUMERIC


def expecting(model_version: str = "7") -> Model:
    """The model of a service that has just started."""
    (model,) = pipeline.service("binary").models
    provenance = replace(model.reference.profile.provenance, model_version=model_version)
    model = Model(model.settings, replace(model.reference.profile, provenance=provenance), Limits())
    model.expect()
    return model


def test_the_expected_version_is_there_before_its_first_event() -> None:
    assert list(expecting().versions) == ["7"]
    assert list(expecting("").versions) == ["default"]


@pytest.mark.parametrize(
    ("names", "versions"),
    [({"7"}, ["7"]), ({"8"}, ["8"]), ({"7", "8"}, ["7", "8"]), ({None}, ["7"]), ({None, "8"}, ["8"])],
)
def test_another_version_takes_the_place_of_the_expected_one(names: set[str | None], versions: list[str]) -> None:
    model = expecting()
    assert not model.admit(names)
    assert list(model.versions) == versions
    model.admit({"9"})
    kept = versions if names != {None} else []
    assert list(model.versions) == [*kept, "9"]


def test_an_expected_version_without_events_is_not_kept() -> None:
    model = expecting()
    assert not model.state()["versions"]
    model.admit({"7"})
    assert list(model.state()["versions"]) == ["7"]


def test_a_version_that_no_window_shows_gives_its_place_to_a_new_one() -> None:
    service = pipeline.service("binary", limits={"versions": 2}, windows=["1h"])
    (model,) = service.models
    start = time.time()

    def take(*events: Event, at: float) -> list[str]:
        async def submit() -> list[tuple[int, str]]:
            body = pipeline.ndjson({"model": "binary", "ts": start + at, **event} for event in events)
            result = await service.intake.submit("push", body, start + at)
            service.intake.flush()
            return list(result.errors)

        return [reason for _, reason in asyncio.run(submit())]

    old = {"version": "old", "prediction": "yes"}
    assert not take(old, {"version": "waits", "id": "w", "prediction": "yes"}, at=0)
    assert take({"version": "new", "prediction": "no"}, at=3000) == ["too_many_versions"]
    assert not take({"version": "new", "prediction": "no"}, at=3700)
    assert list(model.versions) == ["new", "waits"]  # the join knows them by their places
    assert model.versions["new"].lifetime[model.reference.layout.predictions] == 1
    assert not take(old, at=3800)  # one is shown, the other waits for a label and makes room
    assert list(model.versions) == ["new", "old"]
    assert model.given_up == {"waits": 1}
    assert model.versions["old"].lifetime[model.reference.layout.predictions] == 1


A_NEW_ONE = """
class NoveltyCollector:
    name = "novelty"
    about = "what is new"
    by_default = False
    of_counts = True

    @classmethod
    def of(cls, parts):
        return cls()

    def collect(self, now):
        return []
"""


def test_a_new_collector_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "novelty.py").write_text(A_NEW_ONE)
    monkeypatch.setattr(collectors, "__path__", [*collectors.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mlops_exporter.collectors.novelty", raising=False)
    assert "novelty" in {collector.name for collector in made_of(Parts([]))}
    started: list[Options] = []
    monkeypatch.setattr(service, "run", lambda _settings, _profiles, options, *_tasks: started.append(options))
    config = f"--config.file={DEMO}"
    assert cli.main(["run", config]) == cli.main(["run", config, "--collector.novelty", "--no-collector.data"]) == 0
    assert [options.collectors_off for options in started] == [{"novelty"}, {"data"}]
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    assert "export what is new" in capsys.readouterr().out


def test_every_collector_says_what_it_gives() -> None:
    kinds = switched()
    names = [kind.name for kind in kinds]
    assert len(set(names)) == len(names)
    assert all(kind.about and not kind.about.endswith(".") for kind in kinds)
