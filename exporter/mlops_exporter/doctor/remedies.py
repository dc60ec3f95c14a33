"""What to do about refused events, and what a good one looks like."""

import json
from typing import Any

from mlops_exporter.events.reasons import REASONS, Reason
from mlops_exporter.profile.bins import CategoricalVariable
from mlops_exporter.profile.forecasts import level_name
from mlops_exporter.profile.lists import CATEGORY, OF_ITEMS, SCORE
from mlops_exporter.profile.profile import Profile
from mlops_exporter.settings.config import Config


def refusal(reason: Reason, settings: Config) -> str:
    """Return what a reason means and what would be right."""
    names = ", ".join(model.name for model in settings.models)
    advice: dict[Reason, str] = {
        "unknown_model": f"write one of {names}, or add the model to the configuration",
        "missing_model": f"""add "model", one of {names}""",
        "future_timestamp": "write Unix seconds or RFC 3339, and set the clocks by NTP",
        "bad_horizon": "write one of the horizons of the profile (profile show lists them) in every forecast",
        "bad_quantile": "write all quantiles of the profile by their levels, or none",
        "bad_target": """write series and target_ts both, this as "2026-12-01T00:00:00Z" or Unix seconds, or an id""",
        "bad_timestamp": """write "2026-11-22T10:00:00Z" or Unix seconds, or leave ts out""",
        "unknown_class": "write classes as in the training data (profile show lists them), or build the profile anew",
        "missing_id": "send the label with the id of its prediction",
        "malformed_json": "write one JSON object per line",
        "forbidden_model": "give the token that model in sources.http.tokens",
        "too_many_versions": "raise limits.versions, and see whether versions are build numbers or dates",
    }
    return f"{REASONS[reason]}: {advice.get(reason, 'docs/events.md says what is taken')}"


def example(model: str, profile: Profile) -> str:
    """Return a prediction as one line of JSON, with values that the reference knows."""
    known = {
        name: variable for name, variable in profile.features.items() if not (profile.ranking and name in OF_ITEMS)
    }
    features = {name: _typical(variable) for name, variable in known.items()}
    event: dict[str, Any] = {"model": model, "version": profile.provenance.model_version, "id": "doctor-1"}
    event["features"] = features
    if profile.task == "binary" and profile.has_scores:
        event["score"] = 0.5
    elif profile.ranking:
        event |= _list(profile)
    elif profile.task == "multilabel":
        event["prediction"] = profile.classes[-1:]
    elif profile.classes:
        event["prediction"] = profile.classes[-1]
    else:
        event["prediction"] = _typical(profile.prediction or profile.label)
    told = profile.forecast
    if told is not None and told.horizons:
        event["horizon"] = told.horizons[0]
    if told is not None and told.quantiles:
        event["quantiles"] = dict.fromkeys(map(level_name, told.quantiles), event["prediction"])
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def _list(profile: Profile) -> dict[str, Any]:
    """Return the members of an event that show a list, of two items."""
    members = {"prediction": ["item-1", "item-2"]}
    for name, member in ((SCORE, "scores"), (CATEGORY, "categories")):
        if name in profile.features:
            members[member] = [_typical(profile.features[name])] * 2
    return members


def _typical(variable: Any) -> Any:
    """Return a category, or the middle of the reference's range."""
    if isinstance(variable, CategoricalVariable):
        return variable.categories[0] if variable.categories else None
    return None if variable is None else float(f"{variable.edges[len(variable.edges) // 2]:.6g}")
