from pathlib import Path
from typing import Any

import pytest

from mlops_exporter.service.configuration import read
from mlops_exporter.settings.document import ConfigError
from tests.support.exporter import write_config


def faults(directory: Path, kserve: dict[str, Any]) -> list[str]:
    """What is wrong with a configuration, without the name of its file."""
    path = write_config(directory, sources=[{"name": "push", "http": {"kserve": kserve}}])
    try:
        read(path)
    except ConfigError as error:
        return [fault.removeprefix(f"{path}:").split(": ", 1)[1] for fault in error.faults]
    return []


@pytest.mark.parametrize(
    "kserve",
    [
        {},
        {"wait": "5m", "waiting_events": 10},
        {"models": {"credit": {"features": ["a", "b"]}, "ml/iris": {"classes": ["virginica", "setosa", "versicolor"]}}},
        {"models": {"my-isvc": {"model": "credit", "outputs": {"p": "scores"}, "classes": [0, 1.0]}}},
    ],
)
def test_good_mappings(tmp_path: Path, kserve: dict[str, Any]) -> None:
    assert faults(tmp_path, kserve) == []


@pytest.mark.parametrize(
    ("kserve", "expected"),
    [
        ({"models": {"my-isvc": {}}}, "my-isvc: model 'my-isvc' is not among models: credit, iris, price"),
        ({"models": {"ml/debit": {}}}, "ml/debit: model 'debit' is not among models: credit, iris, price"),
        ({"models": {"credit": {"classes": ["0"]}}}, "credit: classes must be those of the profile"),
        ({"models": {"price": {"classes": ["0"]}}}, "in the order of the model's output: none"),
        (
            {"models": {"credit": {"outputs": {"p": "probability"}}}},
            "must be 'prediction', 'score' or 'scores'",
        ),
        ({"models": {"credit": {"feature": []}}}, "did you mean features?"),
        ({"wait": 60}, "60 is not a duration"),
    ],
)
def test_bad_mappings(tmp_path: Path, kserve: dict[str, Any], expected: str) -> None:
    (fault,) = faults(tmp_path, kserve)
    assert expected in fault
