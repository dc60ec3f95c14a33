"""One file a model: `models_dir`."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_exporter import cli
from mlops_exporter.profile.profile import save
from mlops_exporter.service.configuration import read
from mlops_exporter.service.service import Options, Service
from mlops_exporter.settings.document import ConfigError
from mlops_exporter.web.landing import landing_page
from tests.series import collect
from tests.support.pipeline import profile


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with mlops-exporter.yml, and models/ with a profile and nothing else."""
    (tmp_path / "models").mkdir()
    save(profile("regression"), tmp_path / "models" / "prices.json")
    (tmp_path / "mlops-exporter.yml").write_text("models_dir: models\n")
    return tmp_path


def write(directory: Path, file: str, **keys: Any) -> None:
    """Write the file of a model."""
    entry = {"task": "regression", "profile": "prices.json"} | keys
    (directory / "models" / file).write_text(yaml.safe_dump(entry))


def test_200_models_from_200_files(directory: Path) -> None:
    for number in range(200):
        write(directory, f"m{number}.yml", name=f"m{number}")
    config, profiles = read(directory / "mlops-exporter.yml")
    assert len(config.models) == len(profiles) == 200
    assert not config.broken


def test_whose_a_model_is_becomes_labels(directory: Path) -> None:
    write(directory, "m.yml", name="m", owner="anna", team="risk")
    write(directory, "n.yml", name="n")
    made = Service(*read(directory / "mlops-exporter.yml"), Options())
    found = collect(collector for collector in made.registry.collectors if collector.name == "model")
    assert [name for name in found if name.startswith("ml_model_owner_info")] == [
        'ml_model_owner_info{model="m",owner="anna",team="risk",environment=""}'
    ]


BROKEN = {
    "no YAML": ("a: [", "not YAML"),
    "no mapping": ("- credit", "must be a mapping with the keys name, task and profile"),
    "misspelt key": (
        "name: b\ntask: regression\nprofil: prices.json",
        ":3: profil: unknown key; did you mean profile?",
    ),
    "no such profile": ("name: b\ntask: regression\nprofile: gone.json", ":3: profile: "),
    "key twice": ("name: b\nname: c\ntask: regression\nprofile: prices.json", ":2: name: given twice"),
    "of another task": ("name: b\ntask: binary\nprofile: prices.json", ":2: task: 'binary', but the profile is for"),
    "empty": ("", "must be a mapping"),
    "the name of another": ("name: good\ntask: regression\nprofile: prices.json", "'good' is the name of a model in"),
    "team is a number": ("name: b\ntask: regression\nprofile: prices.json\nteam: 7", ":4: team: 7: must be"),
}


@pytest.mark.parametrize(("text", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_harms_only_itself_and_is_told_by_name(
    directory: Path, capsys: pytest.CaptureFixture[str], text: str, fault: str
) -> None:
    write(directory, "good.yml", name="good")
    (directory / "models" / "wrong.yml").write_text(text)
    write(directory, "zeta.yml", name="zeta")
    config, profiles = read(directory / "mlops-exporter.yml")
    assert [model.name for model in config.models] == ["good", "zeta"] == sorted(profiles)
    assert config.broken.keys() == {"wrong.yml"}
    assert "models/wrong.yml" in config.broken["wrong.yml"][0]
    assert fault in "\n".join(config.broken["wrong.yml"])
    assert cli.main(["check", str(directory / "mlops-exporter.yml")]) == 1
    assert fault in capsys.readouterr().err


def test_a_broken_file_is_a_metric_and_on_the_page(directory: Path) -> None:
    (directory / "models" / "wrong.yml").write_text("a: [")
    made = Service(*read(directory / "mlops-exporter.yml"), Options())
    assert collect(made.registry.collectors)['ml_exporter_model_file_broken{file="wrong.yml"}'] == 1
    assert "wrong.yml is left out" in landing_page(made.status(), "/metrics")


def test_what_a_mounted_configmap_keeps_beside_its_files_is_no_model(directory: Path) -> None:
    inside = directory / "models" / "..2026_11_29"
    inside.mkdir()
    write(directory, "..2026_11_29/good.yml", name="good", profile=str(directory / "models" / "prices.json"))
    (directory / "models" / "good.yml").symlink_to("..2026_11_29/good.yml")
    (directory / "models" / ".git.yml").write_text("- no model")
    (directory / "models" / "README.md").write_text("no model")
    config, _ = read(directory / "mlops-exporter.yml")
    assert [model.name for model in config.models] == ["good"]
    assert not config.broken


def test_models_of_both_kinds_and_limits_of_the_whole(directory: Path) -> None:
    write(directory, "b.yml", name="b")
    (directory / "mlops-exporter.yml").write_text(
        "models: [{name: a, task: regression, profile: models/prices.json}]\nmodels_dir: models\n"
    )
    assert [model.name for model in read(directory / "mlops-exporter.yml")[0].models] == ["a", "b"]
    (directory / "mlops-exporter.yml").write_text("models_dir: models\nlimits: {features: 1}\n")
    assert "limits.features of 1" in read(directory / "mlops-exporter.yml")[0].broken["b.yml"][0]


def test_a_directory_that_is_not_there_is_a_fault_of_the_configuration(directory: Path) -> None:
    (directory / "mlops-exporter.yml").write_text("models_dir: modles\n")
    with pytest.raises(ConfigError, match=r"mlops-exporter.yml:1: models_dir: .*modles' cannot be read"):
        read(directory / "mlops-exporter.yml")


def test_without_models_the_machine_alone_is_watched(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "mlops-exporter.yml").write_text("compute: {interval: 5s}\n")
    config, profiles = read(directory / "mlops-exporter.yml")
    assert (config.models, profiles) == ([], {})
    made = Service(config, profiles, Options())
    made.intake.closed = None
    assert made.ready() is None
    assert not made.status().watches_models
    collect(made.registry.collectors)
    assert cli.main(["check", str(directory / "mlops-exporter.yml")]) == 0
    assert "no models: the machine alone is watched" in capsys.readouterr().out
