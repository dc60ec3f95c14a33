"""Machines with any GPUs one likes: builds the fake NVML and runs the probe with it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.requirements import require_program

_SOURCE = Path(__file__).with_name("fake_nvml.c")
_ROOT = Path(__file__).parents[2]

A100 = {
    "*.name": "NVIDIA A100-SXM4-80GB",
    "*.utilization": 50,
    "*.memory_utilization": 20,
    "*.memory_total": 80 << 30,
    "*.memory_used": 20 << 30,
    "*.power": 250_500,
    "*.power_limit": 400_000,
    "*.energy": 7_000_123,
    "*.temperature": 61,
    "*.sm_clock": 1410,
    "*.memory_clock": 1593,
    "*.throttle": 0,
    "*.ecc_corrected": 3,
    "*.ecc_uncorrected": 0,
    "*.mig": 0,
    "*.pcie_transmitted": 1000,
    "*.pcie_received": 2000,
    "*.nvlink_transmitted": 3,
    "*.nvlink_received": 4,
    "driver": "550.54.15",
}
"""What every GPU of a machine says unless told otherwise, in NVML's units."""


H200 = {
    **A100,
    "*.name": "NVIDIA H200",
    "*.memory_total": 141 << 30,
    "*.gpm": 1,
    "*.sm_activity": 40,
    "*.sm_occupancy": 25.5,
    "*.tensor_activity": 10,
    "*.memory_bandwidth": 60,
    "driver": "570.86.15",
}
"""A GPU that has GPM."""


@cache
def _compiled(options: tuple[str, ...]) -> bytes:
    warnings = ("-Wall", "-Wextra", "-Werror")
    shared = ("-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory, "library.so")
        command = [require_program("gcc"), *warnings, *shared, *options, "-o", str(library), str(_SOURCE)]
        subprocess.run(command, check=True)
        return library.read_bytes()


def build_library(directory: Path, *options: str) -> None:
    """Put the fake, compiled with `options`, into `directory`, in place of one that may be in use."""
    fresh = directory / "new"
    fresh.write_bytes(_compiled(options))
    fresh.rename(directory / "libnvidia-ml.so.1")


class Machine:
    """A process of the exporter on a machine whose GPUs are as last `set`; `launcher` is a command that starts it."""

    def __init__(self, directory: Path, *launcher: str) -> None:
        self.directory = directory
        self._state = directory / "state"
        environment = {**os.environ, "LD_LIBRARY_PATH": str(directory), "FAKE_NVML_STATE": str(self._state)}
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "tests.integration.compute.probe"],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def set(self, state: Mapping[str, object], *more: str) -> None:
        """Write the state file; `more` are lines whose keys may repeat."""
        lines = [f"{key} {value}" for key, value in state.items()]
        fresh = self._state.with_suffix(".new")
        fresh.write_text("\n".join([*lines, *more]) + "\n", errors="surrogateescape")
        fresh.rename(self._state)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send the probe a command and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the probe has ended"
        result: dict[str, Any] = json.loads(answer)
        return result

    def sample(self, now: float) -> dict[str, float]:
        """Return the series of a sample taken at `now`."""
        result: dict[str, float] = self.ask(sample=now)["series"]
        return result

    def close(self) -> None:
        """End the probe."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait(timeout=10)
