"""How the configuration was last loaded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Loading:
    """`loaded` is when the configuration in force was loaded (Unix seconds).

    `error` says why a later one was not, None when the last attempt succeeded.
    """

    loaded: float
    error: str | None = None
