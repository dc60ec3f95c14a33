"""The demonstration, an exporter that watches GPUs, and a Prometheus that scrapes both, for all tests of dashboards."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from grafana.source.environment import LABELS
from mlops_exporter.demo.run import CONFIG
from tests.support.exporter import ENVIRONMENT, running_exporter, write_config
from tests.support.fake_gpu import A100, build_library
from tests.support.prometheus import Prometheus, eventually, running_prometheus, scrape_job

RULES = Path(__file__).parents[3] / "prometheus" / "rules"
HERE = [{"target_label": name, "replacement": "here"} for name in LABELS]
COMPUTE = {
    "interval": "1s",
    "workloads": [{"name": "prometheus", "phase": "serving", "match": r"prometheus --config\.file"}],
    "cost": {"currency": "USD", "host_per_hour": 1.2, "gpu_per_hour": 2.5},
    "advice": {"window": "1m", "min_observed": "10s"},
}


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with half a minute of two exporters: models in the one, GPUs, costs and state in the other."""
    demonstration, watching, server = (tmp_path_factory.mktemp(name) for name in ("demo", "gpu", "prometheus"))
    model = {
        "name": "mpg",
        "task": "regression",
        "profile": str(CONFIG.with_name("mpg.profile.json")),
        "windows": ["1m"],
    }
    sources = [{"name": "push", "http": {}}]
    write_config(watching, model, state={"path": "state"}, sources=sources, compute=COMPUTE)
    with (
        pytest.MonkeyPatch.context() as environment,
        running_exporter(demonstration, "demo", "--demo.speed=2") as demo,
    ):
        install_gpus(watching, environment)
        with (
            running_exporter(watching, "run", "--config.file=mlops-exporter.yml", "--web.enable-lifecycle") as gpus,
            running_prometheus(
                {
                    "rule_files": [str(RULES / name) for name in ("thresholds.yml", "states.yml")],
                    "scrape_configs": [scrape_job("ml", demo.address, gpus.address, relabel_configs=HERE)],
                },
                server,
            ) as running,
        ):
            # A reload writes a checkpoint; the next would be due after a minute.
            httpx.post(f"{gpus.url}/-/reload", timeout=30, trust_env=False).raise_for_status()
            eventually(lambda: len(running.query("group by (model) (ml_model_performance)")) == 2, 40)
            eventually(lambda: len(running.query("ml_model_info offset 20s")) == 3, 40)
            yield running


def install_gpus(directory: Path, environment: pytest.MonkeyPatch) -> None:
    """Let exporters that are started from now on see two GPUs, one of them slowed down by heat."""
    build_library(directory)
    state = {**A100, "count": 2, "1.utilization": 93, "1.throttle": 0x40}
    (directory / "gpus").write_text("".join(f"{key} {value}\n" for key, value in state.items()))
    environment.setitem(ENVIRONMENT, "LD_LIBRARY_PATH", str(directory))
    environment.setitem(ENVIRONMENT, "FAKE_NVML_STATE", str(directory / "gpus"))
