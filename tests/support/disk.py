"""Disks for tests."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """Mount a small file system on `directory`."""
    directory.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "none", directory]).returncode:
        pytest.skip("mounting a small file system needs root (and, in a container, CAP_SYS_ADMIN)")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)
