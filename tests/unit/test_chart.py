"""The chart without Helm: what it last rendered to is right, and is what it renders to still."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from charts.source import CHART, inhibition, schema
from mlops_exporter.profile.profile import save
from mlops_exporter.service.configuration import read
from mlops_exporter.service.memory import most_memory
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.chart import CASES, GOLDEN, digest, golden
from tests.support.pipeline import profile

_ROOT = Path(__file__).parents[2]
_VERSIONS = ("1.30", "1.34", "1.37")


@pytest.mark.parametrize("case", CASES)
def test_golden_is_of_the_chart_as_it_is(case: str) -> None:
    first = (GOLDEN / f"{case}.yaml").read_text().splitlines()[0]
    assert first == f"# chart {digest()}", "render again: UPDATE_GOLDEN=1 make chart"


def test_rules_and_dashboards_are_those_of_the_bundle_and_stand_there_once() -> None:
    for name, place in {"rules": "prometheus/rules", "dashboards": "grafana/dashboards"}.items():
        link = CHART / "files" / name
        assert link.is_symlink()
        assert link.resolve() == _ROOT / place


def test_inhibition_follows_from_alertmanagers_file() -> None:
    assert (CHART / "files" / "inhibition.yaml").read_text() == inhibition()


def test_the_values_schema_takes_every_case_and_no_misspelt_key() -> None:
    text = (CHART / "values.schema.json").read_text()
    assert text == schema()
    validator = jsonschema.Draft7Validator(json.loads(text))
    defaults = CHART / "values.yaml"
    for path in (defaults, *(CHART / "ci" / f"{case}-values.yaml" for case in CASES)):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path
    wrong: list[dict[str, Any]] = [
        {"mod": "compute"}, {"mode": "gpu"}, {"image": {"tags": "1"}}, {"serviceMonitor": {"enabled": "yes"}},
        {"models": ["credit"]}, {"secrets": "kafka"},
    ]  # fmt: skip
    for values in wrong:
        assert list(validator.iter_errors(values)), values


@pytest.mark.parametrize("version", _VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_every_manifest_fits_the_api(case: str, version: str) -> None:
    for manifest in golden(case):
        if not manifest["apiVersion"].startswith("monitoring.coreos.com"):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_does_not_fit_the_api() -> None:
    manifest = next(manifest for manifest in golden("plain") if manifest["kind"] == "StatefulSet")
    manifest["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, _VERSIONS[0], strict=True)


def _pods(case: str) -> list[dict[str, Any]]:
    return [m["spec"]["template"]["spec"] for m in golden(case) if m["kind"] in ("StatefulSet", "DaemonSet")]


@pytest.mark.parametrize("case", CASES)
def test_pods_keep_the_restricted_standard(case: str) -> None:
    for pod in _pods(case):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_what_the_default_limits_take_fits_the_memory() -> None:
    model = ModelSettings.model_construct(name="m")
    needed = most_memory(Config.model_construct(models=[model], limits=Limits()))
    for case in ("plain", "models"):
        for container in (container for pod in _pods(case) for container in pod["containers"]):
            if container["name"] == "mlops-exporter":
                assert needed < int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    values = yaml.safe_load((CHART / "values.yaml").read_text())["resources"]["limits"]["memory"]
    assert values == "2Gi"


def test_only_the_mode_that_watches_nodes_sees_the_host() -> None:
    for case in CASES:
        seen = any(pod.get("hostPID") or any("hostPath" in volume for volume in pod["volumes"]) for pod in _pods(case))
        assert seen == (case == "compute")


@pytest.mark.parametrize("case", CASES)
def test_the_exporter_takes_the_configuration(case: str, tmp_path: Path) -> None:
    maps = {m["metadata"]["name"]: m["data"] for m in golden(case) if m["kind"] == "ConfigMap"}
    for name, text in maps["demo-mlops-exporter"].items():
        (tmp_path / name).write_text(text)
    models = maps.get("demo-mlops-exporter-models", {})
    (tmp_path / "models").mkdir()
    (tmp_path / "profiles").mkdir()
    for name, text in models.items():
        (tmp_path / "models" / name).write_text(text)
        save(profile(yaml.safe_load(text)["task"]), tmp_path / "profiles" / f"{name.removesuffix('.yml')}.json")
    config, _ = read(tmp_path / "mlops-exporter.yml")
    assert [model.name for model in config.models] == (["credit", "prices"] if models else [])
    assert not config.broken
