"""Workloads of real processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_exporter.compute.sampler import Compute
from mlops_exporter.settings.compute import ComputeSettings
from tests.series import collect

LABELS = '{workload="w",phase="serving",pod_namespace="",pod_name=""}'

FORKER = """
import json, os, sys, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

for _ in range(12):
    pid = os.fork()
    if pid == 0:
        burn(0.03)
        os._exit(0)
    os.waitpid(pid, 0)
pid = os.fork()
if pid == 0:
    burn(0.4)
    os._exit(0)
os.waitpid(pid, 0)
print(json.dumps(os.times()), flush=True)
sys.stdin.read()
"""

HOLDER = """
import sys, threading
files = [open("/dev/null") for _ in range(20)]
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(5)]
for thread in threads:
    thread.start()
with open(sys.argv[1], "wb") as out:
    out.write(b"x" * 3_000_000)
    out.flush()
    import os
    os.fsync(out.fileno())
held = bytearray(b"x") * 50_000_000
print("ready", flush=True)
sys.stdin.read()
stop.set()
"""


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python programs that end with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def watch() -> Iterator[Callable[..., Compute]]:
    """Start watching one workload ten times a second."""
    started: list[Compute] = []

    def start(**how: Any) -> Compute:
        workloads = [{"name": "w", "phase": "serving", **how}]
        settings = ComputeSettings.model_validate({"interval": "100ms", "workloads": workloads})
        compute = Compute(settings, drivers=())
        started.append(compute)
        compute.start()
        return compute

    yield start
    for compute in started:
        compute.stop()


def wait_for(compute: Compute, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    deadline = time.monotonic() + 5
    while not condition(found := collect(compute.collectors)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_children_shorter_than_a_sample_are_counted_once(
    run: Callable[..., subprocess.Popen[str]], watch: Callable[..., Compute]
) -> None:
    compute = watch(match="the-forker$")
    process = run(FORKER, "the-forker")
    assert process.stdout is not None
    user, system, children_user, children_system, _ = json.loads(process.stdout.readline())
    assert children_user + children_system > 0.7
    seconds = pytest.approx(user + system + children_user + children_system, abs=0.05)
    wait_for(compute, lambda found: found.get(f"ml_workload_cpu_seconds_total{LABELS}") == seconds)


def test_what_a_process_holds_is_shown_and_gone_with_it(
    run: Callable[..., subprocess.Popen[str]], watch: Callable[..., Compute], tmp_path: Path
) -> None:
    compute = watch(match="the-holder$")
    before = time.time()
    process = run(HOLDER, str(tmp_path / "out"), "the-holder")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    found = wait_for(compute, lambda found: found.get(f"ml_workload_memory_bytes{LABELS}", 0) > 50e6)
    assert found[f"ml_workload_memory_bytes{LABELS}"] < 90e6
    assert found[f"ml_workload_written_bytes_total{LABELS}"] >= 3_000_000
    assert found[f"ml_workload_processes{LABELS}"] == 1
    assert found[f"ml_workload_threads{LABELS}"] == 6
    assert found[f"ml_workload_open_files{LABELS}"] == len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    assert found[f"ml_workload_open_files{LABELS}"] >= 23
    assert found[f"ml_workload_start_time_seconds{LABELS}"] == pytest.approx(before, abs=1.0)

    process.kill()
    process.wait()
    gone = wait_for(compute, lambda found: found[f"ml_workload_processes{LABELS}"] == 0)
    counters = ("cpu_seconds_total", "processes_started_total", "read_bytes_total", "written_bytes_total")
    left = {name: value for name, value in gone.items() if name.startswith("ml_workload")}
    assert left.keys() == {f"ml_workload_processes{LABELS}", *(f"ml_workload_{name}{LABELS}" for name in counters)}
    for name in counters:
        assert left[f"ml_workload_{name}{LABELS}"] >= found[f"ml_workload_{name}{LABELS}"]


def test_a_pid_file_is_followed_to_the_next_process(
    run: Callable[..., subprocess.Popen[str]], watch: Callable[..., Compute], tmp_path: Path
) -> None:
    path = tmp_path / "server.pid"
    compute = watch(pid_file=str(path))
    for starts in (1, 2):
        process = run("import sys; sys.stdin.read()")
        path.write_text(f"{process.pid}\n")
        wait_for(
            compute,
            lambda found, starts=starts: (  # type: ignore[misc]
                found.get(f"ml_workload_processes{LABELS}") == 1
                and found[f"ml_workload_processes_started_total{LABELS}"] == starts
            ),
        )
        process.kill()
        process.wait()
        wait_for(compute, lambda found: found[f"ml_workload_processes{LABELS}"] == 0)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Make a cgroup that accounts for CPU time."""
    candidates = [Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup")]
    top = next(path for path in candidates if (path / "cgroup.procs").exists() or path == candidates[-1])
    path = top / f"mlops-exporter-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"needs a cgroup hierarchy that this user may write: {error}")
    yield path
    path.rmdir()


def test_a_cgroup_counts_even_what_nobody_waits_for(
    cgroup: Path, run: Callable[..., subprocess.Popen[str]], watch: Callable[..., Compute]
) -> None:
    compute = watch(cgroup=f"/{cgroup.name}")
    enter = f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0')\n"
    # The kernel reaps these children itself, and adds their time to nobody's.
    ignore = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    # To wait for one of them is to wait for all, and to be told that there is none.
    wait = "def wait(pid):\n    try:\n        os.waitpid(pid, 0)\n    except ChildProcessError:\n        pass\n"
    process = run("import os\n" + enter + ignore + wait + FORKER.replace("os.waitpid(pid, 0)", "wait(pid)"))
    assert process.stdout is not None
    process.stdout.readline()
    seconds = pytest.approx(12 * 0.03 + 0.4, abs=0.15)
    expected = {f"ml_workload_cpu_seconds_total{LABELS}": seconds, f"ml_workload_processes{LABELS}": 1}
    wait_for(compute, lambda found: all(found.get(name) == value for name, value in expected.items()))
    process.kill()
    process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_may_not_be_read_is_absent_and_the_rest_is_there() -> None:
    program = """
import os, time
from tests.series import collect
from mlops_exporter.compute.sampler import Compute
from mlops_exporter.settings.compute import ComputeSettings
os.setgid(65534)
os.setuid(65534)
workloads = [{"name": "w", "phase": "serving", "match": "the-secret$"}]
compute = Compute(ComputeSettings.model_validate({"interval": "100ms", "workloads": workloads}), drivers=())
compute.start()
time.sleep(0.4)
print("\\n".join(collect(compute.collectors)))
compute.stop()
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", "input()", "the-secret"], stdin=subprocess.PIPE) as secret:
        done = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)
        secret.kill()
    names = set(done.stdout.split("\n"))
    assert {f"ml_workload_{name}{LABELS}" for name in ("cpu_seconds_total", "memory_bytes", "threads")} <= names
    hidden = {f"ml_workload_{name}{LABELS}" for name in ("read_bytes_total", "written_bytes_total")}
    assert not hidden & names
