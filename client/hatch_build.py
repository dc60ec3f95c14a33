"""Puts the client's one file, which lives in the exporter's package, into this distribution."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path(__file__).resolve().parent.parent / "exporter" / "mlops_exporter" / "client.py"


class ClientFile(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the file as `mlops_exporter_client/__init__.py`; an sdist has it there already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the file to be taken in."""
        if SOURCE.is_file():
            build_data["force_include"][str(SOURCE)] = "mlops_exporter_client/__init__.py"
