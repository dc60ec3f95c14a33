"""Features that the model does not know are counted and named, and where there are none, that costs nothing."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow as pa
import pytest

from mlops_exporter.events.columns import NAMED_IGNORED
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.schema import Schema
from tests.field.rows import write_csv
from tests.models import profiles
from tests.support.exporter import run, running_exporter, write_config

NOW = 1e9
FEATURES = {"amount": 5, "country": "DE", "age": 9, "member": True}


def event(more: dict[str, Any] | None = None, **members: Any) -> str:
    return json.dumps({"model": "credit", "features": FEATURES | (more or {}), "score": 0.5} | members)


def decoder() -> Decoder:
    return Decoder([Schema(name, profile) for name, profile in profiles().items()])


@pytest.mark.parametrize(
    ("body", "values", "names"),
    [
        ("\n".join([event({"amuont": 1}), event(), event({"amuont": None, "x": [1]})]), 3, ["amuont", "x"]),
        (f"[{event({'amuont': 1})},{event()}]", 1, ["amuont"]),
        (json.dumps(json.loads(event({"amuont": 1})), indent=1), 1, ["amuont"]),
        (
            "\n".join([event({"amuont": 1}), event({"x": 1, "country": 5}), event({"y": 1}), "{"]),
            3,
            ["amuont", "x", "y"],
        ),
        ("\n".join([event({"amuont": 1, "age": 0})[:-1] + ', "label": NaN}', event()]), 1, ["amuont"]),
        ("\n".join([event(), '{"model":"credit","id":1,"label":0}', '{"model":"price","features":{"size":1}}']), 0, []),
        (event({"x" * 5000: 1}), 1, ["x" * 100]),
        (event({"\ud800": 1}), 1, ["\\ud800"]),
    ],
)
def test_json(body: str, values: int, names: list[str]) -> None:
    ours = decoder()
    for _ in range(2):  # once met, they are expected
        found = ours.decode(body.encode(), NOW).ignored.get("credit")
        assert (found.values, found.names) == (values, names) if found else values == 0
    assert not ours.decode(event().encode(), NOW).ignored


def test_names_are_bounded_and_values_are_not() -> None:
    ignored = decoder().decode(event({f"x{number}": 1 for number in range(500)}).encode(), NOW).ignored["credit"]
    assert (ignored.values, len(ignored.names)) == (500, NAMED_IGNORED)


@pytest.mark.parametrize("nested", [True, False])
def test_arrow(nested: bool) -> None:
    features: dict[str, list[Any]] = {"amount": [1.0, 2.0], "amuont": [None, 2.0], "country": ["DE", "FR"]}
    columns: dict[str, Any] = {"model": ["credit", "credit"], "score": [0.1, 0.2], "groups.sex": ["f", "m"]}
    columns |= {"features": [dict(zip(features, row, strict=True)) for row in zip(*features.values(), strict=True)]}
    table = pa.table(columns if nested else {k: v for k, v in columns.items() if k != "features"} | features)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    ignored = decoder().decode(sink.getvalue().to_pybytes(), NOW).ignored["credit"]
    assert (ignored.values, ignored.names) == (1, ["amuont"])


def test_what_another_version_knows_is_known() -> None:
    profile = profiles()["credit"]
    less = msgspec.structs.replace(profile, features={"amount": profile.features["amount"]})
    known = set(profile.features)
    ours = Decoder([Schema("credit", less, known=known), Schema("credit", profile, version="2", known=known)])
    body = "\n".join([event(version="1"), event({"amuont": 1}, version="2"), event(version="2")])
    decoded = ours.decode(body.encode(), NOW)
    assert (decoded.accepted, decoded.ignored["credit"].names) == (3, ["amuont"])
    assert not ours.decode(event(version="2").encode(), NOW).ignored


def test_a_feature_that_no_type_can_name(tmp_path: Path) -> None:
    """Its events are decoded by hand."""
    table = {'5" disk': list(range(60)), "size": list(range(60)), "label": [0, 1] * 30}
    write_csv(tmp_path / "t.csv", table)
    flags = ("--task=binary", "--label=label", "--positive=1", "--columns=c.json", "--output=p.json")
    (tmp_path / "c.json").write_text(json.dumps({'5" disk': "numeric", "size": "numeric"}))
    built = run("profile", "build", "--data=t.csv", *flags, directory=tmp_path)
    assert built.returncode == 0, built.stderr
    write_config(tmp_path, {"name": "credit", "task": "binary", "profile": "p.json"}, state={"path": "state"})
    with running_exporter(tmp_path) as exporter:
        events = [{"model": "credit", "features": {'5" disk': 1, "size": 2, "siez": 3}}] * 20
        answer = exporter.post("\n".join(map(json.dumps, events)).encode()).json()
        assert (answer["accepted"], answer["ignored"]) == (20, {"credit": {"values": 20, "names": ["siez"]}})
        assert exporter.value("ml_exporter_features_ignored_total", model="credit") == 20
        assert "ignored, unknown to credit: siez" in httpx.get(exporter.url, trust_env=False).text
        doctor = ("doctor", "--config.file=mlops-exporter.yml", f"--web.listen-address={exporter.address}")
        assert (
            "credit does not know these features, and they are ignored: siez" in run(*doctor, directory=tmp_path).stdout
        )
        assert "credit does not know these features, which are ignored: 'siez'" in exporter.log.read_text()
    with running_exporter(tmp_path) as exporter:  # the count is kept
        assert exporter.value("ml_exporter_features_ignored_total", model="credit") == 20
