"""The chart in a Kubernetes without nodes, with the Prometheus operator's definitions: `make chart`.

etcd and the API server are real, so that all of what a server refuses is refused: unknown fields, values out of range,
the operator's own rules, and pods that break the standard of their namespace. Nothing runs the pods.
"""

import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlops_exporter.profile.profile import save
from tests.chart import CASES, render, require_tool
from tests.requirements import require_program
from tests.support import workload
from tests.support.exporter import running_exporter
from tests.support.node import SYSTEMD, Node
from tests.support.pages import Shell, blocks
from tests.support.prometheus import eventually, free_port

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "docs" / "kubernetes.md"
TOKEN = "administrator"
CRDS = ("servicemonitors", "podmonitors", "prometheusrules", "alertmanagerconfigs")


class Cluster:
    """The API server, asked as kubectl asks it."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.certificate = certificate
        headers = {"Authorization": f"Bearer {TOKEN}"}
        verified = ssl.create_default_context(cafile=str(certificate))
        self.http = httpx.Client(base_url=url, verify=verified, headers=headers, trust_env=False, timeout=30)

    def ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def place(self, manifest: dict[str, Any], namespace: str) -> str:
        version = manifest["apiVersion"]
        group = f"/apis/{version}" if "/" in version else f"/api/{version}"
        kinds = self.http.get(group).json()["resources"]
        (kind,) = (each for each in kinds if each["kind"] == manifest["kind"] and "/" not in each["name"])
        within = f"/namespaces/{namespace}" if kind["namespaced"] else ""
        return f"{group}{within}/{kind['name']}/{manifest['metadata']['name']}"

    def apply(self, manifest: dict[str, Any], namespace: str = "default") -> httpx.Response:
        """Apply a manifest."""
        return self.apply_at(self.place(manifest, namespace), yaml.safe_dump(manifest))

    def apply_at(self, place: str, text: str) -> httpx.Response:
        """Apply the text of a manifest on the server's side, strictly."""
        return self.http.patch(
            place,
            params={"fieldManager": "test", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
            content=text,
        )

    def names(self, group: str, kinds: str, namespace: str = "mlops") -> list[str]:
        """The names of what there is in a namespace."""
        place = f"{group}/namespaces/{namespace}/{kinds}"
        eventually(lambda: self.http.get(place).status_code != 429)  # what is new to the server is soon there
        items = self.http.get(place).json()["items"]
        return [item["metadata"]["name"] for item in items]

    def kubeconfig(self, directory: Path) -> Path:
        """Write what Helm and kubectl need to reach it."""
        path = directory / "kubeconfig"
        server = {"server": str(self.http.base_url), "certificate-authority": str(self.certificate)}
        named = {
            "clusters": {"cluster": server},
            "users": {"user": {"token": TOKEN}},
            "contexts": {"context": {"cluster": "here", "user": "here"}},
        }
        parts = {kind: [{"name": "here", **content}] for kind, content in named.items()}
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "here", **parts}))
        return path

    def run(self, name: str, namespace: str, node: str, labels: dict[str, str]) -> str:
        """Bind a pod to a node, as the scheduler would; returns its uid."""
        secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        spec = {
            "nodeName": node,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "model", "image": "model", "securityContext": secure}],
        }
        metadata = {"name": name, "labels": labels}
        answer = self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace)
        assert answer.is_success, answer.text
        return str(answer.json()["metadata"]["uid"])

    def namespace(self, name: str, standard: str) -> None:
        labels = {"pod-security.kubernetes.io/enforce": standard}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        assert self.apply(manifest).is_success


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    store, peers, port = free_port(), free_port(), free_port()
    key = directory / "accounts.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (directory / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
    client, peer = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peers}"
    commands = (
        [require_tool("etcd"), f"--data-dir={directory / 'etcd'}", f"--listen-client-urls={client}",
         f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
         f"--initial-cluster=default={peer}", "--unsafe-no-fsync"],
        [require_tool("kube-apiserver"), f"--etcd-servers={client}", f"--cert-dir={directory}", f"--secure-port={port}",
         "--bind-address=127.0.0.1", f"--token-auth-file={directory / 'tokens.csv'}",
         "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
         f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
         "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"],
    )  # fmt: skip
    started = []
    try:
        for command in commands:
            with (directory / f"{Path(command[0]).name}.log").open("wb") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
        certificate = directory / "apiserver.crt"
        eventually(certificate.exists, 60)
        found = Cluster(f"https://127.0.0.1:{port}", certificate)
        eventually(found.ready, 120)
        _define(found)
        yield found
        found.http.close()
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)


def _define(cluster: Cluster) -> None:
    """Bring the operator's definitions."""
    folder = Path(require_tool("kube-apiserver")).parent / "crds"
    for name in CRDS:
        place = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.monitoring.coreos.com"
        answer = cluster.apply_at(place, (folder / f"monitoring.coreos.com_{name}.yaml").read_text())
        assert answer.is_success, answer.text
    versions = ("v1", "v1alpha1")
    groups = [f"/apis/monitoring.coreos.com/{version}" for version in versions]
    # Those of GPU nodes, and of pods that come first.
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "nvidia"}
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    for manifest in (runtime | {"metadata": {"name": "nvidia"}}, priority | {"metadata": {"name": "watching"}}):
        assert cluster.apply(manifest).is_success
    eventually(lambda: sum(len(_served(cluster, group)) for group in groups) == len(CRDS), 60)


def _served(cluster: Cluster, group: str) -> list[Any]:
    answer = cluster.http.get(group)
    found: list[Any] = answer.json()["resources"] if answer.is_success else []
    return found


def _pod(manifest: dict[str, Any], called: str = "pod") -> dict[str, Any]:
    """What a controller would make of a StatefulSet or a DaemonSet."""
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", **manifest["spec"]["template"]}
    pod["metadata"]["name"] = called
    for claim in manifest["spec"].get("volumeClaimTemplates", []):
        name = claim["metadata"]["name"]
        pod["spec"]["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{called}"}})
    return pod


@pytest.mark.parametrize("case", CASES)
def test_it_takes_the_whole_chart(cluster: Cluster, case: str) -> None:
    standard = "privileged" if case in ("compute", "nodes") else "restricted"
    namespace = f"whole-{case}"
    cluster.namespace(namespace, standard)
    kinds = set()
    for text in render(case, f"--namespace={namespace}", "--api-versions=monitoring.coreos.com/v1"):
        manifest = yaml.safe_load(text)
        if manifest is None:
            continue
        manifest["metadata"].pop("namespace", None)
        answer = cluster.apply(manifest, namespace)
        assert answer.is_success, answer.text
        assert "Warning" not in answer.headers, answer.headers["Warning"]
        kinds.add(manifest["kind"])
        if "template" in manifest.get("spec", {}):
            made = cluster.apply(_pod(manifest), namespace)
            assert made.is_success, made.text
    assert kinds & {"StatefulSet", "DaemonSet"}
    if case == "models":
        assert kinds >= {"ServiceMonitor", "PrometheusRule", "AlertmanagerConfig"}


def test_the_page_leads_from_nothing_to_the_first_drift_value(cluster: Cluster, tmp_path: Path) -> None:
    page = KUBERNETES.read_text()
    values, _, operator, *_ = blocks(page, "yaml")
    install, apply, upgrade, _ = blocks(page, "sh")
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    save(workload.profile(), tmp_path / "credit.json")
    (tmp_path / "values.yaml").write_text(values)
    shell = Shell(tmp_path, KUBECONFIG=str(cluster.kubeconfig(tmp_path)))
    shell.run("kubectl create namespace mlops")
    assert "statefulset.apps/mlops-mlops-exporter serverside-applied" in shell.run(apply)
    shell.run(apply.replace("apply", "delete").replace("--server-side ", ""))  # one of the two installs, not both
    assert not cluster.names("/apis/apps/v1", "statefulsets")

    said = shell.run(install)
    assert "Events go to http://mlops-mlops-exporter.mlops:10042/v1/events" in said
    assert "http://mlops-mlops-exporter.mlops:10042" in page
    assert len(cluster.names("/apis/apps/v1", "statefulsets")) == 1
    assert not cluster.names("/apis/monitoring.coreos.com/v1", "prometheusrules")

    place = tmp_path / "etc"
    for name, folder in {"": ".", "-models": "models", "-profiles": "profiles"}.items():
        data = cluster.http.get(f"/api/v1/namespaces/mlops/configmaps/mlops-mlops-exporter{name}").json()["data"]
        (place / folder).mkdir(parents=True, exist_ok=True)
        for file, text in data.items():
            (place / folder / file).write_text(text.replace("/var/lib/mlops-exporter", str(tmp_path / "state")))
    with running_exporter(place) as exporter:
        exporter.post(b"\n".join(workload.events(150, time.time())))
        eventually(lambda: exporter.scrape().series("ml_feature_drift", model="credit"))

    (tmp_path / "values.yaml").write_text(values + operator)
    shell.run(upgrade)
    assert len(cluster.names("/apis/monitoring.coreos.com/v1", "servicemonitors")) == 1
    assert len(cluster.names("/apis/monitoring.coreos.com/v1", "prometheusrules")) >= 5
    assert len(cluster.names("/apis/monitoring.coreos.com/v1alpha1", "alertmanagerconfigs")) == 1

    # What kubectl asks a kubelet for goes as far as the pod, which no node runs.
    stateful = cluster.http.get("/apis/apps/v1/namespaces/mlops/statefulsets/mlops-mlops-exporter").json()
    pod = _pod(stateful, "mlops-mlops-exporter-0")
    assert cluster.apply(pod, "mlops").is_success
    forward, execute, _ = _kubectl_lines(page)
    assert "pod is not running. Current status=Pending" in shell.refused(forward)
    assert "pod mlops-mlops-exporter-0 does not have a host assigned" in shell.refused(execute)


def _kubectl_lines(page: str) -> list[str]:
    """The commands for kubectl within the page's sentences."""
    return re.findall(r"`(kubectl [^`]+)`", " ".join(page.split()))


def test_the_page_leads_to_nodes_whose_pods_are_found_by_labels(cluster: Cluster, tmp_path: Path) -> None:
    page = KUBERNETES.read_text()
    (values,) = (block for block in blocks(page, "yaml") if block.startswith("mode: compute"))
    *_, install = blocks(page, "sh")
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    (tmp_path / "nodes.yaml").write_text(values)
    shell = Shell(tmp_path, KUBECONFIG=str(cluster.kubeconfig(tmp_path)))
    *_, may_list = _kubectl_lines(page)
    assert "no" in shell.refused(may_list)
    shell.run(install)
    assert shell.run(may_list) == "yes\n"

    node = Node(tmp_path / "host")
    cluster.namespace("ml", "restricted")
    labels = {"app.kubernetes.io/component": "trainer"}
    for number, (name, place, has) in enumerate(
        [("tune-1", "a", labels), ("other", "a", {"app": "x"}), ("tune-2", "b", labels)], 10
    ):
        uid = cluster.run(name, "ml", place, has)
        node.start(SYSTEMD, uid, 0, number)
        node.name(uid, "ml", name)
    node.start(SYSTEMD, 7, 0, 20)
    node.name(7, "prod", "fraud-1")

    account = "/api/v1/namespaces/nodes/serviceaccounts/nodes-mlops-exporter/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    (tmp_path / "token").write_text(cluster.http.post(account, json=request).json()["status"]["token"])
    written = cluster.http.get("/api/v1/namespaces/nodes/configmaps/nodes-mlops-exporter").json()
    config = yaml.safe_load(written["data"]["mlops-exporter.yml"])
    assert config["compute"]["root"] == "/host"
    config["compute"] |= {
        "root": str(node.root),
        "kubernetes": {"url": str(cluster.http.base_url), "node": "a", "token_file": "token", "interval": "5s",
                       "ca_file": str(cluster.certificate)},
    }  # fmt: skip
    (tmp_path / "mlops-exporter.yml").write_text(yaml.safe_dump(config))
    shell.run("mlops-exporter check mlops-exporter.yml")
    with running_exporter(tmp_path) as exporter:

        def pods() -> list[str]:
            scraped = exporter.scrape()
            return sorted(
                f"{workload} {name}"
                for workload, wanted in {"training": "tune-1 other tune-2", "fraud": "fraud-1"}.items()
                for name in wanted.split()
                if scraped.series("ml_workload_processes", workload=workload, pod_name=name)
            )

        def tells() -> bool:
            return bool(exporter.scrape().value("ml_exporter_collector_success", collector="pods"))

        eventually(lambda: pods() == ["fraud fraud-1", "training tune-1"], 30)
        assert tells()
        cluster.http.delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/nodes-nodes-mlops-exporter-pods")
        eventually(lambda: not tells(), 30)
        assert pods() == ["fraud fraud-1", "training tune-1"], "it goes on by what it knows"
        said = shell.refused("mlops-exporter doctor --config.file=mlops-exporter.yml")
        assert "cannot list resource" in said
        assert "rbac.create" in said


def test_the_page_has_a_scrape_configuration_that_prometheus_takes(tmp_path: Path) -> None:
    (scrape,) = (block for block in blocks(KUBERNETES.read_text(), "yaml") if "scrape_configs" in block)
    discovery = "kubernetes_sd_configs:\n      - role: endpoints\n"
    assert discovery in scrape  # which Debian's build of Prometheus lacks
    (tmp_path / "prometheus.yml").write_text(scrape.replace(discovery, "static_configs: [{targets: [here]}]\n"))
    command = [require_program("promtool"), "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_refuses_what_is_wrong(cluster: Cluster) -> None:
    """The server is one that refuses: a misspelt field, a value that the operator refuses, a pod that sees the host."""
    cluster.namespace("wrong", "restricted")
    manifests = [yaml.safe_load(text) for case in ("models", "compute") for text in render(case)]
    by_kind = {manifest["kind"]: manifest for manifest in manifests if manifest}
    for manifest in by_kind.values():
        manifest["metadata"].pop("namespace", None)
    by_kind["ServiceMonitor"]["spec"]["endpoints"][0]["honourLabels"] = True
    by_kind["PrometheusRule"]["spec"]["groups"][0]["interval"] = "often"
    by_kind["AlertmanagerConfig"]["spec"]["inhibitRules"][0]["sourceMatch"][0]["matchType"] = "~"
    by_kind["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Sometimes"
    wrong = {
        "ServiceMonitor": "honourLabels", "PrometheusRule": "interval", "AlertmanagerConfig": "matchType",
        "StatefulSet": "Sometimes",
    }  # fmt: skip
    for kind, told in wrong.items():
        answer = cluster.apply(by_kind[kind], "wrong")
        assert not answer.is_success
        assert told in answer.text
    assert "violates PodSecurity" in cluster.apply(_pod(by_kind["DaemonSet"]), "wrong").text
