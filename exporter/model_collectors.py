"""The collectors of models and their data, which the running exporter and a replay have in common."""

from collections.abc import Sequence

from exporter.challenge_collector import ChallengeCollector
from exporter.change_collector import ChangeCollector
from exporter.collectors import DataCollector, ModelCollector
from exporter.estimation_collector import EstimationCollector
from exporter.group_collector import GroupCollector
from exporter.model import Model
from exporter.multivariate_collector import MultivariateCollector
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
