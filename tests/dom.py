"""HTML as a tree, for tests of pages, and what accessibility asks of every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

_VOID = ("meta", "link", "br", "img", "input", "hr")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, *tags: str) -> Iterator[Element]:
        """This element and those within it that have one of the tags, in document order."""
        if self.tag in tags:
            yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.all(*tags)

    def one(self, tag: str) -> Element:
        (found,) = self.all(tag)
        return found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("document", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Element:
    """Parse a page whose every element is closed where it must be."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root], f"open at the end: {[element.tag for element in parser.open]}"
    return parser.root


def assert_accessible(page: str) -> None:
    """Hold a page against what screen readers and keyboards need (of WCAG 2.2 what a document alone can show)."""
    document = parse(page)
    assert document.one("html").attributes["lang"]
    assert document.one("title").text.strip()
    assert "user-scalable" not in page
    assert len(list(document.all("main"))) == len(list(document.all("h1"))) == 1
    levels = [int(heading.tag[1]) for heading in document.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(later <= before + 1 for before, later in pairwise(levels)), levels
    for table in document.all("table"):
        assert table.attributes["aria-label"]
        headers = list(table.all("th"))
        assert headers
        assert {header.attributes["scope"] for header in headers} <= {"col", "row"}
        widths = {sum(1 for _ in row.all("th", "td")) for row in table.all("tr")}
        assert len(widths) == 1, widths
    for graphic in document.all("svg"):
        assert graphic.attributes["role"] == "img"
        assert graphic.attributes["aria-label"]
    for link in document.all("a"):
        assert link.text.strip()
        assert link.attributes["href"]
    for element in document.all("nav"):
        assert element.attributes["aria-label"]
    identifiers = re.findall(r'\bid="([^"]*)"', page)
    assert len(set(identifiers)) == len(identifiers)
    assert not re.search(r'\btabindex="[1-9]', page)


def colours(style: str, scheme: str) -> dict[str, str]:
    """The custom properties that are colours, in the scheme `light` or `dark`."""
    light, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    dark = rest.partition("}\n}")[0]
    pattern = re.compile(r"--([a-z]+): (#[0-9a-f]{6})")
    return dict(pattern.findall(light)) | (dict(pattern.findall(dark)) if scheme == "dark" else {})


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
