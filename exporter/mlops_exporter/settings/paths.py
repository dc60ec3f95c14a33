"""Paths in a configuration file."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo


def beside_configuration(path: Path, info: ValidationInfo) -> Path:
    """Return a path that starts at the directory of the configuration file."""
    return Path((info.context or {}).get("directory", "")) / path


RelativePath = Annotated[Path, AfterValidator(beside_configuration)]
