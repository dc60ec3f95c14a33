"""What a test needs from the machine."""

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """Return the path of a program. Without it the test is skipped on a laptop and fails in CI (environment CI)."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed: tests/setup-debian.sh installs it on Debian"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
