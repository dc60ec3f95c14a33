"""Where the links in alerts lead, kept in prometheus/addresses.yml."""

import argparse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import yaml

FILE = Path(__file__).parent.parent / "addresses.yml"

_HEADER = """\
# Where the links in alerts lead: change the addresses here and run `make rules`, or
# make rules GRAFANA_URL=https://grafana.example.org RUNBOOKS_URL=https://wiki.example.org/runbooks
"""


class Addresses(NamedTuple):
    """Grafana's address, below which dashboards are at /d/UID; and that below which runbooks are at /ALERT.md."""

    grafana: str
    runbooks: str


def read(file: Path = FILE) -> Addresses:
    """Return the addresses of the file; raises ArgumentTypeError for what is none."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Addresses(url(content["grafana"]), url(content["runbooks"]))


def url(text: str) -> str:
    """Return an address without a slash at its end; raises ArgumentTypeError, which says what would be right."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} must be like https://grafana.example.org, without ? and #")
    return text.rstrip("/")


def change(grafana: str | None, runbooks: str | None, file: Path = FILE) -> None:
    """Write the addresses that are given into the file."""
    old = read(file)
    new = Addresses(grafana or old.grafana, runbooks or old.runbooks)
    if new != old:
        file.write_text(_HEADER + yaml.safe_dump(new._asdict(), sort_keys=False), encoding="utf-8")
