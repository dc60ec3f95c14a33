import re
import subprocess
from pathlib import Path

from mlops_exporter.exposition.catalogue import all_metrics
from tests.requirements import require_program

PROMETHEUS = Path(__file__).parents[3] / "prometheus"
RULES = PROMETHEUS / "rules/compute.yml"


def promtool(*arguments: str) -> None:
    done = subprocess.run([require_program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_load_and_compute_what_their_tests_say() -> None:
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(PROMETHEUS / "tests/compute.yml"))


def test_rules_use_metrics_that_exist() -> None:
    known = set()
    for metric in all_metrics():
        suffixes = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        known |= {metric.name + suffix for suffix in suffixes}
    used = set(re.findall(r"(?<![\w:])ml_\w+(?![\w:])", RULES.read_text()))
    assert len(used) > 10
    assert used <= known
