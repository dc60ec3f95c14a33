from typing import Any

import pytest
from pydantic import ValidationError

from mlops_exporter.settings.compute import ComputeSettings


def workload(**more: Any) -> dict[str, Any]:
    return {"workloads": [{"name": "w", "phase": "training", **more}]}


def test_the_documented_section_is_read() -> None:
    settings = ComputeSettings.model_validate(
        {
            "interval": "500ms",
            "workloads": [
                {"name": "trainer", "phase": "training", "match": r"train\.py"},
                {"name": "server", "phase": "serving", "pid_file": "/run/server.pid"},
                {"name": "batch", "phase": "serving", "cgroup": "/system.slice/batch.service"},
            ],
            "cost": {"currency": "USD", "host_per_hour": 1.20, "gpu_per_hour": 2.50},
        }
    )
    assert settings.interval == 0.5
    assert [w.phase for w in settings.workloads] == ["training", "serving", "serving"]
    assert settings.cost is not None
    assert settings.cost.gpu_per_hour == 2.5


def test_everything_has_a_default() -> None:
    settings = ComputeSettings()
    assert (settings.interval, settings.scope, settings.cost, settings.advice.window) == (1.0, "auto", None, 86_400.0)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"interval": 1}, "give it a unit"),
        ({"interval": "1ms"}, "greater than or equal to 0.1"),
        ({"intervall": "1s"}, "Extra inputs are not permitted"),
        ({"scope": "pod"}, "'auto', 'host' or 'cgroup'"),
        (workload(), "exactly one of match, pid_file, cgroup and pod, not none"),
        (workload(match="a", pid_file="/b"), "not match and pid_file"),
        (workload(match="("), "not a regular expression"),
        (workload(match="(?u)train"), "not a regular expression"),
        (workload(match=""), "matches every process"),
        (workload(pid_file="server.pid"), "write it from the root"),
        (workload(cgroup="a.service"), "below the cgroup mount point"),
        (workload(cgroup="/a/../b"), "below the cgroup mount point"),
        (workload(pod={"labels": {}}), "says not which pods"),
        (workload(pod={"labels": {"app": ""}, "name": "x"}), "write NAMESPACE/NAME"),
        (workload(pod={"labels": {"-app": "x"}}), "as in app or app.kubernetes.io/name"),
        (workload(pod={"labels": {"app": "a b"}}), "no label of a pod can have"),
        (workload(pod={"labels": {"version": 3}}), "valid string"),
        (workload(pod={"label": {"app": "x"}}), "Extra inputs are not permitted"),
        ({"kubernetes": {"interval": "1s"}}, "greater than or equal to 5"),
        ({"kubernetes": {"url": "10.0.0.1"}}, "write http"),
        (workload(match="a", phase="testing"), "'training' or 'serving'"),
        ({"workloads": [{"name": "w", "phase": "training", "match": "a"}] * 2}, "occur twice: w"),
        ({"cost": {"currency": "dollars"}}, "A-Z"),
        ({"cost": {"currency": "USD", "host_per_hour": -1}}, "greater than or equal to 0"),
        ({"advice": {"target": 0.9}}, "must lie below scale_out_above"),
        ({"advice": {"window": "1h", "min_observed": "2h"}}, "must not be longer than window"),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ComputeSettings.model_validate(section)
