"""CPU and memory beside node_exporter, and inside a real container."""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_exporter.compute.memory import MemorySampler
from mlops_exporter.compute.sampler import Compute
from mlops_exporter.settings.compute import ComputeSettings
from tests.requirements import require_program
from tests.series import collect
from tests.support.fake_gpu import Machine

BURN = "while True: pass"


@contextlib.contextmanager
def burning(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", BURN, *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def node_exporter() -> Iterator[str]:
    """Run node_exporter and return the address of its metrics."""
    program = require_program("prometheus-node-exporter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    collectors = [f"--collector.{name}" for name in ("cpu", "meminfo", "loadavg")]
    process = subprocess.Popen(
        [program, f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults", *collectors],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/metrics"
    for _ in range(100):
        with contextlib.suppress(OSError):
            node_series(url)
            break
        time.sleep(0.05)
    yield url
    process.terminate()
    process.wait()


def node_series(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=5) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def node_cpu(found: dict[str, float]) -> tuple[float, float]:
    """Return busy and all CPU seconds by node_exporter, busy meaning neither idle nor waiting for I/O."""
    seconds = {name: value for name, value in found.items() if name.startswith("node_cpu_seconds_total{")}
    waiting = sum(value for name, value in seconds.items() if 'mode="idle"' in name or 'mode="iowait"' in name)
    return sum(seconds.values()) - waiting, sum(seconds.values())


def burnt(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU seconds that the process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_busy_core_is_what_node_exporter_says_it_is(node_exporter: str) -> None:
    settings = {"scope": "host", "workloads": [{"name": "burner", "phase": "training", "match": "the-burner$"}]}
    compute = Compute(ComputeSettings.model_validate(settings), drivers=())
    with burning("the-burner") as burner:
        time.sleep(0.2)
        compute.start()
        time.sleep(1.5)
        before, node_before, burnt_before = collect(compute.collectors), node_series(node_exporter), burnt(burner)
        time.sleep(30)
        after, node_after, burnt_after = collect(compute.collectors), node_series(node_exporter), burnt(burner)
    compute.stop()

    def grown(name: str) -> float:
        return after[name] - before[name]

    busy_before, all_before = node_cpu(node_before)
    busy_after, all_after = node_cpu(node_after)
    theirs = (busy_after - busy_before) / (all_after - all_before)
    ours = grown("ml_compute_cpu_utilization_sum") / grown("ml_compute_cpu_utilization_count")
    assert theirs > 0.9 / os.cpu_count()  # type: ignore[operator]
    assert ours == pytest.approx(theirs, abs=0.03)
    print(f"utilisation over 30 s: {ours:.4f}, node_exporter {theirs:.4f}")
    assert grown("ml_compute_cpu_utilization_count") == pytest.approx(30, abs=1)
    assert grown("ml_compute_cpu_seconds_total") == pytest.approx(busy_after - busy_before, abs=1.5)
    assert after["ml_compute_cpu_cores"] == os.cpu_count()

    assert after["ml_compute_memory_total_bytes"] == node_after["node_memory_MemTotal_bytes"]

    # Measured at one moment: what else runs on the machine takes and leaves much within a second.
    for _ in range(10):
        ours, node = MemorySampler(Path("/"), None).sample().used, node_series(node_exporter)
        theirs = node["node_memory_MemTotal_bytes"] - node["node_memory_MemAvailable_bytes"]
        if ours == (expected := pytest.approx(theirs, abs=0.02 * theirs + (64 << 20))):
            break
        time.sleep(0.5)
    assert ours == expected
    assert after['ml_compute_load_average{window="15m"}'] == pytest.approx(node_after["node_load15"], abs=0.05)

    workload = '{workload="burner",phase="training",pod_namespace="",pod_name=""}'
    assert after[f"ml_workload_processes{workload}"] == 1
    # Either sample may be a second old.
    assert grown(f"ml_workload_cpu_seconds_total{workload}") == pytest.approx(burnt_after - burnt_before, abs=1.5)


V1 = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "memory")


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Machine]:
    """A process in cgroups of half a core and 512 MiB, and in namespaces that show it no others: a container."""
    name = f"mlops-exporter-test-{os.getpid()}"
    directories = [V1 / controller / name for controller in CONTROLLERS]
    try:
        for directory in directories:
            directory.mkdir()
        (V1 / "cpu" / name / "cpu.cfs_quota_us").write_text("50000")
        (V1 / "memory" / name / "memory.limit_in_bytes").write_text(str(512 << 20))
        subprocess.run(["unshare", "--cgroup", "--mount", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        for directory in directories:
            if directory.is_dir():
                directory.rmdir()
        pytest.skip(f"needs cgroup v1 controllers and namespaces that this user may make: {error}")
    enter = "".join(f"echo $$ >{shlex.quote(str(directory / 'cgroup.procs'))}; " for directory in directories)
    mount = f"mount -t tmpfs none {V1}; " + "".join(
        f"mkdir {V1}/{controller}; mount -t cgroup -o {controller} cgroup {V1}/{controller}; "
        for controller in CONTROLLERS
    )
    inside = f'set -e; {mount} exec "$0" "$@"'
    machine = Machine(tmp_path, "sh", "-c", f'{enter} exec unshare --cgroup --mount sh -c \'{inside}\' "$0" "$@"')
    machine.directory = directories[0]
    yield machine
    machine.close()
    for directory in directories:
        directory.rmdir()


def test_inside_a_container_its_limits_count_and_its_use(container: Machine) -> None:
    container.ask(start={"interval": "500ms"})  # a sample holds about five of the quota's periods, never one
    time.sleep(0.1)
    assert container.ask(scrape=True)["series"]["ml_compute_cpu_cores"] == 0.5
    with burning() as first, burning() as second:
        for controller in CONTROLLERS:
            for process in (first, second):
                path = V1 / controller / container.directory.name / "cgroup.procs"
                path.write_text(str(process.pid))
        # Resized while it runs, and so small that it is throttled even on a busy machine.
        (V1 / "cpu" / container.directory.name / "cpu.cfs_quota_us").write_text("20000")
        time.sleep(1.0)
        before = container.ask(scrape=True)["series"]
        time.sleep(4.0)
        after = container.ask(scrape=True)["series"]
    container.ask(stop=True)

    def grown(name: str) -> float:
        return float(after[name] - before[name])

    assert after['ml_compute_info{scope="cgroup"}'] == 1
    assert after["ml_compute_cpu_cores"] == 0.2
    # Of each period of 0.1 s it has a fifth; how many there were depends on how old either sample is.
    periods = grown("ml_compute_cpu_periods_total")
    assert grown("ml_compute_cpu_seconds_total") == pytest.approx(0.02 * periods, rel=0.15)
    assert grown("ml_compute_cpu_utilization_sum") / grown("ml_compute_cpu_utilization_count") > 0.85
    assert grown("ml_compute_cpu_throttled_periods_total") >= 0.8 * periods > 20
    assert grown("ml_compute_cpu_throttled_seconds_total") > 1
    assert after["ml_compute_memory_total_bytes"] == 512 << 20
    assert 1 << 20 < after["ml_compute_memory_used_bytes"] < 512 << 20
