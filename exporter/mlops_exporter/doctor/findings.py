"""What an examination found, and how it is told: to a terminal, to a pipe, as JSON."""

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from mlops_exporter.logs import escaped, redacted

Grade = Literal["ok", "warning", "problem"]

_COLOURS: dict[Grade, str] = {"ok": "32", "warning": "33", "problem": "31"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at is in `area`, what is so in `what`, and what to do in `remedy` unless all is well.

    A problem keeps something from working; a warning may be meant.
    """

    area: str
    verdict: Grade
    what: str
    remedy: str = ""


def ok(area: str, what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(area, "ok", _clean(what))


def warning(area: str, what: str, remedy: str) -> Finding:
    """Return what may be meant, and what to do if not."""
    return Finding(area, "warning", _clean(what), _clean(remedy))


def problem(area: str, what: str, remedy: str) -> Finding:
    """Return what keeps something from working, and what to do."""
    return Finding(area, "problem", _clean(what), _clean(remedy))


def _clean(text: str) -> str:
    """Return text on one line, without passwords and without what a terminal would obey: events may say anything."""
    return escaped(redacted(" ".join(text.splitlines())))


def summary(findings: Iterable[Finding]) -> str:
    """Return how much was found."""
    counts = Counter(finding.verdict for finding in findings)
    return f"{_counted(counts['problem'], 'problem')}, {_counted(counts['warning'], 'warning')}, {counts['ok']} ok"


def as_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield one line for each finding, for pipes: verdict, area, what is so, what to do."""
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        yield f"{finding.verdict:7}  {finding.area:13}  {finding.what}{remedy}"
    yield summary(findings)


def for_terminal(findings: Sequence[Finding], width: int) -> Iterator[str]:
    """Yield coloured lines of at most `width` columns, the remedy below what it is for."""
    indent = " " * 24
    area = ""
    for finding in findings:
        shown = "" if finding.area == area else finding.area
        area = finding.area
        colour = f"\x1b[{_COLOURS[finding.verdict]}m{finding.verdict:7}\x1b[0m"
        first, *rest = _wrapped(finding.what, width - len(indent))
        yield f"{shown:13}  {colour}  {first}"
        yield from (indent + line for line in rest)
        if finding.remedy:
            yield from (
                f"{indent}\x1b[1m{line}\x1b[0m" for line in _wrapped(f"→ {finding.remedy}", width - len(indent))
            )
    yield ""
    yield summary(findings)


def as_json(findings: Sequence[Finding]) -> str:
    """Return `{"findings": [{"area", "verdict", "what", "remedy"}], "summary": …}`."""
    return json.dumps({"findings": [asdict(finding) for finding in findings], "summary": summary(findings)}, indent=2)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, max(width, 30), break_long_words=False, break_on_hyphens=False)
    return lines or [""]
