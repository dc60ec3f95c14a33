import ssl
import subprocess
from pathlib import Path

import bcrypt
import pytest

from mlops_exporter.settings.document import ConfigError
from mlops_exporter.web import tls
from mlops_exporter.web.config import CIPHER_SUITES, HEADERS, WebConfig, read
from mlops_exporter.web.tls import server_context
from tests.certificates import Authority
from tests.requirements import require_program

HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web")
    Authority(directory).server()
    return directory


def load(directory: Path, text: str) -> WebConfig:
    """Read a file, and make the TLS context too, as the exporter does at its start."""
    path = directory / "web.yml"
    path.write_text(text)
    config = read(path)
    if config.tls_server_config is not None:
        server_context(config.tls_server_config)
    return config


def indented(text: str) -> str:
    return "|\n" + "".join(f"    {line}\n" for line in text.splitlines())


GOOD = {
    "empty": "",
    "empty section": "tls_server_config: {}",
    "null sections": "http_server_config:\nbasic_auth_users:\nrate_limit:\ntls_server_config:",
    "certificate": f"{TLS}}}",
    "versions": f"{TLS}, min_version: TLS12, max_version: TLS12}}",
    "only 1.3": f"{TLS}, min_version: TLS13, cipher_suites: [TLS_AES_128_GCM_SHA256]}}",
    "all suites": f"{TLS}, cipher_suites: [{', '.join(CIPHER_SUITES)}]}}",
    "suites in the client's order": f"{TLS}, prefer_server_cipher_suites: false}}",
    "P-256": f"{TLS}, curve_preferences: [CurveP256]}}",
    "P-384": f"{TLS}, curve_preferences: [CurveP384]}}",
    "P-521": f"{TLS}, curve_preferences: [CurveP521]}}",
    "no client certificate": f"{TLS}, client_auth_type: NoClientCert}}",
    "empty client_auth_type": f"{TLS}, client_auth_type: ''}}",
    "request": f"{TLS}, client_auth_type: RequestClientCert}}",
    "any": f"{TLS}, client_auth_type: RequireAnyClientCert}}",
    "any, by its old name": f"{TLS}, client_auth_type: RequireClientCert, client_allowed_sans: [a]}}",
    "if given": f"{TLS}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: authority.crt}}",
    "verified": f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: authority.crt, "
    "client_allowed_sans: [prometheus.example, 10.0.0.1]}",
    "users": f"basic_auth_users: {{alice: {HASH}, bob: '{HASH.replace('$2b', '$2y')}'}}",
    "headers": "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: '', "
    "Strict-Transport-Security: max-age=3600}}",
    "rate limit": "rate_limit: {interval: 1s, burst: 20}",
    "rate limit off": "rate_limit: {interval: 0s}",
    "rate limit off by number": "rate_limit: {interval: 0, burst: 0}",
    "durations as Go writes them": "rate_limit: {interval: 1m1.5s, burst: 1}",
    "microseconds": "rate_limit: {interval: 100us, burst: 1}",
    "only comments": "# made by a template\n---\n",
    "verification by the system's authorities": f"{TLS}, client_auth_type: RequireAndVerifyClientCert}}",
    "if given, by the system's authorities": f"{TLS}, client_auth_type: VerifyClientCertIfGiven}}",
    "SAN where none is required": f"{TLS}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: authority.crt, "
    "client_allowed_sans: [a]}",
    "numbers where texts are meant": "http_server_config: {headers: {X-XSS-Protection: 1}}",
    "user called by a number": f"basic_auth_users: {{123: {HASH}}}",
    "empties of a template": f"{TLS}, cert: '', key: '', client_ca: '', client_ca_file: '', cipher_suites: , "
    "curve_preferences: , client_allowed_sans: , min_version: '', max_version: }",
    "header without a value": "http_server_config: {headers: {X-Frame-Options: }}",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good(directory: Path, text: str) -> None:
    load(directory, text)


def test_x25519_is_taken_wherever_python_and_openssl_can(directory: Path) -> None:
    text = f"{TLS}, curve_preferences: [X25519]}}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve("X25519")
    except (ssl.SSLError, ValueError):  # Debian's python3
        with pytest.raises(ConfigError, match=r"X25519 is not supported by this OpenSSL .*; name another"):
            load(directory, text)
    else:
        load(directory, text)


BAD = {
    "not a mapping": ("- tls", "must be a mapping"),
    "not YAML": ("tls_server_config: {", ":2: not YAML"),
    "unknown key": ("tls_server_confg: {}", "unknown key; did you mean tls_server_config?"),
    "unknown key inside": (f"{TLS}, client_auth: x}}", "tls_server_config.client_auth: unknown key; did you mean"),
    "twice": ("rate_limit: {interval: 1s, burst: 1}\nrate_limit: {}", ":2: rate_limit: given twice, first in line 1"),
    "no key": ("tls_server_config: {cert_file: server.crt}", "missing one of key or key_file"),
    "no certificate": ("tls_server_config: {key_file: server.key}", "missing one of cert or cert_file"),
    "client CA alone": ("tls_server_config: {client_ca_file: authority.crt}", "missing one of cert or cert_file"),
    "both": (f"{TLS}, key: abc}}", "give key or key_file, not both"),
    "no such certificate": (
        "tls_server_config: {cert_file: absent.crt, key_file: server.key}",
        r"failed to read cert_file \(.*absent.crt\): No such file",
    ),
    "no such key": ("tls_server_config: {cert_file: server.crt, key_file: absent.key}", "failed to read key_file"),
    "key for certificate": (
        "tls_server_config: {cert_file: server.key, key_file: server.key}",
        "failed to load certificate .*server.key and key",
    ),
    "key of another": ("tls_server_config: {cert_file: server.crt, key_file: authority.key}", "key values mismatch"),
    "empty inline certificate": ("tls_server_config: {cert: '', key_file: server.key}", "missing one of cert"),
    "unknown client_auth_type": (f"{TLS}, client_auth_type: Maybe}}", "'Maybe': invalid client_auth_type; there are"),
    "client CA without policy": (f"{TLS}, client_ca_file: authority.crt}}", "write RequireAndVerifyClientCert"),
    "no such client CA": (
        f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: absent.crt}}",
        "failed to read client_ca_file",
    ),
    "client CA without certificates": (
        f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: server.key}}",
        "server.key: no certificate of a client CA",
    ),
    "inline client CA without certificates": (
        f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca: nothing}}",
        "client_ca: no certificate of a client CA",
    ),
    "SAN without certificates": (f"{TLS}, client_allowed_sans: [a]}}", "client_allowed_sans needs a client that must"),
    "TLS 1.1": (f"{TLS}, min_version: TLS11}}", "'TLS11': broken since 2011 and refused; write TLS12 or TLS13"),
    "invented version": (f"{TLS}, max_version: TLS111}}", "'TLS111': unknown TLS version"),
    "versions reversed": (f"{TLS}, min_version: TLS13, max_version: TLS12}}", "min_version TLS13 is above max_version"),
    "invented suite": (f"{TLS}, cipher_suites: [TLS_FAST]}}", "unknown cipher TLS_FAST"),
    "suite without forward secrecy": (f"{TLS}, cipher_suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]}}", "forward secrecy"),
    "no suite for 1.2": (f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}", "has none for TLS 1.2"),
    "invented curve": (f"{TLS}, curve_preferences: [CurveP257]}}", "curve_preferences.*CurveP257"),
    "several curves": (f"{TLS}, curve_preferences: [CurveP256, X25519]}}", "Python can offer one curve"),
    "HTTP/2": ("http_server_config: {http2: true}", "HTTP/1.1 is served"),
    "other header": ("http_server_config: {headers: {Server: me}}", 'HTTP header "Server" can not be configured'),
    "frame option": ("http_server_config: {headers: {X-Frame-Options: allow}}", "expected deny or sameorigin"),
    "content type option": ("http_server_config: {headers: {X-Content-Type-Options: x}}", "expected nosniff"),
    "split header": ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nX: y"}}', "one line of printable ASCII"),
    "users as a list": ("basic_auth_users: [alice]", "basic_auth_users: must be a mapping"),
    "cost out of range": (f"basic_auth_users: {{a: {HASH[:4]}31{HASH[6:]}}}", "the cost of its hash is 4 to 16"),
    "name with a colon": (f"basic_auth_users: {{'a:b': {HASH}}}", "a name has no colon"),
    "rate without burst": ("rate_limit: {interval: 1s}", "burst must be 1 or more"),
    "rate without unit": ("rate_limit: {interval: 5, burst: 1}", "rate_limit.interval: 5 is not a duration"),
}


@pytest.mark.parametrize(("text", "fault"), BAD.values(), ids=BAD)
def test_bad(directory: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(directory, text)


def test_every_header_has_a_good_value(directory: Path) -> None:
    headers = ", ".join(f"{name}: {(values or ('x',))[-1]}" for name, values in HEADERS.items())
    assert set(load(directory, f"http_server_config: {{headers: {{{headers}}}}}").http_server_config.headers) == set(
        HEADERS
    )


def test_inline_certificate_and_key(directory: Path) -> None:
    certificate, key = ((directory / name).read_text() for name in ("server.crt", "server.key"))
    authority = (directory / "authority.crt").read_text()
    config = load(
        directory,
        f"tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n  cert: {indented(certificate)}"
        f"  key: {indented(key)}  client_ca: {indented(authority)}",
    )
    assert key.splitlines()[1] not in repr(config)


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: {alice: SECRET}",
        "basic_auth_users: {alice: {nested: SECRET}}",
        "tls_server_config: {cert: x, key: SECRET}",
        "tls_server_config: {cert: x, key: [SECRET]}",
        "tls_server_config: {cert: x, key_file: y, key: SECRET}",
        f"basic_auth_users: {{alice: {HASH}x}}",
        f"basic_auth_users: {{alice: {HASH}}}\nrate_limit: 3",
    ],
    ids=range(7),  # the hash differs from process to process
)
def test_faults_repeat_no_secret(directory: Path, text: str) -> None:
    with pytest.raises(ConfigError) as fault:
        load(directory, text)
    assert "SECRET" not in str(fault.value)
    assert HASH[7:] not in str(fault.value)


def test_an_encrypted_key_is_explained_rather_than_asked_for(directory: Path) -> None:
    encrypted = directory / "encrypted.key"
    command: list[str | Path] = [
        require_program("openssl"),
        "ec",
        "-aes128",
        "-passout",
        "pass:x",
        "-in",
        directory / "server.key",
    ]
    subprocess.run([*command, "-out", encrypted], check=True, capture_output=True)
    with pytest.raises(ConfigError, match="the key is encrypted; store it in clear"):
        load(directory, "tls_server_config: {cert_file: server.crt, key_file: encrypted.key}")


def test_an_absent_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yml: cannot be read"):
        read(tmp_path / "absent.yml")


def test_an_ip_address_has_one_form(directory: Path) -> None:
    """`getpeercert` gives IPv6 expanded and in capitals: values are compared, not renderings."""
    assert tls._comparable("2001:DB8:0:0:0:0:0:1") == tls._comparable("2001:db8::1")
    assert tls._comparable("client.example") == "client.example"


@pytest.mark.parametrize(
    ("key", "method", "value"),
    [("curve_preferences", "set_ecdh_curve", "[X25519]"), ("cipher_suites", "set_ciphers", "[]")],
)
def test_what_this_openssl_cannot_do_names_the_key(
    key: str, method: str, value: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's Python cannot set X25519: its ssl raises ValueError."""

    def refuse(*_: object) -> None:
        raise ValueError("unknown elliptic curve name b'X25519'")

    monkeypatch.setattr(ssl.SSLContext, method, refuse, raising=False)
    with pytest.raises(ConfigError, match=f"tls_server_config.{key}: .* is not supported by this OpenSSL"):
        load(directory, f"{TLS}, {key}: {value}}}")
