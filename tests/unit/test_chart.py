"""The chart without Helm: what it last rendered to is right, and is what it renders to still."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from charts.source import CHART, inhibition, schema
from mlops_exporter import __version__
from mlops_exporter.profile.profile import save
from mlops_exporter.service.configuration import read
from mlops_exporter.service.memory import most_memory
from mlops_exporter.settings.compute import ComputeSettings
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.chart import CASES, GOLDEN, digest, golden
from tests.support.pages import blocks
from tests.support.pipeline import profile

_ROOT = Path(__file__).parents[2]
_VERSIONS = ("1.30", "1.34", "1.37")


@pytest.mark.parametrize("case", CASES)
def test_golden_is_of_the_chart_as_it_is(case: str) -> None:
    first = (GOLDEN / f"{case}.yaml").read_text().splitlines()[0]
    assert first == f"# chart {digest()}", "render again: UPDATE_GOLDEN=1 make chart"


def test_the_chart_is_of_the_version_and_names_the_image_that_a_release_publishes() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, f"v{__version__}")
    assert f"image.tag=v{__version__}-full" in (_ROOT / "docs" / "kubernetes.md").read_text()


def test_rules_and_dashboards_are_those_of_the_bundle_and_stand_there_once() -> None:
    for name, place in {"rules": "prometheus/rules", "dashboards": "grafana/dashboards"}.items():
        link = CHART / "files" / name
        assert link.is_symlink()
        assert link.resolve() == _ROOT / place


def test_the_pages_kubectl_lines_name_what_the_chart_makes() -> None:
    page = " ".join((_ROOT / "docs" / "kubernetes.md").read_text().split())
    asked = [shlex.split(line) for line in re.findall(r"`(kubectl [^`]+)`", page)]
    *asked, may_list = asked
    (account,) = (m["metadata"]["name"] for m in golden("compute") if m["kind"] == "ServiceAccount")
    assert may_list[-1] == f"--as=system:serviceaccount:nodes:{account.replace('demo-', 'nodes-')}"
    forward, execute = (_kubectl(words) for words in asked)
    made = {f"{m['kind'].lower()}/{m['metadata']['name'].replace('demo-', 'mlops-')}": m for m in golden("plain")}
    service = made[forward["target"]]
    assert forward["namespace"] == execute["namespace"] == service["metadata"]["namespace"]
    (port,) = service["spec"]["ports"]
    assert (forward["verb"], forward["rest"]) == ("port-forward", [str(port["port"])])
    name, _, ordinal = execute["target"].rpartition("-")
    stateful = made[f"statefulset/{name}"]
    assert 0 <= int(ordinal) < stateful["spec"]["replicas"]
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    flag = next(each for each in container["args"] if each.startswith("--config.file="))
    assert (execute["verb"], execute["rest"]) == ("exec", ["--", "mlops-exporter", "doctor", flag])


def _kubectl(words: list[str]) -> dict[str, Any]:
    _, flag, namespace, verb, target, *rest = words
    assert flag == "--namespace"
    return {"namespace": namespace, "verb": verb, "target": target, "rest": rest}


def test_the_pages_values_fit_the_schema_and_its_workloads_the_settings() -> None:
    validator = jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))
    written = [yaml.safe_load(block) for block in blocks((_ROOT / "docs" / "kubernetes.md").read_text(), "yaml")]
    values = [each for each in written if isinstance(each, dict) and each.keys() & {"models", "mode", "serviceMonitor"}]
    assert len(values) == 3
    for each in values:
        assert not list(validator.iter_errors(each))
    (nodes,) = (each for each in values if each.get("mode") == "compute")
    assert [workload.way for workload in ComputeSettings.model_validate(nodes["compute"]).workloads] == [
        "pod prod/fraud-*", "pod app.kubernetes.io/component=trainer",
    ]  # fmt: skip


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


@pytest.mark.slow
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
        assert pod["automountServiceAccountToken"] is (case == "compute")  # which has a workload given by labels
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
        assert seen == (case in ("compute", "nodes"))


def test_only_a_workload_by_labels_may_list_pods_and_do_nothing_else() -> None:
    roles = {case: [m for m in golden(case) if "rbac" in m["apiVersion"]] for case in CASES}
    assert [case for case, found in roles.items() if found] == ["compute"]
    role, binding = roles["compute"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (account,) = (m for m in golden("compute") if m["kind"] == "ServiceAccount")
    (subject,) = binding["subjects"]
    named = {key: account["metadata"][key] for key in ("name", "namespace")}
    assert subject == {"kind": "ServiceAccount", **named}
    (container,) = _pods("compute")[0]["containers"]
    (node,) = (each for each in container["env"] if each["name"] == "NODE_NAME")
    assert node["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


@pytest.mark.parametrize("case", CASES)
def test_the_exporter_takes_the_configuration(case: str, tmp_path: Path) -> None:
    maps = {m["metadata"]["name"]: m["data"] for m in golden(case) if m["kind"] == "ConfigMap"}
    (main,) = (data for data in maps.values() if "mlops-exporter.yml" in data)
    for name, text in main.items():
        (tmp_path / name).write_text(text)
    models: dict[str, str] = next((data for name, data in maps.items() if name.endswith("-models")), {})
    (tmp_path / "models").mkdir()
    (tmp_path / "profiles").mkdir()
    for name, text in models.items():
        (tmp_path / "models" / name).write_text(text)
        save(profile(yaml.safe_load(text)["task"]), tmp_path / "profiles" / f"{name.removesuffix('.yml')}.json")
    config, _ = read(tmp_path / "mlops-exporter.yml")
    assert [model.name for model in config.models] == (["credit", "prices"] if models else [])
    assert not config.broken
