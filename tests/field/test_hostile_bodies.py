"""A body costs what it holds: none of a few megabytes takes seconds, nor holds up others for long."""

import gzip
import json
import time
from collections.abc import Callable

import pytest

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.web.body import MOST_MEMBERS, BodyRefusedError, _gunzip
from tests.models import profiles
from tests.support import pipeline

LIMIT = 16 * 1024 * 1024


def test_a_gzip_body_of_many_members_is_refused_at_once() -> None:
    """Four megabytes of empty members had taken minutes: what was left was copied for each."""
    member = gzip.compress(b"{}\n")
    few = _gunzip(member * MOST_MEMBERS, LIMIT, LIMIT)
    assert few == b"{}\n" * MOST_MEMBERS
    began = time.thread_time()
    with pytest.raises(BodyRefusedError, match="over 1000 members"):
        _gunzip(gzip.compress(b"") * 200_000, LIMIT, LIMIT)
    assert time.thread_time() - began < 0.5
    large = bytes(300_000) + b"x" * 300_000
    assert _gunzip(gzip.compress(large, 0) + gzip.compress(large), LIMIT, LIMIT) == large + large


def test_a_body_of_many_versions_looks_for_room_once() -> None:
    """One of 90,000 had held up the exporter for seconds: each looked through all versions for one to take."""
    service = pipeline.service("binary", windows=["1h"])
    events = [{"model": "binary", "version": f"v{n}", "prediction": "yes", "ts": 1.7e9} for n in range(20_000)]
    body = pipeline.ndjson(events)
    pipeline.submit(service, body[: body.index(b"v100") - 60])
    (model,) = service.models
    asked = 0
    shows = model.versions._shows

    def counted(*arguments: object) -> bool:
        nonlocal asked
        asked += 1
        return shows(*arguments)  # type: ignore[arg-type]

    model.versions._shows = counted
    refused = pipeline.submit(service, body)[1]
    assert refused[0][1] == "too_many_versions"
    assert asked <= 16 * 17, "sixteen make room, each for one; the seventeenth finds none"


@pytest.mark.parametrize(
    "event",
    [
        lambda n: {"features": {f"c{i}": 1 for i in range(8_000)}},
        lambda n: {"features": {f"c{n}_{i}": 1 for i in range(6_000)}},
        lambda n: {"features": {f"c{i}": 1 for i in range(8_000)}, "label": []},
        lambda n: {"scores": {f"c{i}": 0 for i in range(8_000)}},
    ],
    ids=["unknown features", "ever others", "refused as well", "classes"],
)
def test_large_events_leave_room_for_others_between_two(event: Callable[[int], dict[str, object]]) -> None:
    lines = [json.dumps({"model": "credit", **event(n)}) for n in range(40)]
    decoder = Decoder([Schema("credit", profiles()["credit"])])
    from mlops_exporter.events.columns import Decoded

    steps = decoder.decode_steps("\n".join(lines).encode(), 1.8e9, Decoded())
    longest, last = 0.0, time.thread_time()
    for _ in steps:
        longest, last = max(longest, time.thread_time() - last), time.thread_time()
    assert longest < 0.1
