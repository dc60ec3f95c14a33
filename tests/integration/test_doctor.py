"""The doctor with real patients: exporters, Prometheus, Redis, Kafka, files and sockets, in good health and bad."""

import json
import os
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from redis import Redis

from mlops_exporter import cli
from mlops_exporter.ingest.store import FILE, SCHEMA
from mlops_exporter.profile.profile import save
from tests.models import profiles
from tests.support.brokers import KafkaBroker, RedisServer
from tests.support.exporter import run, running_exporter, write_config
from tests.support.fake_gpu import A100, build_library
from tests.support.prometheus import eventually, free_port, running_prometheus, scrape_job

RULES = Path(__file__).parents[2] / "prometheus" / "rules"
GOOD = (
    '{"model":"credit","version":"3","id":"%d","features":{"amount":5,"country":"DE","age":9,"member":true},"score":1}'
)


class Diagnosis(NamedTuple):
    """Exit status and findings, each as (verdict, area, text with remedy)."""

    status: int
    findings: list[tuple[str, str, str]]

    def one(self, verdict: str, area: str, *parts: str) -> str:
        """The only finding of a verdict and an area that says all `parts`."""
        found = [f[2] for f in self.findings if f[:2] == (verdict, area) and all(part in f[2] for part in parts)]
        assert len(found) == 1, self.findings
        return found[0]

    def of(self, verdict: str, area: str | None = None) -> list[str]:
        """The findings of a verdict, in an area."""
        return [f[2] for f in self.findings if f[0] == verdict and area in (None, f[1])]


Doctor = Callable[..., Diagnosis]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command in the test's directory on the exporter at an address, with more flags."""
    monkeypatch.chdir(tmp_path)

    def call(address: str, *flags: str) -> Diagnosis:
        status = cli.main(["doctor", "--json", f"--web.listen-address={address}", *flags])
        output = capsys.readouterr()
        assert output.err == ""
        return _diagnosis(status, output.out)

    return call


def _diagnosis(status: int, output: str) -> Diagnosis:
    found = json.loads(output)["findings"]
    return Diagnosis(status, [(f["verdict"], f["area"], f"{f['what']} -> {f['remedy']}") for f in found])


def prediction(number: int) -> str:
    """A good event."""
    features = {"amount": 5, "country": "DE", "age": 9, "member": True}
    return json.dumps({"model": "credit", "version": "3", "id": str(number), "features": features, "score": 1})


def model(directory: Path, name: str = "credit") -> dict[str, Any]:
    """Write a profile; returns the configuration of its model."""
    profile = profiles()[name]
    save(profile, directory / f"{name}.json")
    return {"name": name, "task": profile.task, "profile": f"{name}.json"}


@pytest.fixture
def free(tmp_path: Path) -> str:
    """An address that nobody listens on, in a directory with the configuration of one model."""
    write_config(tmp_path, model(tmp_path))
    return f"127.0.0.1:{free_port()}"


def test_before_the_first_start_nothing_is_wrong(tmp_path: Path, free: str, doctor: Doctor) -> None:
    before = sorted(tmp_path.iterdir())
    found = doctor(free)
    assert found.status == 0
    assert found.of("problem") == []
    found.one(
        "warning", "exporter", f"nothing listens at {free}", "mlops-exporter run --config.file=mlops-exporter.yml"
    )
    found.one("warning", "configuration", "no state.path")
    found.one("warning", "configuration", "30 reference rows", "at least 1000")
    found.one("ok", "configuration", "credit: binary, 4 features, version 3")
    assert sorted(tmp_path.iterdir()) == before


def test_every_fault_of_the_configuration_is_a_problem(tmp_path: Path, free: str, doctor: Doctor) -> None:
    (tmp_path / "bad.yml").write_text("models:\n- {name: a, task: binray, profile: none.json}\nsource: []\n")
    found = doctor(free, "--config.file=bad.yml", "--web.config.file=no-web.yml")
    assert found.status == 1
    found.one("problem", "configuration", "bad.yml:2", "binray")
    found.one("problem", "configuration", "bad.yml:3", "did you mean sources?")
    found.one("problem", "configuration", "none.json")
    assert any("no-web.yml" in text for text in found.of("problem", "configuration"))
    absent = doctor(free, "--config.file=absent.yml")
    absent.one("problem", "configuration", "absent.yml: there is no such file", "--config.file")


def test_another_program_holds_the_port(tmp_path: Path, free: str, doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", int(free.rpartition(":")[2]))) as silent:
        silent.settimeout(30)
        found = doctor(free)
        assert found.status == 1
        found.one("problem", "exporter", "does not answer within 5 s", "ss -ltnp")
    with running_prometheus({}, tmp_path) as other:
        found = doctor(other.url.removeprefix("http://"))
        found.one("problem", "exporter", "is no mlops-exporter", "--web.listen-address")
    found = doctor("127.0.0.1:http")
    found.one("problem", "exporter", "write host:port")


def test_no_event_then_wrong_ones_then_good_ones(tmp_path: Path, doctor: Doctor) -> None:
    """The commonest complaint, from the first start on."""
    write_config(tmp_path, model(tmp_path), model(tmp_path, "iris"))
    with running_exporter(tmp_path, "run") as exporter:
        found = doctor(exporter.address)
        assert found.status == 0
        remedy = found.one("warning", "events", "push: nothing has arrived", "curl")
        example = remedy.partition("-d '")[2].partition("'")[0]
        exporter.post(example.encode())  # what it says to try is taken
        found = doctor(exporter.address)
        found.one("ok", "events", "push: 1 events taken")
        found.one("warning", "events", "iris: no event of this model")
        found.one("warning", "events", "credit 3: 1 predictions in 1d: drift shows from 100")
        found.one("warning", "events", "credit 3: no label has come")
        exporter.post(b'{"model":"iris","id":"x","label":"setosa"}')
        doctor(exporter.address).one("problem", "events", "iris: 1 labels came, and no prediction")

        wrong = '{"model":"credit","features":{"amont":1,"country":"XX","age":"7"},"score":1}'
        exporter.post(
            "\n".join([*[wrong] * 20, '{"model":"credti"}', '{"model":"credit","id":"x","label":1}']).encode()
        )
        found = doctor(exporter.address)
        assert found.status == 1
        found.one("warning", "events", "1 of 24 events were refused as unknown_model", "write one of credit, iris")
        found.one("warning", "events", "credit default: events say no version, the profile is of version 3")
        found.one("problem", "events", "credit default: 2 of 4 features are in no event: amount, member")
        found.one("problem", "events", "credit default: 1 of 4 features are never a value of its type: age")
        found.one("problem", "events", "credit default: 1 of 4 features are never a category", "country")
        found.one("problem", "events", "credit default: 1 labels came, none found its prediction", "very id")


def test_healthy_traffic_has_no_complaint_but_size(tmp_path: Path, doctor: Doctor) -> None:
    write_config(tmp_path, model(tmp_path), state={"path": str(tmp_path / "state")})
    with running_exporter(tmp_path, "run") as exporter:
        exporter.post("\n".join(prediction(number) for number in range(150)).encode())
        labels = (json.dumps({"model": "credit", "id": str(number), "label": 1}) for number in range(150))
        exporter.post("\n".join(labels).encode())
        found = doctor(exporter.address)
        assert found.status == 0
        assert found.of("warning", "events") == []
        found.one("ok", "events", "credit 3: 150 predictions, 150 of them in 1d; 150 labels joined")
        found.one("ok", "state", "is in use by process", f"({sys.executable} -m mlops_exporter run")
        elsewhere = doctor(f"127.0.0.1:{free_port()}")
        assert elsewhere.status == 1
        elsewhere.one("problem", "state", f"in use by process {exporter.process.pid}", "a state.path of its own")


def test_benchmarks_that_cannot_be_judged_are_named(tmp_path: Path, doctor: Doctor) -> None:
    """Only labels of one class come, and of one group."""
    benchmarks = {"accuracy": {"min": 0.1}, "roc_auc": {"min": 0.6}, "recall": {"min": 0.1}}
    fairness = {"attributes": ["country"], "benchmarks": {"demographic_parity_ratio": {"min": 0.8}}}
    write_config(tmp_path, model(tmp_path) | {"benchmarks": benchmarks, "fairness": fairness})
    with running_exporter(tmp_path, "run") as exporter:
        exporter.post("\n".join(prediction(number) for number in range(900)).encode())
        labels = (json.dumps({"model": "credit", "id": str(number), "label": 0}) for number in range(900))
        exporter.post("\n".join(labels).encode())
        found = doctor(exporter.address)
        assert found.status == 0
        found.one("warning", "events", "benchmark of roc_auc cannot be judged", "both classes")
        found.one("warning", "events", "benchmark of recall cannot be judged", "each class")
        found.one("warning", "events", "demographic_parity_ratio between groups of country cannot", "min_group_size")
        assert not [text for text in found.of("warning", "events") if "accuracy" in text]


def test_the_state_directory(tmp_path: Path, doctor: Doctor) -> None:
    address = f"127.0.0.1:{free_port()}"

    def examined(path: Path) -> Diagnosis:
        write_config(tmp_path, model(tmp_path), state={"path": str(path)})
        return doctor(address)

    found = examined(tmp_path / "new" / "state")
    assert not (tmp_path / "new").exists()
    found.one("ok", "state", "is not there yet")
    found.one("ok", "state", "GiB free")

    (tmp_path / "file").touch()
    examined(tmp_path / "file" / "state").one("problem", "state", "file")

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / FILE).write_bytes(b"not a database" * 10)
    examined(damaged).one("problem", "state", "damaged", "move it away")
    header = b"SQLite format 3\0".ljust(60, b"\0") + struct.pack(">I", 77)
    (damaged / FILE).write_bytes(header.ljust(100, b"\0"))
    examined(damaged).one("problem", "state", "has schema 77", "run the version")
    assert (damaged / FILE).read_bytes()[:64] == header

    good = tmp_path / "good"
    write_config(tmp_path, model(tmp_path), state={"path": str(good)})
    with running_exporter(tmp_path, "run"):
        pass
    before = {path: path.stat().st_mtime_ns for path in good.iterdir()}
    found = examined(good)
    assert found.of("problem") == []
    found.one("ok", "state", f"{FILE}: schema {SCHEMA}")
    assert {path: path.stat().st_mtime_ns for path in good.iterdir()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable(tmp_path: Path, free: str, doctor: Doctor) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    write_config(tmp_path, model(tmp_path), state={"path": str(tmp_path / "closed")})
    doctor(free).one("problem", "state", "closed is not writable")


def test_file_sources(tmp_path: Path, doctor: Doctor) -> None:
    address = f"127.0.0.1:{free_port()}"
    logs = tmp_path / "logs"
    logs.mkdir()

    def examined(pattern: str) -> Diagnosis:
        write_config(tmp_path, model(tmp_path), sources=[{"name": "log", "file": {"path": pattern}}])
        return doctor(address)

    examined("lgos/*.ndjson").one("problem", "sources", "lgos is no directory")
    examined("logs/*.ndjson").one("warning", "sources", "no file matches", "holds nothing")
    (logs / "events.json").write_text("")
    examined("logs/*.ndjson").one("warning", "sources", "no file matches", "holds events.json")
    examined("logs/*.json").one("warning", "sources", "1 files match", "is empty")
    (logs / "events.json").write_text('{"model":"other"}\n' * 3)
    found = examined("logs/*.json")
    assert found.status == 1
    found.one("problem", "sources", "3 of 3 events looked at would be refused as unknown_model")
    (logs / "events.json").write_text("".join(f"{prediction(number)}\n" for number in range(5)) + "cut off")
    found = examined("logs/*.json")
    assert found.status == 0
    found.one("ok", "sources", "5 of 5 events looked at would be taken")
    os.utime(logs / "events.json", (0, 0))
    examined("logs/*.json").one("warning", "sources", "still writes there")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", password="opensesame")
    server.start()
    yield server
    server.stop()


def test_a_redis_source(tmp_path: Path, redis: RedisServer, doctor: Doctor) -> None:
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "password").write_text("opensesame\n")

    def examined(**settings: str) -> Diagnosis:
        given = {"url": redis.url, "stream": "feedback", "password_file": "password"} | settings
        write_config(tmp_path, model(tmp_path), sources=[{"name": "queue", "redis": given}])
        return doctor(address)

    (tmp_path / "wrong").write_text("guess\n")
    examined(password_file="wrong").one("problem", "sources", "Redis refuses", "password_file")
    nobody = examined(url=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    assert "hunter2" not in nobody.one("problem", "sources", "does not answer")
    examined().one("warning", "sources", "there is no stream feedback yet", "XADD feedback '*' event")
    with Redis(port=redis.port, password="opensesame", protocol=2) as client:
        client.set("text", "x")
        examined(stream="text").one("problem", "sources", "text is a string, not a stream")
        client.xadd("feedback", {"event": prediction(1)})
        found = examined()
        assert found.status == 0
        found.one("ok", "sources", "holds 1 entries; the exporter will make its group mlops-exporter")
        found.one("ok", "sources", "1 of 1 events looked at would be taken")
        examined(field="body").one("problem", "sources", "1 of the last 1 entries have no field body, but event")
        assert client.xinfo_groups("feedback") == []  # it has made nothing
        client.xgroup_create("feedback", "mlops-exporter", id="0")
        examined().one("ok", "sources", "1 entries wait for group mlops-exporter, 0 are not acknowledged")
        assert client.xpending("feedback", "mlops-exporter")["pending"] == 0


def test_a_kafka_source(tmp_path: Path, doctor: Doctor) -> None:
    address = f"127.0.0.1:{free_port()}"
    broker = KafkaBroker(tmp_path)

    def examined() -> Diagnosis:
        given = {"bootstrap_servers": broker.address, "topics": ["predictions", "labels"]}
        write_config(tmp_path, model(tmp_path), sources=[{"name": "stream", "kafka": given}])
        return doctor(address)

    found = examined()
    assert found.status == 1
    found.one("problem", "sources", f"{broker.address} does not answer", "advertise")
    broker.start()
    try:
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_topics([NewTopic("predictions", 2, 1)])["predictions"].result(10)
        producer = Producer({"bootstrap.servers": broker.address})
        for number in range(7):
            producer.produce("predictions", prediction(number))
        assert producer.flush(10) == 0
        found = examined()
        found.one("ok", "sources", "topic predictions has 2 partitions with 7 messages, of which 7 wait for group")
        found.one("problem", "sources", "topic labels does not exist", "there are predictions")
    finally:
        broker.stop()


def test_prometheus_that_scrapes_well_or_not(tmp_path: Path, doctor: Doctor) -> None:
    write_config(tmp_path, model(tmp_path))
    with running_exporter(tmp_path, "run") as exporter:
        for name in ("good", "bad", "other"):
            (tmp_path / name).mkdir()
        shutil.copytree(RULES, tmp_path / "good" / "rules")

        job = scrape_job("mlops-exporter", exporter.address)
        with running_prometheus({"scrape_configs": [job], "rule_files": ["rules/*.yml"]}, tmp_path / "good") as server:
            eventually(lambda: server.query("up == 1"))
            found = doctor(exporter.address, f"--prometheus.url={server.url}")
            assert found.of("problem") == []
            found.one("ok", "prometheus", f"scrapes http://{exporter.address}/metrics every 1s")
            found.one("ok", "prometheus", "alerts and", "recording rules are loaded")
            found.one("warning", "prometheus", "knows no Alertmanager")

        slow = scrape_job("ml", exporter.address, scrape_interval="10m", metrics_path="/wrong")
        thresholds = {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "ml_x > on () ml:threshold:y"}]}]}
        (tmp_path / "bad" / "rules.yml").write_text(json.dumps(thresholds))
        config = {"scrape_configs": [slow, scrape_job("quick", exporter.address, metrics_path="/wrong")]}
        with running_prometheus(config | {"rule_files": ["rules.yml"]}, tmp_path / "bad") as server:
            eventually(lambda: server.query('up{job="quick"} == 0'))
            found = doctor(exporter.address, f"--prometheus.url={server.url}")
            assert found.status == 1
            assert any("/wrong fails" in text and "set metrics_path" in text for text in found.of("problem"))
            found.one("warning", "prometheus", "a scrape every 10m makes gaps")
            found.one("problem", "prometheus", "alerts need ml:threshold:*", "all files")

        with running_prometheus(
            {"scrape_configs": [scrape_job("mlops-exporter", "h:1")]}, tmp_path / "other"
        ) as server:
            eventually(lambda: server.api("targets")["activeTargets"])
            found = doctor(exporter.address, f"--prometheus.url={server.url}/")
            port = exporter.address.rpartition(":")[2]
            found.one("problem", "prometheus", f"none of the 1 targets of {server.url} has port {port}", "h:1", "HOST:")
            found.one("warning", "prometheus", "no alert is about ml_ metrics", "rule_files")

        found = doctor(exporter.address, f"--prometheus.url=http://{exporter.address}")
        found.one("problem", "prometheus", "does not answer as Prometheus does")
        found = doctor(exporter.address, "--prometheus.url=localhost:9090")
        found.one("problem", "prometheus", "write http://HOST:PORT")


def test_gpus_and_workloads(tmp_path: Path, free: str, doctor: Doctor) -> None:
    workloads = [
        {"name": "this", "phase": "training", "match": "pytest"},
        {"name": "none", "phase": "serving", "match": "no such process [1]"},
    ]
    cost = {"currency": "USD", "gpu_per_hour": 2.5}
    write_config(tmp_path, model(tmp_path), compute={"workloads": workloads, "cost": cost})
    found = doctor(free)
    found.one("ok", "compute", "workload this")
    found.one("warning", "compute", "workload none (match no such process [1]): no process now")

    build_library(tmp_path)
    state = tmp_path / "gpus"
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML_STATE": str(state)}

    def with_gpus(**more: object) -> Diagnosis:
        state.write_text("".join(f"{key} {value}\n" for key, value in {**A100, **more}.items()))
        command = ("doctor", "--json", f"--web.listen-address={free}")
        done = run(*command, directory=tmp_path, environment=environment)
        assert done.stderr == ""
        return _diagnosis(done.returncode, done.stdout)

    with_gpus(count=1).one("ok", "compute", "GPU 0 NVIDIA A100-SXM4-80GB, driver 550.54.15")
    with_gpus(count=1, **{"*.power.error": 4}).one("warning", "compute", "keeps power from this user")
    with_gpus(count=1, **{"0.lost": 15}).one("problem", "compute", "GPU 0 does not answer: gpu_is_lost")
    with_gpus(**{"init.error": 9}).one("problem", "compute", "driver_not_loaded", "modprobe nvidia")
    with_gpus(count=0).one("warning", "compute", "shows no GPU", "--gpus all")
