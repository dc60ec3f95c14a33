"""Small models for tests: one of each task, with numeric, categorical and boolean features."""

from itertools import pairwise

from mlops_exporter.profile.bins import CategoricalVariable, NumericVariable
from mlops_exporter.profile.forecasts import ForecastReference
from mlops_exporter.profile.profile import SCHEMA, Profile, Provenance

NOW = 1_700_000_000.0


def numeric(edges: list[float]) -> NumericVariable:
    """A numeric variable with ten reference values in each fine bin."""
    bins = len(edges) - 1
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return NumericVariable(edges, list(range(bins)), [0, *[10] * bins, 0, 0, 0], middles, 0.5, 1.0)


def categorical(*categories: str) -> CategoricalVariable:
    """A categorical variable with ten reference values in each category."""
    return CategoricalVariable(list(categories), [*[10] * len(categories), 0, 0, 0])


def profiles() -> dict[str, Profile]:
    """A binary model `credit`, a multiclass `iris` and a regression `price`, valid."""
    provenance = Provenance("2026-01-01T00:00:00Z", "0", "3", "train.csv", "0" * 64)
    edges = [0.0, 10.0, 20.0, 30.0]
    made = {
        "credit": Profile(
            SCHEMA,
            "binary",
            30,
            provenance,
            {
                "amount": numeric(edges),
                "country": categorical("DE", "FR", "1"),
                "age": numeric(edges),
                "member": categorical("false", "true"),
            },
            classes=["0", "1"],
            score=numeric([0.0, 0.25, 0.5, 0.75, 1.0]),
            score_edges=[0.25, 0.5, 0.75],
            prediction=categorical("0", "1"),
            label=categorical("0", "1"),
        ),
        "iris": Profile(
            SCHEMA,
            "multiclass",
            30,
            provenance,
            {"width": numeric(edges), "length": numeric(edges)},
            classes=["setosa", "versicolor", "virginica"],
            score_edges=[0.25, 0.5, 0.75],
            prediction=categorical("setosa", "versicolor", "virginica"),
            label=categorical("setosa", "versicolor", "virginica"),
        ),
        "price": Profile(
            SCHEMA,
            "regression",
            30,
            provenance,
            {"rooms": numeric(edges), "area": categorical("north", "south")},
            prediction=numeric(edges),
            label=numeric(edges),
        ),
    }
    for profile in made.values():
        profile.validate()
    return made


def forecasting() -> Profile:
    """The profile of a forecast `load`, valid: two horizons and an interval."""
    price = profiles()["price"]
    made = Profile(
        SCHEMA,
        "forecast",
        30,
        price.provenance,
        price.features,
        prediction=price.prediction,
        label=price.label,
        forecast=ForecastReference(["1h", "24h"], [0.1, 0.9]),
    )
    made.validate()
    return made
