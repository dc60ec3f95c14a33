"""Twenty releases in a row, under load, kills and late labels: every label comes home to its own version."""

import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from mlops_exporter.profile.profile import Profile, save
from tests.models import numeric, profiles
from tests.support.exporter import Exporter, start_exporter, write_config
from tests.support.prometheus import Prometheus, eventually, free_port, running_prometheus

CHANGES = 20
SERVING = 3
"""Versions whose profile is in the directory at a time."""
VERSIONS = 24
BODY_EVENTS = 500


def profile_of(version: int) -> Profile:
    """A profile with a feature that no other version has."""
    profile = profiles()["credit"]
    features = {**profile.features, f"new{version}": numeric([0.0, float(version), version + 50.0])}
    provenance = replace(profile.provenance, model_version=str(version), created=f"2026-01-{version:02}T00:00:00Z")
    return replace(profile, features=features, provenance=provenance)


class Site:
    """An exporter that is killed now and then and comes back, with its directory of profiles."""

    def __init__(self, directory: Path, client: httpx.Client) -> None:
        self.directory = directory
        self.client = client
        self.profiles = directory / "profiles"
        self.profiles.mkdir()
        self.port = free_port()
        self.kills = 0

    def start(self) -> None:
        """Start it, and wait until it takes events."""
        self.exporter: Exporter = start_exporter(
            self.directory, "run", "--web.enable-lifecycle", "--config.file=mlops-exporter.yml", port=self.port
        )
        eventually(self.exporter.is_ready)

    def release(self, version: int) -> None:
        """Put a version's profile there, take away that of the oldest, and have it loaded."""
        save(profile_of(version), self.profiles / f"{version}.json")
        (self.profiles / f"{version - SERVING}.json").unlink(missing_ok=True)
        self._ask("/-/reload", b"", 200)

    def post(self, body: bytes) -> int:
        """Deliver events, again after a kill; returns how many are refused."""
        refused: int = self._ask("/v1/events", body, 202, 400).json()["rejected"]
        return refused

    def _ask(self, path: str, body: bytes, *statuses: int) -> httpx.Response:
        headers = {"content-type": "application/x-ndjson"}
        while True:
            try:
                url = self.exporter.url + path
                answer = self.client.post(url, content=body, headers=headers)
            except httpx.TransportError:
                assert self.exporter.process.wait(10) == -signal.SIGKILL, self.exporter.log.read_text()
                self.kills += 1
                self.start()
            else:
                assert answer.status_code in statuses, answer.text
                return answer

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        fields = Path(f"/proc/{self.exporter.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


Event = dict[str, object]


class Traffic:
    """The whole run's events, made beforehand so that sending costs next to nothing, and what must become of them."""

    def __init__(self, rng: random.Random, bodies: int) -> None:
        self.bodies: dict[int, list[tuple[int, bytes]]] = {}
        """By release: bodies with the number of events in them, labels of former versions among them."""
        self.confusion = {version: np.zeros((2, 2), int) for version in range(1, CHANGES + 1)}
        late: defaultdict[int, list[Event]] = defaultdict(list)
        number = 0
        for version in range(1, CHANGES + 1):
            made: list[tuple[int, bytes]] = []
            for labels in np.array_split(np.array(late.pop(version, []), dtype=object), bodies):
                events: list[Event] = list(labels)
                for _ in range(BODY_EVENTS):
                    predicted, actual, features = number % 2, rng.randrange(2), {f"new{version}": version + 1.0}
                    identity = {"model": "m", "id": str(number)}
                    events.append({**identity, "version": str(version), "features": features, "prediction": predicted})
                    self.confusion[version][predicted, actual] += 1
                    late[version + 1 + rng.randrange(CHANGES)].append({**identity, "label": actual})
                    number += 1
                made.append((len(events), lines(events)))
            self.bodies[version] = made
        self.waiting = [label for labels in late.values() for label in labels]
        """Labels that are due after the last release."""


def lines(events: Iterable[Event]) -> bytes:
    """Write events as a body."""
    return b"\n".join(map(msgspec.json.encode, events))


@pytest.mark.parametrize(
    ("kills", "seconds", "rate"),
    [pytest.param(2, 0.1, 2000, id="short"), pytest.param(10, 6.0, 2000, id="heavy", marks=pytest.mark.releases)],
)
def test_labels_come_home_over_twenty_releases(tmp_path: Path, kills: int, seconds: float, rate: int) -> None:
    model = {"name": "m", "task": "binary", "profiles": "profiles", "windows": ["1h"], "drift": {"statistics": ["tvd"]}}
    with httpx.Client(timeout=30, trust_env=False) as client:
        site = Site(tmp_path, client)
        write_config(tmp_path, model, state={"path": "state"}, limits={"versions": VERSIONS})
        save(profile_of(1), site.profiles / "1.json")
        targets = [f"127.0.0.1:{site.port}"]
        scrape = {"scrape_configs": [{"job_name": "m", "static_configs": [{"targets": targets}]}]}
        with running_prometheus(scrape, tmp_path) as prometheus:
            site.start()
            try:
                _release_all(site, prometheus, kills, seconds, rate)
            finally:
                site.exporter.process.kill()
                site.exporter.process.wait()


def _release_all(site: Site, prometheus: Prometheus, kills: int, seconds: float, rate: int) -> None:
    rng = random.Random(5)
    traffic = Traffic(rng, bodies=max(2, round(seconds * rate / BODY_EVENTS / 2)))
    deadly = set(rng.sample(range(2, CHANGES + 1), kills))
    sent, started = 0, time.monotonic()
    for version in range(1, CHANGES + 1):
        killer = None
        if version in deadly:
            killer = threading.Timer(rng.uniform(0.0, seconds), site.exporter.process.kill)
            killer.start()  # before the reload, which it may hit
        site.release(version)
        for events, body in traffic.bodies[version]:
            time.sleep(max(0.0, started + sent / rate - time.monotonic()))
            assert site.post(body) == 0
            sent += events
        if killer is not None:
            killer.join()
            while site.kills < sum(each <= version for each in deadly):
                site.post(traffic.bodies[version][-1][1])  # a redelivery, which finds it dead
    took = time.monotonic() - started
    assert site.kills == kills
    if seconds > 1:
        assert sent / took > 0.95 * rate, f"{sent / took:.0f} events/s, kills and starts included"
    scraped = site.exporter.scrape()
    pending = [
        scraped.value("ml_model_pending_predictions", model="m", version=str(each)) or 0 for each in traffic.confusion
    ]
    assert sum(pending) == len(traffic.waiting), "no waiting prediction is lost"
    for first in range(0, len(traffic.waiting), 2000):
        assert site.post(lines(traffic.waiting[first : first + 2000])) == 0
    scraped = site.exporter.scrape()
    for version, cells in traffic.confusion.items():
        by = {"model": "m", "version": str(version)}
        found = [
            [scraped.value("ml_model_confusion_total", **by, predicted=p, actual=a) for a in ("0", "1")]
            for p in ("0", "1")
        ]
        assert found == cells.tolist(), f"version {version}"
        assert scraped.value("ml_model_predictions_total", **by) == cells.sum()
        assert scraped.value("ml_model_pending_predictions", **by) == 0
        assert scraped.value("ml_model_version_profile", **by, profile="own") == 1
    assert scraped.value("ml_model_labels_unmatched_total", model="m") == 0

    def told() -> bool:
        labels = prometheus.query("sum by (version) (ml_model_labels_total)")
        return {int(each["metric"]["version"]): float(each["value"][1]) for each in labels} == {
            version: cells.sum() for version, cells in traffic.confusion.items()
        }

    eventually(told)
    assert prometheus.query("resets(ml_model_labels_total[1h]) > 0") == [], "no kill takes a count back"
    held = site.resident()
    refused = sum(
        site.post(lines([{"model": "m", "id": f"more {each}", "version": str(each), "prediction": 1, "features": {}}]))
        for each in range(CHANGES + 1, CHANGES + 41)
    )
    assert refused == CHANGES + 40 - VERSIONS, "limits.versions bounds them"
    assert site.resident() < 1.25 * held
    print(
        f"{took:.0f} s, {sent / took:.0f} events/s, {len(traffic.waiting)} labels at the end, {kills} kills, "
        f"{held / 2**20:.0f} MiB"
    )
