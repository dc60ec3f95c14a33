"""GPUs of any vendor: what a driver is asked for, what of its answers is possible, and how that becomes series.

A second vendor is one new file: a class with the three methods of `Driver`, named in `sampler.DRIVERS`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from mlops_exporter.compute.histogram import RatioHistogram
from mlops_exporter.compute.snapshots import Published, StaleSnapshotError
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples

THROTTLE_REASONS = (
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
)


class DriverError(Exception):
    """The driver does not answer at all. `reason` is short, in lower case with underscores."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process on a GPU, by the host's process id; utilisation is of this GPU, 0 to 1."""

    pid: int
    memory_bytes: int | None
    utilization: float | None = None


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """What does not change while a GPU is there: `index` and `uuid` name it, `mig` the instance on it if it is one."""

    index: str
    uuid: str
    mig: str = ""
    name: str = ""
    pci_bus_id: str = ""

    @property
    def key(self) -> str:
        """What its counts are kept by: its `uuid`, or its place where that cannot be read."""
        return self.uuid or f"{self.index}/{self.mig}"


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU or MIG instance at one sample, in base units, ratios 0 to 1. None is what the GPU does not give.

    `unavailable` says why, by field name. `up` is False for a GPU that did not answer at all.
    """

    identity: GpuIdentity
    up: bool = True
    utilization: float | None = None
    memory_utilization: float | None = None
    sm_activity: float | None = None
    sm_occupancy: float | None = None
    tensor_activity: float | None = None
    memory_bandwidth: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    power: float | None = None
    power_limit: float | None = None
    energy: float | None = None
    temperature: float | None = None
    sm_clock: float | None = None
    memory_clock: float | None = None
    throttled: frozenset[str] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    pcie_received: int | None = None
    pcie_transmitted: int | None = None
    nvlink_received: int | None = None
    nvlink_transmitted: int | None = None
    xids: Mapping[int, int] = field(default_factory=dict)
    processes: tuple[GpuProcess, ...] | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @property
    def activity(self) -> float | None:
        """How much of it works, 0 to 1: of its multiprocessors where it says, else of the time, by any kernel."""
        return self.utilization if self.sm_activity is None else self.sm_activity


IMPOSSIBLE = "impossible"
"""The reason of a value that was dropped."""

_MOST_BYTES = 1 << 50
_LONG_COUNT = 1e15
_LARGEST_PID = 1 << 22  # the kernel's PID_MAX_LIMIT
POSSIBLE: Mapping[str, tuple[float, float]] = {
    "utilization": (0, 1),
    "memory_utilization": (0, 1),
    "sm_activity": (0, 1),
    "sm_occupancy": (0, 1),
    "tensor_activity": (0, 1),
    "memory_bandwidth": (0, 1),
    "memory_used": (0, _MOST_BYTES),
    "memory_total": (1, _MOST_BYTES),
    "power": (0, 10_000),
    "power_limit": (0, 10_000),
    "energy": (0, 1e13),  # ten kilowatts for thirty years
    "temperature": (-60, 200),
    "sm_clock": (0, 2e10),
    "memory_clock": (0, 2e10),
    "ecc_corrected": (0, _LONG_COUNT),
    "ecc_uncorrected": (0, _LONG_COUNT),
    "pcie_received": (0, 1 << 63),
    "pcie_transmitted": (0, 1 << 63),
    "nvlink_received": (0, 1 << 63),
    "nvlink_transmitted": (0, 1 << 63),
}
"""The least and the most that a field of a reading can be, in base units: wider than any GPU, narrower than garbage.

Drivers write a field that they failed to fill as all ones, as minus one, or as whatever lay there. A counter or a
histogram would keep such a value for ever, so it is dropped and counted, never clamped.
"""


_judged = attrgetter(*POSSIBLE)


def sift(reading: GpuReading) -> tuple[GpuReading, Counter[str]]:
    """Return the reading without what is impossible, and how many values of each field were dropped."""
    dropped: Counter[str] = Counter()
    for (name, (least, most)), value in zip(POSSIBLE.items(), _judged(reading), strict=True):
        if value is not None and not _within(value, least, most):
            dropped[name] += 1
    used, total = reading.memory_used, reading.memory_total
    if used is not None and total is not None and not {"memory_used", "memory_total"} & dropped.keys() and used > total:
        dropped["memory_used"] += 1
    processes = reading.processes
    if processes is not None:
        most = total if total is not None and "memory_total" not in dropped else _MOST_BYTES
        processes = tuple(process for process in processes if _possible_process(process, most))
        if gone := len(reading.processes or ()) - len(processes):
            dropped["processes"] = gone
    if not dropped:
        return reading, dropped
    values: dict[str, Any] = {name: None for name in dropped if name != "processes"}
    unavailable = {**reading.unavailable, **dict.fromkeys(dropped, IMPOSSIBLE)}
    return replace(reading, **values, processes=processes, unavailable=unavailable), dropped


def _within(value: object, least: float, most: float) -> bool:
    """Whether it is a number between the two; NaN is not."""
    return isinstance(value, (int, float)) and least <= value <= most


def _possible_process(process: GpuProcess, most_bytes: float) -> bool:
    memory, share = process.memory_bytes, process.utilization
    return (
        _within(process.pid, 1, _LARGEST_PID)
        and (memory is None or _within(memory, 0, most_bytes))
        and (share is None or _within(share, 0, 1))
    )


class Driver(Protocol):
    """A vendor's driver. Its methods are called from one thread and may block as long as the driver does."""

    vendor: str

    def open(self) -> str:
        """Load the vendor's library and return the driver's version. Raises DriverError."""
        ...

    def read(self) -> Sequence[GpuReading]:
        """Read every GPU, a lost one included. Raises DriverError when the driver has gone."""
        ...

    def close(self) -> None:
        """Give everything back, so that `open` may load a newer library. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class GpuShare:
    """What some processes have of the GPUs; None where no GPU says."""

    memory_bytes: int | None
    utilization: float | None


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """All GPUs of one vendor at one sample. `error` is None while the driver answers."""

    vendor: str
    error: str | None = None
    driver_version: str = ""
    readings: tuple[GpuReading, ...] = ()
    histograms: tuple[Mapping[str, tuple[float, ...]], ...] = ()
    """For each reading, the histograms of its fields, by field."""
    dropped: tuple[Mapping[str, int], ...] = ()
    """For each reading, how many impossible values its GPU has given so far, by field."""


def share_of(pids: Collection[int], readings: Iterable[GpuReading]) -> GpuShare:
    """Return the memory that `pids` hold, and the mean over the GPUs they are on of the compute time they use."""
    readings = [reading for reading in readings if reading.processes is not None]
    if not pids or not readings:
        return GpuShare(None, None)
    memory: list[int | None] = []
    utilizations: list[float] = []
    for reading in readings:
        mine = [process for process in reading.processes or () if process.pid in pids]
        memory += [process.memory_bytes for process in mine]
        known = [process.utilization for process in mine if process.utilization is not None]
        if known:
            utilizations.append(min(sum(known), 1.0))
    held = [size for size in memory if size is not None]
    return GpuShare(
        sum(held) if len(held) == len(memory) else None,
        sum(utilizations) / len(utilizations) if utilizations else None,
    )


class GpuSampler:
    """Reads one driver, opens it again when it or a GPU is gone, and keeps the histograms.

    Reopening backs off from one second to a minute; GPUs that answer are read all the while.
    """

    _LONGEST_WAIT = 60.0

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._version: str | None = None
        self._reason = "not_opened"
        self._wait = 1.0
        self._next_open = 0.0
        self._histograms: dict[tuple[str, str], RatioHistogram] = {}
        self._dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def sample(self, now: float) -> GpuSnapshot:
        """Take a sample at `now` (monotonic seconds). The driver's failures are in the snapshot."""
        vendor = self._driver.vendor
        if self._version is None and now < self._next_open:
            return GpuSnapshot(vendor, self._reason)
        try:
            if self._version is None:
                self._version = self._driver.open()
            readings = tuple(self._sifted(reading) for reading in self._driver.read())
        except DriverError as error:
            self._reopen_later(now, error.reason)
            return GpuSnapshot(vendor, error.reason)
        version = self._version
        if all(reading.up for reading in readings):
            self._wait = 1.0
            self._next_open = 0.0
        elif not self._next_open:
            self._next_open = now + self._wait
        elif now >= self._next_open:
            self._reopen_later(now, "gpu_lost")
            self._next_open = 0.0  # at the next sample
        return GpuSnapshot(
            vendor,
            None,
            version,
            readings,
            tuple(self._observe(reading) for reading in readings),
            tuple(dict(self._dropped.get(reading.identity.key, ())) for reading in readings),
        )

    def _sifted(self, reading: GpuReading) -> GpuReading:
        reading, dropped = sift(reading)
        if dropped:
            self._dropped[reading.identity.key].update(dropped)
        return reading

    def _reopen_later(self, now: float, reason: str) -> None:
        self._driver.close()
        self._version = None
        self._reason = reason
        self._next_open = now + self._wait
        self._wait = min(2 * self._wait, self._LONGEST_WAIT)

    def _observe(self, reading: GpuReading) -> dict[str, tuple[float, ...]]:
        values = {}
        for metric, name in _HISTOGRAMS:
            ratio = getattr(reading, name)
            if ratio is not None:
                histogram = self._histograms.setdefault((reading.identity.key, name), RatioHistogram(metric))
                histogram.observe(ratio)
                values[name] = histogram.values()
        return values


_HISTOGRAMS: tuple[tuple[Metric, str], ...] = (
    (catalogue.GPU_UTILIZATION, "utilization"),
    (catalogue.GPU_SM_ACTIVITY, "sm_activity"),
    (catalogue.GPU_SM_OCCUPANCY, "sm_occupancy"),
    (catalogue.GPU_TENSOR_ACTIVITY, "tensor_activity"),
    (catalogue.GPU_MEMORY_BANDWIDTH, "memory_bandwidth"),
)

_GAUGES: tuple[tuple[Metric, str], ...] = (
    (catalogue.GPU_UTILIZATION_RATIO, "utilization"),
    (catalogue.GPU_MEMORY_UTILIZATION_RATIO, "memory_utilization"),
    (catalogue.GPU_MEMORY_USED_BYTES, "memory_used"),
    (catalogue.GPU_MEMORY_TOTAL_BYTES, "memory_total"),
    (catalogue.GPU_POWER_WATTS, "power"),
    (catalogue.GPU_POWER_LIMIT_WATTS, "power_limit"),
    (catalogue.GPU_ENERGY_JOULES, "energy"),
    (catalogue.GPU_TEMPERATURE_CELSIUS, "temperature"),
)

_LABELLED: tuple[tuple[Metric, tuple[tuple[str, str], ...]], ...] = (
    (catalogue.GPU_CLOCK_HERTZ, (("sm", "sm_clock"), ("memory", "memory_clock"))),
    (catalogue.GPU_ECC_ERRORS, (("corrected", "ecc_corrected"), ("uncorrected", "ecc_uncorrected"))),
    (catalogue.GPU_PCIE_BYTES, (("receive", "pcie_received"), ("transmit", "pcie_transmitted"))),
    (catalogue.GPU_NVLINK_BYTES, (("receive", "nvlink_received"), ("transmit", "nvlink_transmitted"))),
)

Labels = tuple[str, ...]


class GpuCollector:
    """Samples of every vendor's latest snapshot. Label sets are rendered again only when they change."""

    name = "gpu"
    about = "GPUs, and whether their drivers answer"
    by_default = True

    def __init__(self, published: Sequence[tuple[str, Published[GpuSnapshot]]]) -> None:
        self._published = published
        self._rows: dict[str, tuple[tuple[Labels, ...], Rows]] = {}

    def collect(self, now: float) -> Iterable[Samples]:
        """Return the latest samples; a driver that hangs is one that does not answer, its error `timeout`."""
        snapshots = [snapshot for vendor, published in self._published if (snapshot := _latest(vendor, published))]
        yield self._samples(
            catalogue.GPU_DRIVER_UP, [((snapshot.vendor,), float(snapshot.error is None)) for snapshot in snapshots]
        )
        yield self._samples(
            catalogue.GPU_DRIVER_ERROR,
            [((snapshot.vendor, snapshot.error), 1.0) for snapshot in snapshots if snapshot.error],
        )
        gpus = [(snapshot, reading) for snapshot in snapshots for reading in snapshot.readings]
        if not gpus:
            return
        labelled = [(_labels(reading), reading) for _, reading in gpus]
        yield self._samples(catalogue.GPU_UP, [(labels, float(reading.up)) for labels, reading in labelled])
        yield self._samples(catalogue.GPU_INFO, [(_info(snapshot, reading), 1.0) for snapshot, reading in gpus])
        yield self._many(
            catalogue.GPU_FIELD_UNAVAILABLE,
            labelled,
            lambda reading: dict.fromkeys(reading.unavailable.items(), 1),
        )
        yield self._dropped(snapshots)
        for metric, name in _GAUGES:
            yield self._samples(metric, [(labels, getattr(reading, name)) for labels, reading in labelled])
        for metric, name in _HISTOGRAMS:
            yield self._histogram(metric, name, snapshots)
        for metric, fields in _LABELLED:
            yield self._samples(
                metric,
                [((*labels, value), getattr(reading, name)) for labels, reading in labelled for value, name in fields],
            )
        yield self._many(
            catalogue.GPU_THROTTLED,
            labelled,
            lambda reading: (
                {}
                if reading.throttled is None
                else {(reason,): reason in reading.throttled for reason in THROTTLE_REASONS}
            ),
        )
        yield self._many(
            catalogue.GPU_XID_ERRORS, labelled, lambda reading: {(str(xid),): n for xid, n in reading.xids.items()}
        )
        yield self._many(
            catalogue.GPU_PROCESS_MEMORY_BYTES,
            labelled,
            lambda reading: {(str(process.pid),): process.memory_bytes for process in reading.processes or ()},
        )

    def _many(
        self,
        metric: Metric,
        labelled: Sequence[tuple[Labels, GpuReading]],
        values: Callable[[GpuReading], Mapping[Labels, float | None]],
    ) -> Samples:
        return self._samples(
            metric,
            [((*labels, *more), value) for labels, reading in labelled for more, value in values(reading).items()],
        )

    def _dropped(self, snapshots: Sequence[GpuSnapshot]) -> Samples:
        return self._samples(
            catalogue.GPU_VALUES_DROPPED,
            [
                ((*_labels(reading), name), count)
                for snapshot in snapshots
                for reading, dropped in zip(snapshot.readings, snapshot.dropped, strict=False)
                for name, count in sorted(dropped.items())
            ],
        )

    def _histogram(self, metric: Metric, name: str, snapshots: Sequence[GpuSnapshot]) -> Samples:
        observed = [
            (_labels(reading), values[name])
            for snapshot in snapshots
            for reading, values in zip(snapshot.readings, snapshot.histograms, strict=True)
            if name in values
        ]
        rows = self._rows_of(metric, tuple(labels for labels, _ in observed))
        return Samples(rows, np.array([value for _, values in observed for value in values], dtype=np.float64))

    def _samples(self, metric: Metric, series: Sequence[tuple[Labels, float | None]]) -> Samples:
        rows = self._rows_of(metric, tuple(labels for labels, _ in series))
        return Samples(rows, np.array([value for _, value in series], dtype=np.float64))

    def _rows_of(self, metric: Metric, labels: tuple[Labels, ...]) -> Rows:
        known = self._rows.get(metric.name)
        if known is None or known[0] != labels:
            known = self._rows[metric.name] = (labels, Rows(metric, labels))
        return known[1]


def _latest(vendor: str, published: Published[GpuSnapshot]) -> GpuSnapshot | None:
    try:
        return published.get()
    except StaleSnapshotError:
        return GpuSnapshot(vendor, "timeout")


def _labels(reading: GpuReading) -> Labels:
    identity = reading.identity
    return (identity.index, identity.uuid, identity.mig)


def _info(snapshot: GpuSnapshot, reading: GpuReading) -> Labels:
    identity = reading.identity
    return (*_labels(reading), snapshot.vendor, identity.name, snapshot.driver_version, identity.pci_bus_id)
