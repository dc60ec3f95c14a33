"""From a training script: make the profile of its reference data and log it to the active run of MLflow.

    with mlflow.start_run():
        …
        log_profile(frame, task="binary", label="y", score="p", positive="1")

`frame` is the labelled data that the model was judged on, with its scores or predictions: a pandas DataFrame, or the
path of a table. MLflow itself stores the file, so any artifact store will do.
"""

import tempfile
from pathlib import Path
from typing import Any

from mlops_exporter.judging.drift import fitted_thresholds
from mlops_exporter.profile.hours import Hours
from mlops_exporter.profile.profile import Profile, Task, save
from mlops_exporter.profiling.build import BuildRequest, build
from mlops_exporter.profiling.hours import Timing
from mlops_exporter.settings.registry import ARTIFACT


def log_profile(
    frame: Any,
    *,
    task: Task,
    label: str | None = None,
    prediction: str | None = None,
    score: str | None = None,
    scores: dict[str, str] | None = None,
    positive: str | None = None,
    threshold: float = 0.5,
    features: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    outcomes: tuple[str, ...] = (),
    segments: dict[str, list[float]] | None = None,
    importances: dict[str, float] | None = None,
    bins: int = 10,
    time: str | None = None,
    rhythm: Hours = "hour",
    timezone: str = "UTC",
    artifact: str = ARTIFACT,
) -> Profile:
    """Build a profile and log it to the active run; returns it. Arguments are those of `profile build`.

    Raises BuildError or TableError for data of no use, and RuntimeError without a run.
    """
    import mlflow

    run = mlflow.active_run()
    if run is None:
        raise RuntimeError("no run is active: call log_profile inside `with mlflow.start_run():`")
    with tempfile.TemporaryDirectory() as directory:
        if isinstance(frame, str | Path):
            data = Path(frame)
        else:
            data = Path(directory) / "reference.ndjson"
            frame.to_json(data, orient="records", lines=True, double_precision=15, date_format="iso")
        profile, _ = build(
            BuildRequest(
                data=data,
                task=task,
                label=label,
                prediction=prediction,
                scores=scores or ({"positive": score} if score else {}),
                positive=positive,
                threshold=threshold,
                features=features,
                exclude=exclude,
                categorical=categorical,
                groups=groups,
                rated=outcomes,
                segments=segments or {},
                importances=importances or {},
                bins=bins,
                timing=Timing(time, rhythm, timezone) if time else None,
                model_version="",
            )
        )
        path, _, name = artifact.rpartition("/")
        file = Path(directory) / name
        profile.thresholds = fitted_thresholds(profile)
        save(profile, file)
        mlflow.log_artifact(str(file), path or None)
    return profile
