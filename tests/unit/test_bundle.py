"""`mlops-exporter bundle` writes what one's own Prometheus, Alertmanager and Grafana need."""

import subprocess
from pathlib import Path

import pytest
import yaml

from mlops_exporter import cli
from mlops_exporter.service.bundle import BundleError, write
from tests.requirements import require_program

ROOT = Path(__file__).parents[2]


def test_it_is_what_the_repository_has(tmp_path: Path) -> None:
    assert cli.main(["bundle", "--output", str(tmp_path)]) == 0
    for place in ("prometheus/rules", "alertmanager/templates", "grafana/dashboards", "docs/runbooks"):
        written = {path.name: path.read_bytes() for path in (tmp_path / place).iterdir()}
        assert written == {path.name: path.read_bytes() for path in (ROOT / place).iterdir()}
        assert written


@pytest.mark.slow
def test_links_and_labels_are_ones_own(tmp_path: Path) -> None:
    options = ["--runbooks-url=https://wiki.example.org/ml/", "--grafana-url=https://grafana.example.org"]
    assert (
        cli.main(["bundle", f"--output={tmp_path}", *options, "--label=environment=prod: eu", "--label=team=ml"]) == 0
    )
    files = sorted((tmp_path / "prometheus" / "rules").glob("*.yml"))
    alerts = 0
    for path in files:
        before = (ROOT / "prometheus" / "rules" / path.name).read_text()
        pairs = (yaml.safe_load(text)["groups"] for text in (path.read_text(), before))
        for group, former in zip(*pairs, strict=True):
            for rule, old in zip(group["rules"], former["rules"], strict=True):
                assert rule["expr"] == old["expr"]
                if "record" in rule:
                    assert rule == old, "a label would make another series of it"
                    continue
                alerts += 1
                assert rule["labels"] == old["labels"] | {"environment": "prod: eu", "team": "ml"}
                assert rule["annotations"]["runbook_url"] == f"https://wiki.example.org/ml/{rule['alert']}.md"
                assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example.org/d/mlops-")
    assert alerts > 50
    subprocess.run([require_program("promtool"), "check", "rules", *map(str, files)], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["9", "__name__", "a-b", ""])
def test_what_is_no_label(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no name of a label"):
        write(tmp_path / "new", labels={name: "value"})
    assert not (tmp_path / "new").exists()
