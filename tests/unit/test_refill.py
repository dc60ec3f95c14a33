"""Replicas that come and go: what waits follows its partition, and over all of them everything counts once."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.late import TOLD
from mlops_exporter.counting.model import Model
from mlops_exporter.ingest.intake import Intake
from mlops_exporter.ingest.journal import Faults, Journal
from mlops_exporter.ingest.store import Store
from mlops_exporter.settings.models import Limits, ModelSettings
from tests.models import forecasting, profiles

PARTITIONS = 5
Log = list[list[bytes]]


def make_intake() -> Intake:
    outcomes = {"profit": {"low": -10, "high": 10}}
    given = {
        "name": "credit",
        "task": "binary",
        "profile": "credit.json",
        "windows": ["1h", "1d"],
        "outcomes": outcomes,
    }
    settings = ModelSettings.model_validate(given)
    return Intake([Model(settings, profiles()["credit"], Limits())], ["stream"], Limits(), seed=1)


def model_of(intake: Intake) -> Model:
    intake.flush()
    (model,) = intake.models.values()
    return model


@dataclass
class Member:
    """An exporter of the group, which does with its partitions what the Kafka source does."""

    intake: Intake = field(default_factory=make_intake)
    position: dict[int, int] = field(default_factory=dict)

    async def assign(self, assigned: Iterable[int], log: Log, committed: dict[int, int]) -> None:
        held = {number: at for number, at in self.position.items() if number in assigned}
        self.position = {number: at for number, at in held.items() if at >= committed.get(number, 0)}
        await self.intake.forget("stream", {f"t[{number}]" for number in self.position}, self._encoded())
        for number in set(assigned) - self.position.keys():
            at = committed.get(number, 0)
            for start in range(0, at, 100):
                lines = log[number][start : min(start + 100, at)]
                await self.intake.refill("stream", b"\n".join(lines), time.time(), ((f"t[{number}]", len(lines)),))
            self.position[number] = at
        await self.intake.hold("stream", self._encoded())

    async def take(self, log: Log, numbers: Iterable[int], count: int) -> None:
        lines: list[bytes] = []
        origins = []
        for number in numbers:
            at = self.position[number]
            new = log[number][at : at + count]
            lines += new
            origins += [(f"t[{number}]", len(new))] if new else []
            self.position[number] += len(new)
        if lines:
            body = b"\n".join(lines)
            await self.intake.submit("stream", body, time.time(), self._encoded(), origins=tuple(origins))

    def _encoded(self) -> bytes:
        return json.dumps(self.position).encode()


def make_forecasting() -> Intake:
    given = {
        "name": "load",
        "task": "forecast",
        "profile": "load.json",
        "windows": ["1h", "1d"],
        "outcomes": {"profit": {"low": -10, "high": 10}},
    }
    return Intake([Model(ModelSettings.model_validate(given), forecasting(), Limits())], ["stream"], Limits(), seed=1)


def produce_forecasts(log: Log, rng: np.random.Generator, targets: list[int], count: int) -> None:
    """Append forecasts of one target and several horizons, its actual value, early and repeated, and outcomes."""
    for _ in range(count):
        kind = rng.random()
        if kind < 0.4 or not targets:
            targets.append(len(targets))
        number = len(targets) + int(rng.integers(20)) if 0.4 < kind < 0.45 else int(rng.choice(targets[-50:]))
        event: dict[str, Any] = {"series": f"shop-{number % 50}", "target_ts": 1e9 + 3600 * (number // 50)}
        if kind > 0.7 or 0.4 < kind < 0.45:
            event["label"] = number % 7
        elif kind > 0.65:
            event |= {"horizon": "24h", "outcomes": {"profit": number % 7 - 3}}
        else:
            event |= {"version": "3", "horizon": ["1h", "24h"][int(rng.integers(2))], "prediction": number % 5}
            event |= {"naive": 3, "quantiles": {"0.1": number % 5 - 2, "0.9": number % 5 + 2}}
        line = json.dumps({"model": "load", "ts": time.time() - 5, **event}).encode()
        log[number % PARTITIONS].append(line)


def produce(log: Log, rng: np.random.Generator, ids: list[int], count: int) -> list[bytes]:
    """Append predictions, labels and outcomes of earlier ones, some of them early or repeated."""
    made = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.5 or not ids:
            ids.append(len(ids))
            number, event = ids[-1], prediction(ids[-1])
        elif kind < 0.6:  # before its prediction
            number = len(ids) + int(rng.integers(20))
            event = {"label": number % 2} if kind < 0.55 else {"outcomes": {"profit": number % 7 - 3}}
        else:
            number = int(rng.integers(len(ids)))
            event = {"label": number % 2} if kind < 0.85 else prediction(number)
            if kind > 0.93:
                event = {"outcomes": {"profit": number % 7 - 3}}
        line = json.dumps({"model": "credit", "id": f"i{number}", "ts": time.time() - 5, **event}).encode()
        log[number % PARTITIONS].append(line)
        made.append(line)
    return made


def prediction(number: int) -> dict[str, Any]:
    return {"version": "3", "score": number % 10 / 10, "features": {"amount": number % 30, "country": "DE"}}


def sums(members: Iterable[Member]) -> tuple[Floats, dict[str, int]]:
    """The counters of all members: their cells, and what is counted beside them."""
    models = [model_of(member.intake) for member in members]
    versions = [version for model in models for version in model.versions.values()]
    names = ("labels_unmatched", "predictions_duplicate", "waiting")
    counts = {name: sum(getattr(model, name) for model in models) for name in names}
    counts["unlabelled"] = sum(version.unlabelled for version in versions)
    counts |= {
        name: sum(tally.counts[name] for model in models for tally in model.late.tallies.values()) for name in TOLD
    }
    counts["waiting labels"] = sum(model.joins.waiting_labels for model in models)
    return np.sum([version.lifetime for version in versions], axis=0), counts


@pytest.mark.parametrize(
    ("make", "events"), [(make_intake, produce), (make_forecasting, produce_forecasts)], ids=["answers", "forecasts"]
)
@pytest.mark.parametrize("seed", range(3))
def test_members_that_come_and_go_count_what_one_exporter_counts(
    seed: int, make: Callable[[], Intake], events: Callable[[Log, np.random.Generator, list[int], int], object]
) -> None:
    """Also when one of them was killed before it could commit, and comes back with what it has on disk."""
    rng = np.random.default_rng(seed)

    async def live() -> None:
        log: Log = [[] for _ in range(PARTITIONS)]
        ids: list[int] = []
        committed: dict[int, int] = {}
        one = Member(make())
        await one.assign(range(PARTITIONS), log, {})
        members = [Member(make()) for _ in range(5)]
        owners = dict.fromkeys(range(PARTITIONS), 0)
        await members[0].assign(range(PARTITIONS), log, committed)
        for _ in range(60):
            events(log, rng, ids, int(rng.integers(40)))
            for place, member in enumerate(members):
                mine = [number for number, owner in owners.items() if owner == place]
                await member.take(log, mine, int(rng.integers(1, 30)))
                if rng.random() < 0.8:  # else it was killed before
                    committed |= {number: member.position[number] for number in mine}
            if rng.random() < 0.3:
                standing = {number: members[owner].position[number] for number, owner in owners.items()}
                committed |= standing  # who gives a partition back commits
                count = int(rng.integers(1, len(members) + 1))
                owners = {number: int(rng.integers(count)) for number in owners}
                for place, member in enumerate(members):
                    await member.assign({n for n, owner in owners.items() if owner == place}, log, committed)
        await one.take(log, range(PARTITIONS), 10**9)
        for place, member in enumerate(members):
            await member.take(log, [n for n, owner in owners.items() if owner == place], 10**9)
        theirs, counts = sums(members)
        ours, expected = sums([one])
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)
        # A label that came before its prediction is known to both who read it, and given up by neither.
        assert counts == expected
        reference = model_of(one.intake).reference
        (rated, *_) = ours[reference.layout.cells_of(reference.outcome_counts[0])]
        assert min(expected["waiting"], expected["duplicate"], rated) > 0

    asyncio.run(live())


def test_an_outcome_alone_is_refilled_as_no_label() -> None:
    async def live() -> None:
        intake = make_intake()
        for event in (prediction(1), {"outcomes": {"profit": 2.0}}):
            line = json.dumps({"model": "credit", "id": "i1", "ts": time.time() - 5, **event}).encode()
            await intake.refill("stream", line, time.time(), (("t[0]", 1),))
        assert model_of(intake).waiting == 1

    asyncio.run(live())


def test_what_is_refilled_survives_a_kill_once_it_is_held(tmp_path: Path) -> None:
    """And not before: then it is read again from the start, which changes nothing."""

    async def live() -> None:
        log: Log = [[] for _ in range(PARTITIONS)]
        produce(log, np.random.default_rng(1), [], 300)
        committed = {number: len(lines) for number, lines in enumerate(log)}
        store, intake = Store(tmp_path), make_intake()
        journal = Journal(store, intake, Faults())
        intake.keep_in(journal)
        running = asyncio.create_task(journal.run())
        member = Member(intake)
        lines = tuple(log[0])
        await intake.refill("stream", b"\n".join(lines), time.time(), (("t[0]", len(lines)),))
        assert intake.position("stream") is None
        await member.assign(range(PARTITIONS), log, committed)
        waiting = model_of(intake).waiting
        assert waiting > 50

        copy = Store(tmp_path / "copy")  # what a kill leaves is what is there now
        copy.close()
        for file in tmp_path.glob("state*"):
            (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
        survivor = make_intake()
        stored = Store(tmp_path / "copy")
        stored.verify()
        survivor.restore(stored.read)
        for body in stored.journal():
            survivor.replay(body)
        assert model_of(survivor).waiting == waiting
        assert json.loads(survivor.position("stream") or b"{}") == {str(n): at for n, at in committed.items()}
        stored.close()
        journal.stop()
        await running

    asyncio.run(live())
