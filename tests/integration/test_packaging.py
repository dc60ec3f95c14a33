"""What is published: sdist and wheel, whole, and at work in an environment that has never seen the repository."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from mlops_exporter import __version__
from tests.requirements import require_registry
from tests.support.prometheus import eventually, free_port

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLOPS_EXPORTER"))}


def run(*command: "str | Path", directory: Path, timeout: float = 300.0) -> str:
    """Standard output of a command that must succeed."""
    environment = ENVIRONMENT | {"PIP_CONSTRAINT": str(CONSTRAINTS), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was made of it."""
    directory = tmp_path_factory.mktemp("dist")
    require_registry(tmp_path_factory.mktemp("download"))
    run(sys.executable, "-m", "build", "--outdir", directory, ROOT, directory=directory)
    return directory


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment into which the wheel was installed."""
    directory = tmp_path_factory.mktemp("clean")
    venv.create(directory, with_pip=True)
    (wheel,) = built.glob("*.whl")
    run(directory / "bin" / "pip", "install", "--quiet", "--no-compile", wheel, directory=directory)
    return directory / "bin"


def tracked(*places: str) -> set[str]:
    """The files of the repository in some places."""
    return set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", *places, directory=ROOT).split())


def test_the_sdist_has_everything_and_nothing_else(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == tracked() - tracked("charts") | {"PKG-INFO"}


def test_the_wheel_has_the_whole_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if not name.startswith(f"mlops_exporter-{__version__}.dist-info/")}
    bundled = tracked(
        "prometheus/rules", "prometheus/addresses.yml", "alertmanager", "grafana/dashboards", "docs/runbooks"
    )
    carried = {f"mlops_exporter/bundled/{name}" for name in bundled}
    assert package == {name.removeprefix("exporter/") for name in tracked("exporter")} | carried
    assert {
        "mlops_exporter/py.typed",
        "mlops_exporter/demo/flights.profile.json",
        "mlops_exporter/demo/data/mpg.csv",
    } <= package
    assert any(name.endswith("licenses/LICENSE") for name in names)


def check_distribution(directory: Path) -> None:
    """Hold what is to be published against the checks of those who know what PyPI wants."""
    (sdist,), (wheel,) = directory.glob("*.tar.gz"), directory.glob("*.whl")
    for module, *arguments in (
        ("twine", "check", "--strict", sdist, wheel),
        ("check_wheel_contents", wheel),
        ("pyroma", "--min=10", sdist),  # it exits with 2 below
    ):
        run(sys.executable, "-m", module, *arguments, directory=directory)


def test_it_is_fit_to_be_published(built: Path) -> None:
    check_distribution(built)


def test_links_of_the_long_description_lead_to_the_files_of_its_version(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"mlops_exporter-{__version__}.dist-info/METADATA").decode().partition("\n\n")[2]
    links = re.findall(r"\]\(([^)]*)\)", text)
    home = re.compile(
        rf"https://github\.com/mlops-exporter/mlops-exporter/(blob|raw)/v{re.escape(__version__)}/([^#]*)"
    )
    ours = [match for match in map(home.match, links) if match]
    assert len(ours) >= 20
    assert all((ROOT / match[2]).exists() for match in ours)
    assert {match[2] for match in ours if match[1] == "raw"} == {"docs/images/models.png"}
    assert all(link.startswith(("https://", "#")) for link in links)


def test_the_extras_can_be_had(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    extras = f"{wheel}[arrow,kafka,parquet,redis]"
    dry = ("install", "--dry-run", "--ignore-installed", "--only-binary=:all:")
    said = run(sys.executable, "-m", "pip", *dry, extras, directory=built)
    assert all(f" {name}-" in said for name in ("pyarrow", "confluent-kafka", "redis", "hiredis"))


def test_it_works_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    program = installed / "mlops-exporter"
    assert run(program, "--version", directory=tmp_path) == f"mlops-exporter {__version__}\n"
    assert "doctor" in run(program, "--help", directory=tmp_path)
    where = run(installed / "python", "-c", "import mlops_exporter; print(mlops_exporter.__file__)", directory=tmp_path)
    package = Path(where.strip()).parent
    assert package.is_relative_to(installed.parent)
    written = run(program, "bundle", "--output", tmp_path / "bundle", directory=tmp_path)
    assert (tmp_path / "bundle" / "grafana" / "dashboards" / "mlops-models.json").exists(), written
    assert "good, 2 models" in run(program, "check", package / "demo" / "mlops-exporter.yml", directory=tmp_path)

    address = f"127.0.0.1:{free_port()}"
    command = [str(program), "demo", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or watches_both(address), 60)
        assert process.poll() is None, (tmp_path / "log").read_text()
        found = run(program, "doctor", f"--config.file={package / 'demo' / 'mlops-exporter.yml'}",
                    f"--web.listen-address={address}", directory=tmp_path)  # fmt: skip
        assert f"has run at http://{address}" in found
        assert found.splitlines()[-1].startswith("0 problems")
    finally:
        process.terminate()
        process.wait(timeout=15)
    assert process.returncode == 0


def test_it_lives_beside_a_distribution_called_exporter(installed: Path, tmp_path: Path) -> None:
    """PyPI has one, whose folder is `exporter`: neither hides the other, and removing it takes nothing of ours."""
    run(installed / "pip", "install", "--quiet", "--no-compile", "--no-deps", "exporter==0.0.4", directory=tmp_path)
    names = "import mlops_exporter.client, importlib.util; print(importlib.util.find_spec('exporter') is not None)"
    assert run(installed / "python", "-c", names, directory=tmp_path) == "True\n"
    run(installed / "pip", "uninstall", "--quiet", "--yes", "exporter", directory=tmp_path)
    assert run(installed / "python", "-c", names, directory=tmp_path) == "False\n"
    assert run(installed / "mlops-exporter", "--version", directory=tmp_path) == f"mlops-exporter {__version__}\n"


def test_a_users_own_exporter_does_not_hide_the_client(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "exporter.py").write_text("")
    assert run(installed / "python", "-c", "from mlops_exporter.client import Monitor", directory=tmp_path) == ""


def watches_both(address: str) -> bool:
    """Whether predictions of both models of the demonstration were counted."""
    try:
        lines = httpx.get(f"http://{address}/metrics", trust_env=False, timeout=10).text.splitlines()
    except httpx.TransportError:
        return False
    counted = {
        model: float(line.rpartition(" ")[2])
        for line in lines if line.startswith("ml_model_predictions_total")
        for model in ("flights", "mpg") if f'model="{model}"' in line
    }  # fmt: skip
    return len(counted) == 2 and min(counted.values()) > 0
