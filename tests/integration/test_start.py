"""A start that takes a while says how far it is, and is cheaper the next time."""

import os
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from msgspec.structs import replace

from mlops_exporter.profile.bins import Variable
from mlops_exporter.profile.profile import Profile, save
from tests.models import numeric, profiles
from tests.support.exporter import Exporter, running_exporter, start_exporter
from tests.support.prometheus import eventually

MODELS = 4
RUN = ("run", "--config.file=mlops-exporter.yml", "--web.enable-lifecycle")


def profile_of(number: int) -> Profile:
    """A profile without thresholds, which is no other's."""
    rng = np.random.default_rng(number)
    features: dict[str, Variable] = {f"x{n}": numeric(np.sort(rng.normal(size=11)).tolist()) for n in range(40)}
    return replace(profiles()["credit"], features=features)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Models whose profiles were built before profiles had thresholds: those are simulated, for seconds."""
    for number in range(MODELS):
        save(profile_of(number), tmp_path / f"{number}.json")
    models = [{"name": f"m{n}", "task": "binary", "profile": f"{n}.json"} for n in range(MODELS)]
    (tmp_path / "mlops-exporter.yml").write_text(yaml.safe_dump({"models": models, "state": {"path": "state"}}))
    return tmp_path


def cpu(exporter: Exporter) -> float:
    """Seconds of CPU that it has taken."""
    fields = Path(f"/proc/{exporter.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_of_reload(exporter: Exporter) -> float:
    """Seconds of CPU that a reload takes."""
    before = cpu(exporter)
    assert httpx.post(f"{exporter.url}/-/reload", timeout=60, trust_env=False).status_code == 200
    return cpu(exporter) - before


def _listens(exporter: Exporter) -> bool:
    assert exporter.process.poll() is None, exporter.log.read_text()
    try:
        return bool(get(exporter, "/-/healthy"))
    except httpx.TransportError:
        return False


def get(exporter: Exporter, path: str) -> str:
    return httpx.get(exporter.url + path, timeout=30, trust_env=False).text


def test_a_start_says_how_far_it_is_and_only_what_changed_costs_again(site: Path) -> None:
    exporter = start_exporter(site, *RUN)
    with exporter.process as process:
        try:
            eventually(lambda: _listens(exporter))
            seen: list[float] = []
            page = ready = ""
            while (number := exporter.value("ml_exporter_models_ready")) != MODELS:
                assert number is not None, "it is told before anything is counted or restored"
                seen.append(number)
                page, ready = page or get(exporter, "/"), ready or get(exporter, "/-/ready")
                assert exporter.value("ml_exporter_models") == MODELS
                time.sleep(0.02)
            assert seen, "it listens from the first on"
            assert seen == sorted(seen)
            assert f" of {MODELS} models" in page
            assert ready.startswith("not ready: starting, "), ready
            eventually(exporter.is_ready)
            first = cpu(exporter)
            configuration = httpx.get(f"{exporter.url}/api/v1/status", trust_env=False).json()["configuration"]
            assert (configuration["models"], configuration["ready"]) == (MODELS, MODELS)

            nothing = cost_of_reload(exporter)
            save(profile_of(MODELS), site / "0.json")
            one = cost_of_reload(exporter) - nothing
        finally:
            process.terminate()
            process.wait(15)
    with running_exporter(site, *RUN) as exporter:
        again = cpu(exporter)
    print(f"CPU: first start {first:.1f} s, next {again:.1f} s, reload {nothing:.2f} s, of one model {one:.2f} s more")
    each = (first - again) / MODELS
    assert again < first / 2, "thresholds are kept"
    assert nothing < each / 2, "a reload that changes nothing makes nothing anew"
    assert one < 2 * each, "a reload that changes one model costs that model"
