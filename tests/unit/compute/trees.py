"""File trees as the kernel shows them: /proc and cgroups of a bare host and of containers, under v1 and v2."""

from collections.abc import Mapping
from pathlib import Path

GIB = 1 << 30

HOST = {
    "proc/stat": "cpu  100 0 50 800 50 0 0 0 0 0\n"
    + "".join(f"cpu{n} 25 0 12 200 12 0 0 0 0 0\n" for n in range(4))
    + "intr 0\nctxt 5\nbtime 1700000000\n",
    "proc/loadavg": "0.50 1.25 2.00 3/400 12345\n",
    "proc/meminfo": "MemTotal:       16777216 kB\nMemFree:         4194304 kB\nMemAvailable:   12582912 kB\n"
    "Buffers:               1 kB\n",
    "proc/vmstat": "nr_free_pages 5\noom_kill 3\ndrop_pagecache 0\n",
    "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n",
    "proc/pressure/memory": "some avg10=0.10 avg60=0.00 avg300=0.00 total=2500000\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n",
}
"""Four CPUs, 16 GiB of which 12 are available, no I/O pressure kept."""

V2_SERVICE_ON_HOST = {
    **HOST,
    "proc/self/cgroup": "0::/system.slice/exporter.service\n",
    "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    "sys/fs/cgroup/cpuset.cpus.effective": "0-3\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 9000000\nuser_usec 1\nsystem_usec 1\n",
    "sys/fs/cgroup/system.slice/cgroup.type": "domain\n",
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/memory.max": str(4 * GIB),
    "sys/fs/cgroup/system.slice/exporter.service/cgroup.type": "domain\n",
    "sys/fs/cgroup/system.slice/exporter.service/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/system.slice/exporter.service/cpu.stat": "usage_usec 3000000\nnr_periods 7\nnr_throttled 2\n"
    "throttled_usec 40000\n",
    "sys/fs/cgroup/system.slice/exporter.service/memory.max": str(GIB),
    "sys/fs/cgroup/system.slice/exporter.service/memory.current": str(GIB // 2),
    "sys/fs/cgroup/system.slice/exporter.service/memory.stat": f"anon 5\ninactive_file {GIB // 4}\n",
}
"""A service with limits of its own on a bare host."""

V2_CONTAINER = {
    **HOST,
    "proc/self/cgroup": "0::/\n",
    "proc/self/mountinfo": "500 400 0:28 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
    "sys/fs/cgroup/cgroup.type": "domain\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/cpuset.cpus.effective": "0,2-3\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 3000000\nuser_usec 1\nsystem_usec 1\nnr_periods 100\nnr_throttled 25\n"
    "throttled_usec 1250000\nnr_bursts 0\n",
    "sys/fs/cgroup/memory.max": str(2 * GIB),
    "sys/fs/cgroup/memory.current": str(GIB),
    "sys/fs/cgroup/memory.stat": f"anon 100\nfile 5\ninactive_file {GIB // 4}\n",
    "sys/fs/cgroup/memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n",
    "sys/fs/cgroup/memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=7000000\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=3000000\n",
}
"""A container with its own cgroup namespace: 1.5 CPUs of 3, 2 GiB."""

_V1 = "/sys/fs/cgroup"
V1_CONTAINER = {
    **HOST,
    "proc/self/cgroup": "12:memory:/docker/abc\n9:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n",
    "proc/self/mountinfo": (
        f"600 590 0:50 / {_V1} rw - tmpfs tmpfs rw\n"
        f"601 600 0:31 /docker/abc {_V1}/memory ro,nosuid master:15 - cgroup cgroup rw,memory\n"
        f"602 600 0:32 /docker/abc {_V1}/cpu,cpuacct ro,nosuid master:16 - cgroup cgroup rw,cpu,cpuacct\n"
        f"603 600 0:33 /docker/abc {_V1}/cpuset ro,nosuid master:17 - cgroup cgroup rw,cpuset\n"
    ),
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_periods 100\nnr_throttled 25\nthrottled_time 1250000000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "3000000000\n",
    "sys/fs/cgroup/cpuset/cpuset.cpus": "0-1\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "sys/fs/cgroup/memory/memory.stat": f"cache 9\ntotal_inactive_file {GIB // 4}\n",
}
"""A Docker container under v1 without cgroup namespace: 2.5 CPUs of 2, 2 GiB."""

V1_HOST = {
    **HOST,
    "proc/self/cgroup": "4:memory:/user.slice\n2:cpu,cpuacct:/user.slice\n0::/\n",
    "proc/self/mountinfo": (
        f"32 31 0:31 / {_V1}/memory rw - cgroup cgroup rw,memory\n"
        f"33 31 0:32 / {_V1}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"34 31 0:33 / {_V1}/unified rw - cgroup2 cgroup2 rw\n"
    ),
    "sys/fs/cgroup/memory/release_agent": "\n",
    "sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/cpu,cpuacct/release_agent": "\n",
    "sys/fs/cgroup/cpu,cpuacct/user.slice/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/unified/cgroup.procs": "1\n",
}
"""A bare host with the hybrid layout."""


def plant(root: Path, tree: Mapping[str, str]) -> Path:
    """Write the files of `tree` below `root` and return it."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
