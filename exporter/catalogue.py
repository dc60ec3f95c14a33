"""Every metric as data: the one list from which exposition, documentation and contract tests are made.

Nothing here computes a value. Collectors refer to a metric by the constants below, so that a misspelt name is a type
error rather than a series nobody looks for.
"""

from dataclasses import dataclass
from typing import Literal

MetricType = Literal["counter", "gauge", "histogram"]
Pillar = Literal["model", "data", "compute", "exporter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: `name` as a query writes it, so counters carry their `_total`.

    `labels` are the label names in exposition order. `buckets` are a histogram's upper bounds without +Inf.
    """

    name: str
    type: MetricType
    pillar: Pillar
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def family(self) -> str:
        """Name in OpenMetrics `# TYPE` lines, where a counter's family lacks the `_total` of its samples."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name


_metrics: dict[str, Metric] = {}


def _metric(
    name: str,
    type_: MetricType,
    pillar: Pillar,
    labels: str,
    help_: str,
    buckets: tuple[float, ...] = (),
) -> Metric:
    if name in _metrics:
        raise ValueError(f"metric {name} is in the catalogue twice")
    metric = Metric(name, type_, pillar, help_, tuple(labels.split()), buckets)
    _metrics[name] = metric
    return metric


# Compute: host or container, workloads, GPUs, cost.
_TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_GPU = "gpu uuid mig"

COMPUTE_INFO = _metric(
    "ml_compute_info",
    "gauge",
    "compute",
    "scope",
    "Whose CPU and memory are watched, always 1: scope is host, or cgroup inside a container.",
)
COMPUTE_CPU_UTILIZATION_RATIO = _metric(
    "ml_compute_cpu_utilization_ratio",
    "gauge",
    "compute",
    "",
    "Share of the usable CPU cores that was busy during the last sampling interval.",
)
COMPUTE_CPU_UTILIZATION = _metric(
    "ml_compute_cpu_utilization",
    "histogram",
    "compute",
    "",
    "CPU utilization ratio sampled every interval, so that peaks between two scrapes are kept.",
    _TENTHS,
)
COMPUTE_CPU_SECONDS = _metric(
    "ml_compute_cpu_seconds_total",
    "counter",
    "compute",
    "",
    "CPU seconds used by the host since boot, or by the container since its start.",
)
COMPUTE_CPU_CORES = _metric(
    "ml_compute_cpu_cores",
    "gauge",
    "compute",
    "",
    "CPU cores that may be used: the smallest of online CPUs, cpuset and quota.",
)
COMPUTE_CPU_PERIODS = _metric(
    "ml_compute_cpu_periods_total",
    "counter",
    "compute",
    "",
    "Periods in which the cgroup's CPU quota was enforced.",
)
COMPUTE_CPU_THROTTLED_PERIODS = _metric(
    "ml_compute_cpu_throttled_periods_total",
    "counter",
    "compute",
    "",
    "Periods in which the cgroup had used up its CPU quota and was throttled.",
)
COMPUTE_CPU_THROTTLED_SECONDS = _metric(
    "ml_compute_cpu_throttled_seconds_total",
    "counter",
    "compute",
    "",
    "Seconds for which the cgroup was throttled by its CPU quota, summed over its cores.",
)
COMPUTE_LOAD_AVERAGE = _metric(
    "ml_compute_load_average",
    "gauge",
    "compute",
    "window",
    "Load average of the whole host as its kernel keeps it, also inside a container.",
)
COMPUTE_MEMORY_USED_BYTES = _metric(
    "ml_compute_memory_used_bytes",
    "gauge",
    "compute",
    "",
    "Memory in use: total less available on a host, usage less inactive file cache in a cgroup.",
)
COMPUTE_MEMORY_TOTAL_BYTES = _metric(
    "ml_compute_memory_total_bytes",
    "gauge",
    "compute",
    "",
    "Memory that may be used: the smaller of the host's memory and the cgroup's limit.",
)
COMPUTE_MEMORY_UTILIZATION = _metric(
    "ml_compute_memory_utilization",
    "histogram",
    "compute",
    "",
    "Used share of the usable memory sampled every interval, so that peaks between two scrapes are kept.",
    _TENTHS,
)
COMPUTE_PRESSURE_SECONDS = _metric(
    "ml_compute_pressure_seconds_total",
    "counter",
    "compute",
    "resource kind",
    "Seconds in which some or all (kind some or full) tasks waited for the resource, from pressure stall information.",
)
WORKLOAD_PROCESSES = _metric(
    "ml_workload_processes",
    "gauge",
    "compute",
    "workload phase",
    "Running processes of the workload.",
)
WORKLOAD_PROCESSES_STARTED = _metric(
    "ml_workload_processes_started_total",
    "counter",
    "compute",
    "workload phase",
    "Processes of the workload seen to start since the exporter watches it.",
)
WORKLOAD_START_TIME_SECONDS = _metric(
    "ml_workload_start_time_seconds",
    "gauge",
    "compute",
    "workload phase",
    "Unix time at which the oldest running process of the workload started.",
)
WORKLOAD_CPU_SECONDS = _metric(
    "ml_workload_cpu_seconds_total",
    "counter",
    "compute",
    "workload phase",
    "CPU seconds used by the workload's processes, ended ones included, since the exporter watches it.",
)
WORKLOAD_MEMORY_BYTES = _metric(
    "ml_workload_memory_bytes",
    "gauge",
    "compute",
    "workload phase",
    "Resident memory summed over the workload's processes, so that shared pages count once per process.",
)
WORKLOAD_THREADS = _metric(
    "ml_workload_threads",
    "gauge",
    "compute",
    "workload phase",
    "Threads of the workload's processes.",
)
WORKLOAD_OPEN_FILES = _metric(
    "ml_workload_open_files",
    "gauge",
    "compute",
    "workload phase",
    "Open file descriptors of the workload's processes; absent where the exporter may not read them.",
)
WORKLOAD_READ_BYTES = _metric(
    "ml_workload_read_bytes_total",
    "counter",
    "compute",
    "workload phase",
    "Bytes that the workload's processes made storage read; absent where the exporter may not read it.",
)
WORKLOAD_WRITTEN_BYTES = _metric(
    "ml_workload_written_bytes_total",
    "counter",
    "compute",
    "workload phase",
    "Bytes that the workload's processes made storage write; absent where the exporter may not read it.",
)
WORKLOAD_GPU_MEMORY_BYTES = _metric(
    "ml_workload_gpu_memory_bytes",
    "gauge",
    "compute",
    "workload phase",
    "GPU memory held by the workload's processes, summed over GPUs.",
)
WORKLOAD_GPU_UTILIZATION_RATIO = _metric(
    "ml_workload_gpu_utilization_ratio",
    "gauge",
    "compute",
    "workload phase",
    "Share of the compute time of the GPUs that the workload's processes run on, used by them.",
)
GPU_DRIVER_UP = _metric(
    "ml_gpu_driver_up",
    "gauge",
    "compute",
    "vendor",
    "Whether the GPU driver answers: 1 yes, 0 no (ml_gpu_driver_error says why).",
)
GPU_DRIVER_ERROR = _metric(
    "ml_gpu_driver_error",
    "gauge",
    "compute",
    "vendor error",
    "Why the GPU driver does not answer, always 1: library_not_found means that no driver is installed.",
)
GPU_UP = _metric(
    "ml_gpu_up",
    "gauge",
    "compute",
    _GPU,
    "Whether the GPU answered at the last sample: 1 yes, 0 no.",
)
GPU_INFO = _metric(
    "ml_gpu_info",
    "gauge",
    "compute",
    f"{_GPU} vendor name driver_version pci_bus_id",
    "What the GPU or MIG instance is, always 1; label mig is empty for a whole GPU.",
)
GPU_FIELD_UNAVAILABLE = _metric(
    "ml_gpu_field_unavailable",
    "gauge",
    "compute",
    f"{_GPU} field reason",
    "A field that the GPU does not give, and the driver's reason, always 1; field all means that the GPU is lost.",
)
GPU_UTILIZATION_RATIO = _metric(
    "ml_gpu_utilization_ratio",
    "gauge",
    "compute",
    _GPU,
    "Share of time in which a kernel ran on the GPU during the driver's last sampling period.",
)
GPU_UTILIZATION = _metric(
    "ml_gpu_utilization",
    "histogram",
    "compute",
    _GPU,
    "GPU utilization ratio sampled every interval, so that peaks between two scrapes are kept.",
    _TENTHS,
)
GPU_MEMORY_UTILIZATION_RATIO = _metric(
    "ml_gpu_memory_utilization_ratio",
    "gauge",
    "compute",
    _GPU,
    "Share of time in which GPU memory was read or written during the driver's last sampling period.",
)
GPU_MEMORY_USED_BYTES = _metric(
    "ml_gpu_memory_used_bytes", "gauge", "compute", _GPU, "GPU memory allocated, without what the driver reserves."
)
GPU_MEMORY_TOTAL_BYTES = _metric("ml_gpu_memory_total_bytes", "gauge", "compute", _GPU, "GPU memory in all.")
GPU_POWER_WATTS = _metric("ml_gpu_power_watts", "gauge", "compute", _GPU, "Power drawn by the GPU.")
GPU_POWER_LIMIT_WATTS = _metric(
    "ml_gpu_power_limit_watts", "gauge", "compute", _GPU, "Power limit that the driver enforces on the GPU."
)
GPU_ENERGY_JOULES = _metric(
    "ml_gpu_energy_joules_total", "counter", "compute", _GPU, "Energy used by the GPU since its driver was loaded."
)
GPU_TEMPERATURE_CELSIUS = _metric("ml_gpu_temperature_celsius", "gauge", "compute", _GPU, "Temperature of the GPU.")
GPU_CLOCK_HERTZ = _metric(
    "ml_gpu_clock_hertz", "gauge", "compute", f"{_GPU} clock", "Current clock rate of the GPU's domain sm or memory."
)
GPU_THROTTLED = _metric(
    "ml_gpu_throttled",
    "gauge",
    "compute",
    f"{_GPU} reason",
    "Whether the GPU's clocks are held down for this reason: 1 yes, 0 no.",
)
GPU_ECC_ERRORS = _metric(
    "ml_gpu_ecc_errors_total",
    "counter",
    "compute",
    f"{_GPU} type",
    "Memory errors over the GPU's lifetime, corrected or uncorrected.",
)
GPU_XID_ERRORS = _metric(
    "ml_gpu_xid_errors_total",
    "counter",
    "compute",
    f"{_GPU} xid",
    "Critical XID events of the GPU since the exporter started, by the driver's XID number.",
)
GPU_PCIE_BYTES = _metric(
    "ml_gpu_pcie_bytes_total", "counter", "compute", f"{_GPU} direction", "Bytes over PCIe, receive or transmit."
)
GPU_NVLINK_BYTES = _metric(
    "ml_gpu_nvlink_bytes_total",
    "counter",
    "compute",
    f"{_GPU} direction",
    "Bytes over all NVLinks, receive or transmit.",
)
GPU_PROCESS_MEMORY_BYTES = _metric(
    "ml_gpu_process_memory_bytes",
    "gauge",
    "compute",
    f"{_GPU} pid",
    "GPU memory held by a compute process; pid is the driver's, of the host's process namespace.",
)
COMPUTE_COST_PER_HOUR = _metric(
    "ml_compute_cost_per_hour",
    "gauge",
    "compute",
    "resource currency",
    "Configured price per hour of the resource: the host, or all its GPUs.",
)
COMPUTE_COST = _metric(
    "ml_compute_cost_total",
    "counter",
    "compute",
    "resource currency",
    "Cost of the resource since the exporter started.",
)
COMPUTE_IDLE_COST = _metric(
    "ml_compute_idle_cost_total",
    "counter",
    "compute",
    "resource currency",
    "Cost of the unused share of the resource since the exporter started: price times time times (1 - utilization).",
)
COMPUTE_ADVICE = _metric(
    "ml_compute_advice",
    "gauge",
    "compute",
    "resource advice",
    "Whether this is the right-sizing advice: 1 for one of scale_down, keep and scale_out, 0 for the others.",
)
COMPUTE_ADVICE_CAPACITY_RATIO = _metric(
    "ml_compute_advice_capacity_ratio",
    "gauge",
    "compute",
    "resource",
    "Advised capacity over the present one: 0.5 is half of it.",
)
COMPUTE_ADVICE_SAVING_PER_HOUR = _metric(
    "ml_compute_advice_saving_per_hour",
    "gauge",
    "compute",
    "resource currency",
    "Price per hour saved by following the advice; negative where it costs more.",
)
COMPUTE_ADVICE_UTILIZATION_P95_RATIO = _metric(
    "ml_compute_advice_utilization_p95_ratio",
    "gauge",
    "compute",
    "resource",
    "95th percentile of the utilization on which the advice rests, in steps of 0.01.",
)
COMPUTE_ADVICE_MEMORY_MAX_RATIO = _metric(
    "ml_compute_advice_memory_max_ratio",
    "gauge",
    "compute",
    "resource",
    "Largest used share of memory on which the advice rests.",
)
COMPUTE_ADVICE_OBSERVED_SECONDS = _metric(
    "ml_compute_advice_observed_seconds",
    "gauge",
    "compute",
    "resource",
    "Time observed within the advice window; below the configured minimum there is no advice.",
)


def all_metrics() -> tuple[Metric, ...]:
    """Return every metric, in exposition order."""
    return tuple(_metrics.values())
