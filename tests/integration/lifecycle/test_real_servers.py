"""Beside MLflow's and MLServer's own servers, which `make mlflow` installs into an environment of their own.

A model of scikit-learn is behind both scoring servers; a file breaks it while it is served.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from mlops_exporter.lifecycle.mirror import Mirror
from mlops_exporter.lifecycle.mlflow import Mlflow
from mlops_exporter.probing.prober import Prober
from mlops_exporter.profile.profile import Profile, load
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import ProbeSettings
from mlops_exporter.settings.registry import MlflowSettings
from mlops_exporter.tables.lists import lists
from tests.requirements import require_program
from tests.support.exporter import run
from tests.support.mlflow import environment, python
from tests.support.prometheus import eventually, free_port

HERE = Path(__file__).parent
FAULTS = ["a wrong artifact", "swapped columns", "a broken scaler", "a label flip"]
PASSWORD = "a-password-for-tests"

pytestmark = pytest.mark.mlflow


@contextmanager
def server(url: str, log: Path, *command: str, cwd: Path, **more: str) -> Iterator[str]:
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=cwd, env=environment(**more), stdout=output, stderr=output) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or _answers(url), 180)
            assert process.poll() is None, log.read_text()[-3000:]
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served")
    command = [python(), str(HERE / "train.py"), "save", str(directory)]
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=300)
    (directory / "mlserver" / "runtime.py").write_bytes((HERE / "runtime.py").read_bytes())
    return directory


@pytest.fixture(scope="module")
def profile(saved: Path) -> Profile:
    return build(
        BuildRequest(
            data=saved / "golden.ndjson", task="binary", label="label", scores={"positive": "p"}, positive="1",
            features=("amount", "income", "age"), model_version="7",
        )
    )[0]  # fmt: skip


@pytest.fixture(scope="module", params=["mlflow", "kserve_v2"])
def endpoint(request: pytest.FixtureRequest, saved: Path) -> Iterator[dict[str, str]]:
    """`mlflow models serve`, then MLServer."""
    port, fault, log = free_port(), str(saved / "fault"), saved / f"{request.param}.log"
    if request.param == "mlflow":
        program = require_program("mlflow", "make mlflow")
        command = [program, "models", "serve", "-m", str(saved / "model"), "--env-manager", "local", "-w", "1"]
        with server(
            f"http://127.0.0.1:{port}/ping", log, *command, "-h", "127.0.0.1", "-p", str(port), cwd=saved,
            MODEL_FAULT=fault, PATH=f"{Path(program).parent}:{os.environ['PATH']}",
        ):  # fmt: skip
            yield {"mlflow": f"http://127.0.0.1:{port}/invocations"}
        return
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (saved / "mlserver" / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
    model = f"http://127.0.0.1:{port}/v2/models/credit"
    program = require_program("mlserver", "make mlflow")
    with server(f"{model}/ready", log, program, "start", ".", cwd=saved / "mlserver", MODEL_FAULT=fault):
        yield {"kserve_v2": f"{model}/infer"}


def prober(endpoint: Mapping[str, Any], saved: Path, profile: Profile) -> Prober:
    settings = {
        "name": "golden", "model": "credit", "rows": str(saved / "golden.ndjson"), "endpoint": endpoint,
        "pinned": {"score": "p"}, "outputs": {"": "score", "predict_proba": "score"}, "requests_per_second": 100,
    }  # fmt: skip
    model = ModelSettings.model_validate({"name": "credit", "task": "binary", "profile": "credit.json"})
    probe = ProbeSettings.model_validate(settings)
    return Prober(probe, model, profile, lambda path: lists(str(path)), random=Random(1))


def test_each_fault_is_told_and_a_healthy_model_is_left_alone(
    endpoint: Mapping[str, Any], saved: Path, profile: Profile
) -> None:
    subject = prober(endpoint, saved, profile)

    def changed() -> float | None:
        asyncio.run(subject.probe())
        assert subject.course.error is None
        return subject.results[0].changed

    assert [changed() for _ in range(5)] == [0.0] * 5
    assert subject.results[0].version == ("7" if "kserve_v2" in endpoint else "unknown")
    for fault in FAULTS:
        (saved / "fault").write_text(fault)
        assert (changed() or 0.0) > 0.01, fault
    (saved / "fault").write_text("")
    assert changed() == 0.0


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """`mlflow server` with passwords."""
    program, directory, port = require_program("mlflow", "make mlflow"), tmp_path_factory.mktemp("mlflow"), free_port()
    (directory / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"admin_password = {PASSWORD}\ndatabase_uri = sqlite:///{directory}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = [program, "server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port)]
    stores = ["--workers", "1", "--backend-store-uri", "sqlite:///db.sqlite", "--artifacts-destination", "./artifacts"]
    with server(
        f"http://127.0.0.1:{port}/health", directory / "server.log", *command, *stores, cwd=directory,
        MLFLOW_AUTH_CONFIG_PATH=str(directory / "auth.ini"), MLFLOW_FLASK_SERVER_SECRET_KEY="of the test",
    ):  # fmt: skip
        yield f"http://127.0.0.1:{port}", directory


def trained(url: str, directory: Path) -> dict[str, str]:
    """Train and register the next version."""
    done = subprocess.run(
        [python(), str(HERE / "train.py"), "log", url, str(directory)],
        env=environment(MLFLOW_TRACKING_USERNAME="admin", MLFLOW_TRACKING_PASSWORD=PASSWORD),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, str] = json.loads(
        next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{"))
    )
    return answer


def test_a_trained_model_is_followed_with_its_profile_and_its_metrics(
    tracking: tuple[str, Path], tmp_path: Path
) -> None:
    url, directory = tracking
    (tmp_path / "password").write_text(PASSWORD)
    access = {"url": url, "username": "admin", "password_file": str(tmp_path / "password")}
    settings = MlflowSettings.model_validate(access)
    first = trained(url, directory)
    assert not Mirror("credit", "credit", MlflowSettings(url=url), tmp_path / "no", {}).refresh(), "without password"
    subject = Mirror("credit", "credit", settings, tmp_path / "profiles", {"roc_auc": "val_auc"})
    assert subject.refresh()
    profile = load(tmp_path / "profiles" / f"{first['version']}.json")
    assert profile.performance["roc_auc"] == 0.876
    assert profile.provenance.model_version == first["version"]
    second = trained(url, directory)
    assert subject.refresh(), "the alias has moved"
    assert subject.aliases == {"champion": second["version"]}
    assert {path.stem for path in (tmp_path / "profiles").glob("*.json")} == {first["version"], second["version"]}
    subject.write_state({second["version"]: "good since today"})
    client = Mlflow(settings)
    built = run(
        "profile", "build", f"--data={directory / 'reference.ndjson'}", "--task=binary", "--label=label", "--score=p",
        "--positive=1", f"--log-to-run={second['run']}", f"--mlflow.url={url}", "--mlflow.username=admin",
        f"--mlflow.password-file={tmp_path / 'password'}", "--artifact=again.json", f"--output={tmp_path / 'a.json'}",
        directory=tmp_path,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert client.artifact(second["run"], "again.json") == (tmp_path / "a.json").read_bytes()
