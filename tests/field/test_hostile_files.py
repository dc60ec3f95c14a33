"""Files and answers from outside that are deep, huge, damaged or say things twice are refused in words, at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops_exporter.lifecycle.evidence import UnreadableError, read
from mlops_exporter.probing.protocols import ProtocolError, _parse
from mlops_exporter.profile import profile as profile_file
from mlops_exporter.profile.parsing import JsonError, parsed
from mlops_exporter.profile.profile import ProfileError, load, save
from tests.models import profiles

DEEP = ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000]


@pytest.fixture
def good(tmp_path: Path) -> str:
    save(profiles()["credit"], tmp_path / "good.json")
    return (tmp_path / "good.json").read_text()


def changed(change: Callable[[Any], object]) -> Callable[[str], str]:
    def make(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda text: '{"schema": 1, "x": ' + DEEP[0] + "}", "nested too deep"),
        (lambda text: '{"schema": 1, "features": ' + DEEP[1] + "}", "nested too deep"),
        (lambda text: text.replace('"rows": ', '"rows": NaN, "x": ', 1), "malformed"),
        (lambda text: text.replace('"rows": ', '"rows": 1e999, "x": ', 1), "out of range"),
        (lambda text: text.replace('"rows": ', '"rows": 7, "rows": ', 1), "'rows' is given twice"),
        (lambda text: text.replace('"amount": ', '"country": 1, "amount": ', 1), "Expected `object`"),
        (
            lambda text: text.replace('"features": {', '"features": {"country": ' + text_of(text, "country") + ",", 1),
            "twice",
        ),
        (changed(lambda content: content.update(rows=0)), "one row"),
        (changed(lambda content: content.update(rows=-5)), "one row"),
        (lambda text: text.replace("amount", "\\ud800", 1), "malformed"),
        (lambda text: text[: len(text) // 2], "truncated"),
        (lambda text: "", "truncated"),
        (lambda text: "[]", "Expected `object`"),
    ],
)
def test_a_hostile_profile_is_refused_in_words(
    make: Callable[[str], str], said: str, good: str, tmp_path: Path
) -> None:
    """One that is nested too deep had ended the exporter, and all versions beside it in a directory of profiles."""
    path = tmp_path / "p.json"
    path.write_text(make(good))
    with pytest.raises(ProfileError, match=said):
        load(path)
    path.write_bytes(good.encode("utf-16"))
    with pytest.raises(ProfileError, match="not a profile"):
        load(path)


def text_of(text: str, feature: str) -> str:
    return json.dumps(json.loads(text)["features"][feature])


def test_a_profile_is_not_read_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "MAX_BYTES", 1000)
    with pytest.raises(ProfileError, match="is over 1000 bytes"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize("text", DEEP)
def test_an_answer_that_is_nested_too_deep_is_no_answer(text: str) -> None:
    """Of a probed endpoint, of Alertmanager, of MLflow: all are read by one function."""
    with pytest.raises(JsonError, match="too deep"):
        parsed(text)
    with pytest.raises(ProtocolError, match="not JSON"):
        _parse(text.encode())
    with pytest.raises(UnreadableError, match="too deep"):
        read(b'{"version":"4","alerts":[],"x":%b}' % text.encode(), 0.0)
