"""What the pages point to is there: links, headings, commands, flags, make targets, modules."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.command_line import commands

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in (".", "docs", "config", "secrets", "exporter", "prometheus", "alertmanager", "grafana", "tests")
    for path in ROOT.joinpath(folder).glob("*.md" if folder == "." else "**/*.md")
    if "node_modules" not in path.parts
)
EVENTS = ROOT / "docs" / "events.md"

_FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n)+)")
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[/\s])mlops-exporter ((?:profile )?[a-z]+)\b(?!\.)(.*)")
_MAKE = re.compile(r"^(?:\w+=\S+ )*make ([a-z-]+)")
_MODULE = re.compile(r"python3? -m ((?:tests|prometheus|grafana|exporter)\b[\w.]*)(.*)")
_FLAG = re.compile(r"(?<!\S)(--[a-z][\w.-]*)")


def prose(page: str) -> str:
    """A page without its code."""
    return _INLINE.sub("", _FENCE.sub("", page))


def code(page: str) -> Iterator[str]:
    """The lines of code of a page, continued ones joined, without comments."""
    inline = _INLINE.findall(_FENCE.sub("", page))
    for block in (*_FENCE.findall(page), *_INDENTED.findall(page), *inline):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.partition(" #")[0].strip()


@cache
def anchors(path: Path) -> frozenset[str]:
    """What GitHub makes of the headings of a page."""
    found: list[str] = []
    for heading in _HEADING.findall(_FENCE.sub("", path.read_text())):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return frozenset(found)


def broken_links(path: Path, page: str) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in _LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    return broken


def unknown_commands(page: str) -> list[str]:
    """Commands, flags, make targets and modules that a page names and that are not there."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    unknown = []
    for line in code(page):
        for name, rest in _COMMAND.findall(line):
            flags = commands().get(name)
            unknown += [name] if flags is None else [flag for flag in _FLAG.findall(rest) if flag not in flags]
        unknown += [f"make {target}" for target in _MAKE.findall(line) if target not in targets]
        for module, rest in _MODULE.findall(line):
            source = _source(module)
            unknown += [module] if source is None else [flag for flag in _FLAG.findall(rest) if flag not in source]
    return unknown


def _source(module: str) -> str | None:
    """The text of what `python -m` runs, None when it runs nothing."""
    if module == "exporter":
        return (ROOT / "exporter" / "cli.py").read_text()
    try:
        found = find_spec(f"{module}.__main__") if find_spec(module) else None
    except ModuleNotFoundError:  # a module, no package
        found = find_spec(module)
    return None if found is None or found.origin is None else Path(found.origin).read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_points_to_is_there(path: Path) -> None:
    page = path.read_text()
    assert broken_links(path, page) == []
    assert unknown_commands(page) == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(_LINK.findall(index))
    assert "docs/README.md" in (ROOT / "README.md").read_text()


def test_what_is_not_there_is_found() -> None:
    page = (
        "# A page\n[a](nowhere.md) [b](events.md#no-such-heading) [c](#a-page) [d](https://example.org/x)\n"
        "`mlops-exporter walk`, `mlops-exporter run --fast --log.level=info`, `make coffee`, `make test`\n\n"
        "```sh\n.venv/bin/mlops-exporter profile build --data x \\\n  --magic y   # mlops-exporter fly\n"
        "MINUTES=5 make nothing\n.venv/bin/python -m tests.nothing\npython -m tests.soak --minutes 5 --hours 1\n```\n"
    )
    assert broken_links(EVENTS, page) == ["nowhere.md", "events.md#no-such-heading", "#a-page"]
    assert unknown_commands(page) == [
        "--magic",
        "make nothing",
        "tests.nothing",
        "--hours",
        "walk",
        "--fast",
        "make coffee",
    ]


def test_headings_become_anchors_as_on_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two\n## `a.b` [c](d.md)\n## One two\n```sh\n# no heading\n```\n")
    assert anchors(page) == {"one-two", "ab-c", "one-two-1"}
