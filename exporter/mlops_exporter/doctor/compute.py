"""GPUs and workloads: whether the driver answers, which GPUs it shows, and whether the processes to watch are there."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlops_exporter.compute.gpu import Driver, DriverError, GpuReading
from mlops_exporter.compute.kubernetes import UnknownError, ask
from mlops_exporter.compute.pods import LINKS, Metadata
from mlops_exporter.compute.processes import boot_clock
from mlops_exporter.compute.sampler import DRIVERS
from mlops_exporter.compute.workloads import WorkloadSampler
from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.settings.compute import ComputeSettings

AREA = "compute"
KERNEL_DRIVER = Path("/proc/driver/nvidia/version")
"""There while NVIDIA's kernel module is loaded, in containers too."""

_IN_CONTAINERS = "in a container, start it with --gpus all (or NVIDIA_VISIBLE_DEVICES=all) and the capability utility"
_REMEDIES = {
    "library_not_found": f"install the driver's user libraries (libnvidia-ml.so.1); {_IN_CONTAINERS}",
    "driver_not_loaded": "load the kernel module (modprobe nvidia); after an update of the driver, reboot",
    "lib_rm_version_mismatch": "the driver was updated under way: reboot, or reload its kernel modules",
    "no_permission": "let the exporter's user open /dev/nvidia*; under systemd see DeviceAllow in the unit",
}


def check_gpus(expected: bool) -> Iterator[Finding]:
    """Yield what every vendor's driver says; `expected` is whether the configuration speaks of GPUs."""
    for make in DRIVERS:
        driver = make(False)
        try:
            version = driver.open()
            readings = driver.read()
        except DriverError as error:
            yield _silent(driver, error.reason, expected)
        else:
            yield from _gpus(driver, version, readings)
        finally:
            driver.close()


def _silent(driver: Driver, reason: str, expected: bool) -> Finding:
    if reason == "library_not_found" and not KERNEL_DRIVER.exists():
        if not expected:
            return ok(AREA, f"no {driver.vendor} driver here: there are no GPU metrics, which is right without a GPU")
        remedy = f"remove compute.cost.gpu_per_hour on machines without one, or {_IN_CONTAINERS}"
        return warning(AREA, f"GPUs have a price, but there is no {driver.vendor} driver here", remedy)
    remedy = _REMEDIES.get(reason, "see whether nvidia-smi works as the exporter's user, and the kernel's log")
    return problem(AREA, f"the {driver.vendor} driver does not answer: {reason}", remedy)


def _gpus(driver: Driver, version: str, readings: Sequence[GpuReading]) -> Iterator[Finding]:
    if not readings:
        yield warning(AREA, f"the {driver.vendor} driver {version} answers, but shows no GPU", _IN_CONTAINERS)
    for reading in readings:
        name = f"GPU {reading.identity.index} {reading.identity.name}".strip()
        if not reading.up:
            remedy = "see the kernel's log for Xid errors; reset or reboot the machine"
            yield problem(AREA, f"{name} does not answer: {reading.unavailable.get('all', 'unknown')}", remedy)
            continue
        forbidden = sorted(key for key, reason in reading.unavailable.items() if reason == "no_permission")
        lacking = sorted(key for key, reason in reading.unavailable.items() if reason != "no_permission")
        said = f"; it does not tell {', '.join(lacking)}, whose series are absent" if lacking else ""
        yield ok(AREA, f"{name}, driver {version}{said}")
        if forbidden:
            what = f"{name} keeps {', '.join(forbidden)} from this user"
            yield warning(AREA, what, "run the exporter as a user with that right, or do without these series")


_PODS_REMEDIES = {
    401: "give a token that this API server takes: compute.kubernetes.token_file",
    403: "let the service account list pods: the chart makes the role (compute.rbac.create), or kubectl create "
    "clusterrole mlops-exporter-pods --verb=list --resource=pods, with a clusterrolebinding",
}
_NO_ANSWER = (
    "compute.kubernetes says where the API server is and what it is asked with; network policies must let it out"
)


def check_workloads(settings: ComputeSettings) -> Iterator[Finding]:
    """Yield whether each workload has processes now."""
    if not settings.workloads:
        return
    described: Mapping[str, Metadata] = {}
    if any(workload.pod is not None and workload.pod.labels for workload in settings.workloads):
        try:
            described = ask(settings.kubernetes)
        except UnknownError as error:
            remedy = _PODS_REMEDIES.get(error.status or 0, _NO_ANSWER)
            yield problem(AREA, f"the API server does not tell the labels of pods: {error}", remedy)
        else:
            yield ok(AREA, f"the API server tells the labels of {len(described)} pods of this node")
    snapshots = WorkloadSampler(settings.root, settings.workloads, boot_clock, lambda _: described).sample()
    for workload in settings.workloads:
        of_it = [snapshot for snapshot in snapshots if snapshot.target.workload == workload]
        processes = sum(snapshot.processes for snapshot in of_it)
        what = f"workload {workload.name} ({workload.way})"
        if processes:
            pods = f" in {len(of_it)} pods" if workload.pod else ""
            yield ok(AREA, f"{what}: {processes} processes{pods}")
        elif workload.pod and not workload.pod.labels and not (settings.root / LINKS).is_dir():
            remedy = f"mount the node's /{LINKS}, which names its pods, at {settings.root / LINKS}"
            yield problem(AREA, f"{what}: {settings.root / LINKS} is not there", remedy)
        else:
            remedy = "start it, or correct how it is found; in a container the exporter needs pid: host to see others"
            yield warning(AREA, f"{what}: no process now", remedy)
