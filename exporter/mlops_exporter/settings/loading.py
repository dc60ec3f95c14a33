"""How the configuration was last loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Loading:
    """`loaded` is when the configuration in force was loaded (Unix seconds).

    `error` says why a later one was not, None when the last attempt succeeded. `broken` has the faults of each file
    of a model or a version that is left out of it.
    """

    loaded: float
    error: str | None = None
    broken: Mapping[str, list[str]] = field(default_factory=dict)
