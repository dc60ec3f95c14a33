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


def process_ids(proc: str) -> set[int]:
    """Return the ids of all processes but this one. Raises OSError."""
    pids = {int(name) for name in os.listdir(proc) if name.isdigit()}
    pids.discard(int(os.readlink(f"{proc}/self")))
    return pids


def open_files(proc: str, pid: int) -> int:
    """Return how many files the process has open. Raises OSError.

    Since Linux 6.2 the size of the directory is the number of its entries, for everybody to see; before, it has to be
    listed, which raises PermissionError for another user's process.
    """
    path = f"{proc}/{pid}/fd"
    return os.stat(path).st_size or len(os.listdir(path))
