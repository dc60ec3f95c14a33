"""The collectors of models and their data, which the running exporter and a replay have in common."""

from collections.abc import Sequence

from mlops_exporter.collectors.challenge import ChallengeCollector
from mlops_exporter.collectors.change import ChangeCollector
from mlops_exporter.collectors.data import DataCollector
from mlops_exporter.collectors.estimation import EstimationCollector
from mlops_exporter.collectors.groups import GroupCollector
from mlops_exporter.collectors.multivariate import MultivariateCollector
from mlops_exporter.collectors.performance import ModelCollector
from mlops_exporter.counting.model import Model
from mlops_exporter.exposition.samples import Collector


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
