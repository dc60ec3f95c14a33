"""What the scene's exporters say of themselves and their machines, as OpenMetrics with times.

Two replicas in production: `gpu-1` has two GPUs, one of them hot, and a source that went down half an hour before the
end; `cpu-1` has none. `cpu-2` died an hour before the end. `stage-1` is staging.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mlops_exporter.exposition import catalogue as c
from tests.scene import life
from tests.scene.shares import BEGIN, END

STEP = 60
DIED = END - 3600
SOURCE_DOWN = END - 1800
_LABELS = ("cluster", "namespace", "job", "instance")


@dataclass(frozen=True)
class Machine:
    """One exporter's target labels, and what it runs on."""

    instance: str
    cluster: str = "production"
    gpus: int = 0
    until: int = END
    source_down: int | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What its scrape adds."""
        return {"cluster": self.cluster, "namespace": "ml", "job": "mlops-exporter", "instance": self.instance}


GPU_HOST = Machine("gpu-1:10042", gpus=2, source_down=SOURCE_DOWN)
CPU_HOST = Machine("cpu-1:10042")
DEAD = Machine("cpu-2:10042", until=DIED)
STAGING = Machine("stage-1:10042", cluster="staging")
MACHINES = (GPU_HOST, CPU_HOST, DEAD, STAGING)
RECEIVER = {**GPU_HOST.labels, "job": "mlops-retraining", "instance": "retraining:10043"}


def receiver_lines() -> Iterator[str]:
    """Yield every sample of the receiver of retraining."""
    for minute in range(BEGIN, END + STEP, STEP):
        for name, labels, value in [("up", {}, 1.0), *life.receiver(minute)]:
            yield from _line(RECEIVER, name, labels, value, minute)


def lines(machine: Machine) -> Iterator[str]:
    """Yield every sample of a machine."""
    for minute in range(BEGIN, END + STEP, STEP):
        yield from _line(machine.labels, "up", {}, 1.0 if minute <= machine.until else 0.0, minute)
    for minute in range(BEGIN, machine.until + STEP, STEP):
        for name, labels, value in _moment(machine, minute):
            yield from _line(machine.labels, name, labels, value, minute)


def _line(target: dict[str, str], name: str, labels: dict[str, str], value: float, at: int) -> Iterator[str]:
    shown = ",".join(f'{label}="{text}"' for label, text in (target | labels).items())
    yield f"{name}{{{shown}}} {value!r} {at}\n"


Sample = tuple[str, dict[str, str], float]


def _moment(machine: Machine, at: int) -> Iterator[Sample]:
    """Yield what one scrape shows, but models."""
    passed = at - BEGIN
    wave = 0.5 + 0.35 * math.sin(passed / 1500 + len(machine.instance))
    yield from _exporter(machine, at, passed)
    yield from _host(at, passed, wave)
    if machine.cluster == "production":
        yield from life.samples(at)
    if not machine.gpus:
        yield from _quota(passed)
    if machine.gpus:
        yield c.GPU_DRIVER_UP.name, {"vendor": "nvidia"}, 1.0
        for number in range(machine.gpus):
            yield from _gpu(number, passed, wave)
        for workload, phase, share in (("trainer", "training", 0.6), ("server", "serving", 0.1)):
            of = {"workload": workload, "phase": phase}
            yield c.WORKLOAD_GPU_UTILIZATION_RATIO.name, of, share * wave
            yield c.WORKLOAD_GPU_MEMORY_BYTES.name, of, share * 140e9
    else:
        yield c.GPU_DRIVER_UP.name, {"vendor": "nvidia"}, 0.0
        yield c.GPU_DRIVER_ERROR.name, {"vendor": "nvidia", "error": "library_not_found"}, 1.0


def _exporter(machine: Machine, at: int, passed: int) -> Iterator[Sample]:
    down = machine.source_down is not None and at >= machine.source_down
    last = min(at, machine.source_down or at)
    yield c.EXPORTER_BUILD_INFO.name, {"version": "0.2.0", "revision": "abcdef0", "pythonversion": "3.11.2"}, 1.0
    yield c.CONFIG_RELOAD_SUCCESSFUL.name, {}, 1.0
    yield c.MODELS.name, {}, 7.0
    yield c.MODELS_READY.name, {}, 7.0
    yield c.FEATURES_IGNORED.name, {"model": "rent"}, passed // 120
    yield c.LEDGERS.name, {"source": "push"}, passed // 60
    yield c.EVENTS_PASSED.name, {"source": "push"}, 1.5 * passed
    for detail, left_out in (("bins", 120.0), ("groups", 0.0), ("classes", 0.0), ("features", 0.0)):
        yield c.EXPORTER_SERIES_DROPPED.name, {"detail": detail}, left_out
    for fault in ("write", "read"):
        yield c.STATE_ERRORS.name, {"fault": fault}, float(fault == "write" and passed > 5400)
    yield c.CHECKPOINT_LAST_SUCCESS.name, {}, float(at - at % 30)
    yield c.CHECKPOINT_DURATION.name, {}, 0.04
    for collector in ("models", "data", "groups", "compute", "gpu"):
        yield c.EXPORTER_COLLECTOR_SUCCESS.name, {"collector": collector}, 1.0
        yield c.EXPORTER_COLLECTOR_DURATION.name, {"collector": collector}, 0.002
    for source, rate, is_down in (("push", 4.0, False), ("stream", 2.0, down)):
        of = {"source": source}
        yield c.SOURCE_UP.name, of, 0.0 if is_down else 1.0
        yield c.SOURCE_LAST_EVENT.name, of, float(last if source == "stream" else at) - 2
        yield c.EVENTS.name, of, rate * (last - BEGIN if source == "stream" else passed)
        yield c.EVENTS_LATE.name, of, 0.0
        for reason in ("malformed_json", "unknown_model"):
            yield c.EVENTS_REJECTED.name, {**of, "reason": reason}, passed // 600 if reason == "unknown_model" else 0.0
    yield c.SOURCE_LAG.name, {"source": "stream"}, 2.0 * max(0, at - last)
    yield c.QUEUE_EVENTS.name, {}, 12.0
    yield c.QUEUE_CAPACITY.name, {}, 100_000.0
    yield c.EXPORTER_SERIES.name, {}, 4200.0
    yield c.EXPORTER_SERIES_LIMIT.name, {}, 20_000.0
    yield "scrape_duration_seconds", {}, 0.03
    yield "scrape_samples_scraped", {}, 4200.0
    yield "process_resident_memory_bytes", {}, 1.8e8
    yield "process_cpu_seconds_total", {}, 0.05 * passed
    yield "process_start_time_seconds", {}, float(BEGIN - 86_400)


def _host(at: int, passed: int, wave: float) -> Iterator[Sample]:
    yield c.COMPUTE_CPU_UTILIZATION_RATIO.name, {}, wave
    yield c.COMPUTE_CPU_CORES.name, {}, 8.0
    yield c.COMPUTE_MEMORY_USED_BYTES.name, {}, 20e9 + 4e9 * wave
    yield c.COMPUTE_MEMORY_TOTAL_BYTES.name, {}, 64e9
    yield from _histogram(c.COMPUTE_CPU_UTILIZATION, {}, passed)
    yield from _histogram(c.COMPUTE_MEMORY_UTILIZATION, {}, passed)
    for window, more in (("1m", 0.2), ("5m", 0.1), ("15m", 0.0)):
        yield c.COMPUTE_LOAD_AVERAGE.name, {"window": window}, 8 * wave + more
    for resource in ("cpu", "memory", "io"):
        yield c.COMPUTE_PRESSURE_SECONDS.name, {"resource": resource, "kind": "some"}, 0.01 * passed
    for workload, phase, share in (("trainer", "training", 0.7), ("server", "serving", 0.2)):
        of = {"workload": workload, "phase": phase}
        yield c.WORKLOAD_PROCESSES.name, of, 2.0
        yield c.WORKLOAD_PROCESSES_STARTED.name, of, 2.0 + (passed > 3600 and workload == "server")
        yield c.WORKLOAD_START_TIME_SECONDS.name, of, float(BEGIN - 7200)
        yield c.WORKLOAD_THREADS.name, of, 24.0
        yield c.WORKLOAD_OPEN_FILES.name, of, 40.0 + passed / 100
        yield c.WORKLOAD_CPU_SECONDS.name, of, 8 * share * 0.5 * passed
        yield c.WORKLOAD_MEMORY_BYTES.name, of, share * 20e9
        yield c.WORKLOAD_READ_BYTES.name, of, 1e6 * share * passed
        yield c.WORKLOAD_WRITTEN_BYTES.name, of, 2e5 * share * passed
    yield c.COMPUTE_INFO.name, {"scope": "host"}, 1.0
    yield c.COMPUTE_CPU_SECONDS.name, {}, 8 * 0.5 * passed
    yield c.COMPUTE_OOM_KILLS.name, {}, 0.0
    for advice in ("scale_down", "keep", "scale_out"):
        yield c.COMPUTE_ADVICE.name, {"resource": "cpu", "advice": advice}, float(advice == "keep")
    yield c.COMPUTE_ADVICE_CAPACITY_RATIO.name, {"resource": "cpu"}, 1.0
    yield c.COMPUTE_ADVICE_SAVING_PER_HOUR.name, {"resource": "cpu", "currency": "USD"}, 0.0
    yield c.COMPUTE_ADVICE_UTILIZATION_P95_RATIO.name, {"resource": "cpu"}, 0.84
    yield c.COMPUTE_ADVICE_MEMORY_MAX_RATIO.name, {"resource": "cpu"}, 0.37
    yield c.COMPUTE_ADVICE_OBSERVED_SECONDS.name, {"resource": "cpu"}, 86_400.0 + at - BEGIN
    of = {"resource": "cpu", "currency": "USD"}
    yield c.COMPUTE_COST_PER_HOUR.name, of, 1.2
    yield c.COMPUTE_COST.name, of, 1.2 * passed / 3600
    yield c.COMPUTE_IDLE_COST.name, of, 0.6 * passed / 3600


def _quota(passed: int) -> Iterator[Sample]:
    yield c.COMPUTE_CPU_PERIODS.name, {}, 10.0 * passed
    yield c.COMPUTE_CPU_THROTTLED_PERIODS.name, {}, 0.4 * passed
    yield c.COMPUTE_CPU_THROTTLED_SECONDS.name, {}, 0.03 * passed


def _gpu(number: int, passed: int, wave: float) -> Iterator[Sample]:
    of = {"gpu": str(number), "uuid": f"GPU-{number}", "mig": ""}
    hot = float(number == 1 and passed > 3600)
    name = {"vendor": "nvidia", "name": "H200", "driver_version": "570.86", "pci_bus_id": f"0000:0{number}:00.0"}
    yield c.GPU_INFO.name, of | name, 1.0
    yield c.GPU_UP.name, of, 1.0
    yield c.GPU_UTILIZATION_RATIO.name, of, min(1.0, wave + 0.1 * number)
    yield from _histogram(c.GPU_UTILIZATION, of, passed)
    for metric in (c.GPU_SM_ACTIVITY, c.GPU_SM_OCCUPANCY, c.GPU_TENSOR_ACTIVITY, c.GPU_MEMORY_BANDWIDTH):
        yield from _histogram(metric, of, passed)
    yield c.GPU_FIELD_UNAVAILABLE.name, of | {"field": "fan_speed", "reason": "not_supported"}, 1.0
    yield c.GPU_VALUES_DROPPED.name, of | {"field": "power"}, float(number == 0 and passed > 6000)
    yield c.GPU_XID_ERRORS.name, of | {"xid": "79" if hot else "0"}, hot
    yield c.GPU_MEMORY_USED_BYTES.name, of, 90e9
    yield c.GPU_MEMORY_TOTAL_BYTES.name, of, 141e9
    yield c.GPU_POWER_WATTS.name, of, 300 + 200 * wave
    yield c.GPU_POWER_LIMIT_WATTS.name, of, 700.0
    yield c.GPU_TEMPERATURE_CELSIUS.name, of, 60 + 30 * hot
    yield c.GPU_THROTTLED.name, of | {"reason": "hw_thermal_slowdown"}, hot
    yield c.GPU_ECC_ERRORS.name, of | {"type": "corrected"}, 0.0
    yield c.GPU_ECC_ERRORS.name, of | {"type": "uncorrected"}, 2.0 if number == 0 and passed > 5400 else 0.0
    yield c.GPU_MEMORY_UTILIZATION_RATIO.name, of, 0.6 * wave
    yield c.GPU_ENERGY_JOULES.name, of, 400.0 * passed
    yield c.GPU_PROCESS_MEMORY_BYTES.name, of | {"pid": str(4100 + number)}, 88e9
    for direction, rate in (("receive", 2e9), ("transmit", 1e9)):
        yield c.GPU_PCIE_BYTES.name, of | {"direction": direction}, rate * passed
        yield c.GPU_NVLINK_BYTES.name, of | {"direction": direction}, 20 * rate * passed
    yield c.GPU_CLOCK_HERTZ.name, of | {"clock": "sm"}, 1.4e9 if hot else 1.98e9


def _histogram(metric: c.Metric, labels: dict[str, str], passed: int) -> Iterator[Sample]:
    for number, bound in enumerate(metric.buckets):
        yield f"{metric.name}_bucket", {**labels, "le": f"{bound:g}"}, passed * (number + 1.0) / len(metric.buckets)
    yield f"{metric.name}_bucket", {**labels, "le": "+Inf"}, float(passed)
    yield f"{metric.name}_sum", labels, 0.5 * passed
    yield f"{metric.name}_count", labels, float(passed)
