"""How the machine is, in words: what the landing page and `/api/v1/status` tell of it, beside the models.

It imports nothing, so that a process which only watches the machine holds nothing of models in memory.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkloadState:
    """Processes that are watched under one name; `since` is when the oldest started, None while none runs.

    `pod` is NAMESPACE/NAME, None where the workload is not given by pods or has none on this node.
    """

    workload: str
    phase: str
    pod: str | None
    processes: int
    since: float | None


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU or an instance on it; `activity` and `memory` are ratios, None where the GPU does not say."""

    gpu: str
    mig: str
    name: str
    up: bool
    activity: float | None
    memory: float | None


@dataclass(frozen=True, slots=True)
class AdviceState:
    """What to do with a resource: `capacity_ratio` is the advised capacity over the present one."""

    resource: str
    action: str
    capacity_ratio: float
    utilization_p95: float
    observed_seconds: float
    saving_per_hour: float | None


@dataclass(frozen=True, slots=True)
class MachineState:
    """CPU, memory, workloads and GPUs at the last sample; None is what could not be sampled.

    `pods_fault` is why the labels of pods are not known anew.
    """

    cores: float | None
    cpu: float | None
    memory_used: int | None
    memory_total: int | None
    workloads: list[WorkloadState]
    gpus: list[GpuState]
    failing_drivers: list[str]
    advice: list[AdviceState]
    currency: str | None
    pods_fault: str | None = None
