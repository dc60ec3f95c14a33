"""NVIDIA GPUs through NVML, by NVIDIA's own module pynvml (package nvidia-ml-py).

Every value is asked for on its own, so that one that is not supported, or that pynvml cannot read, costs only itself; a
GPU that is lost costs only that GPU; a driver that is gone is given back with its library, so that a newer one can be
loaded in its place. Whether an answer is possible at all is judged in `gpu`, for every vendor alike.

Source: NVIDIA's NVML reference and nvml.h.
"""

import _ctypes
import ctypes
import logging
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pynvml
from pynvml import NVMLError

from mlops_exporter.compute import gpm
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
_WITHOUT_GPM = {_REASONS[code] for code in _PERMANENT}
_ASK_AGAIN_AFTER = 300  # samples before asking again for what was not supported
UNREADABLE = "unreadable"
"""The reason of whatever an answer raises that is not NVML's own error, such as a name that is not UTF-8."""
_MOST_GPUS = 1024
_MOST_INSTANCES = 64
_ROOM = 16
_LARGEST_XID = 9999  # the largest that NVIDIA lists has three digits

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
_VALUES = {  # how a value of that type lies in the union of eight bytes
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: struct.Struct("@I"),
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: struct.Struct("@L"),
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: struct.Struct("@Q"),
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: struct.Struct("@q"),
}
# Arrays of the driver's structures are read as bytes: an attribute of pynvml's structures costs a microsecond each.
_FIELD_VALUE = struct.Struct("@IIqqII8s")  # field, scope, time, latency, type, result, value
_LINK_QUESTION = b"".join(
    _FIELD_VALUE.pack(number, scope, 0, 0, 0, 0, b"") for number, scope, _ in _LINK_FIELDS.values()
)
_PROCESS = struct.Struct("@IQII")  # process id, bytes, GPU instance, compute instance
_LONG_PROCESS = struct.Struct("@IQIIQ")  # as drivers 535.43 to 535.86 write it, with protected memory at its end
_PROCESS_SAMPLE = struct.Struct("@IQIIII")  # process id, time, percent of SM, memory, encoder, decoder

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
    counters: gpm.Counters | None = None
    room: int = _ROOM  # for how many processes the driver is given room


class NvidiaDriver:
    """NVML as a `Driver`; `profiling` is whether it asks for GPM, whose counters it shares with other profilers."""

    vendor = "nvidia"

    def __init__(self, profiling: bool = True) -> None:
        self._profiling = profiling
        self._identities: dict[int, GpuIdentity] = {}
        self._devices: dict[int, _Device] = {}
        self._instances: dict[str, _Device] = {}
        self._xids: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._events: Any = None
        self._uuid_by_handle: dict[int, str] = {}
        self._no_events = ""
        self._samples = 0
        self._last_state = ""
        self._told: set[str] = set()

    def open(self) -> str:
        """Load NVML and return the driver's version. Raises DriverError."""
        try:
            pynvml.nvmlInit()
        except Exception as error:
            raise self._down(error) from error
        version = _text(pynvml.nvmlSystemGetDriverVersion)
        self._open_events()
        self._report(f"NVIDIA driver {version} answers", logging.INFO)
        return version

    def read(self) -> Sequence[GpuReading]:
        """Read all GPUs, and the MIG instances of those that are divided. Raises DriverError."""
        self._samples += 1
        try:
            count = pynvml.nvmlDeviceGetCount()
            if not 0 <= count <= _MOST_GPUS:
                raise ValueError(f"{count} GPUs")
        except Exception as error:
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
            for device in (*self._devices.values(), *self._instances.values()):
                _forget(device)
            with suppress(Exception):
                if self._events is not None:
                    pynvml.nvmlEventSetFree(self._events)
            with suppress(Exception):
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

    def _down(self, error: Exception) -> DriverError:
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
            if not divided:
                return [reading]
            instances = self._read_instances(device)
            activity = self._activity_of_parts(device, instances)
            return [replace(reading, sm_activity=activity), *(instance for _, instance in instances)]
        except DriverError:
            raise
        except Exception as error:
            gone = str(error) if isinstance(error, _GpuGoneError) else self._unreadable(error)
            if (lost := self._devices.pop(index, None)) is not None:
                _forget(lost)
            identity = self._identities.setdefault(index, GpuIdentity(str(index), ""))
            return [GpuReading(identity, up=False, unavailable={"all": gone}, xids=self._xids_of(identity))]

    def _device(self, index: int) -> _Device:
        if index in self._devices:
            return self._devices[index]
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(pynvml.nvmlDeviceGetUUID, handle)
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

        values.update(ask("utilization", lambda: _utilization(handle)) or {})
        values.update(ask("memory", lambda: _memory(handle)) or {})
        values["power"] = ask("power", lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        values["power_limit"] = ask("power_limit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)
        values["energy"] = ask("energy", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
        values["temperature"] = ask("temperature", lambda: _temperature(handle))
        values["sm_clock"] = ask("sm_clock", lambda: _clock(handle, pynvml.NVML_CLOCK_SM))
        values["memory_clock"] = ask("memory_clock", lambda: _clock(handle, pynvml.NVML_CLOCK_MEM))
        values["throttled"] = ask("throttled", lambda: _throttled(handle))
        for name, kind in (
            ("ecc_corrected", pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ("ecc_uncorrected", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        ):
            values[name] = ask(name, partial(_ecc_errors, handle, kind))
        values.update(ask("links", lambda: _link_bytes(handle, unavailable)) or {})
        if not divided:  # processes and activity of a divided GPU are those of its instances
            values["processes"] = self._processes(device, unavailable)
            values.update(self._profiled(device, lambda sample: pynvml.nvmlGpmSampleGet(handle, sample), unavailable))
        if device.no_xids:
            unavailable["xid"] = device.no_xids
        return GpuReading(device.identity, unavailable=unavailable, xids=self._xids_of(device.identity), **values)

    def _read_instances(self, parent: _Device) -> list[tuple[_Device, GpuReading]]:
        readings = []
        seen = set()
        for index in range(self._instance_count(parent)):
            try:
                handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent.handle, index)
            except NVMLError as error:
                self._raise_if_gone(error)
                continue  # no instance in this place
            uuid = _text(pynvml.nvmlDeviceGetUUID, handle) or f"{parent.identity.uuid}/{index}"
            seen.add(uuid)
            identity = GpuIdentity(parent.identity.index, uuid, str(index), _name(handle), parent.identity.pci_bus_id)
            device = self._instances.get(uuid)
            if device is None or device.identity != identity:
                if device is not None:
                    _forget(device)
                device = self._instances[uuid] = _Device(handle, identity)
            device.handle = handle
            readings.append((device, self._read_instance(parent, device)))
        gone = [
            uuid
            for uuid, device in self._instances.items()
            if device.identity.index == parent.identity.index and uuid not in seen
        ]
        for uuid in gone:
            _forget(self._instances.pop(uuid))
        return readings

    def _read_instance(self, parent: _Device, device: _Device) -> GpuReading:
        unavailable: dict[str, str] = {}
        values: Values = {}
        values.update(self._ask(device, "memory", lambda: _memory(device.handle), unavailable) or {})
        values.update(self._ask(device, "utilization", lambda: _utilization(device.handle), unavailable) or {})
        values["processes"] = self._processes(device, unavailable)

        def take(sample: Any) -> None:
            instance = pynvml.nvmlDeviceGetGpuInstanceId(device.handle)
            pynvml.nvmlGpmMigSampleGet(parent.handle, instance, sample)

        values.update(self._profiled(device, take, unavailable, parent))
        return GpuReading(device.identity, unavailable=unavailable, **values)

    def _profiled(
        self,
        device: _Device,
        take: Callable[[Any], Any],
        unavailable: dict[str, str],
        whole: _Device | None = None,
    ) -> Values:
        """Return what GPM says of a GPU, or of an instance of `whole`. A GPU without GPM is none that fails."""
        if not self._profiling:
            return {}

        def question() -> Values:
            if device.counters is None:
                gpm.supported((whole or device).handle)
                device.counters = gpm.Counters()
            return device.counters.read(take)

        reasons: dict[str, str] = {}
        values: Values = self._ask(device, "gpm", question, reasons) or {}
        if reasons.get("gpm") not in _WITHOUT_GPM:
            unavailable.update(reasons)
        return values

    def _activity_of_parts(self, parent: _Device, parts: Sequence[tuple[_Device, GpuReading]]) -> float | None:
        """Return how much of a divided GPU works: its instances, each by its slices; what is in none is idle.

        None where an instance does not say. Compute instances that share a GPU instance have one figure and count once.
        """
        slices = self._instance_count(parent)
        if not slices or not parts:
            return None
        busy: dict[int, float] = {}
        for device, reading in parts:
            size = self._ask(device, "slices", partial(_slices, device.handle), {})
            if reading.sm_activity is None or size is None:
                return None
            instance, count = size
            busy[instance] = reading.sm_activity * count
        return min(sum(busy.values()) / slices, 1.0)

    def _processes(self, device: _Device, unavailable: dict[str, str]) -> tuple[GpuProcess, ...] | None:
        running: Mapping[int, int | None] | None = self._ask(
            device, "processes", lambda: _running_processes(device), unavailable
        )
        if running is None:
            return None
        utilization: Mapping[int, float] = {}
        if running:
            utilization = (
                self._ask(device, "process_utilization", lambda: _process_utilization(device), unavailable) or {}
            )
        return tuple(GpuProcess(pid, memory, utilization.get(pid)) for pid, memory in running.items())

    def _mig_enabled(self, device: _Device) -> bool:
        mode = self._ask(device, "mig", lambda: pynvml.nvmlDeviceGetMigMode(device.handle)[0], {})
        return mode is not None and mode == pynvml.NVML_DEVICE_MIG_ENABLE

    def _instance_count(self, device: _Device) -> int:
        count = self._ask(device, "mig", lambda: int(pynvml.nvmlDeviceGetMaxMigDeviceCount(device.handle)), {}) or 0
        return min(count, _MOST_INSTANCES)

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
        except Exception as error:
            unavailable[name] = self._unreadable(error)
            return None

    def _unreadable(self, error: Exception) -> str:
        """Return the reason, and log what was raised when it is first met."""
        if (told := f"{type(error).__name__}: {error}") not in self._told:
            self._told.add(told)
            _log.warning("a GPU's answer cannot be read: %s", told)
        return UNREADABLE

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
        except Exception as error:
            self._no_events = _reason(error)

    def _register_events(self, device: _Device) -> None:
        self._uuid_by_handle[_address(device.handle)] = device.identity.uuid
        device.no_xids = self._no_events
        if self._events is not None:
            try:
                pynvml.nvmlDeviceRegisterEvents(device.handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
            except Exception as error:
                device.no_xids = _reason(error)

    def _take_events(self) -> None:
        """Count what has happened since the last sample; a flood is left for the next one."""
        if self._events is None:
            return
        with suppress(Exception):  # a timeout says that there is no more
            for _ in range(100):
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
                xid = event.eventData if event.eventData <= _LARGEST_XID else 0
                self._xids[self._uuid_by_handle.get(_address(event.device), "")][xid] += 1

    def _xids_of(self, identity: GpuIdentity) -> Mapping[int, int]:
        return dict(self._xids[identity.uuid]) if identity.uuid in self._xids else {}


def _forget(device: _Device) -> None:
    """Give back what was kept for a device."""
    if device.counters is not None:
        device.counters.free()
        device.counters = None


def _slices(handle: Any) -> tuple[int, int]:
    """Return the number of the GPU instance that a MIG device is in, and how many slices that has."""
    slices = int(pynvml.nvmlDeviceGetAttributes_v2(handle).gpuInstanceSliceCount)
    return int(pynvml.nvmlDeviceGetGpuInstanceId(handle)), slices


def _reason(error: Exception) -> str:
    if not isinstance(error, NVMLError):
        return UNREADABLE
    return str(_REASONS.get(error.value, f"error_{error.value}"))


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _text(question: Callable[..., Any], *arguments: Any) -> str:
    """Return what a call that gives text says, with what is not UTF-8 replaced. Raises NVMLError."""
    try:
        answer = question(*arguments)
    except UnicodeDecodeError as error:  # pynvml decodes strictly; the exception has what it was given
        answer = error.object
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def _name(handle: Any) -> str:
    try:
        return _text(pynvml.nvmlDeviceGetName, handle)
    except Exception:
        return ""


def _pci_bus_id(handle: Any) -> str:
    try:
        return _text(lambda: pynvml.nvmlDeviceGetPciInfo(handle).busId)
    except Exception:
        return ""


def _utilization(handle: Any) -> Values:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return {"utilization": rates.gpu / 100, "memory_utilization": rates.memory / 100}


def _memory(handle: Any) -> Values:
    """Ask for memory; the second version, since driver 510, no longer counts the driver's own as used."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_used": int(memory.used), "memory_total": int(memory.total)}


def _temperature(handle: Any) -> int:
    """Ask for the temperature in degrees Celsius, by the call that replaces the deprecated one where it exists."""
    try:
        return int(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError_FunctionNotFound:
        return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _clock(handle: Any, domain: int) -> float:
    return float(pynvml.nvmlDeviceGetClockInfo(handle, domain) * 1e6)


def _throttled(handle: Any) -> frozenset[str]:
    """Ask for the bit mask of reasons, by the name it has had since driver 535 or by the older one.

    Raises ValueError for a mask with bits beyond any that NVML has, which says nothing.
    """
    try:
        mask = int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except pynvml.NVMLError_FunctionNotFound:
        mask = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    if not 0 <= mask <= 0xFFFF:
        raise ValueError(f"reasons for throttling {mask:#x}")
    return frozenset(reason for reason, bit in _THROTTLE_BITS.items() if mask & bit)


_UNTOUCHED = b"\xa5"
_MOST_PROCESSES = 10_000
_NOT_AVAILABLE = (1 << 64) - 1


def _running_processes(device: _Device) -> dict[int, int | None]:
    """Return memory by process id, by the call that driver 510 brought or by the one before.

    The two have the same signature whatever a driver writes, so how long its entries are is seen from what it wrote.
    """
    try:
        ask = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetComputeRunningProcesses_v3")
    except pynvml.NVMLError_FunctionNotFound:
        ask = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetComputeRunningProcesses_v2")
    while True:
        memory = bytearray(_UNTOUCHED * (device.room * _LONG_PROCESS.size))
        count = ctypes.c_uint(device.room)
        code = ask(device.handle, ctypes.byref(count), (ctypes.c_char * len(memory)).from_buffer(memory))
        if code != pynvml.NVML_ERROR_INSUFFICIENT_SIZE or not device.room <= count.value < _MOST_PROCESSES:
            break
        device.room = count.value + _ROOM  # some may start in between
    if code != pynvml.NVML_SUCCESS:
        raise NVMLError(code)
    written = min(count.value, device.room)
    beyond = memory[written * _PROCESS.size :]
    entry = _PROCESS if beyond.count(_UNTOUCHED) == len(beyond) else _LONG_PROCESS
    entries = (entry.unpack_from(memory, place * entry.size) for place in range(written))
    return {pid: None if used == _NOT_AVAILABLE else used for pid, used, *_ in entries}


def _ecc_errors(handle: Any, kind: int) -> int:
    return int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_AGGREGATE_ECC))


def _link_bytes(handle: Any, unavailable: dict[str, str]) -> Values:
    """Return the bytes over PCIe and NVLink so far; the fields not supported go to `unavailable`."""
    answers = bytearray(_LINK_QUESTION)
    ask = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetFieldValues")
    code = ask(handle, ctypes.c_int(len(_LINK_FIELDS)), (ctypes.c_char * len(answers)).from_buffer(answers))
    if code != pynvml.NVML_SUCCESS:
        raise NVMLError(code)
    values: Values = {}
    for (name, (_, _, unit)), answer in zip(_LINK_FIELDS.items(), _FIELD_VALUE.iter_unpack(answers), strict=True):
        *_, kind, result, value = answer
        if result == pynvml.NVML_SUCCESS:
            values[name] = _VALUES[kind].unpack_from(value)[0] * unit
        else:
            unavailable[name] = _REASONS.get(result, f"error_{result}")
    return values


def _process_utilization(device: _Device) -> dict[int, float]:
    """Return each process's mean share of the GPU's compute time over NVML's samples since the last call."""
    ask = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetProcessUtilization")
    since, count = ctypes.c_ulonglong(device.utilization_seen), ctypes.c_uint(0)
    code = ask(device.handle, None, ctypes.byref(count), since)
    if code == pynvml.NVML_ERROR_NOT_FOUND:  # no sample since then
        return {}
    memory = bytearray(min(count.value, _MOST_PROCESSES) * _PROCESS_SAMPLE.size)
    if code == pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
        code = ask(device.handle, (ctypes.c_char * len(memory)).from_buffer(memory), ctypes.byref(count), since)
    if code != pynvml.NVML_SUCCESS:
        raise NVMLError(code)
    by_process: defaultdict[int, list[int]] = defaultdict(list)
    newest = device.utilization_seen
    for place in range(min(count.value, len(memory) // _PROCESS_SAMPLE.size)):
        pid, taken, percent, *_ = _PROCESS_SAMPLE.unpack_from(memory, place * _PROCESS_SAMPLE.size)
        if taken > device.utilization_seen:
            by_process[pid].append(percent)
            newest = max(newest, taken)
    device.utilization_seen = newest
    return {pid: sum(shares) / len(shares) / 100 for pid, shares in by_process.items()}
