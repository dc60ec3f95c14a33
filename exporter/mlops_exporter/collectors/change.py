"""Changes in a model's streams to samples."""

import math
from collections.abc import Iterator, Sequence
from typing import Self

from mlops_exporter.collectors.family import Family
from mlops_exporter.collectors.parts import Parts
from mlops_exporter.counting.model import Model
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples


class ChangeCollector:
    """Evidence of change, of every model whose profile knows its streams."""

    name = "change"
    about = "evidence of a change in the errors, scores or outcomes, however often one looks"
    by_default = True
    of_counts = True

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self._families: dict[tuple[str, str], Family] = {}

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Return the collector of these parts."""
        return cls(parts.models)

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        for model in self._models:
            threshold = math.log(1 / model.settings.change.false_alarm_probability)
            for name, version in model.versions.items():
                if version.changes is None or not (version.changes.streams or version.changes.outcomes):
                    continue
                family = self._families.setdefault((model.name, name), Family(model.name, name))
                streams = version.changes.streams
                evidence = [monitor.log_evidence for monitor in streams.values()]
                yield family(catalogue.CHANGE_EVIDENCE, evidence, streams)
                yield family(catalogue.CHANGE_EVIDENCE_THRESHOLD, [threshold] * len(streams), streams)
                outcomes = version.changes.outcomes
                evidence = [outcome.monitor.log_evidence for outcome in outcomes.values()]
                yield family(catalogue.OUTCOME_CHANGE_EVIDENCE, evidence, outcomes)
                yield family(catalogue.OUTCOME_CHANGE_THRESHOLD, [threshold] * len(outcomes), outcomes)
