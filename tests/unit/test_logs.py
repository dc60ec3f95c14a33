import json
import logging
import subprocess
import sys

import pytest

from mlops_exporter.logs import Recent, RepetitionFilter, redacted

EVIL = 'model "a"\n level=error \x1b[31mred\x9b31m \u202egnirts \u2028 end'


def written(style: str, program: str) -> list[str]:
    """Lines that a program logs; logging belongs to the whole process, so it has one of its own."""
    start = f"import logging; from mlops_exporter import logs; recent = logs.configure('info', '{style}')\n"
    start += "log = logging.getLogger('mlops_exporter.test')\n"
    done = subprocess.run([sys.executable, "-c", start + program], capture_output=True, check=True)
    return done.stderr.decode().removesuffix("\n").split("\n")


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_what_comes_from_outside_is_escaped(style: str) -> None:
    lines = written(style, f"log.warning('%s', {EVIL!r})")
    assert len(lines) == 1
    assert lines[0].isprintable()
    value = json.loads(lines[0])["msg"] if style == "json" else json.loads(lines[0].partition("msg=")[2])
    assert value == EVIL


def test_an_escape_in_one_word_is_quoted() -> None:
    (line,) = written("logfmt", r"log.warning('%s', 'a\x1b[2Jb')")
    assert line.endswith(r'msg="a\u001b[2Jb"')


def test_levels_and_fields() -> None:
    lines = written("logfmt", "log.debug('no'); log.info('yes'); logging.getLogger('lib').info('no')\nlog.warning('w')")
    assert ["level=info" in lines[0], "level=warn" in lines[1], len(lines)] == [True, True, 2]
    assert lines[0].startswith("ts=20")
    assert lines[1].endswith(" caller=<string>:4 msg=w")


def test_repetition_is_held_back_and_told_later() -> None:
    clock = [0.0]
    limit = RepetitionFilter(burst=3, seconds=60, now=lambda: clock[0])

    def log(level: int = logging.WARNING, line: int = 1) -> logging.LogRecord | None:
        record = logging.LogRecord("x", level, "file.py", line, "message %d", (line,), None)
        return record if limit.filter(record) else None

    assert [log() is not None for _ in range(10)] == [True] * 3 + [False] * 7
    assert log(line=2) is not None
    assert all(log(logging.DEBUG, line=3) for _ in range(10))
    clock[0] = 61.0
    after = log()
    assert after is not None
    assert after.__dict__["held_back"] == 7
    assert log().__dict__.get("held_back") is None


def test_a_flood_is_a_few_lines() -> None:
    assert len(written("logfmt", "for n in range(1000): log.error('fault %d', n)")) == 10


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("redis://user:hunter2@host:6379/0 is down", "redis://user:<secret>@host:6379/0 is down"),
        ("redis://:hunter2@host", "redis://:<secret>@host"),
        ("Authorization: Bearer abcdef123456==", "Authorization: Bearer <secret>"),
        ("got Basic YWxpY2U6c2VzYW1l", "got Basic <secret>"),
        ("http://host:80/path a@b, basic needs", "http://host:80/path a@b, basic needs"),
    ],
)
def test_secrets_are_taken_out(text: str, safe: str) -> None:
    assert redacted(text) == safe
    (line,) = written("json", f"log.error('%s', {text!r})")
    assert json.loads(line)["msg"] == safe


def test_tracebacks_have_no_secrets() -> None:
    program = "try: raise OSError('redis://u:hunter2@h')\nexcept OSError: log.exception('no connection')\n"
    (line,) = written("json", program + "assert 'hunter2' not in recent.notices()[0].message")
    assert "Traceback" in json.loads(line)["error"]
    assert "hunter2" not in line


@pytest.fixture
def recent() -> Recent:
    return Recent(capacity=3, max_length=40)


def record(message: str, level: int = logging.WARNING, created: float = 0.0) -> logging.LogRecord:
    made = logging.LogRecord("x", level, "file.py", 1, message, (), None)
    made.created = created
    return made


def test_the_same_fault_is_one_notice(recent: Recent) -> None:
    for second in range(5):
        recent.handle(record("down", created=float(second)))
    recent.handle(record("down", logging.ERROR, 5.0))
    error, warning = recent.notices()
    assert (warning.count, warning.first, warning.last, warning.level) == (5, 0.0, 4.0, "warn")
    assert (error.count, error.level) == (1, "error")


def test_notices_are_few_and_short_and_newest_first(recent: Recent) -> None:
    for number in range(100):
        recent.handle(record(f"fault {number}"))
    assert [notice.message for notice in recent.notices()] == ["fault 99", "fault 98", "fault 97"]
    recent.handle(record("x\n" * 1000))
    assert len(recent.notices()[0].message) <= 42
    assert recent.notices()[0].message.isprintable()


def test_information_is_no_notice() -> None:
    written(
        "logfmt", "log.info('fine')\nassert recent.notices() == []\nlog.warning('w')\nassert len(recent.notices()) == 1"
    )
