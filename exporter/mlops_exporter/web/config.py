"""The web configuration, `--web.config.file`, in the format that Prometheus' exporters share."""

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator

from mlops_exporter.settings.document import ConfigError, Document, Settings

ClientAuth = Literal[
    "NoClientCert", "RequestClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
]
TlsVersion = Literal["TLS12", "TLS13"]
Curve = Literal["CurveP256", "CurveP384", "CurveP521", "X25519"]

CIPHER_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""OpenSSL's names of the suites for TLS 1.2, by their registered names. All have forward secrecy."""

TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that may be configured, with the values that they may have; none means any."""

_SECRET_KEYS = frozenset({"key", "basic_auth_users"})
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_MAX_BCRYPT_COST = 16  # four seconds for one login


_GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|μs|ms|s|m|h))+")
_GO_PART = re.compile(r"([0-9.]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _go_duration(value: object) -> object:
    """Return the seconds of a duration as Go writes it, such as `100us`, `1.5s` or `1m30s`."""
    if value in (0, "0"):
        return 0.0
    if not isinstance(value, str) or not _GO_DURATION.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, such as 50ms, 1.5s or 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in _GO_PART.findall(value))


def _text(value: object) -> object:
    """Return a number or boolean as the text that it is in the file, as Go's YAML does where text is meant."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _text_or_none(value: object) -> object:
    return "" if value is None else _text(value)


GoDuration = Annotated[float, BeforeValidator(_go_duration)]
Text = Annotated[str, BeforeValidator(_text)]


class _Section(Settings):
    """A mapping in which null and, for a text, an empty one say nothing: templates write such."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, content: object) -> object:
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value is not None and value != ""}


class TlsSettings(_Section):
    """`tls_server_config`. Paths are relative to the file."""

    cert: str | None = None
    key: SecretStr | None = None
    client_ca: str | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    client_auth_type: ClientAuth = "NoClientCert"
    client_allowed_sans: list[Text] = []
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: list[str] = []
    prefer_server_cipher_suites: bool = True
    curve_preferences: list[Curve] = []

    @field_validator("client_auth_type", mode="before")
    @classmethod
    def _known_client_auth(cls, value: object) -> object:
        value = {"": "NoClientCert", "RequireClientCert": "RequireAnyClientCert"}.get(str(value), value)
        if value not in get_args(ClientAuth):
            raise ValueError(f"invalid client_auth_type; there are {', '.join(get_args(ClientAuth))}")
        return value

    @field_validator("min_version", "max_version", mode="before")
    @classmethod
    def _current_version(cls, value: object) -> object:
        if value in ("TLS10", "TLS11"):
            raise ValueError("broken since 2011 and refused; write TLS12 or TLS13")
        if value not in get_args(TlsVersion):
            raise ValueError("unknown TLS version; write TLS12 or TLS13")
        return value

    @field_validator("cipher_suites")
    @classmethod
    def _known_suites(cls, suites: list[str]) -> list[str]:
        for suite in suites:
            if suite not in CIPHER_SUITES and suite not in TLS13_SUITES:
                raise ValueError(
                    f"unknown cipher {suite}, or one without forward secrecy; there are {', '.join(CIPHER_SUITES)}"
                )
        return suites

    @field_validator("curve_preferences")
    @classmethod
    def _one_curve(cls, curves: list[Curve]) -> list[Curve]:
        if len(curves) > 1:
            raise ValueError("Python can offer one curve, or OpenSSL's own list: name one, or leave the key out")
        return curves

    @model_validator(mode="after")
    def _complete(self) -> "TlsSettings":
        for inline, file in (("cert", "cert_file"), ("key", "key_file"), ("client_ca", "client_ca_file")):
            if getattr(self, inline) is not None and getattr(self, file) is not None:
                raise ValueError(f"give {inline} or {file}, not both")
        if self.cert is None and self.cert_file is None:
            raise ValueError("missing one of cert or cert_file")
        if self.key is None and self.key_file is None:
            raise ValueError("missing one of key or key_file")
        if self.min_version > self.max_version:
            raise ValueError(f"min_version {self.min_version} is above max_version {self.max_version}")
        if self.cipher_suites and not set(self.cipher_suites) & CIPHER_SUITES.keys() and self.min_version == "TLS12":
            raise ValueError("cipher_suites has none for TLS 1.2: add one, or write min_version: TLS13")
        return self._client_certificates_fit()

    def _client_certificates_fit(self) -> "TlsSettings":
        has_ca = self.client_ca is not None or self.client_ca_file is not None
        if has_ca and self.client_auth_type == "NoClientCert":
            raise ValueError(
                "a client CA is given, but client_auth_type is NoClientCert: write RequireAndVerifyClientCert"
            )
        if self.client_allowed_sans and self.client_auth_type in ("NoClientCert", "RequestClientCert"):
            raise ValueError(
                "client_allowed_sans needs a client that must show a certificate: "
                "write client_auth_type: RequireAndVerifyClientCert"
            )
        return self

    def within(self, directory: Path) -> "TlsSettings":
        """Return the same with paths from `directory`."""
        files = {name: getattr(self, name) for name in ("cert_file", "key_file", "client_ca_file")}
        return self.model_copy(update={name: directory / file for name, file in files.items() if file is not None})


class HttpSettings(_Section):
    """`http_server_config`."""

    http2: Literal[False] = False
    headers: dict[str, Annotated[str, BeforeValidator(_text_or_none)]] = {}

    @field_validator("http2", mode="before")
    @classmethod
    def _no_http2(cls, value: object) -> object:
        if value is True:
            raise ValueError("HTTP/1.1 is served, which Prometheus speaks as well: leave http2 out or write false")
        return value

    @field_validator("headers")
    @classmethod
    def _known_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name not in HEADERS:
                raise ValueError(f'HTTP header "{name}" can not be configured; there are {", ".join(HEADERS)}')
            if value and HEADERS[name] and value not in HEADERS[name]:
                raise ValueError(f'invalid value for {name}: expected {" or ".join(HEADERS[name])}, not "{value}"')
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"invalid value for {name}: one line of printable ASCII is expected")
        return {name: value for name, value in headers.items() if value}


class RateLimit(_Section):
    """`rate_limit`: one request per `interval`, and up to `burst` at once; 0 switches it off."""

    interval: GoDuration = 0.0
    burst: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _lets_somebody_in(self) -> "RateLimit":
        if self.interval > 0 and self.burst < 1:
            raise ValueError("burst must be 1 or more, or no request is ever answered")
        return self


class WebConfig(Settings):
    """The whole file. Empty, it changes nothing."""

    tls_server_config: TlsSettings | None = None
    http_server_config: HttpSettings = HttpSettings()
    basic_auth_users: dict[Text, SecretStr] = {}
    rate_limit: RateLimit = RateLimit()

    @field_validator("tls_server_config", mode="before")
    @classmethod
    def _nothing_is_absent(cls, value: object) -> object:
        return None if value == {} else value

    @field_validator("http_server_config", "basic_auth_users", "rate_limit", mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("basic_auth_users")
    @classmethod
    def _bcrypt_hashes(cls, users: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for user, secret in users.items():
            found = _BCRYPT.fullmatch(secret.get_secret_value())
            if found is None:
                raise ValueError(
                    f"the password of {user!r} is not a bcrypt hash; make one with: htpasswd -nBC 10 {user}"
                )
            if ":" in user or not 4 <= int(found[1]) <= _MAX_BCRYPT_COST:
                raise ValueError(
                    f"user {user!r}: a name has no colon, and the cost of its hash is 4 to {_MAX_BCRYPT_COST}"
                )
        return users


def read(path: Path) -> WebConfig:
    """Read and validate a web configuration; raises ConfigError with all faults, without any secret."""
    if path.is_file() and not _says_something(path.read_bytes()):
        return WebConfig()
    document = Document.read(path, example="keys such as tls_server_config", secret=_SECRET_KEYS)
    faults = document.duplicate_keys()
    try:
        config = WebConfig.model_validate(document.content)
    except ValidationError as error:
        raise ConfigError(faults + document.describe(error, WebConfig)) from None
    if faults:
        raise ConfigError(faults)
    if config.tls_server_config is None:
        return config
    return config.model_copy(update={"tls_server_config": config.tls_server_config.within(path.parent)})


def _says_something(text: bytes) -> bool:
    """Tell whether there is more than blank lines, comments and marks of a document."""
    lines = (line.strip() for line in text.splitlines())
    return any(line and not line.startswith(b"#") and line not in (b"---", b"...") for line in lines)
