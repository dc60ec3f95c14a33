"""The cost of watching: CPU and memory of sampling once a second, beside node_exporter scraped as often.

Run as `python -m tests.benchmarks.compute`. The machine has eight fake GPUs, and fifty processes in two workloads.
"""

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import require_program
from tests.support.fake_gpu import A100, Machine, build_library

SECONDS = 30
PROCESSES = 50
GPUS = 8
GOAL_CPU_PERCENT = 1.0
GOAL_MEBIBYTES = 60.0

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of the process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / (1 << 20)


def start_processes(count: int, stack: ExitStack) -> list[int]:
    """Start processes that sleep, half of them under each of two names."""
    pids = []
    for number in range(count):
        process = subprocess.Popen(["sleep", "1000001" if number % 2 else "1000002"])
        stack.callback(process.wait)
        stack.callback(process.kill)
        pids.append(process.pid)
    return pids


def start_node_exporter(stack: ExitStack) -> tuple[int, str]:
    """Start node_exporter with its defaults; return its process id and address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = require_program("prometheus-node-exporter")
    process = subprocess.Popen([program, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process.pid, f"http://127.0.0.1:{port}/metrics"


@dataclass(frozen=True, slots=True)
class Use:
    """What a process uses."""

    cpu_percent: float
    mebibytes: float


@dataclass(frozen=True, slots=True)
class Watching:
    """What was watched, and what it cost each watcher."""

    gpus: int
    processes: int
    exporter: Use
    node_exporter: Use


def measure(seconds: int) -> Watching:
    """Watch for so many seconds."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build_library(directory)
        machine = Machine(directory)
        stack.callback(machine.close)
        pids = start_processes(PROCESSES, stack)
        on_gpus = [f"{number % GPUS}.process {pid} 1073741824 10" for number, pid in enumerate(pids)]
        machine.set({**A100, "count": GPUS}, *on_gpus)
        node, url = start_node_exporter(stack)
        workloads = [
            {"name": "trainer", "phase": "training", "match": "sleep 1000001"},
            {"name": "server", "phase": "serving", "match": "sleep 1000002"},
        ]
        prices = {"currency": "USD", "host_per_hour": 1.2, "gpu_per_hour": 2.5}
        machine.ask(start={"workloads": workloads, "cost": prices})
        time.sleep(2)
        series = machine.ask(scrape=True)["series"]
        exporter = machine.process.pid
        before = cpu_seconds(exporter), cpu_seconds(node)
        began = time.monotonic()
        for second in range(seconds):
            with urllib.request.urlopen(url, timeout=5) as response:
                response.read()
            time.sleep(max(began + second + 1 - time.monotonic(), 0))
        elapsed = time.monotonic() - began
        return Watching(
            gpus=round(sum(value for name, value in series.items() if name.startswith("ml_gpu_up{"))),
            processes=round(sum(value for name, value in series.items() if name.startswith("ml_workload_processes{"))),
            exporter=Use(100 * (cpu_seconds(exporter) - before[0]) / elapsed, resident_mebibytes(exporter)),
            node_exporter=Use(100 * (cpu_seconds(node) - before[1]) / elapsed, resident_mebibytes(node)),
        )


def main() -> None:
    """Print what a second of watching costs."""
    found = measure(SECONDS)
    print(f"{found.gpus} GPUs and {found.processes} processes watched at 1 Hz for {SECONDS} s")
    for name, use in (("compute", found.exporter), ("node_exporter", found.node_exporter)):
        print(f"{name:14} {use.cpu_percent:5.2f} % of one core {use.mebibytes:6.1f} MiB")
    print(f"goal           {GOAL_CPU_PERCENT:5.2f} %             {GOAL_MEBIBYTES:6.1f} MiB")


if __name__ == "__main__":
    main()
