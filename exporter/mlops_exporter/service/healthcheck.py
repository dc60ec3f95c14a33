"""Asks a running exporter, through whatever its web configuration put in front of it; above all whether it is ready."""

import base64
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path

from mlops_exporter.web import config
from mlops_exporter.web.config import TlsSettings
from mlops_exporter.web.server import host_and_port

PATH = "/-/ready"
_TIMEOUT_SECONDS = 5.0
_ANY_HOST = ("", "0.0.0.0", "::", "[::]")  # nosec B104: compared with, not bound to


@dataclass(frozen=True, slots=True)
class Access:
    """How a running exporter is asked. `address` is its listen address.

    Over TLS only the certificate of the web configuration itself is trusted, whatever host it names. `credentials` has
    one line USER:PASSWORD, `client_certificate` certificate and key in PEM.
    """

    address: str
    web_config: Path | None = None
    credentials: Path | None = None
    client_certificate: Path | None = None

    def get(self, path: str, limit: int | None = None) -> tuple[int, bytes]:
        """Return status and body, of which at most `limit` bytes, of the answer.

        Raises OSError, ConfigError, and ListenError for what is no address.
        """
        host, port = host_and_port(self.address)
        host = "127.0.0.1" if host in _ANY_HOST else host
        tls = self._tls()
        connection = (
            http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
            if tls is None
            else http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT_SECONDS, context=_context(tls, self.client_certificate)
            )
        )
        headers = {}
        if self.credentials is not None:
            headers["authorization"] = f"Basic {base64.b64encode(self.credentials.read_bytes().strip()).decode()}"
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(limit)
        except http.client.HTTPException as error:
            raise OSError(f"{self.url}{path}: no HTTP answer: {error!r}") from None
        except OSError as error:
            raise type(error)(f"{self.url}{path}: {error}") from None
        finally:
            connection.close()

    @property
    def url(self) -> str:
        """Where the exporter is, without a path."""
        host, _, port = self.address.rpartition(":")
        host = "127.0.0.1" if host in _ANY_HOST else host
        return f"{'http' if self._tls() is None else 'https'}://{host}:{port}"

    def _tls(self) -> TlsSettings | None:
        return None if self.web_config is None else config.read(self.web_config).tls_server_config


def check(access: Access) -> tuple[bool, str]:
    """Return whether the exporter is ready, and what it says; raises what `get` does."""
    status, body = access.get(PATH, limit=1000)
    said = body.decode(errors="replace").strip()
    if status == 401:
        return False, f"{said}: name them with --credentials.file"
    return status == 200, said


def _context(settings: TlsSettings, client_certificate: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is compared, which says more than its names
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(settings.cert_file, cadata=settings.cert)
    if client_certificate is not None:
        context.load_cert_chain(client_certificate)
    return context
