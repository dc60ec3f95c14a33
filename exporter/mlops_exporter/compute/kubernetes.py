"""What the API server of Kubernetes says of this node's pods: their labels, which no file of the node tells.

A thread of its own asks, since a server may be slow: whoever samples is never kept waiting, and goes on with what was
said last. It asks for one list of metadata from the server's cache (`resourceVersion=0`), bounded in time and size: at
first, every `interval`, and soon after a pod has come.

Source: "Kubernetes API Concepts" (metadata-only fetches, `resourceVersion`) and "Field Selectors" of Kubernetes'
documentation. A static pod's cgroup has the uid that its mirror pod has in an annotation: ConfigMirrorAnnotationKey
in pkg/kubelet/types/pod_update.go of Kubernetes 1.34.
"""

import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mlops_exporter.compute.pods import Metadata
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.settings.access import AccessSettings
from mlops_exporter.settings.compute import KubernetesSettings
from mlops_exporter.sources.calls import CallError, call

_log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
LARGEST_ANSWER = 16 * 1024 * 1024
"""A pod's metadata has some kilobytes, and a node some hundred pods."""

SOONEST_SECONDS = 5.0
"""The least time between two requests."""

_METADATA_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_MIRROR = "kubernetes.io/config.mirror"


class UnknownError(Exception):
    """The API server did not say; `status` is that of HTTP, where there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def ask(settings: KubernetesSettings, environment: Mapping[str, str] = os.environ) -> Mapping[str, Metadata]:
    """Return the pods of this node by the uid that their cgroups have. Blocks for a while; raises UnknownError."""
    url = settings.url or _address(environment)
    node = settings.node or environment.get("NODE_NAME")
    if not node:
        raise UnknownError("NODE_NAME is not in the environment: set it, or give compute.kubernetes.node")
    try:
        answer = call(
            "GET",
            f"{url.rstrip('/')}/api/v1/pods?fieldSelector=spec.nodeName%3D{quote(node, safe='')}&resourceVersion=0",
            AccessSettings(token_file=settings.token_file, ca_file=settings.ca_file),
            headers={"Accept": _METADATA_ALONE, "Accept-Encoding": "gzip"},
            timeout=TIMEOUT_SECONDS,
            largest=LARGEST_ANSWER,
        )
    except CallError as error:
        raise UnknownError(" ".join(str(error).split()), error.status) from None  # it answers in several lines
    try:
        return dict(_described(item["metadata"]) for item in json.loads(answer.body)["items"] or ())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownError(f"{url}: the answer is no list of pods: {type(error).__name__}: {error}") from None


def _address(environment: Mapping[str, str]) -> str:
    """Return the address that the environment of every pod has."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UnknownError(
            "KUBERNETES_SERVICE_HOST is not in the environment: out of a pod give compute.kubernetes.url"
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _described(metadata: Mapping[str, Any]) -> tuple[str, Metadata]:
    uid = (metadata.get("annotations") or {}).get(_MIRROR, metadata["uid"])
    labels = {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()}
    return str(uid), Metadata(str(metadata["namespace"]), str(metadata["name"]), labels)


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said last, and why nothing since."""

    pods: Mapping[str, Metadata]
    fault: str | None


class ApiServer:
    """What the API server last said, asked anew by a thread that the first to want it starts.

    While nobody wants it, nobody asks. While the server is silent, a pod keeps the labels that it had.
    """

    def __init__(
        self, settings: KubernetesSettings, asking: Callable[[KubernetesSettings], Mapping[str, Metadata]] = ask
    ) -> None:
        self._settings = settings
        self._asking = asking
        self._said = _Said({}, None)
        self._present: frozenset[str] = frozenset()
        self._asked: frozenset[str] = frozenset()
        self._wanted, self._news, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def fault(self) -> str | None:
        """Why the server did not answer when it was last asked."""
        return self._said.fault

    def describe(self, present: Collection[str]) -> Mapping[str, Metadata]:
        """Return what is known of pods, by uid; `present` are those that run now. Never blocks."""
        self._present = frozenset(present)
        self._wanted.set()
        if not self._present <= self._asked:
            self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="compute-kubernetes", daemon=True)
            self._thread.start()
        return self._said.pods

    def stop(self) -> None:
        """Ask no more. A request under way is left behind, and ends with the process."""
        self._stopping.set()
        self._news.set()
        self._wanted.set()

    def _follow(self) -> None:
        while self._wanted.wait() and not self._stopping.is_set():
            self._wanted.clear()
            present = self._present
            self._said = self._asked_now()
            self._asked = present
            self._news.clear()
            if self._stopping.wait(SOONEST_SECONDS):
                return
            self._news.wait(self._settings.interval - SOONEST_SECONDS)

    def _asked_now(self) -> _Said:
        """Return what the server says, or else what it said before; log a fault once, not each time."""
        before = self._said
        try:
            pods = self._asking(self._settings)
        except Exception as error:  # whatever it is must not end the thread
            if before.fault != str(error):
                unforeseen = None if isinstance(error, UnknownError) else error
                _log.warning("labels of pods are not known anew: %s", error, exc_info=unforeseen)
            return _Said(before.pods, str(error))
        if before.fault is not None:
            _log.info("labels of pods are known again")
        return _Said(pods, None)


class PodCollector:
    """Fails while the API server does not say which labels pods have, and so tells Prometheus. It has no samples."""

    name = "pods"
    about = "nothing; it fails while the API server does not tell the labels of pods"
    by_default = True

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def collect(self, now: float) -> Iterable[Samples]:
        """Return nothing. Raises UnknownError with the reason."""
        if self._server.fault is not None:
            raise UnknownError(self._server.fault)
        return ()
