"""Documents that are made from the code are as the code has them."""

from pathlib import Path

import pytest

from tests.documents import DOCUMENTS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_up_to_date(path: Path) -> None:
    assert path.read_text() == DOCUMENTS[path](), f"python -m tests.documents writes {path.name} anew"
