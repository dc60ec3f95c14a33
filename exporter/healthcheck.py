"""Asks a running exporter whether it is ready, through whatever its web configuration put in front of it."""

import base64
import http.client
import ssl
from pathlib import Path

from exporter.web import config
from exporter.web.config import TlsSettings

PATH = "/-/ready"
_TIMEOUT_SECONDS = 5.0
_ANY_HOST = ("", "0.0.0.0", "[::]")  # nosec B104: compared with, not bound to


def check(
    address: str, web_config: Path | None, credentials: Path | None, client_certificate: Path | None
) -> tuple[bool, str]:
    """Return whether the exporter at a listen address is ready, and what it says.

    Over TLS only the certificate of the web configuration itself is trusted, whatever host it names. `credentials` has
    one line USER:PASSWORD, `client_certificate` certificate and key in PEM. Raises OSError and ConfigError.
    """
    host, _, port = address.rpartition(":")
    host = "127.0.0.1" if host in _ANY_HOST else host.strip("[]")
    tls = None if web_config is None else config.read(web_config).tls_server_config
    connection = (
        http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_SECONDS)
        if tls is None
        else http.client.HTTPSConnection(
            host, int(port), timeout=_TIMEOUT_SECONDS, context=_context(tls, client_certificate)
        )
    )
    url = f"{'http' if tls is None else 'https'}://{host}:{port}{PATH}"
    headers = {}
    if credentials is not None:
        headers["authorization"] = f"Basic {base64.b64encode(credentials.read_bytes().strip()).decode()}"
    try:
        connection.request("GET", PATH, headers=headers)
        answer = connection.getresponse()
        said = answer.read(1000).decode(errors="replace").strip()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: no HTTP answer: {error!r}") from None
    except OSError as error:
        raise type(error)(f"{url}: {error}") from None
    finally:
        connection.close()
    if answer.status == 401:
        return False, f"{said}: name them with --credentials.file"
    return answer.status == 200, said


def _context(settings: TlsSettings, client_certificate: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is compared, which says more than its names
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(settings.cert_file, cadata=settings.cert)
    if client_certificate is not None:
        context.load_cert_chain(client_certificate)
    return context
