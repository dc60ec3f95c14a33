"""Files that hold what users depend on, word for word.

After an intended change write them anew with `UPDATE_GOLDEN=1 pytest tests/unit` and read the difference.
"""

import os
from pathlib import Path

DIRECTORY = Path(__file__).parent


def compare(file: Path, actual: str) -> None:
    """Fail unless `file` holds exactly `actual`; with the environment variable UPDATE_GOLDEN write it instead."""
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(actual)
    assert file.read_text() == actual, f"{file.name} is not as the code has it: UPDATE_GOLDEN=1 writes it anew"
