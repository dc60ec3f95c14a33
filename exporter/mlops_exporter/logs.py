"""Log lines as logfmt (the default) or JSON, on standard error; repetition is held back, and the last faults kept."""

import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LogFormat = Literal["logfmt", "json"]

BURST = 10
BURST_SECONDS = 60.0
"""One place in the program logs this many lines in this time; what is more is counted, and told with the next line."""

_PLAIN = re.compile(r"[^\s\"=\\]+")
# What a terminal obeys or hides: control characters, marks that turn the direction of writing, lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# A password may hold / and @ though it should be quoted: it ends at the last @ before a space.
_SECRETS = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:]*:)\S+(?=@)|(\b(?:bearer|basic)\s+)[\w+/.~-]{8,}=*")


def redacted(text: str) -> str:
    """Return text without passwords in URLs and without credentials as HTTP carries them."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2]}<secret>", text)


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or error that was logged: `count` times from `first` to `last` (Unix seconds)."""

    level: str
    message: str
    first: float
    last: float
    count: int


class Recent(logging.Handler):
    """Keeps the last warnings and errors; those that say the same are one."""

    def __init__(self, capacity: int = 20, max_length: int = 400) -> None:
        super().__init__(logging.WARNING)
        self._capacity = capacity
        self._max_length = max_length
        self._notices: OrderedDict[tuple[str, str], Notice] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        message = escaped(redacted(message))
        if len(message) > self._max_length:
            message = message[: self._max_length] + " …"
        key = (_level(record), message)
        known = self._notices.pop(key, None)
        first, count = (record.created, 0) if known is None else (known.first, known.count)
        self._notices[key] = Notice(*key, first, record.created, count + 1)
        if len(self._notices) > self._capacity:
            self._notices.popitem(last=False)

    def notices(self) -> list[Notice]:
        """Return what is kept, newest first."""
        self.acquire()
        try:
            return list(reversed(self._notices.values()))
        finally:
            self.release()


class RepetitionFilter(logging.Filter):
    """Lets `burst` lines of one place in the program through in `seconds`, and tells how many it held back.

    What is logged at the level debug was asked for, and is never held back.
    """

    def __init__(
        self, burst: int = BURST, seconds: float = BURST_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst = burst
        self._seconds = seconds
        self._now = now
        self._places: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write the record."""
        if record.levelno <= logging.DEBUG:
            return True
        place = (record.pathname, record.lineno)
        now = self._now()
        begin, count = self._places.get(place, (now, 0))
        if now - begin >= self._seconds:
            record.held_back = max(count - self._burst, 0)
            begin, count = now, 0
        self._places[place] = (begin, count + 1)
        return count < self._burst


class _Formatter(logging.Formatter):
    def __init__(self, style: LogFormat) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, str | int] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": _level(record),
            "caller": f"{record.module}:{record.lineno}",
            "msg": redacted(record.getMessage()),
        }
        if record.exc_info:
            fields["error"] = redacted(self.formatException(record.exc_info))
        if held_back := getattr(record, "held_back", 0):
            fields["held_back"] = held_back
        if self._json:
            return escaped(json.dumps(fields, ensure_ascii=False))
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items())


def _level(record: logging.LogRecord) -> str:
    return record.levelname.lower().replace("warning", "warn")


def _quoted(value: str) -> str:
    plain = _PLAIN.fullmatch(value) and not _UNPRINTABLE.search(value)
    return value if plain else escaped(json.dumps(value, ensure_ascii=False))


def escaped(text: str) -> str:
    """Return text in which nothing is left that a terminal obeys or hides."""
    return _UNPRINTABLE.sub(lambda found: _as_json_escapes(found[0]), text)


def escaped_lines(text: str) -> str:
    """Return text of several lines, each `escaped` and `redacted`."""
    return "\n".join(escaped(redacted(line)) for line in text.split("\n"))


def _as_json_escapes(character: str) -> str:
    """Return a character as JSON may write it: one beyond U+FFFF is two."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def configure(level: str, style: LogFormat) -> Recent:
    """Send the log lines of this program, and warnings of its libraries, to standard error; returns the last faults."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(style))
    handler.addFilter(RepetitionFilter())
    recent = Recent()
    logging.basicConfig(level=logging.WARNING, handlers=[handler, recent], force=True)
    logging.getLogger("mlops_exporter").setLevel(level.upper())
    return recent
