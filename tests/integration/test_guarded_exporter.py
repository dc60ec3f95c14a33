"""The program itself behind a web configuration and with tokens: what goes in, and that no secret comes out."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import httpx
import pytest

from exporter.demo.run import CONFIG
from tests.certificates import Authority
from tests.integration.prometheus import eventually, free_port

PASSWORD = "open-sesame-8841"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
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
def exporter(directory: Path, *arguments: str, start: Sequence[str] = ("-m", "exporter")) -> Iterator[Running]:
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


def healthcheck(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", "healthcheck", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_the_program_behind_everything(directory: Path, tmp_path: Path) -> None:
    web = f"--web.config.file={directory / 'web.yml'}"
    with exporter(tmp_path, "run", f"--config.file={directory / 'mlops-exporter.yml'}", web) as running:
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
        assert both.json() == {"accepted": 1, "rejected": 1, "errors": [{"line": 2, "reason": "forbidden_model"}]}
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

        address = f"--web.listen-address={running.address}"
        assert healthcheck(address).returncode == 1
        refused = healthcheck(address, web)
        assert refused.returncode == 1
        assert "--credentials.file" in refused.stderr
        credentials = f"--credentials.file={directory / 'credentials'}"
        certificate = f"--client.cert-file={directory / 'client.pem'}"
        for arguments in ([web, credentials], [web, credentials, certificate]):
            done = healthcheck(address, *arguments)
            assert (done.returncode, done.stdout) == (0, "ready\n"), done
        by_environment = {
            "MLOPS_EXPORTER_WEB_CONFIG_FILE": str(directory / "web.yml"),
            "MLOPS_EXPORTER_CREDENTIALS_FILE": str(directory / "credentials"),
        }
        assert healthcheck(address, **by_environment).returncode == 0
        other = Authority(tmp_path).server()
        (tmp_path / "other.yml").write_text(
            f"tls_server_config: {{cert_file: {other.certificate}, key_file: {other.key}}}"
        )
        impostor = healthcheck(address, f"--web.config.file={tmp_path / 'other.yml'}", credentials)
        assert impostor.returncode == 1
        assert "certificate verify failed" in impostor.stderr


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tls_server_config: {cert_file: absent, key_file: absent}", "failed to read cert_file"),
        (f"basic_auth_users: {{alice: {PASSWORD}}}", ":1: basic_auth_users: the password of 'alice' is not a bcrypt"),
    ],
)
def test_a_web_configuration_of_no_use_ends_the_start(directory: Path, tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "web.yml").write_text(text)
    command = [sys.executable, "-m", "exporter", "run", f"--config.file={directory / 'mlops-exporter.yml'}"]
    done = subprocess.run(
        [*command, f"--web.config.file={tmp_path / 'web.yml'}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert fault in done.stderr
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr


def test_check_covers_the_web_configuration(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("rate_limt: {}")
    command = [sys.executable, "-m", "exporter", "check", str(directory / "mlops-exporter.yml")]

    def check(web: Path) -> subprocess.CompletedProcess[str]:
        arguments = [*command, f"--web.config.file={web}"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)

    assert check(directory / "web.yml").returncode == 0
    bad = check(tmp_path / "web.yml")
    assert bad.returncode == 1
    assert "did you mean rate_limit?" in bad.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it once as root and once as somebody else")
def test_it_runs_unprivileged_and_warns_as_root(tmp_path: Path) -> None:
    """The other user is taken on after the imports: it may not be able to read this interpreter's files."""
    drop = "import encodings.idna, os, sys, uvloop; from exporter import cli; os.setgid(65534); os.setuid(65534)"
    as_nobody = ("-c", f"{drop}; sys.exit(cli.main(sys.argv[1:]))")
    for start, warned in ((as_nobody, False), (("-m", "exporter"), True)):
        with exporter(tmp_path, "demo", start=start) as running:
            assert running.client.get(f"http://{running.address}/metrics").status_code == 200
            assert ("running as root" in running.said()) == warned
            page = running.client.get(f"http://{running.address}/").text
            assert ("running as root" in page) == warned
