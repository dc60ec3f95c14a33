"""What a test needs from the machine. Without it a test is skipped on a laptop and fails in CI (environment CI)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def require_program(name: str, remedy: str = "tests/setup-debian.sh installs it on Debian") -> str:
    """Return the path of a program."""
    path = shutil.which(name)
    if path is None:
        lack(f"{name} is not installed: {remedy}")
    return path


def require_registry(directory: Path) -> None:
    """Have a package registry that pip can reach; `directory` takes what is downloaded to find out."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory), "hatchling"]
    done = subprocess.run([*command, "--retries=0", "--timeout=10"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lack(f"pip reaches no package registry: {done.stderr.strip().splitlines()[-1:]}")


def lack(reason: str) -> NoReturn:
    """Say what the machine lacks: skip the test, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
