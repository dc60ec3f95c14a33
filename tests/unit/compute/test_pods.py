"""Pods of a node, on a fabricated tree of cgroups and of the kubelet's links."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_exporter.compute.pods import Pod, Pods
from mlops_exporter.compute.processes import WorkloadSnapshot
from mlops_exporter.compute.snapshots import Published
from mlops_exporter.compute.workloads import WorkloadCollector, WorkloadSampler
from mlops_exporter.doctor.compute import check_workloads
from mlops_exporter.settings.compute import ComputeSettings, PodSettings, WorkloadSettings
from tests.support.node import BOOTED, CGROUPFS, CRIO, GUARANTEED, KIND, SYSTEMD, Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


FRAUD = {"name": "fraud", "phase": "serving", "pod": "prod/fraud-*"}


def watch(node: Node, *workloads: dict[str, str]) -> WorkloadSampler:
    settings = ComputeSettings.model_validate({"workloads": workloads})
    return WorkloadSampler(node.root, settings.workloads, lambda: BOOTED)


def series(snapshots: tuple[WorkloadSnapshot, ...]) -> dict[str, float]:
    published = Published[tuple[WorkloadSnapshot, ...]](60)
    published.put(snapshots)
    found: dict[str, float] = {}
    for samples in WorkloadCollector(published, []).collect(0):
        found |= dict(zip(samples.rows.prefixes, samples.values.tolist(), strict=True))
    return found


@pytest.mark.parametrize("form", [SYSTEMD, GUARANTEED, CRIO, CGROUPFS, KIND])
def test_a_pod_is_found_in_every_form_of_the_tree(node: Node, form: str) -> None:
    node.start(form, 1, 0)
    node.name(1, "prod", "fraud-7d9f8b-x2x")
    (pod,) = Pods(node.root, node.top).running()
    assert (pod.namespace, pod.name, pod.uid) == ("prod", "fraud-7d9f8b-x2x", node.uid(1))
    assert (node.top / pod.cgroup.lstrip("/") / "cpu.stat").exists()


def test_a_static_pod_has_a_digest_for_a_uid(node: Node) -> None:
    digest = "0123456789abcdef" * 2
    (node.top / f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{digest}.slice").mkdir(parents=True)
    (node.links / "x.log").symlink_to(f"/var/log/pods/kube-system_etcd-a_{digest}/etcd/3.log")
    assert [pod.name for pod in Pods(node.root, node.top).running()] == ["etcd-a"]


def test_what_is_no_pod_or_has_no_name_is_left_out(node: Node) -> None:
    node.start(SYSTEMD, 1, 0)  # whose first container has not started
    node.name(2, "prod", "gone")  # whose cgroup is gone
    (node.links / "README").write_text("no link")
    (node.links / "odd.log").symlink_to("/somewhere/else.log")
    (node.top / "kubepods.slice/kubepods-podding.slice").mkdir()
    assert Pods(node.root, node.top).running() == []
    node.name(1, "prod", "late")
    assert [pod.name for pod in Pods(node.root, node.top).running()] == ["late"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("prod/fraud-*", True),
        ("*/fraud-1", True),
        ("prod/fraud-?", True),
        ("prod/fraud", False),
        ("pro/fraud-*", False),
    ],
)
def test_a_pattern_means_namespace_and_name(pattern: str, meant: bool) -> None:
    assert Pod("prod", "fraud-1", "u", "/c").matches(PodSettings(name=pattern)) is meant


@pytest.mark.parametrize("pattern", ["fraud", "prod/", "/fraud", "prod/fraud/x", "Prod/fraud", "prod/[ab]"])
def test_a_pattern_that_no_pod_can_have_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"write NAMESPACE/NAME"):
        WorkloadSettings.model_validate(FRAUD | {"pod": pattern})


def test_every_pod_has_series_of_its_own_as_long_as_it_runs(node: Node) -> None:
    node.start(SYSTEMD, 1, 5_000_000, 10, 11)
    node.name(1, "prod", "fraud-a")
    node.start(GUARANTEED, 3, 0, 30)
    node.name(3, "test", "fraud-a")
    sampler = watch(node, FRAUD)
    first = series(sampler.sample())
    of_a = '{workload="fraud",phase="serving",pod_namespace="prod",pod_name="fraud-a"} '
    of_b = of_a.replace("fraud-a", "fraud-b")
    assert first[f"ml_workload_processes{of_a}"] == 2
    assert first[f"ml_workload_cpu_seconds_total{of_a}"] == 0, "what it used before the exporter started is left out"
    assert [name for name in first if name.startswith("ml_workload_processes{")] == [f"ml_workload_processes{of_a}"]

    node.start(SYSTEMD, 1, 6_500_000, 10, 11)
    node.start(CGROUPFS, 2, 1_000_000, 20)
    node.name(2, "prod", "fraud-b")
    second = series(sampler.sample())
    assert second[f"ml_workload_cpu_seconds_total{of_a}"] == 1.5, "it goes on as another comes"
    assert second[f"ml_workload_processes{of_b}"] == 1

    node.end(SYSTEMD, 1, 10, 11)
    node.start(CGROUPFS, 2, 3_000_000, 20)
    third = series(sampler.sample())
    assert third[f"ml_workload_cpu_seconds_total{of_b}"] == 2
    assert f"ml_workload_processes{of_a}" not in third


def test_a_pod_belongs_to_the_first_workload_that_means_it(node: Node) -> None:
    node.start(SYSTEMD, 1, 0, 10)
    node.name(1, "prod", "fraud-a")
    node.start(SYSTEMD, 2, 0, 20)
    node.name(2, "prod", "other")
    rest = {"name": "rest", "phase": "serving", "pod": "prod/*"}
    snapshots = watch(node, FRAUD, rest).sample()
    assert [(each.target.workload.name, sorted(each.pids)) for each in snapshots] == [("fraud", [10]), ("rest", [20])]


def test_a_workload_by_pods_comes_with_a_reload_and_the_others_go_on(node: Node) -> None:
    node.start(SYSTEMD, 1, 2_000_000, 10)
    node.name(1, "prod", "fraud-a")
    train = {"name": "train", "phase": "training", "match": "train"}
    node.proc.put(40, "train", own=100)
    sampler = watch(node, train)
    (before,) = sampler.sample()
    settings = ComputeSettings.model_validate({"workloads": [FRAUD, train]})
    following = sampler.successor(settings.workloads)
    pod, trained = following.sample()
    assert (sorted(pod.pids), trained.cpu_seconds) == ([10], before.cpu_seconds)
    assert trained.cpu_seconds == 100 / os.sysconf("SC_CLK_TCK")


def _without_links(node: Node) -> None:
    node.links.rmdir()


def _with_a_pod(node: Node) -> None:
    node.start(SYSTEMD, 1, 0, 10)
    node.name(1, "prod", "fraud-a")


@pytest.mark.parametrize(
    ("change", "said"),
    [(_without_links, "is not there"), (lambda _: None, "no process now"), (_with_a_pod, "1 processes in 1 pods")],
    ids=["no links", "no pod", "a pod"],
)
def test_the_doctor_says_what_is_missing(node: Node, change: Callable[[Node], None], said: str) -> None:
    change(node)
    settings = ComputeSettings.model_validate({"root": str(node.root), "workloads": [FRAUD]})
    (finding,) = check_workloads(settings)
    assert said in finding.what
