"""examples/: each is short, and does what it says."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import mlflow
from tests.support.exporter import ENVIRONMENT, command
from tests.support.prometheus import eventually, free_port

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_each_is_under_sixty_lines() -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".yml")]
    assert len(files) >= 8
    assert not [path for path in files if len(path.read_text().splitlines()) >= 60]


def _run(*arguments: str, directory: Path) -> str:
    done = subprocess.run(
        arguments, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples after the two commands of their README."""
    place = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns("__pycache__"))
    _run(sys.executable, "train.py", directory=place)
    text = (EXAMPLES / "README.md").read_text().partition("mlops-exporter profile build ")[2].partition("```")[0]
    _run(*command("profile", "build", *text.replace("\\\n", " ").split()), directory=place)
    return place


@contextmanager
def _served(*arguments: str, directory: Path, ready: str, **environment: str) -> Iterator[None]:
    with (directory / "log.txt").open("w") as log:
        process = subprocess.Popen(
            arguments, cwd=directory, env={**ENVIRONMENT, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            eventually(lambda: process.poll() is not None or _answers(ready), 60)
            assert process.poll() is None, (directory / "log.txt").read_text()
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code < 500
    except httpx.TransportError:
        return False


def _sum(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", trust_env=False, timeout=10).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


def test_script_batch_and_service_post_to_one_exporter(trained: Path) -> None:
    url, service = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    exporter = command("run", "--config.file=mlops-exporter.yml", f"--web.listen-address={url[7:]}")
    with _served(*exporter, directory=trained, ready=f"{url}/-/ready"):
        _run(sys.executable, "train.py", "send", url, directory=trained)
        assert _sum(url, "ml_model_predictions_total") == _sum(url, "ml_model_labels_total") == 500
        for _ in range(2):
            assert "2000 taken" in _run(sys.executable, "batch.py", "2026-11-28", url, directory=trained)
        assert _sum(url, "ml_model_predictions_total") == 2500
        program = [sys.executable, "-m", "uvicorn", "service:app", f"--port={service.rpartition(':')[2]}"]
        with _served(*program, directory=trained, ready=f"{service}/docs", MLOPS_EXPORTER_URL=url):
            asked = {"id": "a1", "amount": 20, "age": 41}
            answer = httpx.post(f"{service}/predict", json=asked, trust_env=False, timeout=10).json()
            assert 0 < answer["score"] < 1
            eventually(lambda: _sum(url, "ml_model_predictions_total") == 2501, 10)
        assert _sum(url, "ml_exporter_events_rejected_total") == 0


@pytest.mark.parametrize("platform", ["azureml", "kserve", "sagemaker"])
def test_what_platforms_logged_is_read_where_it_lies(trained: Path, platform: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    exporter = command("run", f"--config.file={platform}/mlops-exporter.yml", f"--web.listen-address={url[7:]}")
    with _served(*exporter, directory=trained, ready=f"{url}/-/ready"):
        eventually(lambda: _sum(url, "ml_model_predictions_total") == 6, 30)
        assert _sum(url, "ml_exporter_events_rejected_total") == 0


@pytest.mark.mlflow
def test_mlflow_loop_registers_a_version_with_its_profile(trained: Path) -> None:
    store = "sqlite:///" + str(trained / "mlflow.db")
    done = subprocess.run(
        [mlflow.python(), "mlflow_loop.py"], cwd=trained, env=mlflow.environment(MLFLOW_TRACKING_URI=store),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "version 1 is the champion" in done.stdout, done.stderr
