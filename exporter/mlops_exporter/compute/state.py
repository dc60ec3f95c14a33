"""The machine in a few figures, as the landing page and `/api/v1/status` tell it."""

from collections.abc import Sequence

from mlops_exporter.compute.cost import ResourceSnapshot
from mlops_exporter.compute.cpu import CpuSnapshot
from mlops_exporter.compute.gpu import GpuSnapshot
from mlops_exporter.compute.memory import MemorySnapshot
from mlops_exporter.compute.processes import WorkloadSnapshot
from mlops_exporter.judging.machine import AdviceState, GpuState, MachineState, WorkloadState
from mlops_exporter.settings.compute import ComputeSettings

_NOT_INSTALLED = "library_not_found"


def machine_state(
    settings: ComputeSettings,
    cpu: CpuSnapshot | None,
    memory: MemorySnapshot | None,
    workloads: Sequence[WorkloadSnapshot] | None,
    drivers: Sequence[GpuSnapshot],
    resources: Sequence[ResourceSnapshot] | None,
    pods_fault: str | None = None,
) -> MachineState:
    """Return how the machine is by the latest samples; None is a sample that could not be taken."""
    gpus = [
        GpuState(
            reading.identity.index,
            reading.identity.mig,
            reading.identity.name,
            reading.up,
            reading.activity,
            None if not reading.memory_total or reading.memory_used is None
            else reading.memory_used / reading.memory_total,
        )
        for driver in drivers
        for reading in driver.readings
    ]  # fmt: skip
    failing = [
        f"{driver.vendor}: {driver.error}" for driver in drivers if driver.error and driver.error != _NOT_INSTALLED
    ]
    advised = [
        AdviceState(
            resource.resource,
            resource.advice.action,
            resource.advice.capacity_ratio,
            resource.demand.utilization_p95,
            resource.observed_seconds,
            resource.saving_per_hour,
        )
        for resource in resources or ()
        if resource.advice is not None and resource.demand is not None
    ]
    return MachineState(
        None if cpu is None else cpu.cores,
        None if cpu is None else cpu.utilization,
        None if memory is None else memory.used,
        None if memory is None else memory.total,
        [] if workloads is None else _workloads(settings, workloads),
        gpus,
        failing,
        advised,
        None if settings.cost is None else settings.cost.currency,
        pods_fault,
    )


def _workloads(settings: ComputeSettings, snapshots: Sequence[WorkloadSnapshot]) -> list[WorkloadState]:
    """Return the workloads in the order of the settings, each pod by itself; one without a pod here has no process."""
    states = []
    for workload in settings.workloads:
        of_it = [snapshot for snapshot in snapshots if snapshot.target.workload == workload]
        states += [
            WorkloadState(
                workload.name,
                workload.phase,
                None if snapshot.target.pod is None else f"{snapshot.target.pod.namespace}/{snapshot.target.pod.name}",
                snapshot.processes,
                snapshot.start_time,
            )
            for snapshot in of_it
        ] or [WorkloadState(workload.name, workload.phase, None, 0, None)]
    return states
