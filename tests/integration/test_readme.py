"""The README's five minutes, command by command, as they stand there; installing is test_packaging.py's."""

import re
import sys
from pathlib import Path

import yaml

from tests.requirements import require_program
from tests.support.pages import EXPORTER, Shell, blocks
from tests.support.prometheus import eventually, free_port, running_prometheus

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_five_minutes(tmp_path: Path) -> None:
    require_program("curl")
    port = free_port()
    shell = Shell(tmp_path, MLOPS_EXPORTER_WEB_LISTEN_ADDRESS=f"127.0.0.1:{port}")
    shell.program(".venv/bin/python", f'exec {sys.executable} "$@"')
    shell.program(".venv/bin/mlops-exporter", EXPORTER)
    run = shell.run
    guide = README.partition("## Five minutes to your own model\n")[2].partition("\n## ")[0]
    guide = guide.replace("10042", str(port))

    install, build, configure, start, send, examine = blocks(guide, "sh")
    (scrape,) = blocks(guide, "yaml")
    (queries,) = blocks(guide, "promql")
    assert "pip install '.[tables]'" in install
    assert "credit.json: 5000 rows, 2 features" in run(build)
    assert "mlops-exporter.yml: good, 1 model" in run(configure)
    exporter = shell.start(f"exec {start}", tmp_path / "log")
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
