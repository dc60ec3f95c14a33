"""NVIDIA GPUs through NVML, by NVIDIA's own module pynvml (package nvidia-ml-py).

Every value is asked for on its own, so that one that is not supported costs only itself; a GPU that is lost costs only
that GPU; a driver that is gone is given back with its library, so that a newer one can be loaded in its place.

Source: NVIDIA's NVML reference and nvml.h.
"""

import _ctypes
import ctypes
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pynvml
from pynvml import NVMLError

from mlops_exporter.compute.gpu import DriverError, GpuIdentity, GpuProcess, GpuReading

_log = logging.getLogger(__name__)

_REASONS = {
    value: name.removeprefix("NVML_ERROR_").lower()
    for name, value in vars(pynvml).items()
    if name.startswith("NVML_ERROR_")
}
_DRIVER_GONE = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
_GPU_GONE = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_GPU_NOT_FOUND, pynvml.NVML_ERROR_RESET_REQUIRED}
_PERMANENT = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
_ASK_AGAIN_AFTER = 300  # samples before asking again for what was not supported

_THROTTLE_BITS = {
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake_slowdown": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
}
_ALL_LINKS = 0xFFFFFFFF
_LINK_FIELDS = {  # reading's field: NVML field, scope, bytes per unit
    "pcie_transmitted": (pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 0, 1),
    "pcie_received": (pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 0, 1),
    "nvlink_transmitted": (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS, 1024),
    "nvlink_received": (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS, 1024),
}
_VALUE_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
}

Values = dict[str, Any]


class _GpuGoneError(Exception):
    """The GPU answers no more; the argument says why."""


@dataclass(slots=True)
class _Device:
    """A handle, and what has been learnt about asking it."""

    handle: Any
    identity: GpuIdentity
    unsupported: dict[str, tuple[str, int]] = field(default_factory=dict)  # field to reason, sample to ask again
    utilization_seen: int = 0  # NVML's time stamp of the newest per-process sample
    no_xids: str = ""  # why its XID events are not known


class NvidiaDriver:
    """NVML as a `Driver`."""

    vendor = "nvidia"

    def __init__(self) -> None:
        self._identities: dict[int, GpuIdentity] = {}
        self._devices: dict[int, _Device] = {}
        self._instances: dict[str, _Device] = {}
        self._xids: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._events: Any = None
        self._uuid_by_handle: dict[int, str] = {}
        self._no_events = ""
        self._samples = 0
        self._last_state = ""

    def open(self) -> str:
        """Load NVML and return the driver's version. Raises DriverError."""
        try:
            pynvml.nvmlInit()
            version = str(pynvml.nvmlSystemGetDriverVersion())
        except NVMLError as error:
            raise self._down(error) from error
        self._open_events()
        self._report(f"NVIDIA driver {version} answers", logging.INFO)
        return version

    def read(self) -> Sequence[GpuReading]:
        """Read all GPUs, and the MIG instances of those that are divided. Raises DriverError."""
        self._samples += 1
        try:
            count = pynvml.nvmlDeviceGetCount()
        except NVMLError as error:
            raise self._down(error) from error
        self._take_events()
        readings: list[GpuReading] = []
        # A GPU that fell off the bus may be missing from the count: it is reported as lost, not forgotten.
        for index in range(max(count, len(self._identities))):
            readings.extend(self._read_gpu(index))
        return readings

    def close(self) -> None:
        """Shut NVML down and unload its library, which a driver update may have replaced on disk."""
        if pynvml.nvmlLib is not None:
            with suppress(NVMLError):
                if self._events is not None:
                    pynvml.nvmlEventSetFree(self._events)
            with suppress(NVMLError):
                pynvml.nvmlShutdown()
            _ctypes.dlclose(pynvml.nvmlLib._handle)
            pynvml.nvmlLib = None
            pynvml._nvmlGetFunctionPointer_cache.clear()
            pynvml._nvmlLib_refcount = 0
        self._events = None
        self._devices.clear()
        self._instances.clear()
        self._uuid_by_handle.clear()

    # Failure.

    def _down(self, error: NVMLError) -> DriverError:
        self._identities.clear()  # the driver that comes back says which GPUs there are
        reason = _reason(error)
        quiet = reason == "library_not_found" and not self._last_state
        self._report(f"NVIDIA driver does not answer: {reason}", logging.INFO if quiet else logging.WARNING)
        return DriverError(reason)

    def _report(self, state: str, level: int) -> None:
        """Log a change of state once, not once a second."""
        if state != self._last_state:
            _log.log(level, "%s", state)
            self._last_state = state

    # One GPU.

    def _read_gpu(self, index: int) -> list[GpuReading]:
        try:
            device = self._device(index)
            divided = self._mig_enabled(device)
            reading = self._read_whole(device, divided)
            return [reading, *(self._read_instances(device) if divided else ())]
        except _GpuGoneError as gone:
            self._devices.pop(index, None)
            identity = self._identities.setdefault(index, GpuIdentity(str(index), ""))
            return [GpuReading(identity, up=False, unavailable={"all": str(gone)}, xids=self._xids_of(identity))]

    def _device(self, index: int) -> _Device:
        if index in self._devices:
            return self._devices[index]
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = str(pynvml.nvmlDeviceGetUUID(handle))
        except NVMLError as error:
            self._raise_if_driver_gone(error)
            raise _GpuGoneError(_reason(error)) from error
        identity = GpuIdentity(str(index), uuid, "", _name(handle), _pci_bus_id(handle))
        self._identities[index] = identity
        device = self._devices[index] = _Device(handle, identity)
        self._register_events(device)
        return device

    def _read_whole(self, device: _Device, divided: bool) -> GpuReading:
        handle = device.handle
        values: Values = {}
        unavailable: dict[str, str] = {}

        def ask(name: str, question: Callable[[], Any]) -> Any:
            return self._ask(device, name, question, unavailable)

        if rates := ask("utilization", lambda: pynvml.nvmlDeviceGetUtilizationRates(handle)):
            values.update(utilization=rates.gpu / 100, memory_utilization=rates.memory / 100)
        if memory := ask("memory", lambda: _memory(handle)):
            values.update(memory_used=memory.used, memory_total=memory.total)
        values["power"] = _milli(ask("power", lambda: pynvml.nvmlDeviceGetPowerUsage(handle)))
        values["power_limit"] = _milli(ask("power_limit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)))
        values["energy"] = _milli(ask("energy", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)))
        values["temperature"] = ask("temperature", lambda: _temperature(handle))
        values["sm_clock"] = _mega(ask("sm_clock", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)))
        values["memory_clock"] = _mega(
            ask("memory_clock", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM))
        )
        mask = ask("throttled", lambda: _clock_event_reasons(handle))
        values["throttled"] = (
            None if mask is None else frozenset(reason for reason, bit in _THROTTLE_BITS.items() if mask & bit)
        )
        for name, kind in (
            ("ecc_corrected", pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ("ecc_uncorrected", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        ):
            values[name] = ask(name, partial(_ecc_errors, handle, kind))
        values.update(ask("links", lambda: _link_bytes(handle, unavailable)) or {})
        if not divided:  # the processes of a divided GPU are those of its instances
            values["processes"] = self._processes(device, unavailable)
        if device.no_xids:
            unavailable["xid"] = device.no_xids
        return GpuReading(device.identity, unavailable=unavailable, xids=self._xids_of(device.identity), **values)

    def _read_instances(self, parent: _Device) -> list[GpuReading]:
        readings = []
        seen = set()
        for index in range(self._instance_count(parent)):
            try:
                handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent.handle, index)
                uuid = str(pynvml.nvmlDeviceGetUUID(handle))
            except NVMLError as error:
                self._raise_if_gone(error)
                continue  # no instance in this place
            seen.add(uuid)
            identity = GpuIdentity(parent.identity.index, uuid, str(index), _name(handle), parent.identity.pci_bus_id)
            device = self._instances.get(uuid)
            if device is None or device.identity != identity:
                device = self._instances[uuid] = _Device(handle, identity)
            device.handle = handle
            readings.append(self._read_instance(device))
        gone = [
            uuid
            for uuid, device in self._instances.items()
            if device.identity.index == parent.identity.index and uuid not in seen
        ]
        for uuid in gone:
            del self._instances[uuid]
        return readings

    def _read_instance(self, device: _Device) -> GpuReading:
        unavailable: dict[str, str] = {}
        values: Values = {}
        if memory := self._ask(device, "memory", lambda: _memory(device.handle), unavailable):
            values.update(memory_used=memory.used, memory_total=memory.total)
        if rates := self._ask(
            device, "utilization", lambda: pynvml.nvmlDeviceGetUtilizationRates(device.handle), unavailable
        ):
            values.update(utilization=rates.gpu / 100, memory_utilization=rates.memory / 100)
        values["processes"] = self._processes(device, unavailable)
        return GpuReading(device.identity, unavailable=unavailable, **values)

    def _processes(self, device: _Device, unavailable: dict[str, str]) -> tuple[GpuProcess, ...] | None:
        running = self._ask(device, "processes", lambda: _running_processes(device.handle), unavailable)
        if running is None:
            return None
        utilization: Mapping[int, float] = {}
        if running:
            utilization = (
                self._ask(device, "process_utilization", lambda: _process_utilization(device), unavailable) or {}
            )
        return tuple(GpuProcess(p.pid, p.usedGpuMemory, utilization.get(p.pid)) for p in running)

    def _mig_enabled(self, device: _Device) -> bool:
        modes = self._ask(device, "mig", lambda: pynvml.nvmlDeviceGetMigMode(device.handle), {})
        return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE

    def _instance_count(self, device: _Device) -> int:
        return self._ask(device, "mig", lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(device.handle), {}) or 0

    # Asking.

    def _ask(self, device: _Device, name: str, question: Callable[[], Any], unavailable: dict[str, str]) -> Any:
        """Return the answer, or None with the reason in `unavailable`. Raises _GpuGoneError and DriverError."""
        known = device.unsupported.get(name)
        if known is not None and self._samples < known[1]:
            unavailable[name] = known[0]
            return None
        try:
            return question()
        except NVMLError as error:
            self._raise_if_gone(error)
            unavailable[name] = _reason(error)
            if error.value in _PERMANENT:
                device.unsupported[name] = (_reason(error), self._samples + _ASK_AGAIN_AFTER)
            return None

    def _raise_if_gone(self, error: NVMLError) -> None:
        self._raise_if_driver_gone(error)
        if error.value in _GPU_GONE:
            raise _GpuGoneError(_reason(error)) from error

    def _raise_if_driver_gone(self, error: NVMLError) -> None:
        if error.value in _DRIVER_GONE:
            raise self._down(error) from error

    # XID events.

    def _open_events(self) -> None:
        self._no_events = ""
        try:
            self._events = pynvml.nvmlEventSetCreate()
        except NVMLError as error:
            self._no_events = _reason(error)

    def _register_events(self, device: _Device) -> None:
        self._uuid_by_handle[_address(device.handle)] = device.identity.uuid
        device.no_xids = self._no_events
        if self._events is not None:
            try:
                pynvml.nvmlDeviceRegisterEvents(device.handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
            except NVMLError as error:
                device.no_xids = _reason(error)

    def _take_events(self) -> None:
        """Count what has happened since the last sample; a flood is left for the next one."""
        if self._events is None:
            return
        with suppress(NVMLError):  # a timeout says that there is no more
            for _ in range(100):
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
                self._xids[self._uuid_by_handle.get(_address(event.device), "")][event.eventData] += 1

    def _xids_of(self, identity: GpuIdentity) -> Mapping[int, int]:
        return dict(self._xids[identity.uuid]) if identity.uuid in self._xids else {}


def _reason(error: NVMLError) -> str:
    return str(_REASONS.get(error.value, f"error_{error.value}"))


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _milli(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _mega(value: int | None) -> float | None:
    return None if value is None else value * 1e6


def _name(handle: Any) -> str:
    try:
        return str(pynvml.nvmlDeviceGetName(handle))
    except NVMLError:
        return ""


def _pci_bus_id(handle: Any) -> str:
    try:
        bus_id = pynvml.nvmlDeviceGetPciInfo(handle).busId
        return str(bus_id.decode() if isinstance(bus_id, bytes) else bus_id)
    except NVMLError:
        return ""


def _memory(handle: Any) -> Any:
    """Ask for memory; the second version, since driver 510, no longer counts the driver's own as used."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _temperature(handle: Any) -> int:
    """Ask for the temperature in degrees Celsius, by the call that replaces the deprecated one where it exists."""
    try:
        return int(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError_FunctionNotFound:
        return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _clock_event_reasons(handle: Any) -> int:
    """Ask for the bit mask of reasons, by the name it has had since driver 535 or by the older one."""
    try:
        return int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except pynvml.NVMLError_FunctionNotFound:
        return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _running_processes(handle: Any) -> list[Any]:
    """Ask for compute processes, by the call that driver 510 brought or by the one before."""
    try:
        return list(pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))
    except pynvml.NVMLError_FunctionNotFound:
        return list(pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle))


def _ecc_errors(handle: Any, kind: int) -> int:
    return int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_AGGREGATE_ECC))


def _link_bytes(handle: Any, unavailable: dict[str, str]) -> Values:
    """Return the bytes over PCIe and NVLink so far; the fields not supported go to `unavailable`."""
    answers = pynvml.nvmlDeviceGetFieldValues(handle, [(number, scope) for number, scope, _ in _LINK_FIELDS.values()])
    values: Values = {}
    for (name, (_, _, unit)), answer in zip(_LINK_FIELDS.items(), answers, strict=True):
        if answer.nvmlReturn == pynvml.NVML_SUCCESS:
            values[name] = int(getattr(answer.value, _VALUE_MEMBERS[answer.valueType])) * unit
        else:
            unavailable[name] = _REASONS.get(answer.nvmlReturn, f"error_{answer.nvmlReturn}")
    return values


def _process_utilization(device: _Device) -> dict[int, float]:
    """Return each process's mean share of the GPU's compute time over NVML's samples since the last call."""
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(device.handle, device.utilization_seen)
    except pynvml.NVMLError_NotFound:  # no sample since then
        return {}
    by_process: defaultdict[int, list[int]] = defaultdict(list)
    for sample in samples:
        if sample.timeStamp > device.utilization_seen:
            by_process[sample.pid].append(sample.smUtil)
    device.utilization_seen = max((sample.timeStamp for sample in samples), default=device.utilization_seen)
    return {pid: sum(shares) / len(shares) / 100 for pid, shares in by_process.items()}
