"""What the shells themselves complete by the scripts of `mlops-exporter completion`."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_exporter.cli import _parser
from mlops_exporter.service.completion import SHELLS, script
from tests.requirements import require_program
from tests.support.command_line import commands

LINES = {
    "mlops-exporter pro": "profile",
    "mlops-exporter profile bu": "build",
    "mlops-exporter run --log.l": "--log.level",
    "mlops-exporter run --log.level de": "debug",
    "mlops-exporter run --no-collector.gp": "--no-collector.gpu",
    "mlops-exporter profile build --data x.csv --task bi": "binary",
    "mlops-exporter completion z": "zsh",
    "mlops-exporter check my-con": "my-config.yml",
    "mlops-exporter run --config.file my-con": "my-config.yml",
    "mlops-exporter profile build --data my-con": "my-config.yml",
}
"""Lines that end in the middle of a word, and what becomes of it."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for shell in SHELLS:
        (tmp_path / f"completion.{shell}").write_text(script(_parser(), shell))
    (tmp_path / "my-config.yml").touch()
    return tmp_path


def _run(place: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _by_bash(place: Path, lines: list[str]) -> list[set[str]]:
    script = "source completion.bash\n"
    for line in lines:
        words = line.replace("=", " = ").split(" ")
        script += f"COMP_WORDS=({' '.join(word or chr(39) * 2 for word in words)}); COMP_CWORD={len(words) - 1}\n"
        script += (
            '_mlops_exporter; [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))'
        )
        script += '\necho "${COMPREPLY[@]}"\n'
    return [set(offered.split()) for offered in _run(place, require_program("bash"), "-c", script).split("\n")[:-1]]


def _by_fish(place: Path, lines: list[str]) -> list[set[str]]:
    asked = "".join(f'complete -C "{line}"\necho =\n' for line in lines)
    said = _run(place, require_program("fish"), "--no-config", "-c", f"source completion.fish\n{asked}")
    return [{line.partition("\t")[0] for line in part.strip().split("\n")} for part in said.split("=\n")[:-1]]


Complete = Callable[[Path, list[str]], list[set[str]]]


@pytest.mark.parametrize("complete", [_by_bash, _by_fish])
def test_a_word_is_completed(complete: Complete, place: Path) -> None:
    assert dict(zip(LINES, complete(place, list(LINES)), strict=True)) == {line: {word} for line, word in LINES.items()}


def test_bash_completes_what_follows_an_equals_sign(place: Path) -> None:
    assert _by_bash(place, ["mlops-exporter run --log.format="]) == [{"logfmt", "json"}]


@pytest.mark.parametrize("complete", [_by_bash, _by_fish])
def test_every_flag_of_every_command_is_offered(complete: Complete, place: Path) -> None:
    flags = {name: {flag for flag in several if flag.startswith("--")} for name, several in commands().items()}
    assert len(flags) > 8
    lines = [" ".join(["mlops-exporter", *name.split(), "--"]) for name in flags]
    assert dict(zip(flags, complete(place, lines), strict=True)) == flags


class _Terminal:
    """A zsh at a terminal."""

    def __init__(self, place: Path) -> None:
        self.process, self.screen = pty.fork()
        if self.process == 0:  # pragma: no cover - the other process
            os.chdir(place)
            os.execvpe(require_program("zsh"), ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "COLUMNS": "200"})

    def say(self, keys: str, until: str) -> str:
        """Type keys; returns what stands on the screen once it has `until`."""
        os.write(self.screen, keys.encode())
        seen = ""
        deadline = time.monotonic() + 20
        while until not in seen and time.monotonic() < deadline:
            if select.select([self.screen], [], [], 0.2)[0]:
                seen += os.read(self.screen, 65536).decode(errors="replace")
        assert until in seen, seen
        return seen

    def close(self) -> None:
        os.close(self.screen)
        os.waitpid(self.process, 0)


def test_zsh_completes_at_a_terminal(place: Path) -> None:
    require_program("zsh")
    terminal = _Terminal(place)
    try:
        terminal.say("unsetopt zle_bracketed_paste; PS1= ; autoload -Uz compinit && compinit -D -u\n", "compinit")
        terminal.say("source completion.zsh; mlops-exporter() { print -r -- so: $@ }; echo re''ady\n", "ready")
        for line, word in {**LINES, "mlops-exporter run --log.level=de": "--log.level=debug"}.items():
            begun = line.removeprefix("mlops-exporter ").rpartition(" ")[0]
            terminal.say(f"{line}\t\n", f"so: {begun} {word}".replace(":  ", ": "))
    finally:
        terminal.close()
