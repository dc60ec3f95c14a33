"""docker-compose.yml, Dockerfile and Grafana's provisioning."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import compose
import pytest
import yaml

from mlops_exporter.service.memory import most_memory
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.dashboards import DASHBOARDS

ROOT = Path(__file__).parents[2]
COMPOSE = Path(compose.__file__).parent / "docker-compose"  # its Python wrapper exits 0 on any file


def resolved(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """What compose's own parser makes of docker-compose.yml, or of `text`."""
    return subprocess.run(
        [COMPOSE, *(("-f", "-", "--project-directory", str(ROOT)) if text else ()), *arguments],
        input=text, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    made = resolved("--profile", "*", "config")
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = yaml.safe_load(made.stdout)["services"]
    return found


def test_compose_refuses_what_it_does_not_know() -> None:
    text = (ROOT / "docker-compose.yml").read_text().replace("depends_on:", "depend_on:", 1)
    assert resolved("config", "-q", text=text).returncode != 0


def test_one_exporter_is_started_with_or_without_gpus() -> None:
    others = {"prometheus", "alertmanager", "grafana", "retraining", "notifications"}
    assert set(resolved("config", "--services").stdout.split()) == others | {"mlops-exporter"}
    gpu = resolved("--profile", "gpu", "config", "--services")
    assert set(gpu.stdout.split()) == others | {"mlops-exporter-gpu"}


def test_the_gpu_exporter_answers_to_the_name_that_prometheus_scrapes(services: dict[str, Any]) -> None:
    assert services["mlops-exporter-gpu"]["networks"]["default"]["aliases"] == ["mlops-exporter"]
    (device,) = services["mlops-exporter-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", -1, ["gpu"])


def test_services_are_hardened_and_bounded(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service["user"].startswith(("0:", "root"))
        assert not service.get("privileged")
        assert int(service["mem_limit"]) > 0
        assert service["logging"]["options"]["max-size"]
        assert service["healthcheck"]["test"][0] == "CMD"


def test_the_memory_of_the_exporter_fits_the_limits_of_one_model(services: dict[str, Any]) -> None:
    model = ModelSettings.model_construct(name="m")
    assert most_memory(Config.model_construct(models=[model], limits=Limits())) < int(
        services["mlops-exporter"]["mem_limit"]
    )


def test_ports_are_open_on_this_machine_only(services: dict[str, Any]) -> None:
    for service in services.values():
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}


def test_images_are_pinned(services: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in services.items() if "build" not in service}
    assert images == {
        "prometheus": "prom/prometheus:v3.13.2",
        "alertmanager": "prom/alertmanager:v0.34.0",
        "grafana": "grafana/grafana:13.2.0",
    }


def test_whatever_is_mounted_from_here_is_a_directory_and_read_only(services: dict[str, Any]) -> None:
    for service in services.values():
        for mount in service["volumes"]:
            if mount["type"] == "bind":
                assert mount["read_only"] is True, mount
                assert Path(mount["source"]).is_dir(), mount


def test_there_is_no_default_password(services: dict[str, Any]) -> None:
    environment = services["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in environment if "PASSWORD" in name]
    admin = yaml.safe_load((ROOT / "docker-compose.admin.yml").read_text())
    assert admin["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith("/run/secrets/")


def test_grafana_finds_data_sources_and_dashboards(services: dict[str, Any]) -> None:
    provisioning = ROOT / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "mlops-exporter.yml").read_text())["datasources"]
    assert {(each["type"], each["uid"]) for each in sources} == {
        ("prometheus", "mlops-prometheus"),
        ("alertmanager", "mlops-alertmanager"),
    }
    assert sources[0]["jsonData"]["alertmanagerUid"] == "mlops-alertmanager"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mlops-exporter.yml").read_text())["providers"]
    environment = services["grafana"]["environment"]
    named = set(re.findall(r"\$(\w+)", str(sources) + str(provider)))
    assert named == {"PROMETHEUS_URL", "ALERTMANAGER_URL", "DASHBOARDS_PATH"} <= set(environment)
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == environment["DASHBOARDS_PATH"]
    assert home.stem in DASHBOARDS


def test_the_dockerfile_follows_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_base_of_the_image_is_that_of_one_day_in_every_stage() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG BASE=(.+)$", text, re.M)
    assert re.fullmatch(r"python:3\.11-slim@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${BASE}", "${BASE}"]


def test_the_image_runs_as_the_user_that_compose_names(services: dict[str, Any]) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert f"USER {services['mlops-exporter']['user']}" in text
    assert services["mlops-exporter"]["healthcheck"]["test"] == ["CMD", "mlops-exporter", "healthcheck"]


def pinned(file: str) -> dict[str, str]:
    """The versions of a lock, by the name of the package."""
    lines = [line.split() for line in (ROOT / file).read_text().splitlines() if "==" in line and line[0] not in " #"]
    return {name.lower().replace("_", "-"): version for name, version in (line[0].split("==") for line in lines)}


@pytest.mark.parametrize("lock", ["constraints-product.txt", "constraints-build.txt"])
def test_the_image_is_made_of_what_was_tested_and_of_nothing_without_hash(lock: str) -> None:
    tested, locked = pinned("constraints.txt"), pinned(lock)
    assert {name: tested.get(name, locked[name]) for name in locked} == locked
    entries = re.split(r"\n(?=[a-zA-Z])", (ROOT / lock).read_text())
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry and not entry.startswith("#"))


def test_the_product_lock_has_every_dependency_and_nothing_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for name, extra in project["optional-dependencies"].items() if name != "spark" for each in extra),
    ]  # whoever has Spark installs beside it: no image has both
    names = {re.split(r"[^a-zA-Z0-9_-]", each)[0].lower().replace("_", "-") for each in wanted}
    locked = pinned("constraints-product.txt")
    assert names <= locked.keys()
    assert not locked.keys() & {"pytest", "mypy", "ruff", "bandit"}


def test_extras_of_the_image_are_an_argument(services: dict[str, Any]) -> None:
    assert "\nARG EXTRAS\n" in (ROOT / "Dockerfile").read_text()
    assert "EXTRAS" in services["mlops-exporter"]["build"]["args"]
