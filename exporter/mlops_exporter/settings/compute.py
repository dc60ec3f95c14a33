"""The `compute:` section of the configuration."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mlops_exporter.settings.access import Url
from mlops_exporter.settings.document import Settings, or_alone
from mlops_exporter.settings.durations import Duration
from mlops_exporter.settings.paths import RelativePath


def _valid_pattern(pattern: str) -> str:
    try:
        re.compile(os.fsencode(pattern))  # as it is used: command lines are bytes
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if not pattern:
        raise ValueError("an empty pattern matches every process: write a part of the command line")
    return pattern


def _absolute_path(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is a relative path: write it from the root, as in /run/server.pid")
    return path


def _absolute_cgroup(path: str) -> str:
    if not path.startswith("/") or path == "/" or ".." in path.split("/"):
        raise ValueError(
            f"{path!r} is not a cgroup: write its path below the cgroup mount point, as in /system.slice/server.service"
        )
    return path


def _pod_pattern(pattern: str) -> str:
    if not re.fullmatch(r"[a-z0-9.*?-]+/[a-z0-9.*?-]+", pattern):
        raise ValueError(
            f"{pattern!r} is not a pod: write NAMESPACE/NAME, where * stands for any characters, as in prod/fraud-*"
        )
    return pattern


def _pod_label(key: str) -> str:
    if not re.fullmatch(r"(?:[a-z0-9][a-z0-9.-]{0,252}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", key):
        raise ValueError(f"{key!r} is not the name of a pod's label: write it as in app or app.kubernetes.io/name")
    return key


def _pod_label_value(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*?-]{0,63}", value):
        raise ValueError(f"{value!r} no label of a pod can have: write its value, where * stands for any characters")
    return value


PodLabel = Annotated[str, AfterValidator(_pod_label)]
PodLabelValue = Annotated[str, AfterValidator(_pod_label_value)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


WAYS = ("match", "pid_file", "cgroup", "pod")
"""Keys that say how a workload is found."""


class PodSettings(Settings):
    """Which pods of this Kubernetes node are meant; `pod: prod/fraud-*` is short for `pod: {name: prod/fraud-*}`.

    Only the API server knows labels: `compute.kubernetes` says how it is asked.
    """

    model_config = ConfigDict(json_schema_extra=or_alone("name"))

    name: Annotated[
        Annotated[str, AfterValidator(_pod_pattern)],
        Field(description="NAMESPACE/NAME, where `*` stands for any characters and `?` for one."),
    ] = "*/*"
    labels: Annotated[
        dict[PodLabel, PodLabelValue],
        Field(description="Labels that a pod must have, all of them; `*` and `?` stand for characters here, too."),
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _says_which(self) -> "PodSettings":
        if not self.labels and "name" not in self.model_fields_set:
            raise ValueError("says not which pods: write a name, as in prod/fraud-*, or labels, as in {app: fraud}")
        return self

    def __str__(self) -> str:
        labels = ",".join(f"{key}={value}" for key, value in self.labels.items())
        return " ".join(part for part in (self.name if self.name != "*/*" else "", labels) if part) or self.name


class WorkloadSettings(Settings):
    """Processes that are watched under one name; how they are found is given by exactly one of the last four.

    Descendants of a found process belong to the workload too, unless another workload finds them itself.
    """

    name: Annotated[str, Field(min_length=1, description="`workload` of its series.")]
    phase: Annotated[Literal["training", "serving"], Field(description="What the processes do.")]
    match: Annotated[
        Annotated[str, AfterValidator(_valid_pattern)] | None,
        Field(description="Regular expression searched for in the command line, arguments joined by single spaces."),
    ] = None
    pid_file: Annotated[
        Annotated[Path, AfterValidator(_absolute_path)] | None,
        Field(description="File with the process id, by its path from the root."),
    ] = None
    cgroup: Annotated[
        Annotated[str, AfterValidator(_absolute_cgroup)] | None,
        Field(description="Path below the cgroup mount point; cgroups below it are included."),
    ] = None
    pod: Annotated[
        PodSettings | None,
        Field(description="Pods of this Kubernetes node, by name or labels; each has series of its own."),
    ] = None

    @model_validator(mode="after")
    def _exactly_one_way_to_find_it(self) -> "WorkloadSettings":
        ways = [way for way in WAYS if getattr(self, way) is not None]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            raise ValueError(
                f"workload {self.name!r} needs exactly one of match, pid_file, cgroup and pod, not {found}"
            )
        return self

    @property
    def way(self) -> str:
        """How it is found, as in `pod prod/fraud-*`."""
        return next(f"{way} {found}" for way in WAYS if (found := getattr(self, way)) is not None)


class KubernetesSettings(Settings):
    """How the API server is asked for the labels of this node's pods; nobody asks while no workload is given by labels.

    Within a pod that has a service account and its node's name in the environment (`NODE_NAME`), all has its default.
    """

    url: Annotated[Url | None, Field(description="Address of the API server; by default the pod's environment's.")] = (
        None
    )
    node: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(description="Name of this node; by default `NODE_NAME` of the environment."),
    ] = None
    token_file: Annotated[RelativePath, Field(description="File with the token, read anew each time.")] = Path(
        "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )
    ca_file: Annotated[RelativePath, Field(description="PEM file of the certificates that are trusted.")] = Path(
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    )
    interval: Annotated[
        Duration, Field(ge=5, le=3600, description="Time after which it is asked again; new pods are asked for sooner.")
    ] = 30.0


class CostSettings(Settings):
    """Prices per hour. A resource without a price has no cost series."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code, such as USD.")]
    host_per_hour: Annotated[Price | None, Field(description="Price of the host.")] = None
    gpu_per_hour: Annotated[Price | None, Field(description="Price of one whole GPU.")] = None


class AdviceSettings(Settings):
    """Parameters of the right-sizing rule in `exporter.compute.advice`."""

    window: Annotated[Duration, Field(ge=60, description="Time that advice rests on.")] = 86_400.0
    min_observed: Annotated[Duration, Field(ge=0, description="Time observed before any advice is given.")] = 3_600.0
    target: Annotated[
        float, Field(gt=0, lt=1, description="The p95 utilisation that a resized resource should have.")
    ] = 0.7
    scale_out_above: Annotated[
        float, Field(gt=0, lt=1, description="The p95 utilisation above which there is too little.")
    ] = 0.85

    @model_validator(mode="after")
    def _consistent(self) -> "AdviceSettings":
        if self.target >= self.scale_out_above:
            raise ValueError(
                f"target {self.target} must lie below scale_out_above {self.scale_out_above}: "
                "else a resized resource would be advised to grow at once"
            )
        if self.min_observed > self.window:
            raise ValueError("min_observed must not be longer than window: no advice would ever be given")
        return self


class ComputeSettings(Settings):
    """What is watched, how often, and at what price."""

    interval: Annotated[Duration, Field(ge=0.1, le=60, description="Time between two samples.")] = 1.0
    scope: Annotated[
        Literal["auto", "host", "cgroup"],
        Field(description="Whose CPU and memory; `auto` is the cgroup's in a container and else the host's."),
    ] = "auto"
    root: Annotated[
        Path,
        Field(description="Where the watched system's /proc and /sys are mounted, such as /host in a container."),
    ] = Path("/")
    gpm: Annotated[
        bool,
        Field(
            description="Ask GPUs that can (Hopper and later) what their multiprocessors do; `false` where DCGM or a "
            "profiler needs the same counters."
        ),
    ] = True
    workloads: Annotated[
        tuple[WorkloadSettings, ...], Field(description="Processes that are watched under a name.")
    ] = ()
    kubernetes: Annotated[
        KubernetesSettings, Field(description="How labels of pods are found; see [compute.md](compute.md#pods).")
    ] = KubernetesSettings()
    cost: Annotated[CostSettings | None, Field(description="Prices; without them there is no cost.")] = None
    advice: Annotated[AdviceSettings, Field(description="When to scale down or out.")] = AdviceSettings()

    @model_validator(mode="after")
    def _names_differ(self) -> "ComputeSettings":
        names = [workload.name for workload in self.workloads]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"workload names must differ, but these occur twice: {', '.join(twice)}")
        return self
