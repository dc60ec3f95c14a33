"""Documents that are made from the code are as the code has them."""

from pathlib import Path

import pytest

from tests.documents import DOCS, DOCUMENTS, with_contents


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_up_to_date(path: Path) -> None:
    assert path.read_text() == with_contents(DOCUMENTS[path]()), f"python -m tests.documents writes {path.name} anew"


def test_long_pages_begin_with_their_contents() -> None:
    for page in DOCS.glob("*.md"):
        assert page.read_text() == with_contents(page.read_text()), f"python -m tests.documents mends {page.name}"
