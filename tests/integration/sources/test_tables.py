"""Tables where they lie in earnest: a PostgreSQL of Debian, and an object store that speaks S3."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.tables import SqlSettings
from mlops_exporter.sources.sql import SqlSource
from mlops_exporter.tables.mapping import Mapping
from tests.requirements import lack
from tests.sink import RecordingSink
from tests.support.sql import PROFILE, ids, until_rows
from tests.support.tables import source as table_source
from tests.support.tables import told


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The url of a server of its own, with the user `reader` and a password."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        lack("PostgreSQL is not installed: tests/setup-debian.sh installs it on Debian")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    directory = Path(mkdtemp(prefix="postgresql-"))
    if as_user:
        os.chown(directory, pwd.getpwnam("postgres").pw_uid, -1)
    port = free_port()
    data, run = str(directory / "data"), [*as_user, str(programs[-1] / "pg_ctl"), "-D", str(directory / "data")]
    initdb = [*as_user, str(programs[-1] / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run([*run, "-w", "-o", options, "-l", f"{directory}/log", "start"], check=True, cwd="/")
    try:
        yield f"postgresql://postgres:hunter2@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*run, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/")
        shutil.rmtree(directory, ignore_errors=True)


def run_sql(url: str, *statements: str) -> None:
    import adbc_driver_postgresql.dbapi as postgresql

    with postgresql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def scored(url: str, query: str = "SELECT * FROM scored", **settings: Any) -> SqlSource:
    columns = {"id": "id", "ts": "updated_at", "score": "p", "label": "y"}
    defaults = {"model": "credit", "url": url, "query": query, "cursor": "updated_at", "columns": columns}
    chosen = SqlSettings.model_validate({**defaults, "interval": "1s", **settings})
    return SqlSource("warehouse", chosen, Mapping("credit", chosen.columns, "UTC", PROFILE.features, ["amount"]))


def test_rows_of_postgresql_come_once_even_when_they_are_committed_late(postgresql: str) -> None:
    run_sql(
        postgresql,
        "CREATE TABLE scored (id text, updated_at timestamptz, p real, amount numeric(9,2), country text, y int)",
        "INSERT INTO scored SELECT 'r' || n, timestamptz '2026-11-01' + n * interval '1 second', 0.5, n, 'DE', n % 2 "
        "FROM generate_series(1, 9000) n",
    )
    sink = RecordingSink()
    asyncio.run(until_rows(scored(postgresql, overlap="10m"), sink, 9000))
    run_sql(
        postgresql,
        "INSERT INTO scored VALUES ('late', timestamptz '2026-11-01' + interval '8900 seconds', 0.5, 1, 'DE', 1)",
        "INSERT INTO scored VALUES ('new', timestamptz '2026-11-01' + interval '9001 seconds', 0.5, 1, 'DE', 1)",
    )
    asyncio.run(until_rows(scored(postgresql, overlap="10m"), sink, 9002))
    asyncio.run(until_rows(scored(postgresql, overlap="10m"), sink, 9002))
    assert sorted(ids(sink)) == sorted([*(f"r{n}" for n in range(1, 9001)), "late", "new"])


async def told_of(source: SqlSource) -> str:
    task = asyncio.create_task(source.run(RecordingSink()))
    async with asyncio.timeout(60):
        while source.health.error in ("not started", None):
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    return str(source.health.error)


def test_the_session_reads_only_has_a_time_out_and_tells_no_secret(postgresql: str) -> None:
    run_sql(postgresql, "CREATE TABLE kept (n int)")
    writing = scored(postgresql, "INSERT INTO kept VALUES (1) RETURNING n, now() AS updated_at")
    slow = scored(postgresql, "SELECT now() AS updated_at, pg_sleep(30) AS p", timeout="1s")
    wrong = scored(postgresql.replace("/postgres", "/nothing"))
    begin = time.monotonic()
    answers = [asyncio.run(told_of(source)) for source in (writing, slow, wrong)]
    assert "statement timeout" in answers[1]
    assert time.monotonic() - begin < 30
    assert not any("hunter2" in answer for answer in answers)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An object store on this machine; its place is a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "no_proxy": "*",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    import boto3

    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="scored")
    try:
        yield "s3://scored"
    finally:
        server.stop()


def put(store: str, key: str, table: Any) -> None:
    import pyarrow.fs as fs

    filesystem, path = fs.FileSystem.from_uri(f"{store}/{key}?endpoint_override={os.environ['AWS_ENDPOINT_URL']}")
    with filesystem.open_output_stream(path) as sink:
        pq.write_table(table, sink)


def test_an_object_store_gives_profiles_and_events(store: str) -> None:
    rows = [{"request": f"r{n}", "p": n / 200, "amount": float(n), "country": "DE", "y": n % 2} for n in range(200)]
    for day in range(2):
        put(store, f"runs/day={day}/part.parquet", pa.Table.from_pylist(rows[day * 100 : day * 100 + 100]))
    for place in (f"{store}/runs/", f"{store}/runs/**/*.parquet"):
        profile, _ = build(
            BuildRequest(data=place, task="binary", label="y", scores={"positive": "p"}, exclude=("day", "request"))
        )
        assert profile.rows == 200
        assert list(profile.features) == ["amount", "country"]
    sink = RecordingSink()
    columns = {"id": "request", "score": "p"}
    asyncio.run(told(table_source(f"{store}/runs/", columns=columns), sink, 200))
    assert ids(sink) == [f"r{n}" for n in range(200)]
