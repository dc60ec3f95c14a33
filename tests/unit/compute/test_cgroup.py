from pathlib import Path
from typing import Literal

import pytest

from mlops_exporter.compute import cgroup
from mlops_exporter.compute.cgroup import Hierarchy, Stall, Throttling
from tests.unit.compute.trees import GIB, V1_CONTAINER, V1_HOST, V2_CONTAINER, V2_SERVICE_ON_HOST, plant


def container(root: Path, tree: dict[str, str]) -> dict[str, Hierarchy]:
    scope = cgroup.find_scope(plant(root, tree), "auto")
    assert scope is not None, "a container is not recognised"
    return scope


@pytest.mark.parametrize("tree", [V2_SERVICE_ON_HOST, V1_HOST])
def test_a_service_on_a_bare_host_watches_the_host(tmp_path: Path, tree: dict[str, str]) -> None:
    assert cgroup.find_scope(plant(tmp_path, tree), "auto") is None


@pytest.mark.parametrize("tree", [V2_CONTAINER, V1_CONTAINER])
def test_the_host_can_be_asked_for_from_a_container(tmp_path: Path, tree: dict[str, str]) -> None:
    assert cgroup.find_scope(plant(tmp_path, tree), "host") is None


def test_without_cgroups_the_host_is_watched(tmp_path: Path) -> None:
    assert cgroup.find_scope(tmp_path, "auto") is None


def test_v2_container(tmp_path: Path) -> None:
    scope = container(tmp_path, V2_CONTAINER)
    assert cgroup.cpu_quota(scope["cpu"]) == 1.5
    assert cgroup.cpuset_size(scope["cpuset"]) == 3
    assert cgroup.throttling(scope["cpu"]) == Throttling(100, 25, 1.25)
    assert cgroup.memory_limit(scope["memory"]) == 2 * GIB
    assert cgroup.memory_used(scope["memory"]) == GIB - GIB // 4
    assert cgroup.cpu_seconds(scope["cpuacct"].leaf, scope["cpuacct"].version) == 3.0


def test_v1_container(tmp_path: Path) -> None:
    scope = container(tmp_path, V1_CONTAINER)
    assert cgroup.cpu_quota(scope["cpu"]) == 2.5
    assert cgroup.cpuset_size(scope["cpuset"]) == 2
    assert cgroup.throttling(scope["cpu"]) == Throttling(100, 25, 1.25)
    assert cgroup.memory_limit(scope["memory"]) == 2 * GIB
    assert cgroup.memory_used(scope["memory"]) == GIB - GIB // 4
    assert cgroup.cpu_seconds(scope["cpuacct"].leaf, scope["cpuacct"].version) == 3.0


def test_a_container_is_its_topmost_cgroup(tmp_path: Path) -> None:
    below = {"proc/self/cgroup": "0::/init.scope\n", "sys/fs/cgroup/init.scope/cgroup.type": "domain\n"}
    scope = container(tmp_path, {**V2_CONTAINER, **below})
    assert scope["memory"].leaf == tmp_path / "sys/fs/cgroup"


def test_own_cgroup_has_the_smallest_limit_on_the_way_up(tmp_path: Path) -> None:
    scope = cgroup.find_scope(plant(tmp_path, V2_SERVICE_ON_HOST), "cgroup")
    assert scope is not None
    assert cgroup.cpu_quota(scope["cpu"]) == 0.5
    assert cgroup.memory_limit(scope["memory"]) == GIB
    plant(tmp_path, {"sys/fs/cgroup/system.slice/cpu.max": "20000 100000\n"})
    plant(tmp_path, {"sys/fs/cgroup/system.slice/exporter.service/memory.max": "max\n"})
    assert cgroup.cpu_quota(scope["cpu"]) == 0.2
    assert cgroup.memory_limit(scope["memory"]) == 4 * GIB
    assert cgroup.cpuset_size(scope["cpuset"]) == 4


def test_no_limit_is_none(tmp_path: Path) -> None:
    scope = cgroup.find_scope(plant(tmp_path, V1_HOST), "cgroup")
    assert scope is not None
    assert cgroup.cpu_quota(scope["cpu"]) is None
    assert cgroup.memory_limit(scope["memory"]) is None
    assert cgroup.throttling(scope["cpu"]) is None
    assert cgroup.memory_used(scope["memory"]) is None


def test_v1_controllers_win_over_an_empty_v2_hierarchy(tmp_path: Path) -> None:
    places = cgroup.find_hierarchies(plant(tmp_path, V1_HOST))
    assert places["memory"].version == 1
    assert places["cpuset"].version == 2


def test_a_path_from_outside_the_namespace_falls_back_to_the_mount(tmp_path: Path) -> None:
    places = cgroup.find_hierarchies(plant(tmp_path, {**V2_CONTAINER, "proc/self/cgroup": "0::/../other\n"}))
    assert places["cpu"].leaf == tmp_path / "sys/fs/cgroup"


def test_a_mount_of_the_hosts_hierarchy_does_not_hide_the_containers(tmp_path: Path) -> None:
    mounts = "501 400 0:28 /../.. /host/sys/fs/cgroup ro - cgroup2 cgroup rw\n" + V2_CONTAINER["proc/self/mountinfo"]
    places = cgroup.find_hierarchies(plant(tmp_path, {**V2_CONTAINER, "proc/self/mountinfo": mounts}))
    assert places["cpu"].top == tmp_path / "sys/fs/cgroup"


@pytest.mark.parametrize(("cpus", "size"), [("0", 1), ("0-3", 4), ("0-1,4,6-7\n", 5)])
def test_cpu_lists_are_counted(cpus: str, size: int) -> None:
    assert cgroup.count_cpus(cpus) == size


@pytest.mark.parametrize(
    ("text", "stall"),
    [
        ("some avg10=0.00 total=1500000\nfull avg10=0.00 total=500000\n", Stall(1.5, 0.5)),
        ("some avg10=0.00 total=1500000\n", Stall(1.5, None)),
        ("", None),
    ],
)
def test_pressure_is_read_in_seconds(tmp_path: Path, text: str, stall: Stall | None) -> None:
    path = tmp_path / "cpu.pressure"
    path.write_text(text)
    assert cgroup.read_stall(path) == stall


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_that_is_gone_has_no_processes_and_no_time(tmp_path: Path, version: Literal[1, 2]) -> None:
    assert cgroup.process_ids(tmp_path / "gone") == []
    assert cgroup.cpu_seconds(tmp_path / "gone", version) is None


def test_processes_of_cgroups_below_are_included(tmp_path: Path) -> None:
    plant(tmp_path, {"a/cgroup.procs": "", "a/b/cgroup.procs": "1\n2\n", "a/c/d/cgroup.procs": "3\n"})
    assert sorted(cgroup.process_ids(tmp_path / "a")) == [1, 2, 3]
