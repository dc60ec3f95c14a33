"""What the doctor's findings look like, and that no check can hold it up."""

import json
import threading
from collections.abc import Iterator

from mlops_exporter.doctor.examination import side_by_side
from mlops_exporter.doctor.findings import Finding, as_json, as_lines, for_terminal, ok, problem, warning

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
