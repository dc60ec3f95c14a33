"""A machine, or a Kubernetes node, as files that a test writes: /proc, the cgroups of pods, the kubelet's links."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
BOOTED = 1000.0  # seconds since boot when the sampler starts
LATER = int(BOOTED * TICKS) + 50  # a process started after that


class Proc:
    """A /proc that a test fills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/1").mkdir(parents=True)
        (root / "proc/self").symlink_to("1")
        (root / "proc/1/io").write_text("")

    def put(
        self,
        pid: int,
        command: str = "",
        *,
        parent: int = 0,
        own: int = 0,
        children: int = 0,
        started: int = LATER,
        state: str = "S",
        io: tuple[int, int] = (0, 0),
        pages: int = 256,
    ) -> None:
        directory = self.root / "proc" / str(pid)
        (directory / "fd").mkdir(parents=True, exist_ok=True)
        stat = (
            f"{pid} (a) b) {state} {parent} 0 0 0 -1 0 0 0 0 0 {own} 0 {children} 0 20 0 3 0 {started} 0 {pages} 0 0\n"
        )
        (directory / "stat").write_text(stat)
        (directory / "cmdline").write_text(command.replace(" ", "\0") + "\0" if command else "")
        names = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")
        (directory / "io").write_text("".join(f"{n}: {v}\n" for n, v in zip(names, (0, 0, 0, 0, *io, 0), strict=True)))

    def remove(self, pid: int) -> None:
        directory = self.root / "proc" / str(pid)
        for name in ("stat", "cmdline", "io"):
            (directory / name).unlink()
        (directory / "fd").rmdir()
        directory.rmdir()


CGROUP2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
SYSTEMD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{}.scope"
GUARANTEED = "kubepods.slice/kubepods-pod{}.slice/cri-containerd-{}.scope"
CRIO = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice/crio-{}.scope"
CGROUPFS = "kubepods/burstable/pod{}/{}"
KIND = (
    "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
    "kubelet-kubepods-burstable-pod{}.slice/cri-containerd-{}.scope"
)
CONTAINER = "0f1e" * 16


class Node:
    """A Kubernetes node that a test fills."""

    def __init__(self, root: Path) -> None:
        self.proc = Proc(root)
        self.root = root
        self.top = root / "sys/fs/cgroup"
        self.links = root / "var/log/containers"
        self.links.mkdir(parents=True)
        (self.top / "system.slice/ssh.service").mkdir(parents=True)
        (root / "proc/1/mountinfo").write_text(CGROUP2)
        (root / "proc/1/cgroup").write_text("0::/\n")
        self._forms: dict[str, str] = {}

    def uid(self, number: int | str) -> str:
        """The uid of a pod: one of the test's by its number, or one that an API server gave."""
        return number if isinstance(number, str) else f"4d1f2a3b-0c1d-4e5f-8a9b-{number:012x}"

    def start(self, form: str, number: int | str, microseconds: int, *pids: int) -> None:
        uid = self.uid(number)
        container = self.top / form.format(uid if form == CGROUPFS else uid.replace("-", "_"), CONTAINER)
        container.mkdir(parents=True, exist_ok=True)
        (container / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        (container.parent / "cpu.stat").write_text(f"usage_usec {microseconds}\n")
        for pid in pids:
            self.proc.put(pid, "python serve.py", started=LATER)

    def name(self, number: int | str, namespace: str, name: str) -> None:
        target = f"/var/log/pods/{namespace}_{name}_{self.uid(number)}/model/0.log"
        (self.links / f"{name}_{namespace}_model-{CONTAINER}.log").symlink_to(target)

    def end(self, form: str, number: int | str, *pids: int) -> None:
        uid = self.uid(number)
        container = self.top / form.format(uid if form == CGROUPFS else uid.replace("-", "_"), CONTAINER)
        (container / "cgroup.procs").unlink()
        container.rmdir()
        (container.parent / "cpu.stat").unlink()
        container.parent.rmdir()
        for pid in pids:
            self.proc.remove(pid)
