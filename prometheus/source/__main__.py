"""Write prometheus/rules and prometheus/tests.

The tests hold the description of every alert as promtool must render it. --accept takes what it renders now as right:
read the difference before committing it.
"""

import argparse
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from prometheus.source import addresses
from prometheus.source.cases import key, promtool_files
from prometheus.source.render import rule_files, to_yaml

HERE = Path(__file__).parent.parent
RULES, TESTS = HERE / "rules", HERE / "tests"

_HEADER = "# Made by `python -m prometheus.source`: change prometheus/source, not this file.\n"
_GOT = re.compile(r"Labels:\{(.*)\}\s+Annotations:\{(.*)\}")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')


def descriptions(folder: Path = TESTS) -> dict[str, str]:
    """Read the descriptions that the tests expect."""
    found = {}
    for path in folder.glob("*.yml"):
        for test in yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)["tests"]:
            for check in test.get("alert_rule_test", ()):
                for expected in check["exp_alerts"]:
                    name = key(check["alertname"], expected["exp_labels"])
                    found[name] = expected["exp_annotations"]["description"]
    return found


def promtool_texts(described: dict[str, str]) -> dict[str, str]:
    """Return the text of each test file by its name."""
    return {name: _HEADER + to_yaml(content) for name, content in promtool_files(described).items()}


def rendered() -> dict[str, str]:
    """Run promtool and return the descriptions that it renders, of alerts whose expected ones differ."""
    run = subprocess.run(["promtool", "test", "rules", *map(str, sorted(TESTS.glob("*.yml")))], capture_output=True)
    found = {}
    for part in (run.stdout + run.stderr).decode().split("got:[")[1:]:
        for labels, annotations in _GOT.findall(part.split("FAILED")[0]):
            names = _pairs(labels)
            found[key(names["alertname"], names)] = _pairs(annotations)["description"]
    return found


def _pairs(text: str) -> dict[str, Any]:
    return {name: yaml.safe_load(quoted) for name, quoted in _PAIR.findall(text)}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m prometheus.source", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="take the descriptions that promtool renders as right")
    parser.add_argument("--grafana", metavar="URL", type=addresses.url, help="keep this as Grafana's address")
    parser.add_argument("--runbooks", metavar="URL", type=addresses.url, help="keep this as the runbooks' address")
    arguments = parser.parse_args()
    addresses.change(arguments.grafana, arguments.runbooks)
    described = descriptions()
    _write(described)
    if arguments.accept:
        _write(described | rendered())


def _write(described: dict[str, str]) -> None:
    for folder, texts in ((RULES, rule_files()), (TESTS, promtool_texts(described))):
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
