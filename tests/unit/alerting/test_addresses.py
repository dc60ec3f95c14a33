"""Where the links in alerts lead."""

import argparse
import shutil
from pathlib import Path

import pytest

from prometheus.source import addresses


def test_addresses_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "addresses.yml"
    shutil.copy(addresses.FILE, file)
    before = addresses.read(file)
    addresses.change("https://grafana.example.org/sub", None, file)
    assert addresses.read(file) == addresses.Addresses("https://grafana.example.org/sub", before.runbooks)
    addresses.change(None, "https://wiki.example.org", file)
    assert addresses.read(file) == addresses.Addresses("https://grafana.example.org/sub", "https://wiki.example.org")
    assert file.read_text().startswith("# Where the links in alerts lead")


def test_a_slash_at_the_end_is_left_out() -> None:
    assert addresses.url("http://localhost:3000/") == "http://localhost:3000"


@pytest.mark.parametrize("text", ["grafana.example.org", "ftp://grafana", "https://", "https://g/?orgId=1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be like"):
        addresses.url(text)
