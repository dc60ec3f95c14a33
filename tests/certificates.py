"""Certificates for tests, made by openssl: a server's, and clients' of a known and of an unknown authority."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import require_program


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self.pair = self._self_signed(name, f"/CN={name}")

    @property
    def certificate(self) -> Path:
        return self.pair.certificate

    def issue(self, name: str, *extensions: str) -> Pair:
        """Issue a certificate, with extensions as openssl writes them."""
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        request = self._directory / f"{name}.csr"
        self._openssl(*_NEW, "-new", "-subj", f"/CN={name}", *_added(extensions), "-keyout", pair.key, "-out", request)
        signer = ("-CA", self.pair.certificate, "-CAkey", self.pair.key, "-CAcreateserial", "-copy_extensions", "copy")
        command: list[str | Path] = [require_program("openssl"), "x509", "-req", "-days", "2", "-in", request, *signer]
        subprocess.run([*command, "-out", pair.certificate], check=True, capture_output=True)
        return pair

    def server(self, name: str = "server") -> Pair:
        """Issue the certificate of a server on this machine."""
        return self.issue(name, "subjectAltName=DNS:localhost,IP:127.0.0.1", "extendedKeyUsage=serverAuth")

    def client(self, name: str = "client", san: str = "DNS:prometheus.example") -> Pair:
        """Issue the certificate of a client."""
        return self.issue(name, f"subjectAltName={san}", "extendedKeyUsage=clientAuth")

    def _self_signed(self, name: str, subject: str) -> Pair:
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        self._openssl(*_NEW, "-x509", "-days", "2", "-subj", subject, "-keyout", pair.key, "-out", pair.certificate)
        return pair

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run([require_program("openssl"), "req", *arguments], check=True, capture_output=True)


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _added(extensions: tuple[str, ...]) -> list[str]:
    return [argument for extension in extensions for argument in ("-addext", extension)]
