"""The directory of the state: there, writable, with room, used by one exporter only. Nothing in it is opened to write.

SQLite is not asked, since even its reading makes files; the header of its file says enough, and the kernel knows locks.
"""

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.ingest.store import FILE, SCHEMA

AREA = "state"
SCARCE_BYTES = 2 * 1024**3
FULL_BYTES = 64 * 1024**2

_MAGIC = b"SQLite format 3\0"
_USER_VERSION = slice(60, 64)
_LOCK_BYTES = 0x40000000, 512  # where SQLite locks a file
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid


def check(directory: Path, running: bool) -> Iterator[Finding]:
    """Yield how the directory is; `running` says whether an exporter answers at the address that is examined."""
    user = f"user {os.geteuid()}"
    there = _nearest(directory)
    if not there.is_dir():
        yield problem(AREA, f"{there} is no directory", "let state.path name a directory")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        remedy = f"chown it to the exporter's user, or run doctor as that user: this is {user}"
        yield problem(AREA, f"{there} is not writable for {user}, or mounted read-only", remedy)
    elif there != directory:
        yield ok(AREA, f"{directory} is not there yet: the exporter makes it")
    else:
        as_root = "; doctor runs as root, the exporter may not" if os.geteuid() == 0 else ""
        yield ok(AREA, f"{directory} is there and writable{as_root}")
    yield from _space(there)
    file = directory / FILE
    try:
        with file.open("rb") as content:
            yield from _content(file, content.read(100))
            yield from _lock(file, _holder(content.fileno()), running)
    except FileNotFoundError:
        return
    except OSError as error:
        yield problem(AREA, f"{file} cannot be read: {error.strerror}", "run doctor as the exporter's user")


def _nearest(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that is there."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())


def _space(directory: Path) -> Iterator[Finding]:
    usage = shutil.disk_usage(directory)
    free = f"{usage.free / 1024**3:.1f} GiB free"
    remedy = (
        "make room: the journal takes up to 256 MiB, or twice a checkpoint, and a checkpoint is written beside the old"
    )
    if usage.free < FULL_BYTES:
        yield problem(AREA, f"{free}: nothing can be made durable for long", remedy)
    elif usage.free < SCARCE_BYTES:
        yield warning(AREA, f"{free} only", remedy)
    else:
        yield ok(AREA, free)


def _content(file: Path, header: bytes) -> Iterator[Finding]:
    if not header:
        yield ok(AREA, f"{file.name} is empty: a first start will fill it")
        return
    version = int.from_bytes(header[_USER_VERSION], "big")
    if not header.startswith(_MAGIC):
        remedy = "restore it from a backup, or move it away to start anew"
        yield problem(AREA, f"{file} is not the exporter's: it is damaged, or something else", remedy)
    elif version > SCHEMA:
        remedy = "run the version of mlops-exporter that wrote it, or move the file away to start anew"
        yield problem(AREA, f"{file} has schema {version}, this version of mlops-exporter knows {SCHEMA}", remedy)
    else:
        of_old = "" if version in (0, SCHEMA) else f" (brought up to {SCHEMA} by the next start)"  # 0: still in the log
        yield ok(AREA, f"{file.name}: schema {version or SCHEMA}{of_old}, {file.stat().st_size / 1024**2:.1f} MiB")


def _holder(descriptor: int) -> int | None:
    """Return the process that has locked SQLite's file, None when nobody has; no lock is taken."""
    question = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, *_LOCK_BYTES, 0)
    type_, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    return None if type_ == fcntl.F_UNLCK else pid


def _lock(file: Path, holder: int | None, running: bool) -> Iterator[Finding]:
    if holder is None:
        return
    who = _command(holder)
    if running:
        yield ok(AREA, f"{file.name} is in use by {who}")
    else:
        remedy = (
            "every exporter needs a state.path of its own; if it is this one, name its --web.listen-address to doctor"
        )
        yield problem(AREA, f"{file} is in use by {who}, but no exporter answers here", remedy)


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {pid} (perhaps in another container)"
    return f"process {pid} ({' '.join(words).strip()})"
