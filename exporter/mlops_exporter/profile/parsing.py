"""JSON from outside: files and answers that need not be small, shallow, whole or true."""

from typing import Any

import msgspec


class JsonError(ValueError):
    """A text is no JSON, is nested too deep, or says something else than is expected; the message says what."""


def parsed(data: bytes | str, kind: Any = Any) -> Any:
    """Return what a text of JSON says, of a type; raises JsonError, whatever is wrong with it."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JsonError(str(error)) from None
    except RecursionError:
        raise JsonError("its values are nested too deep") from None
