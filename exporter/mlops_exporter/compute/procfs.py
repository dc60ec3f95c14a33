"""Reading /proc as cheaply as Python allows: plain system calls, no file objects, no Path objects."""

import os


def read(path: str) -> bytes:
    """Return the file's bytes. Raises OSError.

    A first short read is the whole file: the kernel fills the buffer as long as there is more.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunk = os.read(descriptor, 65_536)
        if len(chunk) < 4096:
            return chunk
        chunks = [chunk]
        while chunk:
            chunk = os.read(descriptor, 65_536)
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


_WHOLE = 4096  # bytes that a file of a process never has


class Kept:
    """One file of many processes, kept open between readings: to open and close it costs more than to read it.

    A descriptor stays with its process: when that has ended it reads nothing, whoever has the process id by then.
    At most `most` are kept; the files of further processes are opened every time.
    """

    def __init__(self, proc: str, name: str, most: int = 256) -> None:
        self._proc = proc
        self._name = name
        self._most = most
        self._open: dict[int, int] = {}

    def read(self, pid: int) -> bytes:
        """Return the file's bytes, of which there are less than 4096. Raises OSError, after which nothing is kept."""
        descriptor = self._descriptor(pid, os.O_RDONLY)
        if descriptor is None:
            return read(f"{self._proc}/{pid}/{self._name}")
        try:
            return os.pread(descriptor, _WHOLE, 0)
        except OSError:
            self.forget(pid)
            raise

    def entries(self, pid: int) -> int:
        """Return how many entries the directory has. Raises OSError, after which nothing is kept.

        Since Linux 6.2 the size of /proc/PID/fd is that number, for everybody to see; before, it has to be listed,
        which raises PermissionError for another user's process.
        """
        path = f"{self._proc}/{pid}/{self._name}"
        descriptor = self._descriptor(pid, os.O_PATH)
        try:
            return os.stat(path if descriptor is None else descriptor).st_size or len(os.listdir(path))
        except OSError:
            self.forget(pid)
            raise

    def _descriptor(self, pid: int, flags: int) -> int | None:
        descriptor = self._open.get(pid)
        if descriptor is None and len(self._open) < self._most:
            path = f"{self._proc}/{pid}/{self._name}"
            descriptor = self._open[pid] = os.open(path, flags | os.O_CLOEXEC)
        return descriptor

    def forget(self, pid: int) -> None:
        """Close the process's file if it is open."""
        if (descriptor := self._open.pop(pid, None)) is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)


def process_ids(proc: str) -> set[int]:
    """Return the ids of all processes but this one. Raises OSError."""
    pids = {int(name) for name in os.listdir(proc) if name.isdigit()}
    pids.discard(int(os.readlink(f"{proc}/self")))
    return pids
