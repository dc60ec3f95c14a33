"""What must hold of the decoder for any body."""

import math
from collections.abc import Mapping
from contextlib import suppress

from mlops_exporter.events.columns import Decoded
from mlops_exporter.events.decoder import Decoder
from mlops_exporter.events.formats import ARROW_STREAM
from mlops_exporter.events.reasons import Reason
from mlops_exporter.events.schema import Schema
from mlops_exporter.profile.profile import Profile
from tests.fuzz import reference
from tests.fuzz.reference import Event, RefusedError
from tests.models import NOW, categorical, profiles


def fuzzed_profiles() -> dict[str, Profile]:
    """The models that bodies are made for: also one whose classes are booleans, and a category beyond 64 bits."""
    made = profiles()
    made["credit"].features["reference"] = categorical("18446744073709551617", "DE")
    truth = profiles()["credit"]
    truth.features = {"flag": categorical("true", "false", "maybe")}
    truth.classes = ["false", "true"]
    truth.prediction = truth.label = categorical("false", "true")
    truth.validate()
    made["truth"] = truth
    return made


class Oracle:
    """Checks bodies; raises AssertionError with what differs."""

    def __init__(self) -> None:
        self.profiles = fuzzed_profiles()
        self._schemas = {name: Schema(name, profile) for name, profile in self.profiles.items()}
        self._decoder = Decoder(list(self._schemas.values()))

    def check(self, body: bytes) -> tuple[int, int]:
        """Check one body; returns how many events were accepted and refused."""
        decoded = self._decoder.decode(body, NOW)
        if body.startswith(ARROW_STREAM):
            assert decoded.refused == [(1, "bad_arrow")]
            return 0, 1
        entries = list(reference.entries(body))
        assert decoded.accepted + decoded.refused.total == len(entries), "accepted and refused are not all"
        accepted = self._accepted(decoded)
        expected: dict[int, Event] = {}
        for number, content in entries:
            with suppress(RefusedError):
                expected[number] = reference.read(content, self.profiles, NOW)
        assert accepted.keys() == expected.keys(), f"accepted {sorted(accepted)}, the reference {sorted(expected)}"
        for number, event in expected.items():
            assert _same(accepted[number], event), f"event {number}: {accepted[number]}, the reference {event}"
        if len(entries) > 1:
            self._check_alone(entries, accepted, dict(decoded.refused))
        return len(accepted), decoded.refused.total

    def _check_alone(
        self, entries: list[tuple[int, bytes]], accepted: Mapping[int, Event], refused: Mapping[int, Reason]
    ) -> None:
        """Each line alone must give what it gave among the others.

        Left out are lines that mean something else as a body: arrays, byte order marks, Arrow streams.
        """
        for number, line in entries:
            if isinstance(line, bytes) and not line.lstrip().startswith((b"[", reference.BOM, ARROW_STREAM)):
                alone = self._decoder.decode(line, NOW)
                assert self._accepted(alone).get(1) == accepted.get(number), f"line {number} differs alone"
                assert dict(alone.refused).get(1) == refused.get(number), f"line {number} is refused otherwise alone"

    def _accepted(self, decoded: Decoded) -> dict[int, Event]:
        """Return the accepted events by line, in the reference's terms."""
        events = {}
        for model, columns in decoded.columns.items():
            schema, profile = self._schemas[model], self.profiles[model]
            width = 0 if profile.task == "regression" else 1 if profile.task == "binary" else len(profile.classes)
            scores = schema.score_array(columns.scores).tolist() if width else [[]] * len(columns)
            numbers, cells, _ = columns.features.encoded(schema)
            values = zip(numbers.T.tolist(), cells.T.tolist(), strict=True)
            for row, line in enumerate(columns.lines):
                features = None
                if columns.features.present[row]:
                    of_row = next(values)
                    features = (*map(_missing, of_row[0]), *of_row[1])
                assert line not in events, f"line {line} is there twice"
                events[line] = Event(
                    model,
                    _text(columns.ids[row]),
                    columns.times[row],
                    columns.versions[row],
                    features,
                    tuple(map(_missing, scores[row])),
                    columns.predictions[row],
                    columns.labels[row],
                    columns.latencies[row],
                    columns.errors[row],
                )
        return events


def _text(identifier: str | float | None) -> str | None:
    return reference.name(identifier)


def _missing(number: float) -> float | None:
    return None if math.isnan(number) else number


def _same(event: Event, expected: Event) -> bool:
    """Whether two events are equal, their times to a microsecond or two."""
    return event._replace(time=0.0) == expected._replace(time=0.0) and abs(event.time - expected.time) < 2e-6
