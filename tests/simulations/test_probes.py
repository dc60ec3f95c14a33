"""Ten thousand probes of a good model: what would alarm, and what a probe costs the exporter."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from mlops_exporter.counting.ledger import Outputs
from mlops_exporter.judging.benchmarks import bounds
from mlops_exporter.probing.prober import Prober
from mlops_exporter.probing.verdict import performance
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import ProbeSettings
from mlops_exporter.tables.lists import lists
from prometheus.source.thresholds import THRESHOLDS

SAMPLE = 500
ROWS = 1000
FEATURES = [f"x{number}" for number in range(25)]
EVERY = 300.0
MODEL = ModelSettings.model_validate(
    {
        "name": "m",
        "task": "binary",
        "profile": "m.json",
        "benchmarks": {"roc_auc": {"max_drop": 0.03}, "accuracy": {"max_drop": 0.03}},
    }
)

SERVER = """
import json, sys
from tests.endpoints import serving
with serving(lambda rows: [row["x0"] for row in rows], sys.argv[1:], version="3") as endpoint:
    print(endpoint.url, flush=True)
    sys.stdin.read()
"""


def drawn(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a calibrated model and the labels that come true."""
    scores = rng.beta(0.8, 0.8, rows)
    return scores, (rng.random(rows) < scores).astype(np.float64)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    scores, labels = drawn(rng, 20_000)
    others = rng.normal(size=(ROWS, len(FEATURES) - 1)).round(3)
    path = tmp_path_factory.mktemp("golden") / "rows.ndjson"
    path.write_text(
        "\n".join(
            json.dumps({"x0": score, **dict(zip(FEATURES[1:], row, strict=True)), "p": score, "label": int(label)})
            for score, label, row in zip(scores.tolist(), labels.tolist(), others.tolist(), strict=False)
        )
    )
    return path


@pytest.fixture(scope="module")
def profile(golden: Path) -> Profile:
    return build(
        BuildRequest(
            data=golden,
            task="binary",
            label="label",
            prediction=None,
            scores={"positive": "p"},
            positive="1",
            features=tuple(FEATURES),
            model_version="3",
        )
    )[0]


@pytest.mark.simulation
@pytest.mark.parametrize("probes", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_fresh_samples_of_a_good_model_alarm_for_nothing(probes: int, profile: Profile) -> None:
    """By the condition of MLProbePerformanceBelowBenchmark: twice the interval beyond the benchmark."""
    rng = np.random.default_rng(7)
    agreed = {name: low for name, (low, _) in bounds(MODEL.benchmarks, profile.performance).items() if low is not None}
    assert agreed.keys() == {"roc_auc", "accuracy"}
    alarms, closest = 0, 1.0
    for _ in range(probes):
        scores, labels = drawn(rng, SAMPLE)
        outputs = Outputs.plain(np.full(SAMPLE, np.nan), scores[:, np.newaxis])
        found = performance(outputs, labels, profile, MODEL)
        margins = [(it := found[name]).value + 2 * (it.upper - it.value) - low for name, low in agreed.items()]
        alarms += min(margins) < 0
        closest = min(closest, *margins)
    print(f"{probes} probes of {SAMPLE} rows: {alarms} alarms, the closest at {closest:.3f} above")
    assert alarms == 0


def test_a_probe_of_a_thousand_rows_costs_less_than_a_hundredth_of_a_core(golden: Path, profile: Profile) -> None:
    """Through a real endpoint in a process of its own; every pass is judged as the alerts judge it."""
    settings = {
        "name": "golden", "model": "m", "rows": str(golden), "every": "5m", "pinned": {"score": "p"},
        "outputs": {"": "score"}, "requests_per_second": 1000,
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *FEATURES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        endpoint = {"mlflow": f"{server.stdout.readline().strip()}/invocations", "version_header": "X-Model-Version"}
        probe = ProbeSettings.model_validate(settings | {"endpoint": endpoint})
        prober = Prober(probe, MODEL, profile, lists, random=Random(5))
        asyncio.run(prober.probe())
        passes, began = 20, time.process_time()
        for _ in range(passes):
            asyncio.run(prober.probe())
            (result,) = prober.results
            assert result.rows == ROWS
            assert result.changed is not None
            assert result.changed <= THRESHOLDS["probe_changed_ratio"].value
            assert prober.course.failed_in_a_row == 0
        seconds = (time.process_time() - began) / passes
        server.kill()
    print(f"a probe of {ROWS} rows of {len(FEATURES)} features: {seconds * 1e3:.0f} ms of CPU, {seconds / EVERY:.4%}")
    assert seconds < 0.01 * EVERY
