"""What comes with the exporter for one's own Prometheus, Alertmanager and Grafana, written where it is wanted.

The wheel carries the files in `mlops_exporter/bundled`; in a checkout they lie where they are made.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

_PACKAGE = Path(__file__).parents[1]
_CARRIED = _PACKAGE / "bundled"
_CHECKOUT = _PACKAGE.parents[1]
PARTS = {
    "prometheus/rules": "*.yml",
    "alertmanager": "*.yml",
    "alertmanager/templates": "*.tmpl",
    "grafana/dashboards": "*.json",
    "docs/runbooks": "*.md",
}
"""Where the files are, in a checkout, in the wheel and in what is written, and which."""

_ADDRESSES = "prometheus/addresses.yml"
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class BundleError(Exception):
    """The bundle cannot be written as asked; the message says what would be right."""


def write(
    output: Path, runbooks: str | None = None, grafana: str | None = None, labels: Mapping[str, str] | None = None
) -> list[Path]:
    """Write the bundle below `output` and return its files.

    Links lead to `runbooks` and `grafana`, alerts have `labels`. A file that is there already is replaced. Raises
    BundleError and OSError.
    """
    labels = labels or {}
    for name in labels:
        if not _LABEL_NAME.fullmatch(name) or name.startswith("__"):
            raise BundleError(f"--label: {name!r} is no name of a label: letters, digits and _ may be in it")
    source = _CARRIED if _CARRIED.is_dir() else _CHECKOUT
    usual = yaml.safe_load((source / _ADDRESSES).read_text(encoding="utf-8"))
    changed = {usual["runbooks"]: runbooks, usual["grafana"]: grafana}
    written = []
    for place, pattern in PARTS.items():
        for file in sorted((source / place).glob(pattern)):
            text = file.read_text(encoding="utf-8")
            for old, new in changed.items():
                text = text if new is None else text.replace(old, new.rstrip("/"))
            if place == "prometheus/rules":
                text = "".join(_labelled(text, labels))
            target = output / place / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(target)
    return written


def _labelled(text: str, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a file of rules, its alerts with more labels; one that they have already is replaced.

    Only the labels of alerts have `severity` first, and labels of records would make other series of them.
    """
    within = False
    for line in text.splitlines(keepends=True):
        if within and (name := re.match(r" {10}(\w+):", line)) and name.group(1) in labels:
            continue
        within = line == "        labels:\n" or (within and line.startswith(" " * 10))
        yield line
        if line.startswith("          severity: "):
            yield from (
                f"          {name}: {yaml.safe_dump(value, width=10**6).splitlines()[0]}\n"
                for name, value in labels.items()
            )
