"""What the doctor's findings look like, and that no check can hold it up."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mlops_exporter.doctor import events
from mlops_exporter.doctor.examination import side_by_side
from mlops_exporter.doctor.findings import Finding, as_json, as_lines, for_terminal, ok, problem, warning
from mlops_exporter.doctor.listening import Running
from mlops_exporter.judging.seasonality import Seasonality
from mlops_exporter.judging.status import Report
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.service.healthcheck import Access
from mlops_exporter.settings.config import Config
from tests.models import profiles
from tests.unit.test_landing import MODEL

FINDINGS = [
    ok("state", "there is room"),
    warning("events", "nothing has come", "send one"),
    problem("sources", "redis://u:secret@h does not\nanswer \x1b[31m", "see whether it runs " * 8),
]


def test_a_pipe_gets_one_line_for_each_finding_and_nothing_that_a_terminal_obeys() -> None:
    assert list(as_lines(FINDINGS)) == [
        "ok       state          there is room",
        "warning  events         nothing has come -> send one",
        "problem  sources        redis://u:<secret>@h does not answer \\u001b[31m -> " + "see whether it runs " * 8,
        "1 problem, 1 warning, 1 ok",
    ]


def test_a_terminal_gets_colours_within_its_width() -> None:
    lines = list(for_terminal(FINDINGS, 80))
    assert lines[0] == "state          \x1b[32mok     \x1b[0m  there is room"
    assert "\x1b[1m→ send one\x1b[0m" in lines[2]
    visible = [line.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[31m", "") for line in lines]
    assert max(map(len, visible)) <= 80
    assert sum("see whether" in line for line in lines) > 1


def test_json_has_every_part() -> None:
    found = json.loads(as_json(FINDINGS))
    assert found["findings"][1] == {
        "area": "events",
        "verdict": "warning",
        "what": "nothing has come",
        "remedy": "send one",
    }
    assert found["summary"] == "1 problem, 1 warning, 1 ok"


def test_a_check_that_hangs_or_fails_costs_only_itself() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        never.wait()
        yield ok("a", "too late")

    def fails() -> Iterator[Finding]:
        yield ok("b", "before")
        raise RuntimeError("boom")

    found = side_by_side([("a", hangs), ("b", fails), ("c", lambda: [ok("c", "good")])], 0.2)
    assert [(finding.area, finding.verdict) for finding in found] == [
        ("a", "problem"),
        ("b", "ok"),
        ("b", "problem"),
        ("c", "ok"),
    ]
    assert "no answer within 0.2 s" in found[0].what
    assert "RuntimeError: boom" in found[2].what
    never.set()


@pytest.mark.parametrize(
    ("windows", "even", "said"),
    [
        (
            ["15m", "1d"],
            "1d",
            ("1d evens it out, so it is a rhythm, or began within it", "--time", "let windows be of 1d and more"),
        ),
        (["15m", "1h"], None, ("5000 predictions are worth 12", "--time", "add a window of a whole day, 24h")),
        (["15m", "1d"], None, ("no longer window evens it out", "thresholds allow for it")),
    ],
)
def test_a_rhythm_and_the_window_that_suits_it_are_told(
    windows: list[str], even: str | None, said: tuple[str, ...]
) -> None:
    model = {"name": "credit", "task": "binary", "profile": "credit.json", "windows": windows}
    settings = Config.model_validate({"models": [model]})
    state = replace(MODEL, seasonality=Seasonality("1h", ["amount", "age"], 5000, 12, even))
    running = Running(Access("localhost:1"), Report("0", 0.0, 1.0, models=[state]), {}, frozenset({"data"}))
    (found,) = (
        it for it in events.check(running, settings, {"credit": Profiles(profiles()["credit"])}) if "1h" in it.what
    )
    assert found.verdict == "warning"
    assert "credit 3: windows of 1h differ among each other, in amount, age most" in found.what
    for part in (*said, "ml:feature_last_week:psi"):
        assert part in f"{found.what} {found.remedy}"
