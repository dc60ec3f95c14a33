"""The client as a distribution of its own: one file and no dependency, built and installed as a user would."""

import sys
import zipfile
from pathlib import Path

import pytest

import mlops_exporter.client
from mlops_exporter import __version__
from tests.integration.test_packaging import ROOT, check_distribution, run
from tests.requirements import require_registry
from tests.support.http_sink import taking_events

SOURCE = Path(mlops_exporter.client.__file__)

SENDS = """
import sys
from mlops_exporter_client import Monitor
with Monitor(sys.argv[1], model="credit") as monitor:
    monitor.predict(features={"amount": 1.5}, score=0.5)
    assert monitor.flush()
    print(monitor.sent, sorted(name for name in sys.modules if name.startswith("mlops")))
"""


@pytest.fixture(scope="module", params=["from the sdist", "from the tree"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("client")
    require_registry(tmp_path_factory.mktemp("download"))
    only = ["--wheel"] if request.param == "from the tree" else []
    run(sys.executable, "-m", "build", *only, "--outdir", directory, ROOT / "client", directory=directory)
    (found,) = directory.glob("*.whl")
    return found


def test_it_is_the_one_file_without_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        assert names == {"mlops_exporter_client/__init__.py", "mlops_exporter_client/py.typed"}
        assert archive.read("mlops_exporter_client/__init__.py") == SOURCE.read_bytes()
        said = archive.read(metadata).decode()
    assert "Requires-Dist" not in said
    assert f"\nVersion: {__version__}\n" in said


def test_it_is_fit_to_be_published(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (license_,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(license_) == (ROOT / "LICENSE").read_bytes()
    if list(wheel.parent.glob("*.tar.gz")):
        check_distribution(wheel.parent)


def test_it_sends_events_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--target", tmp_path / "site", wheel,
        directory=tmp_path)  # fmt: skip
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{SENDS}"
    with taking_events() as (url, _):
        assert run(sys.executable, "-I", "-S", "-c", program, url, directory=tmp_path) == (
            "1 ['mlops_exporter_client']\n"
        )
