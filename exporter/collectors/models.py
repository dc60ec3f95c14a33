"""The collectors of models and their data, which the running exporter and a replay have in common."""

from collections.abc import Sequence

from exporter.collectors.challenge import ChallengeCollector
from exporter.collectors.change import ChangeCollector
from exporter.collectors.data import DataCollector
from exporter.collectors.estimation import EstimationCollector
from exporter.collectors.groups import GroupCollector
from exporter.collectors.multivariate import MultivariateCollector
from exporter.collectors.performance import ModelCollector
from exporter.model import Model
from exporter.samples import Collector


def model_collectors(models: Sequence[Model], data: DataCollector) -> list[Collector]:
    """Return a collector of each kind; `data` is the one for the data of these models."""
    return [
        ModelCollector(models),
        data,
        GroupCollector(models),
        EstimationCollector(models),
        MultivariateCollector(models),
        ChangeCollector(models),
        ChallengeCollector(models),
    ]
