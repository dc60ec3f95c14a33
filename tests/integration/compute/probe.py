"""A process that watches GPUs on command, since the dynamic linker looks for NVML only where its start told it to.

Reads one JSON object a line and answers each with one: `{"sample": SECONDS}` samples the driver at that time,
`{"start": SETTINGS}`, `{"scrape": true}` and `{"stop": true}` run the threads. Every answer holds what was logged.
"""

import json
import logging
import sys
import time
from typing import Any

from mlops_exporter.compute.gpu import GpuCollector, GpuSampler, GpuSnapshot
from mlops_exporter.compute.nvidia import NvidiaDriver
from mlops_exporter.compute.sampler import Compute
from mlops_exporter.compute.snapshots import Published
from mlops_exporter.settings.compute import ComputeSettings
from tests.series import collect


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def main() -> None:
    """Answer until the input ends."""
    log = _Log()
    logging.basicConfig(level=logging.INFO, handlers=[log])
    sampler = GpuSampler(NvidiaDriver())
    published = Published[GpuSnapshot](60.0)
    compute: Compute | None = None
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        match command:
            case {"sample": now}:
                published.put(sampler.sample(now))
                answer["series"] = collect([GpuCollector([("nvidia", published)])])
            case {"start": settings}:
                compute = Compute(ComputeSettings.model_validate(settings))
                compute.start()
            case {"scrape": _} if compute is not None:
                answer["series"] = collect(compute.collectors)
            case {"stop": _} if compute is not None:
                began = time.monotonic()
                compute.stop()
                answer["seconds"] = time.monotonic() - began
        print(json.dumps({**answer, "log": log.take()}), flush=True)


if __name__ == "__main__":
    main()
