"""Documents that are made from the code are as the code has them."""

import re
from pathlib import Path

import pytest

from mlops_exporter.exposition.catalogue import all_metrics
from tests.documents import DOCS, DOCUMENTS, with_contents


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_up_to_date(path: Path) -> None:
    assert path.read_text() == with_contents(DOCUMENTS[path]()), f"python -m tests.documents writes {path.name} anew"


def test_long_pages_begin_with_their_contents() -> None:
    for page in DOCS.glob("*.md"):
        assert page.read_text() == with_contents(page.read_text()), f"python -m tests.documents mends {page.name}"


def test_documented_joins_hold_with_several_versions() -> None:
    """Prometheus refuses a join whose one side has several series: all labels of that metric must be matched."""
    labels = {metric.name: set(metric.labels) for metric in all_metrics()}
    joins = re.compile(r"on \(([^)]*)\) group_(left|right) \([^)]*\) (ml_\w+)")
    found = 0
    for page in [DOCS.parent / "README.md", *DOCS.rglob("*.md")]:
        for on, side, metric in joins.findall(page.read_text()):
            if side == "left":
                found += 1
                assert labels[metric] <= set(on.split(", ")), f"{page.name}: {metric} differs by {labels[metric]}"
    assert found > 5
