"""How the cells of a table are to be read."""

from dataclasses import dataclass

from mlops_exporter.profile.values import MISSING_TEXTS
from mlops_exporter.settings.tables import Captured


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file does not say of itself. `missing` are texts that mean a missing value, the rest is for CSV."""

    missing: tuple[str, ...] = MISSING_TEXTS
    delimiter: str | None = None
    """What parts the cells; None for a comma, unless the header looks otherwise."""
    decimal: str = "."
    encoding: str = "utf-8"
    columns: frozenset[str] | None = None
    """Which columns are wanted, None for all: of Parquet and CSV no others are read."""
    required: frozenset[str] = frozenset()
    """Those without which nothing can be done: of a file that lacks one all are read, so that a message names them."""
    captured: Captured | None = None
    """Whose log of requests and answers it is, and, below, what its inputs are called that come without names."""
    inputs: tuple[str, ...] = ()


DEFAULT = Reading()
