"""The exporter as its user runs it, fed by all kinds of sources at once."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml
from confluent_kafka import Producer
from redis import Redis

from mlops_exporter import demo
from mlops_exporter.cli import main
from tests.support.brokers import KafkaBroker, RedisServer
from tests.support.prometheus import eventually, free_port

PROFILE = Path(demo.__file__).parent / "mpg.profile.json"
STATIC = {"group.instance.id": "one"}  # a member that was killed is known when it comes back, and not waited for
SOURCES = ("log", "pipe", "queue", "stream")


def predictions(count: int, first: int = 0) -> list[bytes]:
    """Predictions without an id, by which the intake could tell that one comes twice."""
    return [json.dumps({"model": "mpg", "prediction": 20.0 + n}).encode() for n in range(first, first + count)]


@contextmanager
def exporter(
    directory: Path, sources: list[dict[str, object]], **settings: object
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the exporter; yields its process, with a pipe to its standard input, and its URL."""
    models = [{"name": "mpg", "task": "regression", "profile": str(PROFILE)}]
    config = {"models": models, "sources": sources, **settings}
    (directory / "mlops-exporter.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlops_exporter", "run", f"--config.file={directory / 'mlops-exporter.yml'}"]
    with (
        (directory / "exporter.log").open("wb") as log,
        subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdin=subprocess.PIPE, stdout=log, stderr=log
        ) as process,
    ):
        try:
            eventually(lambda: get(f"http://{address}/-/healthy") == "healthy\n")
            yield process, f"http://{address}"
        finally:
            process.kill()


def get(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.TransportError:
        return ""


def samples(url: str, name: str) -> dict[str, float]:
    """Values of a metric by source."""
    lines = [line for line in get(f"{url}/metrics").splitlines() if line.startswith(name + "{")]
    return {line.split('source="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", password="hunter2")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    (tmp_path / "kafka").mkdir()
    broker = KafkaBroker(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


def test_all_sources_feed_the_model_and_show_how_they_are(
    tmp_path: Path, redis: RedisServer, kafka: KafkaBroker
) -> None:
    (tmp_path / "model.ndjson").write_bytes(b"\n".join(predictions(3)) + b"\nrubbish\n")
    client = Redis(port=redis.port, password="hunter2", protocol=2)
    for value in predictions(4):
        client.xadd("feedback", {"event": value})
    producer = Producer({"bootstrap.servers": kafka.address})
    for value in predictions(5):
        producer.produce("predictions", value)
    assert producer.flush(10) == 0
    sources: list[dict[str, object]] = [
        {"name": "log", "file": {"path": "*.ndjson"}},  # relative to the configuration
        {"name": "pipe", "stdin": {}},
        {"name": "queue", "redis": {"url": redis.url.replace("//", "//:hunter2@"), "stream": "feedback"}},
        {"name": "stream", "kafka": {"bootstrap_servers": kafka.address, "topics": ["predictions"]}},
    ]
    with exporter(tmp_path, sources) as (process, url):
        assert process.stdin is not None
        process.stdin.write(b"\n".join(predictions(6)) + b"\n")
        process.stdin.flush()
        expected = dict(zip(SOURCES, (3.0, 6.0, 4.0, 5.0), strict=True))
        eventually(lambda: samples(url, "ml_exporter_events_total") == expected)
        eventually(lambda: get(f"{url}/-/ready") == "ready\n")
        eventually(lambda: samples(url, "ml_exporter_source_lag_events") == {"log": 0, "queue": 0, "stream": 0})
        assert samples(url, "ml_exporter_source_up") == dict.fromkeys(SOURCES, 1.0)
        assert set(samples(url, "ml_exporter_source_last_event_timestamp_seconds")) == set(SOURCES)
        metrics = get(f"{url}/metrics")
        assert 'ml_exporter_events_rejected_total{source="log",reason="malformed_json"} 1' in metrics
        assert 'ml_model_predictions_total{model="mpg",version="default"} 18' in metrics
        answer = httpx.post(f"{url}/v1/events", content=predictions(1)[0], trust_env=False)
        assert answer.status_code == 404
        assert "http: {}" in answer.text

        process.stdin.close()
        redis.stop()
        eventually(lambda: samples(url, "ml_exporter_source_up") == {"log": 1, "pipe": 0, "queue": 0, "stream": 1})
        assert get(f"{url}/-/ready") == "ready\n"  # they were connected once
        status = httpx.get(f"{url}/api/v1/status", trust_env=False)
        errors = {source["source"]: source["error"] for source in status.json()["sources"]}
        assert errors["pipe"] == "the input has ended"
        assert "refused" in errors["queue"] or "closed" in errors["queue"]
        shown = status.text + get(f"{url}/") + get(f"{url}/metrics")

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    log = (tmp_path / "exporter.log").read_text()
    assert "hunter2" not in shown + log
    assert "Traceback" not in log


def test_an_input_that_has_ended_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Not even when it ended before anybody asked."""
    with exporter(tmp_path, [{"name": "pipe", "stdin": {}}]) as (process, url):
        assert process.stdin is not None
        process.stdin.close()
        eventually(lambda: samples(url, "ml_exporter_source_up") == {"pipe": 0})
        assert get(f"{url}/-/ready") == "ready\n"


def test_killed_again_and_again_every_event_counts_once(tmp_path: Path, redis: RedisServer, kafka: KafkaBroker) -> None:
    """With a state on disk no source loses or repeats an event, wherever the exporter is killed."""
    client = Redis(port=redis.port, password="hunter2", protocol=2)
    producer = Producer({"bootstrap.servers": kafka.address})
    sources: list[dict[str, object]] = [
        {"name": "log", "file": {"path": "model.ndjson"}},
        {"name": "queue", "redis": {"url": redis.url.replace("//", "//:hunter2@"), "stream": "feedback"}},
        {
            "name": "stream",
            "kafka": {"bootstrap_servers": kafka.address, "topics": ["predictions"], "settings": STATIC},
        },
    ]
    names, sent = ("log", "queue", "stream"), 0

    def send(count: int) -> None:
        nonlocal sent
        values = predictions(count, sent)
        with (tmp_path / "model.ndjson").open("ab") as log:
            log.write(b"".join(value + b"\n" for value in values))
        with client.pipeline(transaction=False) as pipeline:
            for value in values:
                pipeline.xadd("feedback", {"event": value})
                producer.produce("predictions", value)
            pipeline.execute()
        assert producer.flush(10) == 0
        sent += count

    for pause in (0.0, 0.1):
        send(4000)
        with exporter(tmp_path, sources, state={"path": str(tmp_path / "state")}) as (process, url):
            eventually(lambda: any(samples(url, "ml_exporter_events_total").values()))
            time.sleep(pause)
            process.kill()
    send(10)
    with exporter(tmp_path, sources, state={"path": str(tmp_path / "state")}) as (process, url):
        eventually(lambda: samples(url, "ml_exporter_source_lag_events") == dict.fromkeys(names, 0.0), 40)
        assert samples(url, "ml_exporter_events_total") == dict.fromkeys(names, sent)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


def test_readiness_names_what_was_never_connected(tmp_path: Path) -> None:
    dead = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    sources: list[dict[str, object]] = [
        {"name": "push", "http": {}},
        {"name": "queue", "redis": {"url": dead, "stream": "feedback"}},
    ]
    with exporter(tmp_path, sources) as (process, url):
        eventually(lambda: "refused" in get(f"{url}/-/ready"))
        assert get(f"{url}/-/ready").startswith("not ready: not connected yet: queue (ConnectionError: ")
        assert "hunter2" not in get(f"{url}/-/ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_check_says_what_would_be_right_and_repeats_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(**kinds: object) -> str:
        config = {
            "models": [{"name": "mpg", "task": "regression", "profile": str(PROFILE)}],
            "sources": [{"name": "s", **kinds}],
        }
        (tmp_path / "c.yml").write_text(yaml.safe_dump(config))
        assert main(["check", str(tmp_path / "c.yml")]) == 1
        return capsys.readouterr().err

    with monkeypatch.context() as patch:
        patch.setattr("mlops_exporter.service.configuration.find_spec", lambda _: None)
        wrong = fault(redis={"url": "redis://h", "stream": "x"})
        assert "needs the Python package redis: pip install 'mlops-exporter[redis]'" in wrong
        wrong = fault(kafka={"bootstrap_servers": "b:1", "topics": ["t"]})
        assert "needs the Python package confluent_kafka: pip install 'mlops-exporter[kafka]'" in wrong
    assert "one kind of http, file, stdin, redis, kafka, table, sql, replicas, not none" in fault()
    wrong = fault(redis={"url": "http://:hunter2@h", "stream": "x"})
    assert "url: write redis://HOST:PORT/DB" in wrong
    assert "hunter2" not in wrong
    kafka = {"bootstrap_servers": "b:1", "topics": ["t"], "settings": {"sasl.pasword": "hunter2"}}
    wrong = fault(kafka=kafka)
    assert 'No such configuration property: "sasl.pasword"' in wrong
    assert "hunter2" not in wrong


def test_brokers_leave_and_come_back_at_reloads_and_nothing_is_lost_or_doubled(
    tmp_path: Path, redis: RedisServer, kafka: KafkaBroker
) -> None:
    client = Redis(port=redis.port, password="hunter2", protocol=2)
    producer = Producer({"bootstrap.servers": kafka.address})
    push: dict[str, object] = {"name": "push", "http": {}}
    brokers: list[dict[str, object]] = [
        {"name": "queue", "redis": {"url": redis.url.replace("//", "//:hunter2@"), "stream": "feedback"}},
        {"name": "stream", "kafka": {"bootstrap_servers": kafka.address, "topics": ["predictions"]}},
    ]

    def send(first: int) -> None:
        for value in predictions(50, first):
            client.xadd("feedback", {"event": value})
            producer.produce("predictions", value)
        assert producer.flush(10) == 0

    send(0)  # so that the topic is there
    sent = 50
    with exporter(tmp_path, [push, *brokers], state={"path": str(tmp_path / "state")}) as (process, url):
        config = tmp_path / "mlops-exporter.yml"
        content = yaml.safe_load(config.read_text())
        eventually(lambda: get(f"{url}/-/ready") == "ready\n")
        for there in (False, True, False, True):
            send(sent)
            sent += 50
            before = reload_time(url)
            config.write_text(yaml.safe_dump(content | {"sources": [push, *brokers] if there else [push]}))
            process.send_signal(signal.SIGHUP)
            eventually(partial(reloaded, url, before))
            assert set(samples(url, "ml_exporter_source_up")) == ({"push", "queue", "stream"} if there else {"push"})
        eventually(lambda: counted(url) >= 2 * sent, 40)
        time.sleep(1)
        assert counted(url) == 2 * sent


def counted(url: str) -> float:
    lines = [line for line in get(f"{url}/metrics").splitlines() if line.startswith("ml_model_predictions_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def reloaded(url: str, before: str) -> bool:
    return reload_time(url) != before


def reload_time(url: str) -> str:
    name = "ml_exporter_config_last_reload_success_timestamp_seconds "
    return next(line for line in get(f"{url}/metrics").splitlines() if line.startswith(name))
