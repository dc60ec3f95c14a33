"""docs/release.md, command by command: from a training job's last line to a retired version's last label."""

from pathlib import Path

import numpy as np
import pytest

from tests.requirements import require_program
from tests.support.exporter import running_exporter
from tests.support.pages import Shell, blocks
from tests.support.prometheus import eventually, free_port

PAGE = (Path(__file__).parents[2] / "docs" / "release.md").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What there is before: a table of held-out rows, and the directory of profiles."""
    rng = np.random.default_rng(3)
    amounts = rng.gamma(2.0, 50.0, 3000)
    scores = 1 / (1 + np.exp(3 - amounts / 50))
    labels = (rng.random(3000) < scores).astype(int)
    rows = (f"{a:.2f},{p:.4f},{y}\n" for a, p, y in zip(amounts, scores, labels, strict=True))
    (tmp_path / "held-out.csv").write_text("amount,p,y\n" + "".join(rows))
    (tmp_path / "profiles" / "credit").mkdir(parents=True)
    return tmp_path


def test_the_page_from_the_first_to_the_last_command(site: Path) -> None:
    require_program("curl")
    port = free_port()
    shell = Shell(site)

    def run(script: str) -> str:
        return shell.run(script.replace("10042", str(port)))

    build, check_and_reload, predict, label, retire, roll_back = blocks(PAGE, "sh")
    (configuration,) = blocks(PAGE, "yaml")
    (site / "mlops-exporter.yml").write_text(configuration)
    run(build.replace("4", "3"))
    arguments = ("run", "--config.file=mlops-exporter.yml", "--web.enable-lifecycle")
    with running_exporter(site, *arguments, port=port) as exporter:

        def of(version: str, metric: str) -> float | None:
            return exporter.value(metric, model="credit", version=version)

        accepted = '{"accepted":1,"rejected":0,"errors":[]}'
        for number in (1, 2):
            assert run(predict.replace('"4"', '"3"').replace("b1", f"a{number}")) == accepted
        assert "profiles/credit/4.json: 3000 rows" in run(build)
        checked = run(check_and_reload)
        assert "mlops-exporter.yml: good, 1 model" in checked
        assert checked.endswith("reloaded\n")
        assert run(predict) == accepted
        for version in ("3", "4"):
            judged = exporter.scrape().by("profile", "ml_model_version_profile", version=version)
            assert judged == {"own": 1}
        assert run(label) == accepted
        assert (of("3", "ml_model_labels_total"), of("4", "ml_model_labels_total")) == (1, 0)
        assert of("3", "ml_model_pending_predictions") == 1
        run(retire)
        eventually(lambda: "the profiles of versions have changed" in exporter.log.read_text(), 60)
        eventually(lambda: exporter.log.read_text().count("was loaded anew") == 2)
        assert run(label.replace("a1", "a2")) == accepted
        assert (of("3", "ml_model_labels_total"), of("3", "ml_model_pending_predictions")) == (2, 0)
        run(roll_back)
        run("curl -sX POST http://localhost:10042/-/reload")
        assert run(predict.replace('"4"', '"3"').replace("b1", "a3")) == accepted
        assert (of("3", "ml_model_labels_total"), of("3", "ml_model_predictions_total")) == (2, 3)
        assert exporter.scrape().by("profile", "ml_model_version_profile", version="3") == {"own": 1}
