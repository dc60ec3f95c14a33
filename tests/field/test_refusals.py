"""What is refused is told in the log once a minute: the reason, the value at fault, and what would be right."""

import logging

import pytest

from mlops_exporter.events.explain import explained
from tests.support.pipeline import ndjson, service, submit

CLASSES = {"credit": ["0", "1"], "price": []}


@pytest.mark.parametrize(
    ("reason", "event", "said"),
    [
        ("unknown_class", b'{"model":"credit","prediction":1.0,"label":"yes"}', '`label` is "yes"; known are "0", "1"'),
        ("unknown_class", b'{"model":"credit","prediction":"x"}', '`prediction` is "x"; known are "0", "1"'),
        ("unknown_model", b'{"model":"credti"}', '`model` is "credti"; known are "credit", "price"'),
        ("bad_score", b'{"model":"credit","score":1.2}', "; `score` is 1.2"),
        ("bad_id", b'{"model":"credit","id":[1]}', "; `id` is [1]"),
        ("missing_model", b'{"id":1}', "there is no `model`"),
        ("malformed_json", b"{", "the line is not JSON"),
    ],
)
def test_a_refusal_names_the_value_and_what_would_be_right(reason: str, event: bytes, said: str) -> None:
    for body, line in ((event, 1), (b'{"model":1}\n' + event + b"\n", 2), (b"[0, " + event + b"]", 2)):
        (told,) = explained([(line, reason)], body, CLASSES)  # type: ignore[list-item]
        assert told.endswith(said)


def test_a_long_value_is_cut() -> None:
    (told,) = explained([(1, "bad_id")], b'{"model":"credit","id":"%b"}' % (b"x" * 5000), CLASSES)
    assert len(told) < 300


def test_each_reason_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    running = service("binary")
    bodies = [ndjson([{"model": "nobody", "id": number, "label": 1}] * 3) for number in range(4)]
    with caplog.at_level(logging.WARNING):
        submit(running, *bodies)
    (message,) = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert "refused 3 as unknown_model, as in line 1" in message
    assert '`model` is "nobody"' in message
