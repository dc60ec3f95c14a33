"""The sampling threads: one for what the kernel tells, one per GPU vendor, since a broken driver may hang for ever."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mlops_exporter.compute.cgroup import find_scope
from mlops_exporter.compute.cost import CostCollector, CostSampler, ResourceSnapshot
from mlops_exporter.compute.cpu import CpuCollector, CpuSampler, CpuSnapshot
from mlops_exporter.compute.gpu import Driver, GpuCollector, GpuSampler, GpuSnapshot
from mlops_exporter.compute.kubernetes import ApiServer, PodCollector
from mlops_exporter.compute.memory import MemoryCollector, MemorySampler, MemorySnapshot, PressureCollector
from mlops_exporter.compute.nvidia import NvidiaDriver
from mlops_exporter.compute.processes import WorkloadSnapshot, boot_clock
from mlops_exporter.compute.snapshots import NoSnapshotError, Published
from mlops_exporter.compute.state import machine_state
from mlops_exporter.compute.workloads import WorkloadCollector, WorkloadSampler
from mlops_exporter.exposition.samples import Collector
from mlops_exporter.judging.machine import MachineState
from mlops_exporter.settings.compute import ComputeSettings

_log = logging.getLogger(__name__)

DRIVERS: tuple[Callable[[bool], Driver], ...] = (NvidiaDriver,)
"""Each is made with whether it may use the GPUs' profiling counters."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watch:
    """What of the samples depends on settings that may change while sampling goes on, and what publishes it."""

    settings: ComputeSettings
    workload_sampler: WorkloadSampler
    workloads: Published[tuple[WorkloadSnapshot, ...]]
    cost_sampler: CostSampler
    cost: Published[tuple[ResourceSnapshot, ...]]
    collectors: tuple[Collector, ...] = ()


LASTING = ("interval", "scope", "root", "gpm", "kubernetes")
"""Settings with which sampling began, and which it keeps."""


class Compute:
    """Samples compute every `settings.interval` between `start` and `stop`; collectors read the latest samples.

    `drivers` are the GPU drivers to use, all known ones when None.
    """

    def __init__(self, settings: ComputeSettings, drivers: Sequence[Driver] | None = None) -> None:
        self._interval = settings.interval
        root = settings.root
        scope = find_scope(root, settings.scope)
        self._max_age = max_age = max(5 * settings.interval, 10.0)
        self._cpu = Published[CpuSnapshot](max_age)
        self._memory = Published[MemorySnapshot](max_age)
        self._cpu_sampler = CpuSampler(root, scope)
        self._memory_sampler = MemorySampler(root, scope)
        self._sampling = threading.Lock()
        self._gpus = [
            (driver, Published[GpuSnapshot](max_age))
            for driver in (drivers if drivers is not None else (make(settings.gpm) for make in DRIVERS))
        ]
        self._api_server = ApiServer(settings.kubernetes)
        self._host_collectors: tuple[Collector, ...] = (
            CpuCollector(self._cpu, "host" if scope is None else "cgroup"),
            MemoryCollector(self._memory),
            PressureCollector(root, scope),
            PodCollector(self._api_server),
        )
        self._gpu_collector = GpuCollector([(driver.vendor, published) for driver, published in self._gpus])
        self._watch = self._collected(
            Watch(
                settings,
                WorkloadSampler(root, settings.workloads, boot_clock, self._api_server.describe),
                Published(max_age),
                CostSampler(settings.cost, settings.advice, settings.interval),
                Published(max_age),
            )
        )
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: dict[str, str] = {}

    @property
    def watch(self) -> Watch:
        """What depends on the settings in force."""
        return self._watch

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """The collectors of what is sampled now."""
        return self._watch.collectors

    def prepare(self, settings: ComputeSettings) -> Watch:
        """Return what `become` needs for other settings, all but LASTING ones, with a first sample. Blocks briefly."""
        with self._sampling:
            watch = self._watch
            if settings.workloads != watch.settings.workloads:
                watch = replace(
                    watch,
                    workload_sampler=watch.workload_sampler.successor(settings.workloads),
                    workloads=Published(self._max_age),
                )
            if (settings.cost, settings.advice) != (watch.settings.cost, watch.settings.advice):
                watch = replace(
                    watch,
                    cost_sampler=watch.cost_sampler.successor(settings.cost, settings.advice),
                    cost=Published(self._max_age),
                )
        watch = self._collected(replace(watch, settings=settings))
        if watch.workloads is not self._watch.workloads:
            _publish(watch.workloads, watch.workload_sampler.sample)
        if watch.cost is not self._watch.cost:
            _publish(watch.cost, lambda: self._sample_cost(watch.cost_sampler, time.monotonic()))
        return watch

    def become(self, watch: Watch) -> None:
        """Go on by other settings from the next sample on."""
        self._watch = watch

    def _collected(self, watch: Watch) -> Watch:
        """Return it with its collectors."""
        cost = watch.settings.cost
        workloads = WorkloadCollector(watch.workloads, [published for _, published in self._gpus])
        costs = CostCollector(watch.cost, cost.currency if cost else "")
        return replace(watch, collectors=(*self._host_collectors, workloads, self._gpu_collector, costs))

    def state(self) -> MachineState:
        """Return how the machine is by the latest samples."""
        watch = self._watch
        drivers = [snapshot for _, published in self._gpus if (snapshot := _latest(published)) is not None]
        return machine_state(
            watch.settings,
            _latest(self._cpu),
            _latest(self._memory),
            _latest(watch.workloads),
            drivers,
            _latest(watch.cost),
            self._api_server.fault,
        )

    @property
    def generation(self) -> int:
        """A number that grows whenever a collector has something new to tell."""
        host = self._cpu.generation + self._memory.generation
        host += self._watch.workloads.generation + self._watch.cost.generation
        return host + sum(published.generation for _, published in self._gpus)

    def start(self) -> None:
        """Start sampling. May be called once."""
        self._threads.append(threading.Thread(target=self._sample_host, name="compute-host", daemon=True))
        for driver, published in self._gpus:
            name = f"compute-{driver.vendor}"
            thread = threading.Thread(target=self._sample_gpus, args=(driver, published), name=name, daemon=True)
            self._threads.append(thread)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop within two seconds. A thread that hangs in a driver is left behind, and ends with the process."""
        self._stopping.set()
        self._api_server.stop()
        deadline = time.monotonic() + 1.5
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _sample_host(self) -> None:
        def sample(now: float) -> None:
            self._attempt("cpu", self._cpu, lambda: self._cpu_sampler.sample(now))
            self._attempt("memory", self._memory, self._memory_sampler.sample)
            with self._sampling:
                watch = self._watch
                self._attempt("workloads", watch.workloads, watch.workload_sampler.sample)
                self._attempt("cost", watch.cost, lambda: self._sample_cost(watch.cost_sampler, now))

        self._every_interval(sample)

    def _sample_gpus(self, driver: Driver, published: Published[GpuSnapshot]) -> None:
        sampler = GpuSampler(driver)
        self._every_interval(lambda now: self._attempt("gpu", published, lambda: sampler.sample(now)))
        driver.close()

    def _sample_cost(self, sampler: CostSampler, now: float) -> tuple[ResourceSnapshot, ...]:
        gpus = [snapshot for _, published in self._gpus if (snapshot := _latest(published)) is not None]
        return sampler.sample(now, _latest(self._cpu), _latest(self._memory), gpus)

    def _every_interval(self, sample: Callable[[float], None]) -> None:
        """Call `sample` on a fixed beat; a beat that was missed is skipped, not made up for."""
        interval = self._interval
        due = time.monotonic()
        while True:
            now = time.monotonic()
            sample(now)
            due += interval * max(1, -(-(time.monotonic() - due) // interval))
            if self._stopping.wait(due - time.monotonic()):
                return

    def _attempt(self, name: str, published: Published[T], sample: Callable[[], T]) -> None:
        """Publish the sample, or the reason that there is none; log a reason once, not at every beat."""
        error = _publish(published, sample)
        if error is not None:
            if self._failures.get(name) != str(error):
                self._failures[name] = str(error)
                shown = None if isinstance(error, OSError) else error
                _log.warning("sampling of %s failed: %s", name, error, exc_info=shown)
        elif self._failures.pop(name, None):
            _log.info("sampling of %s works again", name)


def _publish(published: Published[T], sample: Callable[[], T]) -> Exception | None:
    """Publish the sample, or the reason that there is none, and return that."""
    try:
        published.put(sample())
    except Exception as error:  # whatever it is must not end the thread
        published.put(error)
        return error
    return None


def _latest(published: Published[T]) -> T | None:
    try:
        return published.get()
    except NoSnapshotError:
        return None
