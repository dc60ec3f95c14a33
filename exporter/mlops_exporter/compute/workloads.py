"""Training and serving workloads: what is followed of each, and its series.

A workload given by pods is followed pod by pod, and has series for each pod that runs on this node.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mlops_exporter.compute import cgroup
from mlops_exporter.compute.gpu import GpuReading, GpuSnapshot, share_of
from mlops_exporter.compute.pods import Describe, Pods
from mlops_exporter.compute.processes import ProcessFollower, Target, WorkloadSnapshot
from mlops_exporter.compute.snapshots import NoSnapshotError, Published
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.settings.compute import WorkloadSettings


class WorkloadSampler:
    """Follows the processes of the configured workloads, and the pods that come and go.

    `describe` tells the labels of pods; it is asked where a workload is given by them.
    """

    def __init__(
        self,
        root: Path,
        workloads: Sequence[WorkloadSettings],
        boot_clock: Callable[[], float],
        describe: Describe | None = None,
        former: ProcessFollower | None = None,
    ) -> None:
        self._root = root
        self._workloads = workloads
        self._boot_clock = boot_clock
        self._describe = describe
        self._pods = _pods(root, workloads, describe)
        targets = self._targets()
        self._follower = ProcessFollower(root, targets, boot_clock) if former is None else former.successor(targets)

    def successor(self, workloads: Sequence[WorkloadSettings]) -> "WorkloadSampler":
        """Return a sampler of other workloads, which goes on with the counters of those that stay as they are.

        This sampler may go on, too.
        """
        return WorkloadSampler(self._root, workloads, self._boot_clock, self._describe, self._follower)

    def sample(self) -> tuple[WorkloadSnapshot, ...]:
        """Take a sample: one snapshot per workload, or per pod of it. Raises OSError where /proc cannot be listed."""
        if self._pods is not None and (targets := self._targets()) != self._follower.targets:
            self._follower = self._follower.successor(targets)
        return self._follower.sample()

    def _targets(self) -> list[Target]:
        """Return what to follow now; a pod belongs to the first workload that means it."""
        targets = []
        running = [] if self._pods is None else self._pods.running()
        for workload in self._workloads:
            if workload.pod is None:
                targets.append(Target(workload))
                continue
            meant = [pod for pod in running if pod.matches(workload.pod)]
            targets += [Target(workload, pod) for pod in meant]
            running = [pod for pod in running if pod not in meant]
        return targets


def _pods(root: Path, workloads: Sequence[WorkloadSettings], describe: Describe | None) -> Pods | None:
    """Return the pods to look at, where a workload is given by them."""
    given = [workload.pod for workload in workloads if workload.pod is not None]
    place = cgroup.find_hierarchies(root).get("cpuacct") if given else None
    if place is None:
        return None
    return Pods(root, place.top, describe if any(pod.labels for pod in given) else None)


class _Rendered:
    """The rows of some targets, which change as pods come and go."""

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets
        self._labels = [_labels(target) for target in targets]
        self._rows: dict[Metric, Rows] = {}

    def __getitem__(self, metric: Metric) -> Rows:
        if metric not in self._rows:
            self._rows[metric] = Rows(metric, self._labels)
        return self._rows[metric]


def _labels(target: Target) -> tuple[str, str, str, str]:
    pod = target.pod
    of_pod = ("", "") if pod is None else (pod.namespace, pod.name)
    return (target.workload.name, target.workload.phase, *of_pod)


def _samples(rendered: _Rendered, fields: Sequence[tuple[Metric, str]], found: Sequence[object]) -> Iterator[Samples]:
    for metric, name in fields:
        yield Samples(rendered[metric], np.array([getattr(each, name) for each in found], dtype=np.float64))


class WorkloadCollector:
    """Samples of the latest snapshot of every workload, GPU use joined by process id."""

    name = "workloads"
    about = "processes of training and serving"
    by_default = True
    _FIELDS = (
        (catalogue.WORKLOAD_PROCESSES, "processes"),
        (catalogue.WORKLOAD_PROCESSES_STARTED, "started"),
        (catalogue.WORKLOAD_START_TIME_SECONDS, "start_time"),
        (catalogue.WORKLOAD_CPU_SECONDS, "cpu_seconds"),
        (catalogue.WORKLOAD_MEMORY_BYTES, "memory_bytes"),
        (catalogue.WORKLOAD_THREADS, "threads"),
        (catalogue.WORKLOAD_OPEN_FILES, "open_files"),
        (catalogue.WORKLOAD_READ_BYTES, "read_bytes"),
        (catalogue.WORKLOAD_WRITTEN_BYTES, "written_bytes"),
    )

    _GPU_FIELDS = (
        (catalogue.WORKLOAD_GPU_MEMORY_BYTES, "memory_bytes"),
        (catalogue.WORKLOAD_GPU_UTILIZATION_RATIO, "utilization"),
    )

    def __init__(
        self,
        published: Published[tuple[WorkloadSnapshot, ...]],
        gpus: Sequence[Published[GpuSnapshot]],
    ) -> None:
        self._published = published
        self._gpus = gpus
        self._rendered = _Rendered(())

    def collect(self, now: float) -> Iterable[Samples]:
        """Return the latest sample. Raises what prevented it."""
        snapshots = self._published.get()
        if not snapshots:
            return
        targets = tuple(snapshot.target for snapshot in snapshots)
        if targets != self._rendered.targets:
            self._rendered = _Rendered(targets)
        rendered = self._rendered
        yield from _samples(rendered, self._FIELDS, snapshots)
        readings = [reading for published in self._gpus for reading in _readings(published)]
        if readings:
            yield from _samples(
                rendered, self._GPU_FIELDS, [share_of(snapshot.pids, readings) for snapshot in snapshots]
            )


def _readings(published: Published[GpuSnapshot]) -> Sequence[GpuReading]:
    try:
        snapshot = published.get()
    except NoSnapshotError:
        return ()
    return () if snapshot is None else snapshot.readings
