"""Labels of pods by a server that may be slow, refuse, or answer anything; test_cluster.py has a real one."""

import gzip
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops_exporter.compute import kubernetes
from mlops_exporter.compute.kubernetes import ApiServer, PodCollector, UnknownError, ask
from mlops_exporter.compute.pods import Metadata, Pod, Pods
from mlops_exporter.compute.processes import WorkloadSnapshot
from mlops_exporter.compute.workloads import WorkloadSampler
from mlops_exporter.doctor.compute import check_workloads
from mlops_exporter.settings.compute import ComputeSettings, KubernetesSettings, PodSettings
from mlops_exporter.sources.calls import CallError
from tests.support.node import BOOTED, SYSTEMD, Node
from tests.support.prometheus import eventually
from tests.unit.compute.test_pods import FRAUD

TRAINER: dict[str, Any] = {"name": "trainer", "phase": "training", "pod": {"labels": {"app": "trainer"}}}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


class Server:
    """An API server whose next answer is `status` and `body`, after `delay` seconds."""

    def __init__(self, directory: Path) -> None:
        self.status, self.body, self.delay, self.gzip = 200, b"", 0.0, False
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.token = directory / "token"
        self.token.write_text("secret\n")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["Authorization"], self.headers["Accept"]))
                time.sleep(outer.delay)
                body = gzip.compress(outer.body) if outer.gzip else outer.body
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                if outer.gzip:
                    self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                with suppress(OSError):  # nobody waits any more
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def settings(self) -> KubernetesSettings:
        url = f"http://127.0.0.1:{self.http.server_port}"
        return KubernetesSettings(url=url, node="node a/1", token_file=self.token)

    def has(self, *pods: Mapping[str, Any]) -> None:
        self.body = json.dumps(
            {"kind": "PartialObjectMetadataList", "items": [{"metadata": pod} for pod in pods]}
        ).encode()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    found.http.shutdown()
    found.http.server_close()


def pod(uid: str, name: str, **labels: str) -> dict[str, Any]:
    return {"uid": uid, "namespace": "ml", "name": name, "labels": labels}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_it_asks_for_metadata_of_this_node_alone(server: Server, packed: bool) -> None:
    server.gzip = packed
    server.has(pod("u1", "train-1", app="trainer"), {"uid": "u2", "namespace": "ml", "name": "bare"})
    assert ask(server.settings, {}) == {
        "u1": Metadata("ml", "train-1", {"app": "trainer"}),
        "u2": Metadata("ml", "bare", {}),
    }
    ((path, token, accepted),) = server.asked
    assert path == "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode%20a%2F1&resourceVersion=0"
    assert token == "Bearer secret"
    assert "as=PartialObjectMetadataList" in str(accepted)


def test_a_static_pod_has_the_uid_of_its_cgroup(server: Server) -> None:
    digest = "0123456789abcdef" * 2
    server.has(pod("u1", "etcd-a") | {"annotations": {"kubernetes.io/config.mirror": digest}})
    assert list(ask(server.settings, {})) == [digest]


def test_address_and_node_are_those_of_the_pods_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(method: str, url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise CallError("connection", "refused")

    monkeypatch.setattr(kubernetes, "call", refuse)
    for host, address in {"10.0.0.1": "https://10.0.0.1:443/", "fd00::1": "https://[fd00::1]:443/"}.items():
        with pytest.raises(UnknownError, match="refused"):
            ask(KubernetesSettings(), {"KUBERNETES_SERVICE_HOST": host, "NODE_NAME": "a"})
        assert asked[-1].startswith(address)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NODE_NAME": "a"}, "give compute.kubernetes.url"),
        ({"KUBERNETES_SERVICE_HOST": "h"}, "compute.kubernetes.node"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UnknownError, match=said):
        ask(KubernetesSettings(), environment)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no JSON", b"[]", b"{}", b'{"items":[{}]}', b'{"items":["x"]}', b'{"items":[{"metadata":{"uid":"u"}}]}',
        b'{"items":[{"metadata":{"uid":"u","name":"n","namespace":"m","labels":["x"]}}]}', b"[" * 100_000, b"\xff",
    ],
)  # fmt: skip
def test_an_answer_that_is_no_list_is_a_fault(server: Server, body: bytes) -> None:
    server.body = body
    with pytest.raises(UnknownError, match="is no list of pods"):
        ask(server.settings, {})


def test_a_refusal_a_late_and_a_huge_answer_are_faults(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.status, server.body = 403, b'{\n  "message": "pods is\nforbidden"\n}'
    with pytest.raises(UnknownError, match="pods is forbidden") as refused:
        ask(server.settings, {})
    assert refused.value.status == 403
    server.status, server.body = 200, b" " * 2000
    monkeypatch.setattr(kubernetes, "LARGEST_ANSWER", 1000)
    with pytest.raises(UnknownError, match="more than 1000 bytes"):
        ask(server.settings, {})
    monkeypatch.setattr(kubernetes, "TIMEOUT_SECONDS", 0.05)
    server.delay = 0.2
    with pytest.raises(UnknownError, match="no answer within"):
        ask(server.settings, {})
    server.token.unlink()
    with pytest.raises(UnknownError, match="token: cannot be read"):
        ask(server.settings, {})


LABELLED = Pod("ml", "train-1", "u", "/c", {"app": "trainer", "tier": "gpu"})


@pytest.mark.parametrize(
    ("meant", "is_meant"),
    [
        ({"labels": {"app": "trainer"}}, True),
        ({"labels": {"app": "trainer", "tier": "g*"}}, True),
        ({"labels": {"app": "*"}}, True),
        ({"labels": {"app": "trainer", "team": "*"}}, False),
        ({"labels": {"app": "server"}}, False),
        ({"name": "ml/*", "labels": {"app": "trainer"}}, True),
        ({"name": "prod/*", "labels": {"app": "trainer"}}, False),
    ],
)
def test_a_pod_is_meant_that_has_all_labels(meant: dict[str, Any], is_meant: bool) -> None:
    assert LABELLED.matches(PodSettings.model_validate(meant)) is is_meant


def sampler(node: Node, api: ApiServer, *workloads: dict[str, Any]) -> WorkloadSampler:
    settings = ComputeSettings.model_validate({"workloads": workloads})
    return WorkloadSampler(node.root, settings.workloads, lambda: BOOTED, api.describe)


def found(snapshots: tuple[WorkloadSnapshot, ...]) -> list[tuple[str, str]]:
    return [(each.target.workload.name, each.target.pod.name) for each in snapshots if each.target.pod is not None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "SOONEST_SECONDS", 0.01)


def often(settings: KubernetesSettings) -> KubernetesSettings:
    return settings.model_copy(update={"interval": 0.02})


@pytest.mark.usefixtures("quick")
def test_pods_are_found_by_labels_and_go_on_while_the_server_is_silent(node: Node, server: Server) -> None:
    node.start(SYSTEMD, 1, 1_000_000, 10)
    node.name(1, "prod", "fraud-a")
    node.start(SYSTEMD, 2, 1_000_000, 20)  # without a link: the server tells its name
    server.has(pod(node.uid(2), "train-1", app="trainer"))
    api = ApiServer(server.settings)
    collector = PodCollector(api)
    watched = sampler(node, api, FRAUD, TRAINER)
    assert found(watched.sample())[0] == ("fraud", "fraud-a"), "names need no server"
    eventually(lambda: ("trainer", "train-1") in found(watched.sample()), 10)
    assert list(collector.collect(0)) == []

    server.status = 503
    node.start(SYSTEMD, 2, 3_000_000, 20)
    node.start(SYSTEMD, 3, 0, 30)
    watched.sample()
    eventually(lambda: api.fault is not None, 10)
    with pytest.raises(UnknownError, match="answer 503"):
        collector.collect(0)
    by_name = {name: each for each, (_, name) in zip(watched.sample(), found(watched.sample()), strict=True)}
    assert by_name["train-1"].cpu_seconds == 2, "it goes on by what was said before"

    server.status = 200
    server.has(pod(node.uid(2), "train-1", app="trainer"), pod(node.uid(3), "train-2", app="trainer"))
    node.start(SYSTEMD, 4, 0, 40)  # a pod that nobody has asked for is a reason to ask soon
    eventually(lambda: ("trainer", "train-2") in found(watched.sample()), 10)
    assert api.fault is None
    api.stop()


@pytest.mark.usefixtures("quick")
def test_labels_may_change_and_counters_go_on(node: Node) -> None:
    node.start(SYSTEMD, 1, 1_000_000, 10)
    labels = {"app": "trainer"}
    api = ApiServer(often(KubernetesSettings()), lambda _: {node.uid(1): Metadata("ml", "train-1", dict(labels))})
    watched = sampler(node, api, TRAINER)
    eventually(lambda: found(watched.sample()) == [("trainer", "train-1")], 10)
    node.start(SYSTEMD, 1, 2_000_000, 10)
    labels["step"] = "2"
    time.sleep(0.1)
    assert watched.sample()[0].cpu_seconds == 1
    del labels["app"]
    eventually(lambda: not watched.sample(), 10)
    api.stop()


@pytest.mark.usefixtures("quick")
def test_nobody_asks_while_nobody_wants_to_know(node: Node, server: Server) -> None:
    node.start(SYSTEMD, 1, 0, 10)
    server.has()
    api = ApiServer(often(server.settings))
    sampler(node, api, FRAUD).sample()
    assert not server.asked, "names need no server"
    by_labels = sampler(node, api, TRAINER)
    by_labels.sample()
    eventually(lambda: len(server.asked) >= 1, 10)
    time.sleep(0.2)
    assert len(server.asked) <= 2
    by_labels.sample()
    eventually(lambda: len(server.asked) >= 2, 10)
    api.stop()
    asked = len(server.asked)
    by_labels.sample()
    time.sleep(0.1)
    assert len(server.asked) == asked


def test_a_slow_server_keeps_no_sample_waiting(node: Node) -> None:
    node.start(SYSTEMD, 1, 0, 10)
    node.name(1, "prod", "fraud-a")
    answered = threading.Event()

    def asking(_: KubernetesSettings) -> dict[str, Metadata]:
        answered.wait(30)
        return {}

    api = ApiServer(KubernetesSettings(), asking)
    watched = sampler(node, api, TRAINER, FRAUD)
    begun = time.monotonic()
    assert found(watched.sample()) == [("fraud", "fraud-a")]
    assert time.monotonic() - begun < 5
    api.stop()
    answered.set()


@pytest.mark.usefixtures("quick")
def test_a_fault_is_logged_once_and_its_end_too(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([UnknownError("refused"), UnknownError("refused"), OSError("unforeseen")])
    done = threading.Event()

    def asking(_: KubernetesSettings) -> dict[str, Metadata]:
        for error in answers:
            raise error
        done.set()
        return {}

    caplog.set_level("INFO")
    api = ApiServer(often(KubernetesSettings()), asking)
    eventually(lambda: api.describe([]) == {} and done.wait(0.02), 10)
    eventually(lambda: api.fault is None, 10)
    api.stop()
    told = [record.message for record in caplog.records if record.name == "mlops_exporter.compute.kubernetes"]
    assert told == [
        "labels of pods are not known anew: refused",
        "labels of pods are not known anew: unforeseen",
        "labels of pods are known again",
    ]


def test_the_doctor_asks_once_and_says_what_would_be_right(node: Node, server: Server) -> None:
    node.start(SYSTEMD, 1, 0, 10)
    server.has(pod(node.uid(1), "train-1", app="trainer"))
    settings = ComputeSettings.model_validate({"root": str(node.root), "workloads": [TRAINER]})
    settings = settings.model_copy(update={"kubernetes": server.settings})
    told = [finding.what for finding in check_workloads(settings)]
    assert told == [
        "the API server tells the labels of 1 pods of this node",
        "workload trainer (pod app=trainer): 1 processes in 1 pods",
    ]
    server.status, server.body = 403, b"pods is forbidden"
    refused, absent = check_workloads(settings)
    assert "pods is forbidden" in refused.what
    assert "rbac.create" in refused.remedy
    assert "no process now" in absent.what


def test_a_pod_that_has_a_link_has_labels_too(node: Node) -> None:
    node.start(SYSTEMD, 1, 0, 10)
    node.name(1, "ml", "train-1")
    described = {node.uid(1): Metadata("ml", "train-1", {"app": "trainer"})}
    (running,) = Pods(node.root, node.top, lambda _: described).running()
    assert (running.name, running.labels) == ("train-1", {"app": "trainer"})
