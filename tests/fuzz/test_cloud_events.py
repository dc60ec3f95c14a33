import json
from random import Random
from typing import Any

from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from mlops_exporter.settings.sources import KServeModel, KServeSettings
from mlops_exporter.sources.base import Content
from mlops_exporter.sources.kserve import KServe
from tests.models import NOW, profiles

TRIES = 5000
NAMES = ["amount", "country", "predictions", "scores", ""]
SCALARS = [
    "0",
    "1",
    "0.5",
    "-1",
    "1e999",
    "NaN",
    "null",
    "true",
    '"DE"',
    '"\\ud800"',
    "9" * 30,
    "9" * 400,
    "[]",
    "{}",
    "[[1]]",
]


def value(random: Random, depth: int = 0) -> str:
    if depth > 2 or random.random() < 0.6:
        return random.choice(SCALARS)
    inner = [value(random, depth + 1) for _ in range(random.randrange(3))]
    if random.random() < 0.5:
        return f"[{','.join(inner)}]"
    return "{" + ",".join(f'"{random.choice(NAMES)}":{each}' for each in inner) + "}"


def tensor(random: Random) -> str:
    rows, width = random.randrange(4), random.choice([1, 1, 2])
    odd = random.choice([f"[{rows},{width},1]", "[]", "[-1]", "7", value(random)])
    shape = odd if random.random() < 0.2 else f"[{rows},{width}]"
    data = ",".join(random.choice(SCALARS) for _ in range(rows * width))
    return f'{{"name":"{random.choice(NAMES)}","shape":{shape},"datatype":"FP32","data":[{data}]}}'


def payload(random: Random) -> str:
    if random.random() < 0.7:
        return random.choice(['{"instances":[{"amount":1}]}', '{"predictions":[0]}', value(random)])
    key = random.choice(["instances", "inputs", "predictions", "outputs"])
    make = tensor if key.endswith("puts") else value
    return f'{{"{key}":[{",".join(make(random) for _ in range(random.randrange(4)))}]}}'


def attributes(random: Random) -> dict[str, Any]:
    kind = random.choice(["request", "request", "response", "response", "other"])
    identifier = f"a{random.randrange(20)}" if random.random() < 0.95 else random.choice(["\ud800", "x" * 300])
    made = {
        "id": identifier,
        "type": f"org.kubeflow.serving.inference.{kind}",
        "inferenceservicename": random.choice(["credit", "credit", "iris", "price", "other"]),
        "time": "2023-11-14T22:13:20Z" if random.random() < 0.95 else "yesterday",
        "endpoint": "canary" if random.random() < 0.1 else "",
    }
    return {name: text for name, text in made.items() if random.random() < 0.99}


def test_any_cloud_event_is_refused_or_becomes_events_that_the_decoder_reads() -> None:
    random = Random(7)
    mapping = {
        "credit": KServeModel(features=["amount", "country"], outputs={"scores": "scores", "predictions": "score"})
    }
    settings = KServeSettings(models=mapping, waiting_events=50, waiting_bytes=2000, remembered_events=10)
    adapter = KServe(settings, profiles())
    decoder = Decoder([Schema(name, profile) for name, profile in profiles().items()])
    lines = refused = accepted = 0
    for number in range(TRIES):
        structured = "".join([json.dumps(attributes(random))[:-1], ",", f'"data":{payload(random)}', "}"]).replace(
            "{,", "{"
        )
        body = random.choice([structured, f"[{structured},{structured}]"]).encode()
        if random.random() < 0.1:
            cut = random.randrange(len(body))
            body = body[:cut] + random.choice([b"", b"\xff", b"}", b"[" * 2000]) + body[cut + 1 :]
        kind = "application/cloudevents-batch+json" if body.startswith(b"[") else "application/cloudevents+json"
        taken = adapter.translate(adapter.read(Content(kind), body), NOW + number)
        refused += len(taken.refused)
        expiry = adapter.expiry(NOW + number)
        for made in (taken, *([adapter.translate(expiry, NOW + number)] if expiry else [])):
            assert len(made.lines) == len(made.origins)
            decoded = decoder.decode(b"\n".join(made.lines), NOW + number)
            lines += len(made.lines)
            accepted += decoded.accepted
            assert decoded.accepted + decoded.refused.total == len(made.lines)
            assert "malformed_json" not in {reason for _, reason in decoded.refused}
        assert adapter.waiting <= 50
        restored = KServe(settings, profiles())
        restored.restore(adapter.state())
        assert restored.state() == adapter.state()
    assert min(lines, refused, accepted, adapter.counts["joined"], adapter.counts["duplicate"]) > 50
