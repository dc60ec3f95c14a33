"""Bearer tokens (RFC 6750) for `POST /v1/events`: each from its own file, good for all models or for some."""

import hashlib
import hmac
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from mlops_exporter.settings.document import ConfigError
from mlops_exporter.web.watch import Watched

MIN_LENGTH = 16


class UnauthorizedError(Exception):
    """No token, or a wrong one; `challenge` belongs into the answer, the message says what to do."""

    def __init__(self, reason: str, challenge: str) -> None:
        super().__init__(reason)
        self.challenge = challenge


class TokenFile(Protocol):
    """A file with a token, and the models that it opens; None means all."""

    @property
    def file(self) -> Path: ...  # noqa: D102
    @property
    def models(self) -> Collection[str] | None: ...  # noqa: D102


class Tokens:
    """The tokens that open /v1/events. Files are read again when they change; raises ConfigError for one of no use."""

    def __init__(self, tokens: Iterable[TokenFile]) -> None:
        self._tokens = [
            (Watched(token.file, read_token), None if token.models is None else frozenset(token.models))
            for token in tokens
        ]

    def scope(self, authorization: str) -> frozenset[str] | None:
        """Return the models that an Authorization header opens, None for all; raises UnauthorizedError.

        Every token is compared, in constant time, so that the time of an answer says nothing about any.
        """
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthorizedError("send a token: Authorization: Bearer …", 'Bearer realm="mlops-exporter"')
        digest = _digest(given.strip().encode())
        matches = [models for token, models in self._tokens if hmac.compare_digest(token(), digest)]
        if not matches:
            raise UnauthorizedError(
                "the token is not valid here", 'Bearer realm="mlops-exporter", error="invalid_token"'
            )
        scopes = [models for models in matches if models is not None]
        return frozenset().union(*scopes) if len(scopes) == len(matches) else None


def read_token(path: Path) -> bytes:
    """Return the digest of the token in a file; raises ConfigError, which never tells any of it."""
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError([f"{path}: the token cannot be read: {error.strerror}"]) from None
    if len(token) < MIN_LENGTH or any(not 0x20 < byte < 0x7F for byte in token):
        raise ConfigError(
            [
                f"{path}: a token is {MIN_LENGTH} or more printable ASCII characters on one line; "
                f"make one with: openssl rand -hex 32 > {path}"
            ]
        )
    return _digest(token)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
