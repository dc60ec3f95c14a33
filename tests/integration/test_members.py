"""Three exporters behind HAProxy, which knows nothing of ids: what they count together is what one exporter counts."""

import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import yaml

from mlops_exporter.client import Monitor
from mlops_exporter.counting.partial import PartialLedger, encode
from mlops_exporter.ledgers import LedgerCounter
from tests.integration.durability import write_profile
from tests.requirements import require_program
from tests.support.exporter import Exporter, run, running_exporter, start_exporter
from tests.support.prometheus import eventually, free_port

COUNTED = (
    "ml_model_predictions_total",
    "ml_model_labels_total",
    "ml_model_absolute_error_sum_total",
    "ml_model_pending_predictions",
    "ml_model_labels_unmatched_total",
)
TOKEN = "t" * 32


def write(directory: Path, http: dict[str, Any]) -> Path:
    directory.mkdir()
    token = directory / "token"
    token.write_text(TOKEN)
    model = {"name": "m", "task": "regression", "profile": write_profile(directory).name, "windows": ["1h"]}
    other = {**model, "name": "other"}
    content = {
        "state": {"path": "state"},
        "models": [model, other],
        "sources": [{"name": "push", "http": {"tokens": [{"file": "token"}], **http}}],
    }
    (directory / "mlops-exporter.yml").write_text(yaml.safe_dump(content))
    return directory


class Fleet:
    """Members that are killed and started again, each in its directory and on its port."""

    def __init__(self, parent: Path) -> None:
        ports = [free_port() for _ in range(3)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.places = [
            (write(parent / f"member-{number}", {"members": {"urls": urls, "this": url, "token_file": "token"}}), port)
            for number, (url, port) in enumerate(zip(urls, ports, strict=True))
        ]
        self.members: list[Exporter] = []

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.places[number][1]}"

    def start(self, number: int) -> Exporter:
        directory, port = self.places[number]
        exporter = start_exporter(directory, port=port)
        eventually(exporter.is_ready)
        return exporter

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self.members = [self.start(number) for number in range(3)]
            yield
        finally:
            for member in self.members:
                member.process.kill()
                member.process.wait()

    def kill_one(self, number: int, seconds: float) -> None:
        """Kill a member at once, and start it again after some seconds."""
        self.members[number].process.kill()
        self.members[number].process.wait()
        time.sleep(seconds)
        self.members[number] = self.start(number)

    def sum(self, name: str) -> float:
        return sum(total(member, name) for member in self.members)


def total(exporter: Exporter, name: str) -> float:
    return sum(exporter.scrape().series(name, model="m").values())


@contextmanager
def balanced(directory: Path, ports: Sequence[int]) -> Iterator[str]:
    """Run Debian's HAProxy before exporters; yields its address."""
    port = free_port()
    servers = "".join(f"    server s{n} 127.0.0.1:{p} check inter 200ms\n" for n, p in enumerate(ports))
    (directory / "haproxy.cfg").write_text(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n"
        f"frontend in\n    bind 127.0.0.1:{port}\n    default_backend exporters\n"
        f"backend exporters\n    balance roundrobin\n    option httpchk GET /-/ready\n{servers}"
    )
    program = require_program("haproxy")
    with subprocess.Popen([program, "-f", str(directory / "haproxy.cfg"), "-db"], stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(address))
            yield address
        finally:
            process.terminate()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


HEADERS = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-ndjson"}


def send(client: httpx.Client, url: str, body: bytes, **headers: str) -> httpx.Response:
    """Send a body until it is taken, as a sender does who does not know what became of it."""
    deadline = time.monotonic() + 120
    while True:
        try:
            answer = client.post(f"{url}/v1/events", content=body, headers={**HEADERS, **headers})
            if answer.status_code in (202, 400, 422):
                return answer
            assert answer.status_code in (429, 502, 503, 504), answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "not taken within two minutes"
        time.sleep(0.05)


def bodies(rng: random.Random, count: int) -> list[bytes]:
    """Predictions, and labels for most of them in other bodies; some bodies hold one event, some many."""
    now = time.time()
    events: list[list[dict[str, Any]]] = [[], []]
    for number in range(count):
        common = {"model": "m", "id": f"{number}", "ts": now}
        events[0].append({**common, "features": {"x": number % 20 / 10}, "prediction": 1.0 + number % 3})
        if number % 10:
            events[1].append({**common, "label": 1.5 + number % 2})
    made = []
    for kind in events:
        rng.shuffle(kind)
        while kind:
            some = [kind.pop() for _ in range(min(len(kind), rng.choice([1, 1, 7, 150])))]
            made.append("\n".join(map(json.dumps, some)).encode())
    return made


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_through_kills_they_count_what_one_counts(tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    todo = bodies(rng, 1500 * kills)
    fleet = Fleet(tmp_path)
    with ExitStack() as stack:
        alone = stack.enter_context(running_exporter(write(tmp_path / "alone", {})))
        stack.enter_context(fleet.running())
        address = stack.enter_context(balanced(tmp_path, [port for _, port in fleet.places]))
        left = iter(todo)
        taking = threading.Lock()
        faults: list[Exception] = []

        def work() -> None:
            try:
                with httpx.Client(timeout=60, trust_env=False) as client:
                    while True:
                        with taking:
                            body = next(left, None)
                        if body is None:
                            return
                        assert send(client, address, body).status_code == 202
            except Exception as fault:  # told by the test, not by a thread that nobody looks at
                faults.append(fault)

        senders = [threading.Thread(target=work) for _ in range(8)]
        for sender in senders:
            sender.start()
        for kill in range(kills):
            time.sleep(rng.uniform(0.1, 0.5))
            fleet.kill_one(kill % 3, rng.uniform(0.0, 0.5))
        for sender in senders:
            sender.join()
        assert not faults
        with httpx.Client(timeout=60, trust_env=False) as client:
            for body in todo:
                assert send(client, alone.url, body).status_code == 202
        for name in COUNTED:
            assert fleet.sum(name) == total(alone, name), name
        assert fleet.sum("ml_model_pending_predictions") == 150 * kills, "each label has found its prediction"
        shares = [total(member, "ml_model_predictions_total") for member in fleet.members]
        assert min(shares) > 0.25 * sum(shares)
        passed = [member.value("ml_exporter_events_passed_total", source="push") or 0.0 for member in fleet.members]
        assert max(passed) > 0, "counted anew by each that was killed"


def test_what_senders_hear(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    with fleet.running(), httpx.Client(timeout=60, trust_env=False) as client:
        first = fleet.members[0]
        lines = [f'{{"model":"m","id":"{n}","prediction":1}}' for n in range(40)]
        lines[7] = '{"model":"m","id":"7","prediction":"much"}'
        lines[11] = "nonsense"
        lines[13] = '{"model":"m","prediction":1}'
        answer = send(client, first.url, "\n".join(lines).encode())
        said = answer.json()
        assert (answer.status_code, said["accepted"], said["rejected"]) == (202, 38, 2)
        assert [(error["line"], error["reason"]) for error in said["errors"]] == [
            (8, "bad_prediction"), (12, "malformed_json"),
        ]  # fmt: skip
        assert "much" in said["errors"][0]["detail"]
        assert fleet.sum("ml_model_predictions_total") == 38

        # By its key, a body counts once, wherever it is sent: also what has no id.
        keyed = b"\n".join(
            b'{"model":"m","id":"k%d","prediction":1}\n{"model":"m","prediction":1}' % n for n in range(9)
        )
        answers = [send(client, member.url, keyed, **{"idempotency-key": "one"}).json() for member in fleet.members]
        assert [(said["accepted"], said["repeated"]) for said in answers] == [(18, None), (18, "same"), (18, "same")]
        assert fleet.sum("ml_model_predictions_total") == 38 + 18

        # Another body with a known key is refused whole, whichever members its events or those of the first fall to.
        others = [b"".join(b'{"model":"m","id":"o%d","prediction":1}\n' % n for n in range(20)), keyed[:-1], b""]
        others += [line + b"\n" for line in keyed.splitlines()]
        for number, other in enumerate(others):
            answer = send(client, fleet.members[number % 3].url, other, **{"idempotency-key": "one"})
            assert (answer.status_code, answer.json()["repeated"]) == (422, "changed")
        assert send(client, first.url, keyed, **{"idempotency-key": "one"}).json()["accepted"] == 18
        assert fleet.sum("ml_model_predictions_total") == 38 + 18

        # What all members refuse is refused; a CloudEvent could miss its other half.
        assert send(client, first.url, b'{"model":"m","id":"x","prediction":[]}').status_code == 400
        refused = send(client, first.url, b"{}", **{"content-type": "application/cloudevents+json"})
        assert refused.json()["errors"][0]["reason"] == "unsupported_type"

        # Without one member, what falls to it is not taken, and nobody is left in doubt.
        fleet.members[2].process.kill()
        fleet.members[2].process.wait()
        answer = client.post(f"{first.url}/v1/events", content="\n".join(lines), headers=HEADERS)
        assert answer.status_code == 503
        assert "another member does not take its events" in answer.text
        assert first.value("ml_exporter_source_up", source="push") == 0
        page = httpx.get(first.url, trust_env=False).text
        assert f"{fleet.places[2][1]}" in page
        doctor = run("doctor", "--config.file=mlops-exporter.yml", directory=fleet.places[0][0]).stdout
        assert f"127.0.0.1:{fleet.places[1][1]} takes what falls to it" in doctor
        assert f"another member does not take its events: http://127.0.0.1:{fleet.places[2][1]}" in doctor
        fleet.members[2] = fleet.start(2)
        send(client, first.url, "\n".join(lines).encode())
        assert first.value("ml_exporter_source_up", source="push") == 1
        assert fleet.sum("ml_model_predictions_total") == 38 + 18 + 1, "but the one without an id counts again"


def test_a_token_for_one_model_opens_no_other_by_way_of_a_member(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    narrow = "n" * 32
    for directory, _ in fleet.places:
        (directory / "narrow").write_text(narrow)
        path = directory / "mlops-exporter.yml"
        content = yaml.safe_load(path.read_text())
        content["sources"][0]["http"]["tokens"].append({"file": "narrow", "models": ["m"]})
        path.write_text(yaml.safe_dump(content))
    with fleet.running(), httpx.Client(timeout=60, trust_env=False) as client:
        lines = "\n".join(f'{{"model":"{m}","id":"{n}","prediction":1}}' for m in ("m", "other") for n in range(20))
        said = send(client, fleet.members[0].url, lines.encode(), authorization=f"Bearer {narrow}").json()
        assert (said["accepted"], said["rejected"]) == (20, 20)
        assert {error["reason"] for error in said["errors"]} == {"forbidden_model"}


def test_tables_and_ledgers_count_once_wherever_they_are_sent_again(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    with fleet.running():
        frame = pa.table({"id": [f"{n}" for n in range(5000)], "x": [n % 20 / 10 for n in range(5000)]})
        frame = frame.append_column("prediction", pa.array([1.0] * 5000))
        receipts = []
        for member in fleet.members:
            with Monitor(member.url, model="m", token=TOKEN) as monitor:
                receipt = monitor.send_table(frame, columns={"features": ["x"]}, run="nightly")
            receipts.append((receipt.accepted, receipt.repeated, receipt.changed))
        assert receipts == [(5000, 0, 0), (5000, 5000, 0), (5000, 5000, 0)]
        assert fleet.sum("ml_model_predictions_total") == 5000

        ledgers: list[PartialLedger] = []
        for number in range(12):
            columns = {"ts": "at", "prediction": "said"}
            counts = LedgerCounter(fleet.places[0][0] / "mlops-exporter.yml", "m", columns=columns)
            counts.add(pa.table({"at": [time.time() - 10.0] * 10, "x": [0.5] * 10, "said": [1.0] * 10}))
            ledgers += counts.ledgers(producer=f"executor-{number}", epoch="1")
        with httpx.Client(timeout=60, trust_env=False) as client:
            kind = {**HEADERS, "content-type": "application/vnd.msgpack"}
            answers = [
                client.post(f"{member.url}/v1/ledgers", content=encode(ledgers), headers=kind).json()
                for member in fleet.members
            ]
        assert [(said["accepted"], said["repeated"], said["rejected"]) for said in answers] == [
            (12, 0, 0), (0, 12, 0), (0, 12, 0),
        ]  # fmt: skip
        assert sum(member.value("ml_exporter_ledgers_total", source="push") or 0 for member in fleet.members) == 12


def test_a_list_that_differs_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    path = fleet.places[0][0] / "mlops-exporter.yml"
    content = yaml.safe_load(path.read_text())
    content["sources"][0]["http"]["members"]["urls"].append("http://127.0.0.1:9")
    path.write_text(yaml.safe_dump(content))
    with fleet.running(), httpx.Client(timeout=60, trust_env=False) as client:
        lines = "\n".join(f'{{"model":"m","id":"{n}","prediction":1}}' for n in range(40))
        answer = client.post(f"{fleet.members[1].url}/v1/events", content=lines, headers=HEADERS)
        assert answer.status_code == 503
        assert "must be the same in each" in answer.text
        answer = client.post(
            f"{fleet.members[1].url}/v1/events",
            content=lines,
            headers={**HEADERS, "mlops-exporter-passed": "nonsense"},
        )
        assert answer.status_code == 400


def test_a_set_that_cannot_work_is_told_by_check_or_at_the_first_part(tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    directory = write(tmp_path / "anonymous", {"members": {"urls": urls, "this": urls[0]}})
    checked = run("check", "mlops-exporter.yml", directory=directory)
    assert checked.returncode == 1
    assert "with tokens, members need one for each other: give token_file" in checked.stderr
    directory = write(tmp_path / "nobody", {"members": {"urls": urls, "token_file": "token"}})
    checked = run("check", "mlops-exporter.yml", directory=directory)
    assert "is none of these hosts, or several: say with `this` which it is" in checked.stderr
    fleet = Fleet(tmp_path)
    path = fleet.places[1][0] / "mlops-exporter.yml"
    content = yaml.safe_load(path.read_text())
    content["sources"][0]["http"]["members"]["this"] = fleet.url(0)
    path.write_text(yaml.safe_dump(content))
    with fleet.running(), httpx.Client(timeout=60, trust_env=False) as client:
        lines = "\n".join(f'{{"model":"m","id":"{n}","prediction":1}}' for n in range(40))
        answer = client.post(f"{fleet.url(0)}/v1/events", content=lines, headers=HEADERS)
        assert answer.status_code == 503
        assert f"this exporter is {fleet.url(0)} and not {fleet.url(1)}" in answer.text
