"""MLflow's own Python, which `make mlflow` sets up beside the exporter."""

import os
from pathlib import Path

from tests.requirements import require_program

_ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment of MLflow's Python, whose `mlflow` is on the path."""
    return {**os.environ, "PYTHONPATH": str(_ROOT / "exporter"), "PYTHONWARNINGS": "ignore", **more}


def python() -> str:
    """MLflow's Python."""
    return str(Path(require_program("mlflow", "make mlflow")).with_name("python"))
