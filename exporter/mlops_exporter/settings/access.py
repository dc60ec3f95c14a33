"""What may be written of how an HTTP server is asked."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from mlops_exporter.settings.document import Settings as _Settings
from mlops_exporter.settings.paths import RelativePath


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write http://HOST:PORT/PATH or https://HOST/PATH")
    try:
        parts.port  # noqa: B018 - reading it tries it
    except ValueError:
        raise ValueError("the port must be a number up to 65535") from None
    if parts.username or parts.password:
        raise ValueError("no user and no password here: give username and password_file")
    return url


Url = Annotated[str, AfterValidator(_http)]
"""An address of HTTP or HTTPS, without credentials."""


class AccessSettings(_Settings):
    """Credentials and trust: a bearer token or a name with its password, each from a file that is read anew each time.

    `ca_file` has the certificates that are trusted, the system's without it; `cert_file` is this client's own.
    """

    token_file: Annotated[RelativePath | None, Field(description="File with a bearer token.")] = None
    username: Annotated[str | None, Field(description="Name of basic authentication.")] = None
    password_file: Annotated[RelativePath | None, Field(description="File with the password to `username`.")] = None
    ca_file: Annotated[
        RelativePath | None,
        Field(description="PEM file of the certificates that are trusted; by default the system's."),
    ] = None
    cert_file: Annotated[
        RelativePath | None,
        Field(description="PEM file of the certificate that is shown to a server that asks for one."),
    ] = None
    key_file: Annotated[
        RelativePath | None, Field(description="PEM file of the key of `cert_file`, where that lacks it.")
    ] = None
    headers: Annotated[dict[str, str], Field(description="Further headers of each request; no secrets here.")] = {}
    header_files: Annotated[
        dict[str, RelativePath],
        Field(description="Further headers whose values stand in files, as `{X-Api-Key: /run/secrets/key}`."),
    ] = {}

    @model_validator(mode="after")
    def _one_kind_of_credentials(self) -> "AccessSettings":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or neither")
        if self.token_file is not None and self.username is not None:
            raise ValueError("token_file: give a token or a name with its password, not both")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file is the key of cert_file: give that, too")
        for name, value in [*self.headers.items(), *((name, "") for name in self.header_files)]:
            if not name.isascii() or not value.isascii() or any(ord(c) < 0x20 for c in name + value):
                raise ValueError(f"headers: {name!r} and its value must be printable ASCII")
        return self

    @property
    def has_credentials(self) -> bool:
        """Whether requests say who asks."""
        named = {name.lower() for name in (*self.headers, *self.header_files)}
        return self.token_file is not None or self.username is not None or "authorization" in named
