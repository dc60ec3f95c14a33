"""How the configuration was last loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Loading:
    """`loaded` is when the configuration in force was loaded (Unix seconds).

    `error` says why a later one was not, None when the last attempt succeeded. `broken` has the faults of each file
    of a model or a version that is left out of it. `models` is how many it has, `ready` of how many of them the
    references are made, which at a start takes a while.
    """

    loaded: float
    error: str | None = None
    broken: Mapping[str, list[str]] = field(default_factory=dict)
    models: int = 0
    ready: int = 0
