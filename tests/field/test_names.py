"""Names that JSON can carry: a model of them is built, runs, and is shown with nothing that obeys, hides or turns."""

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops_exporter.exposition.samples import escape_label_value, unescape_label_value
from mlops_exporter.logs import escaped, redacted
from tests.field.rows import write_csv
from tests.support.exporter import Exporter, run, running_exporter, write_config

NAMES = [
    '5" disk',
    "a\\b",
    "tab\there",
    "line\nend",
    "esc\x1b[31m",
    "turn\u202eed",
    "mark\u061c",
    "soft\u00ad",
    "\\u202e",
]
CLASSES = ('none\u202e"', "so\\me\x1b")
GROUP = "se\u2066x"
NEVER_SHOWN = {"Cc", "Cf", "Cs"}
"""Unicode's classes of characters that control, turn or hide, and halves of pairs."""


def raw(text: str) -> set[str]:
    """What a text has of them, apart from the line ends of its own."""
    return {each for each in text if unicodedata.category(each) in NEVER_SHOWN} - {"\n"}


@contextmanager
def watched(directory: Path, *flags: str) -> Iterator[Exporter]:
    """An exporter of a model of such names, whose own reference came back as events."""
    rows = 200
    table: dict[str, list[Any]] = {
        name: [(row * (place + 3)) % 17 for row in range(rows)] for place, name in enumerate(NAMES)
    }
    table |= {GROUP: [("f\u202e", "m\x1b")[row % 2] for row in range(rows)]}
    table |= {
        "score": [(row % 10) / 10 for row in range(rows)],
        "label": [CLASSES[row % 10 > 4] for row in range(rows)],
    }
    write_csv(directory / "t.csv", table)
    flags_ = ("--task=binary", "--label=label", "--score=score", f"--positive={CLASSES[1]}", f"--groups={GROUP}")
    built = run("profile", "build", "--data=t.csv", *flags_, "--output=p.json", directory=directory)
    assert built.returncode == 0, built.stderr
    write_config(
        directory,
        {"name": "credit", "task": "binary", "profile": "p.json", "fairness": {"attributes": [GROUP]}},
        sources=[{"name": "push", "http": {}}],
    )
    checked = run("check", "--config.file=mlops-exporter.yml", directory=directory)
    assert (checked.returncode, raw(checked.stdout)) == (0, set()), checked.stderr
    with running_exporter(directory, *flags) as exporter:
        events = [
            {"model": "credit", "version": "3\x1b", "id": row, "label": table["label"][row]}
            | {"scores": {CLASSES[1]: table["score"][row], CLASSES[0]: 1 - table["score"][row]}}
            | {"features": {name: table[name][row] for name in NAMES}, "groups": {GROUP: table[GROUP][row]}}
            for row in range(rows)
        ]
        answer = exporter.post("\n".join(map(json.dumps, events)).encode())
        assert answer.json() == {"accepted": rows, "rejected": 0, "errors": []}
        yield exporter


def test_names_are_shown_escaped_everywhere(tmp_path: Path) -> None:
    with watched(tmp_path) as exporter:
        for path in ("/metrics", "/", "/api/v1/status", "/docs"):
            text = httpx.get(exporter.url + path, trust_env=False).text
            assert raw(text) == set(), path
        metrics = httpx.get(exporter.url + "/metrics", trust_env=False).text
        features = {
            sample.labels["feature"]
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if "feature" in sample.labels
        }
        assert {'5" disk', "a\\b", "line\nend", "turn\\u202eed", "esc\\u001b[31m", "\\u005cu202e"} <= features
        assert len(features) == len(NAMES)  # no two became one
        found = run(
            "doctor", "--config.file=mlops-exporter.yml", f"--web.listen-address={exporter.address}", directory=tmp_path
        )
        assert "200 predictions" in found.stdout
        assert raw(found.stdout + found.stderr) == set()
    assert raw(exporter.log.read_text()) == set()


def test_a_collector_that_is_switched_off_is_no_fault(tmp_path: Path) -> None:
    with watched(tmp_path, "run", "--no-collector.model") as exporter:
        asked = ("doctor", "--config.file=mlops-exporter.yml", f"--web.listen-address={exporter.address}")
        found = run(*asked, directory=tmp_path).stdout
        assert "collector model is switched off" in found
        assert "gives no metrics" not in found
        assert "200 predictions" in found
        config = tmp_path / "mlops-exporter.yml"
        assert "not loaded" not in found
        config.write_text(config.read_text() + "\n")
        assert (
            "written after the exporter loaded its configuration: not loaded" in run(*asked, directory=tmp_path).stdout
        )
        config.write_text(config.read_text().replace("credit", "debit"))
        found = run(*asked, directory=tmp_path).stdout
        assert "debit: in mlops-exporter.yml, and not loaded" in found
        assert "credit: watched by the exporter that runs, and not in mlops-exporter.yml" in found


@pytest.mark.parametrize("name", [*NAMES, "plain", "naïve", "ü\\u0041", "\U000e0041"])
def test_two_names_never_make_one_label_value(name: str) -> None:
    others = {unescape_label_value(escape_label_value(other)) for other in [*NAMES, "plain"] if other != name}
    assert unescape_label_value(escape_label_value(name)) not in others
    assert not raw(escape_label_value(name))


def test_escapes_are_those_of_json() -> None:
    assert json.loads(f'"{escaped(chr(0xE0041))}\\u0041"') == "\U000e0041A"


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hun/ter2@host:6379/0",
        "redis://user:hun@ter2@host",
        "amqp://u@corp:hun/te@r2@host/x",
        "x://:a/b@c@h",
    ],
)
def test_a_password_may_hold_what_should_be_quoted(url: str) -> None:
    shown = redacted(f"cannot reach {url}: refused")
    assert shown.startswith("cannot reach " + url[: url.index(":", 8)] + ":<secret>@" if url[0] != "x" else "cannot")
    assert not any(part in shown for part in ("hun", "ter2", "r2@", "a/b"))
