"""The commands of a page, run as they stand there, in a directory with the files that the page names."""

import re
import subprocess
import sys
from pathlib import Path

from tests.requirements import require_program
from tests.support.exporter import ENVIRONMENT

EXPORTER = f'exec {sys.executable} -m mlops_exporter "$@"'
"""A program that is the exporter under test."""


def blocks(text: str, *languages: str) -> list[str]:
    """The blocks of code of a page in some languages, without their indent."""
    fence = rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^ *```$"
    found = re.findall(fence, text, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


class Shell:
    """A shell in `directory`, in whose `bin` are `mlops-exporter` and whatever else a page calls."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.program("bin/mlops-exporter", EXPORTER)
        self.environment = ENVIRONMENT | {"PATH": f"{directory / 'bin'}:{ENVIRONMENT['PATH']}", "no_proxy": "*"}
        self.environment |= environment
        self.path = require_program("sh")

    def program(self, place: str, script: str) -> None:
        """Write a program at a place in the directory."""
        path = self.directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, script: str) -> str:
        """Run a script, which must succeed; returns what it said."""
        done = self._done(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, script: str) -> str:
        """Run a script, which must fail; returns what it said."""
        done = self._done(script)
        assert done.returncode != 0, f"{script}\n{done.stdout}"
        return done.stdout + done.stderr

    def _done(self, script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.path, "-eu"], input=script, cwd=self.directory, env=self.environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def start(self, script: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a script that runs until it is stopped, in a session of its own; what it says goes to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [self.path, "-euc", script], cwd=self.directory, env=self.environment,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
