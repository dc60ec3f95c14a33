"""What the answers to a probe say: how good the model is on these rows, and whether it says what it said before.

Pinned rows that are sent again are no new evidence. So the interval is that of the set, as of any other sample of that
size, and does not narrow with time; what is new each time is whether an output has changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.counting.ledger import Layout, Outputs
from mlops_exporter.judging.performance import PerformanceSums, metrics_of
from mlops_exporter.probing.protocols import ProtocolError
from mlops_exporter.probing.rows import RowsError, chances, outcomes, score_columns
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.models import ModelSettings
from mlops_exporter.settings.probes import Role

_USUAL_ROLES: Mapping[str, Role] = {
    "predict": "prediction",
    "prediction": "prediction",
    "predictions": "prediction",
    "score": "score",
    "predict_proba": "scores",
    "probabilities": "scores",
    "scores": "scores",
}
"""What outputs of these names are where the configuration does not say."""


@dataclass(frozen=True, slots=True)
class Performance:
    """A metric of the rows with its 95 % interval."""

    value: float
    lower: float
    upper: float


def said(outputs: Mapping[str, Sequence[Any]], roles: Mapping[str, Role], profile: Profile) -> Outputs:
    """Return what the model said of each row, from its named outputs; raises ProtocolError."""
    if not roles:
        usual = {name: _USUAL_ROLES[name] for name in outputs if name in _USUAL_ROLES}
        roles = usual or (dict.fromkeys(outputs, "prediction") if len(outputs) == 1 else {})
    known = {role: outputs[name] for name, role in roles.items() if name in outputs}
    if not known:
        raise ProtocolError(
            f"outputs {', '.join(outputs)}: say under `outputs` which is the prediction, the score or the scores"
        )
    if lacking := set(roles.values()) - known.keys():
        names = " or ".join(name or "predictions" for name, role in roles.items() if role in lacking)
        raise ProtocolError(f"the answer lacks the output {names}; it has {', '.join(outputs)}")
    size = len(next(iter(known.values())))
    prediction, scores = np.full(size, np.nan), np.full((size, score_columns(profile)), np.nan)
    try:
        if "prediction" in known:
            prediction = outcomes(known["prediction"], profile, "prediction")
        if "score" in known and profile.task == "binary":
            scores = chances([[_single(value) for value in known["score"]]], "score", profile)
        if "scores" in known and profile.classes:
            scores = chances([*zip(*known["scores"], strict=True)], "scores", profile)
            if scores.shape[1] != len(profile.classes):
                raise RowsError(f"scores: one for each of {', '.join(profile.classes)} is expected")
            scores = scores[:, 1:] if profile.task == "binary" else scores
        if len(prediction) != size or len(scores) != size:
            raise RowsError("its outputs have different numbers of rows")
    except (TypeError, ValueError, OverflowError, RowsError) as error:
        raise ProtocolError(f"the answer does not fit a {profile.task} model: {error}") from None
    return Outputs.plain(prediction, scores)


def _single(value: Any) -> Any:
    """Return the only value of a list of one; anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def performance(outputs: Outputs, labels: Floats, profile: Profile, model: ModelSettings) -> dict[str, Performance]:
    """Return the metrics of labelled rows; those that are undefined are left out."""
    layout = Layout(profile)
    if not layout.score_columns:
        outputs = outputs._replace(scores=np.empty((len(labels), 0)))
    rows = np.flatnonzero(~np.isnan(labels))
    ledger = layout.zeros()
    decided = outputs.decided(profile.task, model.threshold).rows(rows)
    layout.count_labels(ledger, decided, labels[rows], np.full(len(rows), np.nan))
    sums = PerformanceSums(layout, ledger)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimates = {name: metric(sums) for name, metric in metrics_of(layout, model.costs).items()}
    found = {name: Performance(*(float(part) for part in estimate)) for name, estimate in estimates.items()}
    return {name: estimate for name, estimate in found.items() if np.isfinite(estimate.value)}


def changed(outputs: Outputs, pinned: Outputs, model: ModelSettings, tolerance: float) -> float:
    """Return the share of rows whose output differs from the pinned one.

    Classes differ when they are not the same, numbers when they are further apart than `tolerance` times the larger of
    1 and the pinned number. Compared is what both have: an output that is missing where the pinned one is not differs.
    """
    now, then = (part.decided(model.task, model.threshold) for part in (outputs, pinned))
    differs = np.zeros(len(now.prediction), np.bool_)
    for given, expected in ((now.prediction[:, np.newaxis], then.prediction[:, np.newaxis]), (now.scores, then.scores)):
        if np.isnan(given).all() or np.isnan(expected).all():
            continue
        with np.errstate(invalid="ignore"):
            far = np.abs(given - expected) > tolerance * np.maximum(1.0, np.abs(expected))
        differs |= (far | (np.isnan(given) != np.isnan(expected))).any(axis=1)
    return float(differs.mean())
