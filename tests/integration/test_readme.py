"""The README's five minutes, command by command, as they stand there; installing is test_packaging.py's."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.requirements import require_program
from tests.support.exporter import ENVIRONMENT
from tests.support.prometheus import eventually, free_port, running_prometheus

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str, port: int) -> list[str]:
    """The blocks of code of the five minutes, with `port` in place of the usual one."""
    guide = README.partition("## Five minutes to your own model\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^ {{3}}```{language}\n(.*?)^ {{3}}```$", guide, re.MULTILINE | re.DOTALL)
    return [re.sub("^ {3}", "", block, flags=re.MULTILINE).replace("10042", str(port)) for block in found]


def test_the_five_minutes(tmp_path: Path) -> None:
    shell, _ = require_program("sh"), require_program("curl")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in {"python": sys.executable, "mlops-exporter": f"{sys.executable} -m mlops_exporter"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    port = free_port()
    environment = ENVIRONMENT | {"MLOPS_EXPORTER_WEB_LISTEN_ADDRESS": f"127.0.0.1:{port}", "no_proxy": "*"}

    def run(script: str) -> str:
        done = subprocess.run(
            [shell, "-eu"], input=script, cwd=tmp_path, env=environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    install, build, configure, start, send, examine = blocks("sh", port)
    (scrape,) = blocks("yaml", port)
    (queries,) = blocks("promql", port)
    assert "pip install '.[tables]'" in install
    assert "credit.json: 5000 rows, 2 features" in run(build)
    assert "mlops-exporter.yml: good, 1 model" in run(configure)
    with (tmp_path / "log").open("wb") as log:
        exporter = subprocess.Popen([*start.split()], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://localhost:{port}"
        eventually(lambda: "ready" in run(f"curl -s {address}/-/ready || true").splitlines())
        assert run(send) == '{"accepted":2,"rejected":0,"errors":[]}'
        (metrics,) = re.findall(r"`(curl -s [^`]*/metrics)`", README.replace("10042", str(port)))
        assert 'ml_model_labels_total{model="credit",version="3"} 1' in run(metrics)
        with running_prometheus(yaml.safe_load(scrape), tmp_path) as server:
            eventually(lambda: server.query("ml_model_predictions_total"))
            for query in queries.strip().splitlines():
                assert server.query(query) == []  # it is understood; two events break nothing
            found = run(examine.replace("http://localhost:9090", server.url))
            assert f"prometheus     scrapes {address}/metrics" in found
            assert "0 problems" in found.splitlines()[-1]
    finally:
        exporter.kill()
        exporter.wait()
