"""Pods of a Kubernetes node, by the files that the kubelet keeps; `kubernetes` asks the API server for their labels.

A pod's cgroup has the pod's uid in its name: `kubepods-burstable-pod<uid>.slice`, dashes as underscores, where the
kubelet lets systemd make cgroups, else `pod<uid>`. For every container the kubelet also keeps a link in
/var/log/containers, to /var/log/pods/NAMESPACE_NAME_UID/…, and that path names the pod. Every user may read the link,
while /var/log/pods itself is closed to all but root.

Source: pkg/kubelet/cm/cgroup_manager_linux.go and pkg/kubelet/kuberuntime (legacy.go, helpers.go) of Kubernetes 1.34.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from mlops_exporter.settings.compute import PodSettings

LINKS = Path("var/log/containers")
_QOS = ("burstable", "besteffort")  # guaranteed pods stand beside these two
_POD = re.compile(r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?")
_DEEP = 2  # levels below the mount point at which the kubelet's cgroup is looked for: kind has it below one of its own


@dataclass(frozen=True, slots=True)
class Metadata:
    """A pod, as the API server describes it."""

    namespace: str
    name: str
    labels: Mapping[str, str]


Describe = Callable[[Collection[str]], Mapping[str, Metadata]]
"""Tells what is known of pods by uid, of which these run now."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod; `cgroup` is its path below the cgroup mount point. It stays the same one when its labels change."""

    namespace: str
    name: str
    uid: str
    cgroup: str
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    def matches(self, meant: PodSettings) -> bool:
        """Return whether the settings mean this pod."""
        namespace, _, name = meant.name.partition("/")
        return (
            fnmatchcase(self.namespace, namespace)
            and fnmatchcase(self.name, name)
            and all(key in self.labels and fnmatchcase(self.labels[key], v) for key, v in meant.labels.items())
        )


class Pods:
    """The pods that run below `top`, a cgroup mount point, named by the links below `root`, labelled by `describe`."""

    def __init__(self, root: Path, top: Path, describe: Describe | None = None) -> None:
        self._links = root / LINKS
        self._top = top
        self._describe = describe
        self._names: dict[str, tuple[str, str]] = {}

    def running(self) -> list[Pod]:
        """Return the pods that have a cgroup and a name now, ordered by namespace and name.

        A pod has no name before its first container has started, unless the API server tells it.
        """
        cgroups = dict(_cgroups(self._top))
        if not cgroups.keys() <= self._names.keys():
            self._names = _names(self._links)
        described = {} if self._describe is None else self._describe(cgroups.keys())
        found = []
        for uid, path in cgroups.items():
            if (metadata := described.get(uid)) is not None:
                found.append(Pod(metadata.namespace, metadata.name, uid, path, metadata.labels))
            elif uid in self._names:
                found.append(Pod(*self._names[uid], uid, path))
        return sorted(found, key=lambda pod: (pod.namespace, pod.name, pod.uid))


def _cgroups(top: Path) -> Iterator[tuple[str, str]]:
    """Yield uid and path of the pods' cgroups. Only the kubelet's part of the tree is read."""
    for kubelet in _kubelets(top, _DEEP):
        for directory in (kubelet, *(path for path in _below(kubelet) if _is_class(path))):
            for path in _below(directory):
                if pod := _POD.fullmatch(path.name):
                    yield pod[1].replace("_", "-"), f"/{path.relative_to(top)}"


def _kubelets(directory: Path, deep: int) -> Iterator[Path]:
    for path in _below(directory):
        if "kubepods" in path.name:
            yield path
        elif deep > 1:
            yield from _kubelets(path, deep - 1)


def _is_class(path: Path) -> bool:
    return path.name.removesuffix(".slice").endswith(_QOS)


def _below(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it ended just now
        return []


def _names(links: Path) -> dict[str, tuple[str, str]]:
    """Return namespace and name of the pods by uid, as the links of their containers tell them."""
    names = {}
    for link in links.iterdir() if links.is_dir() else ():
        try:
            directory = link.readlink().parent.parent.name
        except OSError:  # no link, or gone just now
            continue
        parts = directory.split("_")
        if len(parts) == 3:
            namespace, pod, uid = parts
            names[uid] = (namespace, pod)
    return names
