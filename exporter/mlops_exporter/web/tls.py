"""TLS as the web configuration asks for it, made anew when one of its files changes."""

import ipaddress
import logging
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import SecretStr

from mlops_exporter.settings.document import ConfigError
from mlops_exporter.web.config import CIPHER_SUITES, TlsSettings
from mlops_exporter.web.watch import stamp

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_VERIFY_MODES = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_OPTIONAL,
    "RequireAnyClientCert": ssl.CERT_REQUIRED,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert")
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python does not name
_CERTIFICATE_MESSAGE = 11  # RFC 8446, section 4
_TLS13 = 0x0304

_log = logging.getLogger(__name__)


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make a server's context; raises ConfigError with what is wrong with certificate, key or client CA.

    With RequestClientCert and RequireAnyClientCert a context is for one connection: it learns to trust what the
    client shows.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for key, version in (("min_version", settings.min_version), ("max_version", settings.max_version)):
        with _supported(key, version):
            setattr(context, key.replace("_", "imum_"), _VERSIONS[version])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    suites = [CIPHER_SUITES[suite] for suite in settings.cipher_suites if suite in CIPHER_SUITES]
    with _supported("cipher_suites", ", ".join(settings.cipher_suites) or "ECDHE"):
        context.set_ciphers(":".join(suites) if suites else "ECDHE+AESGCM:ECDHE+CHACHA20")
    for curve in settings.curve_preferences:
        with _supported("curve_preferences", curve):
            context.set_ecdh_curve(_CURVES[curve])
    _load_certificate(context, settings)
    _load_client_ca(context, settings)
    context.verify_mode = _VERIFY_MODES[settings.client_auth_type]
    if settings.client_auth_type in _UNVERIFIED:
        _accept_any(context)
    if settings.client_allowed_sans:
        context.sslobject_class = _checking(frozenset(map(_comparable, settings.client_allowed_sans)))
    return context


@contextmanager
def _supported(key: str, value: str) -> Iterator[None]:
    """Turn what this Python's OpenSSL cannot do into a ConfigError that names the key."""
    try:
        yield
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise ConfigError(
            [f"tls_server_config.{key}: {value} is not supported by this {ssl.OPENSSL_VERSION} and Python: {error}; "
             "name another, or leave the key out"]
        ) from None  # fmt: skip


class ReloadingContext(ssl.SSLContext):
    """Gives every connection the context that the settings and files of its moment ask for.

    Files that cannot be used leave the former context in force; the log says so, once per change.
    """

    _settings: Callable[[], TlsSettings | None]
    _context: ssl.SSLContext
    _made_from: object

    def __new__(cls, settings: Callable[[], TlsSettings | None]) -> "ReloadingContext":
        """Make the first context; raises ConfigError."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._settings = settings
        first = settings()
        if first is None:
            raise ConfigError(["tls_server_config is missing"])
        self._made_from = _state(first)
        self._context = server_context(first)
        return self

    def wrap_bio(self, *arguments: Any, **keywords: Any) -> ssl.SSLObject:
        """Begin a connection, as the event loop asks at each."""
        return self._current().wrap_bio(*arguments, **keywords)

    def _current(self) -> ssl.SSLContext:
        settings = self._settings()
        if settings is None:
            if self._made_from is not None:
                _log.error("tls_server_config is gone; TLS goes on with the former one until a restart")
            self._made_from = None
            return self._context
        state = _state(settings)
        if state != self._made_from or settings.client_auth_type in _UNVERIFIED:
            try:
                self._context = server_context(settings)
            except ConfigError as error:
                if state != self._made_from:
                    _log.error("TLS goes on with the former certificates: %s", error)
            else:
                if state != self._made_from:
                    _log.info("TLS uses the changed certificates and settings")
            self._made_from = state
        return self._context


def _state(settings: TlsSettings) -> object:
    files = (settings.cert_file, settings.key_file, settings.client_ca_file)
    return settings, [stamp(file) for file in files if file is not None]


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    certificate, key = settings.cert_file or "cert", settings.key_file or "key"
    _readable("cert_file", settings.cert_file)
    _readable("key_file", settings.key_file)
    with _path(settings.cert_file, settings.cert) as public, _path(settings.key_file, settings.key) as private:
        try:
            context.load_cert_chain(public, private, _no_password)
        except _EncryptedKeyError:
            raise ConfigError(
                [f"{key}: the key is encrypted; store it in clear, readable for the exporter alone"]
            ) from None
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "no PEM"
            raise ConfigError(
                [f"failed to load certificate {certificate} and key {key}: {reason.lower().replace('_', ' ')}"]
            ) from None


def _load_client_ca(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.client_ca_file is None and settings.client_ca is None:
        if settings.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert"):
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)  # as Go does, which takes the system's authorities
        return
    _readable("client_ca_file", settings.client_ca_file)
    where = settings.client_ca_file or "client_ca"
    try:
        context.load_verify_locations(settings.client_ca_file, cadata=settings.client_ca)
    except (ssl.SSLError, ValueError):
        raise ConfigError([f"{where}: no certificate of a client CA in it; PEM is expected"]) from None


def _readable(key: str, file: Path | None) -> None:
    if file is None:
        return
    try:
        file.open("rb").close()
    except OSError as error:
        raise ConfigError([f"failed to read {key} ({file}): {error.strerror}"]) from None


class _EncryptedKeyError(Exception):
    """OpenSSL asks for a password."""


def _no_password() -> str:
    raise _EncryptedKeyError


@contextmanager
def _path(file: Path | None, inline: str | SecretStr | None) -> Iterator[Path]:
    """Give a path to PEM text, which Python takes from files only: for an inline one, of a file without a name."""
    if file is not None:
        yield file
        return
    text = inline.get_secret_value() if isinstance(inline, SecretStr) else inline or ""
    unnamed: BinaryIO
    with tempfile.TemporaryFile() as unnamed:
        unnamed.write(text.encode())
        unnamed.seek(0)
        yield Path(f"/dev/fd/{unnamed.fileno()}")


def _checking(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """Return a connection whose handshake fails when no subject alternative name of the client is allowed."""

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate: Any = self.getpeercert()
            if not certificate and self.context.verify_mode != ssl.CERT_REQUIRED:
                return
            names = {_comparable(value) for _, value in (certificate or {}).get("subjectAltName", ())}
            if names.isdisjoint(allowed):
                raise ssl.SSLCertVerificationError("could not find an allowed SAN in the client certificate")

    return Checked


def _comparable(name: str) -> str:
    """Return a subject alternative name; an IP address in one form, since it has many: `[::ffff:a01:203]`, 10.1.2.3."""
    try:
        address = ipaddress.ip_address(name.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


def _accept_any(context: ssl.SSLContext) -> None:
    """Make a context for one connection take whatever certificate the client shows.

    Python cannot switch the verification of a certificate off and yet ask for it. So the certificate is added to the
    trusted ones the moment that it arrives. The handshake still proves that the client holds its key; validity in time
    is not checked, that it is not restricted to other purposes is.
    """
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)

    def trust(
        connection: object, direction: str, version: int, content_type: int, message_type: int, data: bytes
    ) -> None:
        if direction == "read" and message_type == _CERTIFICATE_MESSAGE and (leaf := _leaf(data[4:], version)):
            context.load_verify_locations(cadata=leaf)

    context._msg_callback = trust  # type: ignore[attr-defined]  # undocumented, as in every Python since 3.8


def _leaf(message: bytes, version: int) -> bytes:
    """Return the first certificate of a Certificate message (RFC 8446, 4.4.2; RFC 5246, 7.4.2), empty without one."""
    if version >= _TLS13:
        message = message[1 + message[0] :]
    size = int.from_bytes(message[3:6])
    return message[6 : 6 + size]
