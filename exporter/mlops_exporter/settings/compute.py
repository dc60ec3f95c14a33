"""The `compute:` section of the configuration."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mlops_exporter.settings.document import Settings
from mlops_exporter.settings.durations import Duration


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


Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WorkloadSettings(Settings):
    """Processes that are watched under one name; how they are found is given by exactly one of the last three.

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

    @model_validator(mode="after")
    def _exactly_one_way_to_find_it(self) -> "WorkloadSettings":
        ways = [way for way in ("match", "pid_file", "cgroup") if getattr(self, way) is not None]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            raise ValueError(f"workload {self.name!r} needs exactly one of match, pid_file and cgroup, not {found}")
        return self


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
    cost: Annotated[CostSettings | None, Field(description="Prices; without them there is no cost.")] = None
    advice: Annotated[AdviceSettings, Field(description="When to scale down or out.")] = AdviceSettings()

    @model_validator(mode="after")
    def _names_differ(self) -> "ComputeSettings":
        names = [workload.name for workload in self.workloads]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"workload names must differ, but these occur twice: {', '.join(twice)}")
        return self
