"""The landing page of a machine that is watched without a model."""

from dataclasses import replace
from pathlib import Path

from mlops_exporter.compute.advice import Advice, Demand
from mlops_exporter.compute.cost import ResourceSnapshot
from mlops_exporter.compute.cpu import CpuSnapshot
from mlops_exporter.compute.gpu import GpuIdentity, GpuReading, GpuSnapshot
from mlops_exporter.compute.memory import MemorySnapshot
from mlops_exporter.compute.pods import Pod
from mlops_exporter.compute.processes import Target, WorkloadSnapshot
from mlops_exporter.compute.state import machine_state
from mlops_exporter.judging.machine import MachineState
from mlops_exporter.judging.status import Report
from mlops_exporter.service.configuration import read
from mlops_exporter.settings.compute import ComputeSettings, CostSettings, PodSettings, WorkloadSettings
from mlops_exporter.web.landing import landing_page

_SETTINGS = ComputeSettings(
    workloads=(
        WorkloadSettings(name="train<er>", phase="training", match="train"),
        WorkloadSettings(name="nightly", phase="serving", match="night"),
    ),
    cost=CostSettings(currency="USD", host_per_hour=1.2),
)
_CPU = CpuSnapshot(8, 0.0, 0.25, (), None, (0, 0, 0))
_MEMORY = MemorySnapshot(8 << 30, 32 << 30, ())
_RUNNING = WorkloadSnapshot(Target(_SETTINGS.workloads[0]), frozenset({7}), 3, 3, 1.0, 1, 1, 1, 1, 1, 900.0)
_NONE = WorkloadSnapshot(Target(_SETTINGS.workloads[1]), frozenset(), 0, 0, 0.0, None, None, None, None, None, None)
_ADVICE = ResourceSnapshot("host", 1.2, 0.0, 0.0, 86_400.0, Demand(0.1, 0.2), Advice("scale_down", 0.25))


def machine(*drivers: GpuSnapshot) -> MachineState:
    return machine_state(_SETTINGS, _CPU, _MEMORY, (_RUNNING, _NONE), drivers, (_ADVICE,))


def page(state: MachineState | None) -> str:
    report = Report("1.2.3", 0.0, 1000.0, watches_models=False, machine=state)
    return landing_page(report, "/metrics").partition("<main>")[2].partition("</main>")[0]


def test_it_shows_the_machine_and_nothing_of_models() -> None:
    text = page(machine())
    assert "<h2>Models</h2>" not in text
    assert "<h2>Sources</h2>" not in text
    assert "8 cores, 25% busy" in text
    assert "25% of 32.0 GiB in use" in text
    assert "train&lt;er&gt;" in text
    assert "not running" in text
    assert "GPU" not in text, "a machine without GPUs speaks of none"


def test_every_pod_is_a_row_and_a_workload_without_one_does_not_run() -> None:
    served = WorkloadSettings(name="fraud", phase="serving", pod=PodSettings(name="prod/fraud-*"))
    late = WorkloadSettings(name="late", phase="serving", pod=PodSettings(labels={"app": "late"}))
    settings = ComputeSettings(workloads=(served, late))
    running = [
        replace(_RUNNING, target=Target(served, Pod("prod", name, name, f"/{name}"))) for name in ("fraud-a", "fraud-b")
    ]
    text = page(machine_state(settings, _CPU, _MEMORY, running, (), ()))
    assert "fraud (prod/fraud-a)" in text
    assert "fraud (prod/fraud-b)" in text
    assert text.count("not running") == 1


def test_advice_says_what_to_do_what_it_saves_and_what_it_rests_on() -> None:
    said = "host: scale down to 2 cores, which saves 657 USD a month; 95th percentile of use 10% over 1 d 0 h"
    assert said in page(machine())
    state = machine()
    grow = [replace(state.advice[0], action="scale_out", capacity_ratio=2.0, saving_per_hour=-1.2)]
    assert "scale out to 16 cores, which costs 876 USD a month" in page(replace(state, advice=grow))


def test_gpus_are_shown_as_busy_as_they_really_are() -> None:
    busy = GpuReading(
        GpuIdentity("0", "u", "", "H200"), utilization=1.0, sm_activity=0.12, memory_used=1, memory_total=2
    )
    lost = GpuReading(GpuIdentity("1", "v", "", "H200"), up=False)
    text = page(machine(GpuSnapshot("nvidia", None, "570", (busy, lost))))
    assert "12%" in text
    assert "50%" in text
    assert '<span class="bad">lost</span>' in text


def test_a_driver_that_fails_is_told_and_one_that_is_not_there_is_not() -> None:
    assert "nvidia: timeout" in page(machine(GpuSnapshot("nvidia", "timeout")))
    assert "nvidia" not in page(machine(GpuSnapshot("nvidia", "library_not_found")))


def test_why_labels_of_pods_are_unknown_is_told() -> None:
    assert "answer 403" in page(replace(machine(), pods_fault="https://10.0.0.1: answer 403"))
    assert "Labels of pods" not in page(machine())


def test_before_the_first_sample_there_is_a_page_too() -> None:
    assert "No sample of the machine yet" in page(None)
    assert "No sample of the machine yet" in page(machine_state(_SETTINGS, None, None, None, (), None))


def test_the_documented_configuration_of_a_training_machine_is_good(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training-machine.md").read_text()
    path = tmp_path / "mlops-exporter.yml"
    path.write_text(page.partition("```yaml\n")[2].partition("```")[0])
    config, _ = read(path)
    assert (config.models, config.sources) == ([], [])
    assert [workload.name for workload in config.compute.workloads] == ["trainer"]
