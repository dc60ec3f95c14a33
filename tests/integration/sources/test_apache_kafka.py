"""The exporter beside Apache Kafka itself: a group of two exporters, and brokers that ask who comes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.certificates import Authority
from tests.integration.sources.test_exporter import counted, exporter, get, predictions, samples
from tests.requirements import require_program
from tests.support.brokers import KafkaBroker
from tests.support.prometheus import eventually

pytestmark = pytest.mark.apache_kafka

PARTITIONS = 6
QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
"""The shortest time that a broker allows until a silent member is given up."""

PASSWORD = "hunter2"


@contextmanager
def broker(directory: Path, listener: str = "PLAINTEXT", **settings: str) -> Iterator[KafkaBroker]:
    require_program("kafka-broker", "make kafka")
    directory.mkdir()
    kafka = KafkaBroker(directory, listener, **settings)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.stop()


def send(client: dict[str, str], count: int, first: int = 0) -> None:
    producer = Producer(client)
    for number, value in enumerate(predictions(count, first)):
        producer.produce("predictions", value, partition=number % PARTITIONS)
    assert producer.flush(20) == 0


def make_topic(client: dict[str, str]) -> None:
    admin = AdminClient({**client})  # kept until the answer is there
    admin.create_topics([NewTopic("predictions", PARTITIONS, 1)])["predictions"].result(20)


def test_two_exporters_share_a_topic_and_one_takes_over_from_the_other(tmp_path: Path) -> None:
    """Every message counts once over both, also after one of them was killed."""
    with broker(tmp_path / "kafka") as kafka:
        client = {"bootstrap.servers": kafka.address}
        make_topic(client)
        stream: dict[str, object] = {"bootstrap_servers": kafka.address, "topics": ["predictions"], "settings": QUICK}
        sources: list[dict[str, object]] = [{"name": "stream", "kafka": stream}]
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
        with (
            exporter(tmp_path / "first", sources, state={"path": str(tmp_path / "first/state")}) as (_, first),
            exporter(tmp_path / "second", sources, state={"path": str(tmp_path / "second/state")}) as (process, second),
        ):
            for url in (first, second):
                eventually(lambda url=url: get(f"{url}/-/ready") == "ready\n", 30)  # type: ignore[misc]
            sent = 0

            def shared() -> bool:
                """Both have counted something of what is sent meanwhile."""
                nonlocal sent
                send(client, 60, sent)
                sent += 60
                return min(counted(first), counted(second)) > 0

            eventually(shared, 60)
            eventually(lambda: counted(first) + counted(second) == sent, 30)
            eventually(lambda: committed(client) == sent)
            alone = counted(second)
            process.kill()
            process.wait()
            send(client, 600, sent)
            sent += 600
            eventually(lambda: counted(first) + alone == sent, 60)
            assert samples(first, "ml_exporter_source_lag_events") == {"stream": 0}
        with exporter(tmp_path / "second", sources, state={"path": str(tmp_path / "second/state")}) as (_, second):
            eventually(lambda: get(f"{second}/-/ready") == "ready\n", 60)
            assert counted(second) == alone


def committed(client: dict[str, str]) -> int:
    """Sum of the committed offsets of the exporters' group."""
    admin = AdminClient({**client})
    answer = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("mlops-exporter")])
    (group,) = [future.result(10) for future in answer.values()]
    return sum(partition.offset for partition in group.topic_partitions)


def test_over_tls_with_a_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("broker", "subjectAltName=IP:127.0.0.1")  # server of exporters, client of itself
    keys = tmp_path / "broker.pem"
    keys.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    settings = {
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": (
            f'{module} required username="broker" password="b" user_broker="b" user_exporter="{PASSWORD}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
    }
    with broker(tmp_path / "kafka", "SASL_SSL", **settings) as kafka:
        secure = {
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": str(authority.certificate),
            "sasl.mechanism": "PLAIN",
            "sasl.username": "exporter",
        }
        client = {"bootstrap.servers": kafka.address, "sasl.password": PASSWORD, **secure}
        make_topic(client)
        send(client, 50)
        password = tmp_path / "password"
        stream = {
            "bootstrap_servers": kafka.address,
            "topics": ["predictions"],
            "settings": secure | {"sasl.password_file": str(password)},
        }
        sources: list[dict[str, object]] = [{"name": "stream", "kafka": stream}]

        password.write_text("hunter3\n")
        with exporter(tmp_path, sources) as (_, url):
            eventually(lambda: "uthentication" in get(f"{url}/-/ready"))
            shown = get(f"{url}/-/ready") + get(f"{url}/") + get(f"{url}/metrics")
        assert "source stream" in shown
        assert "hunter3" not in shown + (tmp_path / "exporter.log").read_text()

        password.write_text(f"{PASSWORD}\n")
        with exporter(tmp_path, sources) as (_, url):
            eventually(lambda: counted(url) == 50)
            assert get(f"{url}/-/ready") == "ready\n"
        assert PASSWORD not in (tmp_path / "exporter.log").read_text()
