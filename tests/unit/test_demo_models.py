import numpy as np
import pytest

from mlops_exporter.demo.models import LinearModel, Numeric
from mlops_exporter.demo.tables import DATA, read_table

FLIGHTS_TEXT = ("departure", "carrier", "origin")


def test_identity_is_the_standardised_sum() -> None:
    model = LinearModel("identity", 10.0, {"a": Numeric(mean=2.0, scale=4.0, weight=8.0)}, {"c": {"x": 1.0}})
    predicted = model.predict({"a": np.array([2.0, 4.0]), "c": np.array(["x", "x"])})
    assert predicted.tolist() == [11.0, 15.0]


def test_missing_numbers_and_unknown_categories_do_not_move_the_prediction() -> None:
    model = LinearModel("identity", 10.0, {"a": Numeric(mean=2.0, scale=4.0, weight=8.0)}, {"c": {"x": 1.0}})
    predicted = model.predict({"a": np.array([np.nan, 2.0]), "c": np.array(["unheard of", "x"])})
    assert predicted.tolist() == [10.0, 11.0]


def test_logit_gives_the_probability() -> None:
    model = LinearModel("logit", 0.0, {"a": Numeric(mean=0.0, scale=1.0, weight=1.0)}, {})
    assert model.predict({"a": np.array([0.0, np.log(3)])}) == pytest.approx([0.5, 0.75])


def test_the_cars_reference_predicts_about_as_well_as_the_documentation_says() -> None:
    cars = read_table(DATA / "mpg_reference.csv", text=("origin",))
    fitted = LinearModel.load(DATA / "mpg_model.json").predict(cars)
    assert np.abs(fitted - cars["mpg"]).mean() == pytest.approx(1.70, abs=0.005)
    assert np.abs(cars["prediction"] - cars["mpg"]).mean() == pytest.approx(1.80, abs=0.005)


def test_the_flights_reference_holds_the_scores_of_the_bundled_model() -> None:
    flights = read_table(DATA / "flights_reference.csv.gz", text=FLIGHTS_TEXT)
    model = LinearModel.load(DATA / "flights_model.json")
    assert model.predict(flights) == pytest.approx(flights["score"], abs=5.1e-7)  # rounded to six digits
