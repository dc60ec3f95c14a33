"""What cannot be judged, is missing, or is the wrong way round has a voice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter import cli
from mlops_exporter.profile.profile import save
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.errors import BuildError
from tests.field.rows import MODEL, decoded, write_csv
from tests.models import profiles
from tests.support import pipeline
from tests.support.exporter import write_config


def test_one_zero_label_does_not_silence_the_relative_error() -> None:
    """Predictions of 100 % too much beside one label of 0: MAPE is 1 over the others, says how many it left out, and
    breaks its benchmark."""
    service = pipeline.service("regression", benchmarks={"mape": {"max": 0.15}})
    events = [{"model": "regression", "prediction": 2.0 * label, "label": label} for label in range(40, 140)]
    events += [{"model": "regression", "prediction": 1.0, "label": 0}]
    assert pipeline.submit(service, pipeline.ndjson(events))[1] == []
    shown = pipeline.scrape(service)
    assert shown.value("ml_model_performance", window="1h", metric="mape") == pytest.approx(1.0)
    assert shown.value("ml_model_zero_labels_total") == 1
    assert shown.value("ml_model_benchmark_judged", metric="mape") == 1


def test_a_benchmark_without_what_it_needs_is_shown_as_not_judged() -> None:
    service = pipeline.service("binary", benchmarks={"accuracy": {"min": 0.1}, "roc_auc": {"min": 0.6}})
    events = [{"model": "binary", "prediction": "yes", "score": 0.5, "label": "yes"} for _ in range(400)]
    pipeline.submit(service, pipeline.ndjson(events))
    judged = pipeline.scrape(service).by("metric", "ml_model_benchmark_judged")
    assert judged == {"accuracy": 1, "roc_auc": 0}, "labels of one class have no ROC"


@pytest.mark.parametrize(
    ("benchmarks", "said"),
    [
        ("{roc_auc: {max: 0.03}}", "max_drop"),
        ("{accuracy: {max: 0.9}}", "min"),
        ("{log_loss: {min: 0.1}}", "max"),
        ("{roc_auc: {min: 0.9}}", "score"),
    ],
)
def test_a_benchmark_that_says_the_contrary_or_nothing_is_refused(
    benchmarks: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last needs scores, which the reference has none of: such a benchmark could never be judged."""
    rows: dict[str, list[Any]] = {"amount": [float(n % 7) for n in range(60)], "label": [n % 2 for n in range(60)]}
    data = write_csv(tmp_path / "t.csv", rows | {"prediction": rows["label"]})
    save(build(BuildRequest(data, "binary", label="label", prediction="prediction"))[0], tmp_path / "p.json")
    config = tmp_path / "c.yml"
    config.write_text(f"models: [{{name: m, task: binary, profile: p.json, benchmarks: {benchmarks}}}]\n")
    assert cli.main(["check", str(config)]) == 1
    told = capsys.readouterr().err
    assert "benchmarks" in told
    assert said in told


@pytest.mark.parametrize("tasks", [("binary",), ("binary", "regression")])
def test_a_model_is_named_by_every_event_of_one_model_or_of_two(tasks: Any) -> None:
    refused = pipeline.submit(pipeline.service(*tasks), pipeline.ndjson([{"prediction": "yes", "id": 1}]))[1]
    assert refused == [(1, "missing_model")]


def test_scores_rounded_to_two_digits_are_taken() -> None:
    """Of three classes 23 % were refused, and the most certain of two."""
    random = np.random.default_rng(5)
    classes = profiles()["iris"].classes
    rows = [dict(zip(classes, np.round(row, 2).tolist(), strict=True)) for row in random.dirichlet([0.5] * 3, 2000)]
    assert any(abs(sum(row.values()) - 1) > 0.005 for row in rows)
    body = "\n".join(json.dumps({"model": MODEL, "scores": row}) for row in rows).encode()
    assert decoded(profiles()["iris"], body)[1].accepted == 2000
    certain = b"\n".join(
        b'{"model":"%b","score":%b}' % (MODEL.encode(), score) for score in (b"1.0000001", b"-1e-9", b"1.004")
    )
    assert decoded(profiles()["credit"], certain)[1].accepted == 3


@pytest.mark.parametrize(("total", "good"), [(1.0, True), (0.99, True), (1.01, True), (0.98, False), (1.03, False)])
def test_build_and_events_have_one_tolerance(total: float, good: bool, tmp_path: Path) -> None:
    """What the profile was built of is taken as an event, and what is refused as an event builds no profile."""
    classes = ["a", "b", "c"]
    share = total / 3
    table: dict[str, list[Any]] = {"amount": [float(n) for n in range(60)], "y": classes * 20}
    table |= {f"p_{name}": [share] * 60 for name in classes}
    request = BuildRequest(
        write_csv(tmp_path / "t.csv", table), "multiclass", label="y", scores={name: f"p_{name}" for name in classes}
    )
    event = json.dumps({"model": MODEL, "scores": dict.fromkeys(profiles()["iris"].classes, share)}).encode()
    assert decoded(profiles()["iris"], event)[1].accepted == int(good)
    if good:
        build(request)
    else:
        with pytest.raises(BuildError, match="add up"):
            build(request)


def test_check_takes_the_flag_of_the_others_and_counts_in_english(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, said in ((1, "good, 1 model"), (2, "good, 2 models")):
        save(profiles()["credit"], tmp_path / "credit.json")
        models = [{"name": f"m{n}", "task": "binary", "profile": "credit.json"} for n in range(count)]
        config = write_config(tmp_path, *models)
        assert cli.main(["check", f"--config.file={config}"]) == 0
        found = capsys.readouterr().out
        assert said in found
        assert "1 models" not in found


def test_the_flags_that_matter_stand_before_the_switches_of_collectors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    first = text.index("--collector.", text.index("options:"))
    for flag in ("--config.file", "--web.listen-address", "--web.config.file", "--web.enable-lifecycle", "--log.level"):
        assert text.index(flag) < first
