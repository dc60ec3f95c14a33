"""Champion and challenger to samples."""

from collections.abc import Iterator, Sequence
from typing import Self

from mlops_exporter.collectors.family import Family
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.judging.challenge import compare
from mlops_exporter.settings.durations import format_duration

_DIFFERENCE = (
    catalogue.CHALLENGER_DIFFERENCE,
    catalogue.CHALLENGER_DIFFERENCE_LOWER,
    catalogue.CHALLENGER_DIFFERENCE_UPPER,
)


class ChallengeCollector:
    """The paired comparison of every model that has a challenger."""

    name = "challenge"
    about = "champion and challenger on the same events"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = [
            (model, model.challenge, Family(model.name, model.challenge.champion, model.challenge.challenger))
            for model in models
            if model.challenge is not None
        ]

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for model, challenge, family in self._models:
            windows = [format_duration(length) for length in model.settings.windows]
            n, difference = compare(challenge, now, model.settings.min_samples.performance)
            yield family(catalogue.CHALLENGER_WINDOW_PAIRS, n, windows)
            for metric, values in zip(_DIFFERENCE, difference, strict=True):
                yield family(metric, values, windows, challenge.metrics)
