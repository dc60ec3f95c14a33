"""What the receiver did, as metrics."""

from collections.abc import Iterator

from mlops_exporter.collectors.family import Family, or_absent
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Samples
from mlops_exporter.lifecycle.decision import Past
from mlops_exporter.lifecycle.retrainer import Retrainer


class RetrainingCollector:
    """Decisions, tries and their results, by model."""

    name = "retraining"

    def __init__(self, retrainer: Retrainer) -> None:
        self._retrainer = retrainer

    def collect(self, now: float) -> Iterator[Samples]:
        """Return the samples at `now`."""
        retrainer, counts = self._retrainer, self._retrainer.counts
        yield Family()(catalogue.RETRAINING_NOTIFICATIONS, counts.notifications.values(), counts.notifications)
        for model in counts.triggered:
            family, past = Family(model), retrainer.past.get(model, Past())
            decisions = counts.decisions[model]
            yield family(catalogue.RETRAINING_TRIGGERED, [counts.triggered[model]])
            yield family(catalogue.RETRAINING_DECISIONS, decisions.values(), decisions)
            yield family(catalogue.RETRAINING_FAILURES, [counts.failures[model]])
            yield family(catalogue.RETRAINING_DEAD_LETTERS, [counts.dead_letters[model]])
            yield family(catalogue.RETRAINING_RUNNING, [float(model in retrainer.orders)])
            yield family(catalogue.RETRAINING_LAST_RESULT, [or_absent(None if past.good is None else float(past.good))])
            yield family(catalogue.RETRAINING_LAST_START, [or_absent(past.started)])
            yield family(catalogue.RETRAINING_LAST_END, [or_absent(past.ended)])
            yield family(catalogue.RETRAINING_DRY_RUN, [float(retrainer.dry(model))])
