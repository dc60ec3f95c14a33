"""The program itself behind a web configuration and with tokens: what goes in, and that no secret comes out."""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import httpx
import pytest

from mlops_exporter import cli
from mlops_exporter.demo.run import CONFIG
from mlops_exporter.service import healthcheck
from mlops_exporter.service.healthcheck import Access
from tests.certificates import Authority
from tests.support.prometheus import eventually, free_port

PASSWORD = "open-sesame-8841"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TLS = "tls_server_config"
TOKEN = "token-of-flights-5172"
ROOT = Path(__file__).parents[2]
EVENT = '{"model":"%s","version":"%s","prediction":1,"features":{}}'


@dataclass
class Running:
    address: str
    log: Path
    client: httpx.Client

    def said(self) -> str:
        return self.log.read_text()


@contextmanager
def exporter(directory: Path, *arguments: str, start: Sequence[str] = ("-m", "mlops_exporter")) -> Iterator[Running]:
    """Run a command of the program until the end of the block, with a client that sends neither password nor token."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, *start, *arguments, f"--web.listen-address={address}"]
    running = Running(address, directory / "exporter.log", httpx.Client(verify=False, trust_env=False))
    with running.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        eventually(lambda: process.poll() is not None or "listening" in running.said())
        assert process.poll() is None, running.said()
        yield running
    finally:
        running.client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("guarded")
    authority = Authority(directory)
    authority.server()
    client = authority.client()
    (directory / "client.pem").write_text(client.certificate.read_text() + client.key.read_text())
    (directory / "token").write_text(TOKEN)
    (directory / "credentials").write_text(f"alice:{PASSWORD}\n")
    text = CONFIG.read_text().replace("profile: ", f"profile: {CONFIG.parent}/")
    source = "  - {name: push, http: {tokens: [{file: token, models: [flights]}]}}\n"
    (directory / "mlops-exporter.yml").write_text(text[: text.index("sources:")] + "sources:\n" + source)
    (directory / "web.yml").write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
        "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: authority.crt\n"
        f"basic_auth_users:\n  alice: {HASH}\n"
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=3600\n"
    )
    return directory


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlops_exporter", *arguments]
    settings = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=settings)


def test_the_program_behind_everything(directory: Path, tmp_path: Path) -> None:
    web = directory / "web.yml"
    flags = (f"--config.file={directory / 'mlops-exporter.yml'}", f"--web.config.file={web}")
    with exporter(tmp_path, "run", *flags) as running:
        url, client = f"https://{running.address}", running.client
        alice = ("alice", PASSWORD)
        assert client.get(f"{url}/metrics").status_code == 401
        metrics = client.get(f"{url}/metrics", auth=alice)
        assert metrics.status_code == 200
        assert metrics.headers["strict-transport-security"] == "max-age=3600"

        def post(body: str, token: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {token}", "content-type": "application/x-ndjson"}
            return client.post(f"{url}/v1/events", content=body, headers=headers)

        evil = EVENT % ("flights", r"<b>\"x\\\"\n\u001b[31m")
        both = post(f"{evil}\n{EVENT % ('mpg', 1)}\n", TOKEN)
        assert (both.json()["accepted"], both.json()["rejected"]) == (1, 1)
        (error,) = both.json()["errors"]
        assert (error["line"], error["reason"]) == (2, "forbidden_model")
        assert '`model` is "mpg"' in error["detail"]
        unknown = post(EVENT % ("mgp", 1), TOKEN).json()["errors"][0]["detail"]
        assert unknown.endswith('known are "flights"')  # of the others, this sender hears nothing
        assert post(evil, "x" * 32).status_code == 401
        assert client.post(f"{url}/v1/events", content=evil, auth=alice).status_code == 401

        answers = [client.get(f"{url}{path}", auth=alice).text for path in ("/metrics", "/", "/api/v1/status", "/docs")]
        exposition, page, status, _ = answers
        assert r'version="<b>\"x\\\"\n' in exposition
        assert "&lt;b&gt;" in page
        assert "<b>" not in page
        assert "\x1b" not in status
        for secret in (PASSWORD, HASH, HASH[7:], TOKEN, "PRIVATE KEY"):
            assert secret not in "".join(answers) + running.said()

        credentials, certificate = directory / "credentials", directory / "client.pem"
        assert healthcheck.check(Access(running.address, web, credentials)) == (True, "ready")
        assert healthcheck.check(Access(running.address, web, credentials, certificate)) == (True, "ready")
        healthy, said = healthcheck.check(Access(running.address, web))
        assert not healthy
        assert "--credentials.file" in said
        with pytest.raises(OSError, match="no HTTP answer"):
            healthcheck.check(Access(running.address))
        other = Authority(tmp_path).server()
        impostor = tmp_path / "other.yml"
        impostor.write_text(f"tls_server_config: {{cert_file: {other.certificate}, key_file: {other.key}}}")
        with pytest.raises(ssl.SSLCertVerificationError):  # the exporter shows another certificate than its own
            healthcheck.check(Access(running.address, impostor, credentials))
        environment = {
            "MLOPS_EXPORTER_WEB_LISTEN_ADDRESS": running.address,
            "MLOPS_EXPORTER_WEB_CONFIG_FILE": str(web),
            "MLOPS_EXPORTER_CREDENTIALS_FILE": str(credentials),
        }
        done = program("healthcheck", **environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
        environment |= {"MLOPS_EXPORTER_CONFIG_FILE": str(directory / "mlops-exporter.yml")}
        done = program("doctor", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"has run at https://{running.address}" in done.stdout
        assert "with one of 1 tokens" in done.stdout
        for secret in (PASSWORD, HASH[7:], TOKEN):
            assert secret not in done.stdout
        done = program("doctor", **environment | {"MLOPS_EXPORTER_CREDENTIALS_FILE": str(directory / "token")})
        assert done.returncode == 1
        assert "asks for a password -> give a file with USER:PASSWORD to --credentials.file" in done.stdout


def test_a_web_configuration_of_no_use_ends_the_start(directory: Path, tmp_path: Path) -> None:
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{alice: {PASSWORD}}}")
    done = program("run", f"--config.file={directory / 'mlops-exporter.yml'}", f"--web.config.file={web}")
    assert done.returncode == 1
    assert f"{web}:1: basic_auth_users: the password of 'alice' is not a bcrypt hash" in done.stderr
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr


def test_check_covers_the_web_configuration(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(web: Path) -> int:
        return cli.main(["check", str(directory / "mlops-exporter.yml"), f"--web.config.file={web}"])

    assert check(directory / "web.yml") == 0
    assert "web.yml: good, with TLS" in capsys.readouterr().out
    faults = {
        "rate_limt: {}": "did you mean rate_limit?",
        f"{TLS}: {{cert_file: a, key_file: b}}": "failed to read cert_",
    }
    for text, fault in faults.items():
        (tmp_path / "web.yml").write_text(text)
        assert check(tmp_path / "web.yml") == 1
        assert fault in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it once as root and once as somebody else")
def test_it_runs_unprivileged_and_warns_as_root(tmp_path: Path) -> None:
    """The other user is taken on after the imports: it may not be able to read this interpreter's files."""
    drop = "import encodings.idna, os, sys, uvloop; from mlops_exporter import cli; os.setgid(65534); os.setuid(65534)"
    as_nobody = ("-c", f"{drop}; sys.exit(cli.main(sys.argv[1:]))")
    for start, warned in ((as_nobody, False), (("-m", "mlops_exporter"), True)):
        with exporter(tmp_path, "demo", start=start) as running:
            assert running.client.get(f"http://{running.address}/metrics").status_code == 200
            assert ("running as root" in running.said()) == warned
            page = running.client.get(f"http://{running.address}/").text
            assert ("running as root" in page) == warned
