import json
import logging
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import httpx
import pytest

from mlops_exporter import cli
from mlops_exporter.client import Monitor
from mlops_exporter.exposition.registry import Registry
from mlops_exporter.settings.access import AccessSettings
from mlops_exporter.sources.calls import CallError, call
from mlops_exporter.web.app import App
from mlops_exporter.web.auth import Guard
from mlops_exporter.web.config import read
from mlops_exporter.web.tls import ReloadingContext
from mlops_exporter.web.watch import Watched
from tests.certificates import Authority, Pair
from tests.requirements import require_program
from tests.standin import StandIn
from tests.support.prometheus import eventually, running_prometheus, scrape_job
from tests.support.serving import served

HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
VERIFIED = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n"


class Setup:
    """A directory with certificates and a web configuration, and clients for what is served from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.authority.server()
        self.client = self.authority.client()
        (directory / "elsewhere").mkdir()
        self.stranger = Authority(directory / "elsewhere").client("stranger")

    def write(self, text: str) -> None:
        """Replace the web configuration, as `mv` does."""
        fresh = self.directory / "web.yml.new"
        fresh.write_text(text)
        fresh.replace(self.directory / "web.yml")

    @contextmanager
    def served(self, text: str) -> Iterator[str]:
        self.write(text)
        web = Watched(self.directory / "web.yml", read)
        service = StandIn()
        app = Guard(App(Registry([], lambda: 0), service, service), web)
        with served(app, tls=ReloadingContext(lambda: web().tls_server_config)) as address:
            yield address

    def get(self, address: str, pair: Pair | None = None, authority: Path | None = None, **arguments: object) -> int:
        """Status of an answer over a new connection; httpx.TransportError when there is none."""
        context = ssl.create_default_context(cafile=authority or self.authority.certificate)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        url = f"https://{address}/-/healthy"
        return httpx.get(url, verify=context, trust_env=False, timeout=5, **arguments).status_code  # type: ignore[arg-type]

    def refuses(self, address: str, pair: Pair | None = None) -> bool:
        try:
            self.get(address, pair)
        except httpx.TransportError:
            return True
        return False


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("tls"))


def s_client(address: str, *arguments: str) -> str:
    """What openssl says about a handshake."""
    command = [require_program("openssl"), "s_client", "-connect", address, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout + done.stderr


def agreed(address: str, *arguments: str) -> str | None:
    """Protocol and suite of a handshake, None when it fails."""
    said = s_client(address, *arguments)
    line = next((line for line in said.splitlines() if line.startswith("New, ")), "New, (NONE), Cipher is (NONE)")
    return None if "(NONE)" in line else line.removeprefix("New, ").replace(", Cipher is ", " ")


def test_protocol_versions(setup: Setup) -> None:
    with setup.served(TLS) as address:
        assert (
            agreed(address, "-tls1_3", "-CAfile", str(setup.authority.certificate)) == "TLSv1.3 TLS_AES_256_GCM_SHA384"
        )
        assert (agreed(address, "-tls1_2") or "").startswith("TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384")
        for old in ("-tls1", "-tls1_1"):
            assert agreed(address, old, "-cipher", "ALL:@SECLEVEL=0") is None
        assert setup.get(address) == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{address}/-/healthy", trust_env=False)
    with setup.served(TLS + "  min_version: TLS13\n") as address:
        assert agreed(address, "-tls1_2") is None
        assert agreed(address, "-tls1_3") is not None
    with setup.served(TLS + "  max_version: TLS12\n") as address:
        assert agreed(address, "-tls1_3") is None
        assert agreed(address, "-tls1_2") is not None


def test_what_scanners_look_for(setup: Setup) -> None:
    with setup.served(TLS) as address:
        for weak in ("aNULL", "eNULL", "kRSA", "DES-CBC3-SHA", "RC4", "EXPORT", "PSK", "CBC", "ECDHE-ECDSA-AES128-SHA"):
            assert agreed(address, "-tls1_2", "-cipher", f"{weak}:@SECLEVEL=0") is None, weak
        for good in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"):
            assert agreed(address, "-tls1_2", "-cipher", good) == f"TLSv1.2 {good}"
        said = s_client(address, "-tls1_2", "-alpn", "h2,http/1.1", "-CAfile", str(setup.authority.certificate))
        assert "Compression: NONE" in said
        assert "ALPN protocol: http/1.1" in said
        assert "Verify return code: 0 (ok)" in said
        assert "Secure Renegotiation IS supported" in said
        renegotiated = subprocess.run(
            [require_program("openssl"), "s_client", "-connect", address, "-tls1_2"],
            input=b"R\n",
            capture_output=True,
            timeout=10,
            check=False,
        )
        assert b"no renegotiation" in renegotiated.stderr


def test_suites_curve_and_order(setup: Setup) -> None:
    one = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    two = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    reverse = ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256")
    with setup.served(TLS + f"  cipher_suites: [{one}, {two}]\n  curve_preferences: [CurveP384]\n") as address:
        assert agreed(address, *reverse) == "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256"
        assert agreed(address, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384") is None
        assert "Server Temp Key: ECDH, secp384r1" in s_client(address)
        assert agreed(address, "-curves", "P-256") is None
    with setup.served(TLS + f"  cipher_suites: [{one}, {two}]\n  prefer_server_cipher_suites: false\n") as address:
        assert agreed(address, *reverse) == "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305"
    with setup.served(TLS + "  curve_preferences: [X25519]\n") as address:
        assert "X25519" in s_client(address)


CLIENTS = {  # by client_auth_type: is a client let in without a certificate, with a stranger's, with a known one
    "NoClientCert": (True, True, True),
    "RequestClientCert": (True, True, True),
    "RequireAnyClientCert": (False, True, True),
    "VerifyClientCertIfGiven": (True, False, True),
    "RequireAndVerifyClientCert": (False, False, True),
}


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
@pytest.mark.parametrize(("mode", "outcomes"), CLIENTS.items(), ids=CLIENTS)
def test_client_certificates(setup: Setup, mode: str, outcomes: tuple[bool, ...], version: str) -> None:
    ca = "  client_ca_file: authority.crt\n" if "Verify" in mode else ""
    text = f"{TLS}  client_auth_type: {mode}\n{ca}  min_version: {version}\n  max_version: {version}\n"
    with setup.served(text) as address:
        assert tuple(not setup.refuses(address, pair) for pair in (None, setup.stranger, setup.client)) == outcomes
        asked = "Acceptable client certificate CA names" in (said := s_client(address)) or "Requested Signature" in said
        assert asked == (mode != "NoClientCert")


def test_any_certificate_is_trusted_for_its_own_connection_only(setup: Setup) -> None:
    with setup.served(TLS + "  client_auth_type: RequireAnyClientCert\n") as address:
        assert setup.get(address, setup.stranger) == 200
        setup.write(VERIFIED)
        assert setup.refuses(address, setup.stranger)


def test_allowed_sans(setup: Setup) -> None:
    sans = {
        "dns": "DNS:scraper.example",
        "ip": "IP:10.1.2.3",
        "mail": "email:ops@example.org",
        "uri": "URI:spiffe://example/prometheus",
    }
    allowed = [san.partition(":")[2] for san in sans.values()]
    with setup.served(f"{VERIFIED}  client_allowed_sans: {allowed}\n") as address:
        for name, san in sans.items():
            assert setup.get(address, setup.authority.client(name, san)) == 200
        assert setup.get(address, setup.authority.client("two", "DNS:other,DNS:scraper.example")) == 200
        for name, san in {"near": "DNS:scraper.example.org", "case": "URI:spiffe://example/Prometheus"}.items():
            assert setup.refuses(address, setup.authority.client(name, san))
        assert setup.refuses(address, setup.authority.issue("none", "extendedKeyUsage=clientAuth"))
        assert setup.refuses(address)
    written = ["2001:0DB8:0:0::0001", "[fe80::1]", "::ffff:10.9.8.7"]
    shown = ["IP:2001:db8::1", "IP:fe80:0:0:0:0:0:0:1", "IP:10.9.8.7"]
    with setup.served(f"{VERIFIED}  client_allowed_sans: {written}\n") as address:
        for number, san in enumerate(shown):
            assert setup.get(address, setup.authority.client(f"address{number}", san)) == 200
        assert setup.refuses(address, setup.authority.client("address9", "IP:2001:db8::2"))
    with setup.served(
        f"{TLS}  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [stranger.example]\n"
    ) as address:
        directory = setup.directory / "elsewhere"
        assert setup.get(address, Authority(directory, "c").client("d", "DNS:stranger.example")) == 200
        assert setup.refuses(address, setup.stranger)


def test_certificates_and_settings_change_without_a_restart(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def shown(address: str) -> str:
        return ssl.get_server_certificate(("127.0.0.1", int(address.split(":")[1])))

    def said() -> list[str]:
        messages = [record.getMessage() for record in caplog.records if record.name.startswith("mlops_exporter.")]
        caplog.clear()
        return messages

    with setup.served(TLS) as address:
        before = shown(address)
        kept = httpx.Client(verify=ssl.create_default_context(cafile=setup.authority.certificate), trust_env=False)
        assert kept.get(f"https://{address}/-/healthy").status_code == 200
        setup.authority.server("renewed")
        (setup.directory / "renewed.key").replace(setup.directory / "server.key")
        assert setup.get(address) == 200  # half changed: key and certificate do not match, the former ones serve
        assert "the former certificates" in " ".join(said())
        (setup.directory / "renewed.crt").replace(setup.directory / "server.crt")
        after = shown(address)
        assert before != after
        assert said() == ["TLS uses the changed certificates and settings"]
        assert kept.get(f"https://{address}/-/healthy").status_code == 200  # an open connection goes on

        setup.write(VERIFIED)
        assert setup.refuses(address)
        assert setup.get(address, setup.client) == 200
        said()

        setup.write("tls_server_config: {cert_fil: x}\n")
        for _ in range(3):
            assert setup.refuses(address)  # the former settings stay in force
            assert setup.get(address, setup.client) == 200
        assert len(said()) == 1

        setup.write("basic_auth_users: {}\n")
        assert setup.get(address, setup.client) == 200
        assert "TLS goes on" in said()[-1]

        setup.write(TLS + f"basic_auth_users:\n  alice: {HASH}\n")
        assert setup.get(address) == 401
        assert setup.get(address, auth=("alice", "open sesame")) == 200
        kept.close()


def test_noise_on_the_port_is_no_news(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with setup.served(VERIFIED) as address:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + os.urandom(100), b""):
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", int(address.split(":")[1])), timeout=5) as connection:
                    connection.sendall(noise)
        assert setup.refuses(address)
        assert setup.refuses(address, setup.stranger)
        assert setup.get(address, setup.client) == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_client_and_push_show_their_certificate(
    setup: Setup, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, own = str(setup.authority.certificate), setup.client
    (tmp_path / "t.csv").write_text("id,score,amount\n1,0.5,2\n2,0.5,3\n")
    with setup.served(VERIFIED) as address:
        url = f"https://{address}"
        with Monitor(
            url, model="credit", ca_file=authority, cert_file=str(own.certificate), key_file=str(own.key)
        ) as known:
            known.predict(id="1", features={"amount": 2}, score=0.5)
            assert known.flush(20)
            assert (known.sent, known.dropped) == (1, 0)
        for files, why in (
            ({"ca_file": authority}, "events wait"),
            ({"cert_file": str(own.certificate), "key_file": str(own.key)}, "self.signed|verify failed"),
        ):
            caplog.clear()
            with Monitor(url, model="credit", exit_seconds=0.2, **files) as stranger:  # type: ignore[arg-type]
                stranger.predict(id="1", features={"amount": 2}, score=0.5)
                stranger.flush(2)
                assert stranger.sent == 0
            assert re.search(why, caplog.text, re.IGNORECASE), caplog.text
        flags = ["push", "--table", str(tmp_path / "t.csv"), "--url", url, "--model=credit", "--ca-file", authority]
        shown = [f"--cert-file={own.certificate}", f"--key-file={own.key}"]
        assert cli.main([*flags, *shown]) == 0
        assert json.loads(capsys.readouterr().out)["chunks"] == 1
        assert cli.main([*flags, "--wait=1s"]) != 0
        assert "not all was sent" in capsys.readouterr().err


def test_what_asks_others_shows_its_certificate(setup: Setup) -> None:
    """Probes, the registry's mirror and retraining ask by one function."""
    authority, own = setup.authority.certificate, setup.client
    with setup.served(VERIFIED) as address:
        url = f"https://{address}/-/healthy"

        def access(**files: Path) -> AccessSettings:
            return AccessSettings.model_validate(files, context={"directory": setup.directory})

        ours = access(ca_file=authority, cert_file=own.certificate, key_file=own.key)
        assert call("GET", url, ours).body.startswith(b"healthy")
        together = setup.directory / "together.pem"
        together.write_text(own.certificate.read_text() + own.key.read_text())
        assert call("GET", url, access(ca_file=authority, cert_file=together)).body.startswith(b"healthy")
        for kind, files in (
            ("connection", {"ca_file": authority}),
            ("connection", {"cert_file": own.certificate, "key_file": own.key}),
            ("credentials", {"ca_file": authority, "cert_file": own.certificate}),
            ("credentials", {"ca_file": own.key}),
        ):
            with pytest.raises(CallError) as error:
                call("GET", url, access(**files))
            assert error.value.fault == kind


def test_what_asks_others_reads_certificates_anew_when_they_have_changed(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(pair: Pair, authority: Path) -> None:
        for file, name in ((pair.certificate, "own.crt"), (pair.key, "own.key"), (authority, "trusted.crt")):
            fresh = tmp_path / f"{name}.new"
            fresh.write_bytes(file.read_bytes())
            fresh.replace(tmp_path / name)

    made: list[object] = []
    make = ssl.create_default_context

    def made_anew(cafile: Path) -> ssl.SSLContext:
        made.append(cafile)
        return make(cafile=cafile)

    monkeypatch.setattr("mlops_exporter.sources.calls.ssl.create_default_context", made_anew)
    names = {"ca_file": "trusted.crt", "cert_file": "own.crt", "key_file": "own.key"}
    access = AccessSettings.model_validate(names, context={"directory": tmp_path})
    known, unknown = setup.authority.certificate, setup.directory / "elsewhere" / "authority.crt"
    with setup.served(VERIFIED) as address:
        for pair, authority, taken in (
            (setup.client, known, True),
            (setup.stranger, known, False),
            (setup.client, unknown, False),
            (setup.client, known, True),
        ):
            put(pair, authority)
            before = len(made)
            for _ in range(3):
                assert _reached(address, access) == taken
            assert len(made) == before + 1


def _reached(address: str, access: AccessSettings) -> bool:
    try:
        return call("GET", f"https://{address}/-/healthy", access).body.startswith(b"healthy")
    except CallError:
        return False


def test_prometheus_scrapes_over_tls(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame")
    ca = {"ca_file": str(setup.authority.certificate), "server_name": "localhost"}
    own = {"cert_file": str(setup.client.certificate), "key_file": str(setup.client.key)}
    basic = {"username": "alice", "password_file": str(tmp_path / "password")}
    users = f"basic_auth_users:\n  alice: {HASH}\n"
    sans = "  client_allowed_sans: [prometheus.example]\n"
    with setup.served(VERIFIED + sans + users) as address:
        jobs = [
            scrape_job("both", address, scheme="https", tls_config={**ca, **own}, basic_auth=basic),
            scrape_job("no-password", address, scheme="https", tls_config={**ca, **own}),
            scrape_job("no-certificate", address, scheme="https", tls_config=ca, basic_auth=basic),
            scrape_job("no-tls", address),
        ]
        with running_prometheus({"scrape_configs": jobs}, tmp_path) as prometheus:
            up = {"both": "1", "no-password": "0", "no-certificate": "0", "no-tls": "0"}
            eventually(lambda: {s["metric"]["job"]: s["value"][1] for s in prometheus.query("up")} == up)
            assert prometheus.query('ml_exporter_build_info{job="both"}')
            errors = {t["labels"]["job"]: t["lastError"] for t in prometheus.api("targets")["activeTargets"]}
            assert "401" in errors["no-password"]
