"""The commands of docs/, run as they stand there, in a directory with the files that they name.

Ports, and places that belong to a whole machine, are replaced. The README and the pages of `TOLD` are stories of their
own, with a test for each.
"""

import gzip
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.certificates import Authority
from tests.requirements import require_program
from tests.support.pages import Shell, blocks
from tests.support.prometheus import eventually, free_port, running_prometheus

DOCS = Path(__file__).parents[2] / "docs"

ELSEWHERE = {
    "pip install mlops-exporter-client": "test_client_package.py",
    "helm ": "test_cluster.py",
    "systemctl enable": "test_systemd.py",
    "--log-to-run": "lifecycle/test_real_servers.py",
    "mlops-exporter retrain": "lifecycle/test_loop.py",
    "mlops-exporter[spark]": "test_spark.py",
    "--engine spark": "test_spark.py",
}
"""Blocks by what they contain, and the test of each that needs more than a directory."""

TOLD = {
    "release": "test_release_page.py",
    "batch-jobs": "test_batch_jobs.py",
    "language-models": "test_language_models.py",
}
"""Pages whose commands tell one story, and its test."""


def commands_of(page: Path) -> list[str]:
    """The commands of a page, but for those that are run elsewhere."""
    return [
        command
        for block in blocks(page.read_text(), "sh", "bash")
        if not any(part in block for part in ELSEWHERE)
        for command in _commands(block)
    ]


def commands() -> dict[str, list[str]]:
    """The commands of each page, but for stories."""
    return {page.stem: commands_of(page) for page in sorted(DOCS.glob("*.md")) if page.stem not in TOLD}


class World:
    """A directory in which the commands work, and what stands in for the machine around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.prometheus = "http://localhost:9090"
        self.used: set[str] = set()
        address = f"127.0.0.1:{self.port}"
        self.shell = Shell(directory, MLOPS_EXPORTER_WEB_LISTEN_ADDRESS=address, MLOPS_EXPORTER_URL=f"http://{address}")
        self.shell.program("bin/model-server", "cat events.ndjson")

    def here(self, script: str) -> str:
        """A script with the places of this world."""
        for there, place in {
            "localhost:10042": f"localhost:{self.port}",
            "http://localhost:9090": self.prometheus,
            "/var/lib/prometheus/data": f"{self.directory}/blocks",
            "/var/lib/mlops-exporter": f"{self.directory}/state",
            "/var/backups": f"{self.directory}",
            "/run/secrets": f"{self.directory}",
            "~/": f"{self.directory}/",
            "s3://bucket/": f"{self.directory}/",
        }.items():
            script = script.replace(there, place)
        return script

    def documented(self, page: str, containing: str) -> str:
        """The one command of a page that contains something, for this world."""
        (command,) = (command for command in commands_of(DOCS / f"{page}.md") if containing in command)
        self.used.add(command)
        return self.here(command)

    def run(self, page: str, containing: str) -> str:
        """Run a command of a page; returns what it said."""
        return self.shell.run(self.documented(page, containing))

    def is_there(self, scheme: str) -> bool:
        """Whether the exporter takes events, or asks for a password."""
        try:
            answer = httpx.get(f"{scheme}://localhost:{self.port}/-/ready", trust_env=False, verify=False)
        except httpx.TransportError:
            return False
        return answer.status_code in (200, 401)


@contextmanager
def running(world: World, page: str, containing: str, scheme: str = "http") -> Iterator[int]:
    """Run an exporter by a command of a page; yields its process once it is there."""
    command = world.documented(page, containing)
    # Without a pipe, the shell gives its place to the exporter.
    started = world.shell.start(command if "|" in command else f"exec {command}", world.directory / "exporter.log")
    try:
        eventually(lambda: world.is_there(scheme), 60)
        yield started.pid
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(60)


def _commands(block: str) -> list[str]:
    """The commands of a block: what goes on after a backslash, or up to END, is one."""
    joined = block.replace("\\\n", "")
    return re.findall(r"^(?:[^\n]*<<'END'\n.*?^END|[^\n]+)$", joined, re.MULTILINE | re.DOTALL)


CONFIG = """
models:
  - name: credit
    task: binary
    profile: credit.json
state: {path: state}
"""


def _table(rows: int, begin: float) -> dict[str, list[object]]:
    """Scored rows, a second apart, with what came of each."""
    spread = random.Random(1)
    scores = [spread.random() for _ in range(rows)]
    table: dict[str, list[object]] = {
        "request_id": [f"r{number}" for number in range(rows)],
        "ts": [begin + number for number in range(rows)],
        "amount": [spread.gauss(100, 10) for _ in range(rows)],
        "country": [spread.choice(["DE", "FR"]) for _ in range(rows)],
        "age": [spread.randrange(18, 90) for _ in range(rows)],
        "sex": [spread.choice(["f", "m"]) for _ in range(rows)],
        "p": [*scores],
        "y": [int(spread.random() < score) for score in scores],
    }
    return table


def furnish(directory: Path) -> None:
    """Make the files that the pages name."""
    held_out = _table(5000, 0)
    held_out["at"] = [f"2026-10-{1 + row % 28:02d}T{row % 24:02d}:15:00" for row in range(5000)]
    names = [name for name in held_out if name not in ("request_id", "ts")]
    rows = zip(*(held_out[name] for name in names), strict=True)
    (directory / "held-out.csv").write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]))
    spread = random.Random(2)
    said = [(spread.choice(["sports", "sports|politics", "|"]), spread.random()) for _ in range(1000)]
    (directory / "topics.csv").write_text(
        "\n".join(
            ["words,topics,said", *(f"{len(s) * 10 + p:.2f},{s},{s if p < 0.8 else 'politics'}" for s, p in said)]
        )
    )
    rated = (f"{spread.gauss(200, 50):.0f},{spread.randrange(1, 6)},{spread.randrange(50, 900)}" for _ in range(500))
    (directory / "rated.csv").write_text("\n".join(["words,rating,tokens", *rated]))
    ahead = ((n, spread.gauss(100, 9), spread.gauss(0, 5), ("1d", "7d")[n % 2]) for n in range(600))
    (directory / "demand.csv").write_text(
        "\n".join(
            [
                "shop,ahead,sold,forecast,low,high,yesterday",
                *(f"{n % 9},{far},{y},{y + e},{y + e - 6.4},{y + e + 6.4},{y + 2 * e}" for n, y, e, far in ahead),
            ]
        )
    )
    with (directory / "shown.ndjson").open("w") as lists:
        for _ in range(500):
            items = spread.sample(range(90), spread.randrange(3, 13))
            clicked = [f"i{item}" for item in items if spread.random() < 0.1]
            scores = sorted((spread.random() for _ in items), reverse=True)
            kinds = [("shoes", "hats", "bags")[item % 3] for item in items]
            shown = {"items": [f"i{item}" for item in items], "scores": scores, "kinds": kinds, "clicked": clicked}
            lists.write(json.dumps(shown) + "\n")
    past = _table(600, time.time() - 900)
    features = {name: past[name] for name in ("amount", "country", "age")}
    (directory / "log").mkdir()
    (directory / "scored" / "day=2026-11-28").mkdir(parents=True)
    table = pa.table({"request_id": past["request_id"], "ts": past["ts"], "p": past["p"], **features})
    pq.write_table(table, directory / "scored.parquet")
    pq.write_table(table, directory / "scored" / "part.parquet")
    named = {"request_id": "id", "p": "score"}
    pq.write_table(
        table.rename_columns([named.get(name, name) for name in table.column_names]),
        directory / "scored" / "day=2026-11-28" / "part.parquet",
    )
    outcomes = {"id": past["request_id"], "ts": past["ts"], "label": past["y"]}
    pq.write_table(pa.table(outcomes | {"model": ["credit"] * 600}), directory / "outcomes.parquet")
    lines = (",".join(map(str, row)) for row in zip(outcomes["id"], outcomes["label"], strict=True))
    (directory / "outcomes.csv").write_text("\n".join(["id,label", *lines]))
    events = [
        {"model": "credit", "version": "3", "id": past["request_id"][row], "ts": past["ts"][row],
         "score": past["p"][row], "features": {name: values[row] for name, values in features.items()}}
        for row in range(600)
    ]  # fmt: skip
    with gzip.open(directory / "log" / "events.ndjson.gz", "wt") as log:
        log.writelines(json.dumps(event) + "\n" for event in events)
    with (directory / "labels.ndjson").open("w") as labels:
        for row in range(600):
            label = {"model": "credit", "id": past["request_id"][row], "ts": past["ts"][row], "label": past["y"][row]}
            labels.write(json.dumps(label) + "\n")
    (directory / "events.ndjson").write_text(json.dumps(events[0]) + "\n")
    (directory / "mlops-exporter.yml").write_text(CONFIG)


def test_what_is_run_elsewhere_is() -> None:
    assert all((Path(__file__).parent / name).exists() for name in (*ELSEWHERE.values(), *TOLD.values()))


def test_every_documented_command_does_what_its_page_says(tmp_path: Path) -> None:
    for program in ("curl", "promtool", "pidof"):
        require_program(program)
    furnish(tmp_path)
    world = World(tmp_path)

    world.run("prepare-reference", "--time at")
    assert "reference by hour of the day in Europe/Berlin" in world.shell.run("mlops-exporter profile show credit.json")
    assert "credit.json: 5000 rows" in world.run("judgement", "--segments")
    assert "chat.json: 500 rows" in world.run("judgement", "--outcomes")
    world.run("prepare-reference", "--groups sex")
    assert "binary, model version default, 5000 rows" in world.run("prepare-reference", "profile show")
    for page in ("prepare-reference", "operations"):
        assert "mlops-exporter.yml: good, 1 model" in world.run(page, "mlops-exporter check")

    assert "topics.json: 1000 rows" in world.run("multilabel", "profile build")
    assert "demand.json: 600 rows" in world.run("forecasting", "profile build")
    assert "shop.json: 500 rows" in world.run("ranking", "profile build")

    for shell in ("bash", "zsh", "fish"):
        world.run("operations", f"completion {shell}")
        assert "mlops-exporter" in (tmp_path / f".mlops-exporter.{shell}").read_text()

    with running(world, "operations", "mlops-exporter run") as process:
        world.run("operations", "mlops-exporter healthcheck")
        assert json.loads(world.run("events", "curl"))["accepted"] == 2
        with running_prometheus(_scrape(world.port), tmp_path) as server:
            eventually(lambda: server.query("ml_model_predictions_total"))
            world.prometheus = server.url
            for page in ("operations", "no-data"):
                assert "0 problems" in world.run(page, "mlops-exporter doctor").splitlines()[-1]
        for containing, events in (("--table scored.parquet", 600), ("--labels outcomes.csv", 1200)):
            assert json.loads(world.run("client", containing))["accepted"] == events
        assert "limit" in world.run("operations", "api/v1/status")
        world.shell.program("bin/pidof", f"echo {process}")  # others may run on this machine
        world.run("operations", "kill -HUP")
        eventually(lambda: "loaded anew" in (tmp_path / "exporter.log").read_text())
        assert "reload" in world.run("operations", "curl -X POST")
    world.run("operations", "cp -a")
    assert (tmp_path / "mlops-exporter" / "state.sqlite3").exists()
    shutil.rmtree(tmp_path / "state")

    (tmp_path / "mlops-exporter.yml").write_text(CONFIG + "sources: [{name: server, stdin: {}}]\n")
    with running(world, "sources", "model-server |"):
        counted = 'ml_model_predictions_total{model="credit",version="3"} 1'
        metrics = f"http://localhost:{world.port}/metrics"
        eventually(lambda: counted in httpx.get(metrics, trust_env=False).text)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "mlops-exporter.yml").write_text(CONFIG)

    for containing in ("'log/*.ndjson.gz'", "'scored/*.parquet'"):
        assert "history.om: 1200 events" in world.run("replay", containing)
    world.run("replay", "promtool tsdb")
    assert list((tmp_path / "blocks").iterdir())

    authority = Authority(tmp_path)
    certificate = authority.server()
    password = bcrypt.hashpw(b"secret", bcrypt.gensalt(10)).decode()
    web = {
        "tls_server_config": {"cert_file": certificate.certificate.name, "key_file": certificate.key.name},
        "basic_auth_users": {"prometheus": password},
    }
    (tmp_path / "web.yml").write_text(yaml.safe_dump(web))
    (tmp_path / "probe").write_text("prometheus:secret\n")
    assert "good" in world.run("security", "mlops-exporter check")
    with running(world, "security", "mlops-exporter run", scheme="https"):
        world.run("security", "mlops-exporter healthcheck")

    left = {
        f"{page}: {command}" for page, several in commands().items() for command in several if command not in world.used
    }
    assert not left


def _scrape(port: int) -> dict[str, object]:
    target = {"job_name": "mlops-exporter", "static_configs": [{"targets": [f"localhost:{port}"]}]}
    return {"scrape_configs": [target]}
