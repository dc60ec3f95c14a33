"""Which of the two exposition formats, and which content coding, a request wants (RFC 9110, sections 12.4 and 12.5).

Only OpenMetrics 1.0.0 and the text format 0.0.4 are written, so a media range that names another version matches
neither: a scraper that asks for OpenMetrics 0.0.1, 2.0.0 or text 1.0.0 gets what it accepts besides. Other parameters
(`charset`, `escaping`) do not matter, since every name is plain ASCII in any escaping scheme. A range that is not
well formed is ignored. When nothing fits, the answer is the text format rather than 406: a scrape that can be read
is worth more than one that cannot.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MOST_CHARACTERS = 4096
"""Of a header; what follows is not looked at. No client's own has more than a few hundred."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUALITY = re.compile(r"0(\.\d*)?|1(\.0*)?")


@dataclass(frozen=True, slots=True)
class _Format:
    type: str
    subtype: str
    version: str

    def specificity(self, media_type: str, version: str | None) -> int:
        """Return how closely a media range names this format, 0 when it does not match."""
        if version not in (None, self.version):
            return 0
        if media_type == f"{self.type}/{self.subtype}":
            return 3 if version is None else 4
        return {f"{self.type}/*": 2, "*/*": 1}.get(media_type, 0)


_TEXT = _Format("text", "plain", "0.0.4")
_OPENMETRICS = _Format("application", "openmetrics-text", "1.0.0")


def wants_openmetrics(accept: str) -> bool:
    """Tell whether the answer is OpenMetrics 1.0.0; otherwise it is the text format 0.0.4. `accept` may be empty.

    The closest matching range gives a format its quality. Of two formats with the same quality the one named more
    closely wins, then the one named first, then the text format.
    """
    return _preference(_OPENMETRICS, accept) > _preference(_TEXT, accept)


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether gzip is acceptable and not liked less than no compression. `accept_encoding` may be empty."""
    qualities = {name: quality for name, _, quality in _elements(accept_encoding)}
    gzip = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return gzip > 0.0 and gzip >= qualities.get("identity", 0.0)


def _preference(format_: _Format, accept: str) -> tuple[float, int, int]:
    closest = (0, 0, 0.0)  # specificity, earliness, quality
    for index, (media_type, version, quality) in enumerate(_elements(accept)):
        closest = max(closest, (format_.specificity(media_type, version), -index, quality))
    specificity, earliness, quality = closest
    return (quality, specificity, earliness) if specificity and quality else (0.0, 0, 0)


def _elements(header: str) -> Iterator[tuple[str, str | None, float]]:
    """Yield (name in lower case, its `version` parameter, quality) of each well-formed element of a list header."""
    if len(header) > MOST_CHARACTERS:
        header = header[:MOST_CHARACTERS].rpartition(",")[0]
    for element in header.split(","):
        name, *parameters = (part.strip() for part in element.lower().split(";"))
        version, quality = None, "1"
        for parameter in parameters:
            key, _, value = (part.strip() for part in parameter.partition("="))
            if key == "version":
                version = value.strip('"')
            elif key == "q":
                quality = value
        if all(_TOKEN.fullmatch(part) for part in name.split("/")) and _QUALITY.fullmatch(quality):
            yield name, version, float(quality)
