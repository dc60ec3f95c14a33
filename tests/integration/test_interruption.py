"""An exporter that is interrupted while it starts ends, also where SIGINT was ignored on entry."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.exporter import ENVIRONMENT, command, write_config
from tests.support.prometheus import eventually, free_port


def _has_begun(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the program itself runs, not yet the shell or Python's own start: it then holds SIGHUP back."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


@pytest.mark.parametrize("later", [0.0, 0.2, 0.6, 1.2])
@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupt_at_any_moment_of_the_start_ends_it(tmp_path: Path, *, ignored: bool, later: float) -> None:
    write_config(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    entry = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignored else []
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*entry, *command("run", f"--web.listen-address={address}")],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: _has_begun(process), 30)
        time.sleep(later)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130, -signal.SIGINT), (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
