"""Documentation that follows from the code: `python -m tests.documents` writes it, the test suite compares it."""

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mlops_exporter.exposition.catalogue import Metric, all_metrics
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.durations import format_duration

DOCS = Path(__file__).parent.parent / "docs"

MEANINGS = {
    "state": "Where counts, windows and waiting predictions survive a restart; without it they live in memory.",
    "state.path": "Directory of the journal and the checkpoints.",
    "models": "What is watched.",
    "sources": "Where events come from.",
    "compute": "Whether CPU and GPU are used well, and what they cost.",
    "limits": "Bounds on memory and work.",
    "models[].name": "`model` of its events and of its series.",
    "models[].task": "What it predicts; as in the profile.",
    "models[].profile": "The reference, made by `mlops-exporter profile build`.",
    "models[].windows": "Lengths of the rolling windows; each adds a series to every gauge.",
    "models[].positive": "The positive class (binary), to be checked against the profile.",
    "models[].threshold": "Score from which on positive is predicted, where events carry no prediction.",
    "models[].performance_time": "Which time puts a label into a window: its own or its prediction's.",
    "models[].label_delay": "Age at which a prediction should have its label, `label_ttl` at most.",
    "models[].label_ttl": "How long a prediction waits for its label.",
    "models[].benchmarks": "What each metric must keep.",
    "models[].drift": "Drift statistics and their thresholds.",
    "models[].min_samples": "Sample sizes below which a value is absent.",
    "models[].benchmarks.NAME.min": "Lowest value.",
    "models[].benchmarks.NAME.max": "Highest value.",
    "models[].benchmarks.NAME.max_drop": "How far the value may lie below the profile's own.",
    "models[].benchmarks.NAME.max_increase": "How far the value may lie above the profile's own (errors).",
    "models[].drift.statistics": "Which are exported.",
    "models[].drift.false_alarm_rate": "Share of windows without drift that may exceed the threshold.",
    "models[].drift.min_effect": "Least value that counts as drift, however large the sample.",
    "models[].fairness": "Which groups of people are compared; nothing is without it.",
    "models[].estimation": "Performance estimated before labels are in.",
    "models[].multivariate": "Drift of the joint distribution of numeric features, and of embeddings.",
    "models[].change": "Changes of errors and scores as they happen.",
    "models[].challenge": "Two versions that are compared on the same events.",
    "models[].fairness.attributes": "Attributes: a name, `{name: age, edges: [25, 40]}`, or an intersection `sex*age`.",
    "models[].fairness.favourable": "The class that people want; by default the positive one.",
    "models[].fairness.min_group_size": "Events below which a group is exported by its size alone.",
    "models[].fairness.benchmarks": "What each measure of fairness must keep.",
    "models[].fairness.attributes[].name": "In the events' `groups` or among the features; `*` joins attributes.",
    "models[].fairness.attributes[].edges": "Where a numeric attribute is cut into groups.",
    "models[].fairness.benchmarks.NAME.min": "Lowest value.",
    "models[].fairness.benchmarks.NAME.max": "Highest value.",
    "models[].estimation.enabled": "Whether it is computed; the profile must allow it.",
    "models[].multivariate.enabled": "Whether it is computed; the profile must allow it.",
    "models[].multivariate.min_effect": "Least value that counts as drift, however large the sample.",
    "models[].change.enabled": "Whether streams are watched; the profile must know them.",
    "models[].change.false_alarm_probability": "Probability that the evidence ever alarms without a change.",
    "models[].change.tolerance": "Change of the mean, on a scale from 0 to 1, that is let pass.",
    "models[].challenge.champion": "The version in charge.",
    "models[].challenge.challenger": "The version that predicts the same events under the same ids.",
    "models[].min_samples.performance": "Labels below which no performance is exported.",
    "models[].min_samples.drift": "Values below which no drift is exported.",
    "sources[].name": "`source` of its series.",
    "sources[].http": "Events posted to `/v1/events`.",
    "sources[].http.kserve": "CloudEvents of KServe's inference logger.",
    "sources[].http.kserve.models": "How payloads become events, by `inferenceservicename` or `namespace/name`.",
    "sources[].http.kserve.wait": "How long a request or response waits for the other.",
    "sources[].http.kserve.waiting_events": "How many may wait; beyond it the oldest are counted alone.",
    "sources[].http.kserve.waiting_bytes": "Bytes that they may hold; beyond it likewise.",
    "sources[].http.kserve.remembered_events": "CloudEvents that are remembered, to know repeated ones.",
    "sources[].http.kserve.models.NAME.model": "The model; by default that of the same name.",
    "sources[].http.kserve.models.NAME.component": "The component whose CloudEvents count; others are dropped.",
    "sources[].http.kserve.models.NAME.version": "The CloudEvents extension that tells the version.",
    "sources[].http.kserve.models.NAME.features": "Names of the columns where rows are lists.",
    "sources[].http.kserve.models.NAME.outputs": "Which output is the prediction, the score, or the scores.",
    "sources[].http.kserve.models.NAME.classes": "Order of the classes in scores; by default the profile's.",
    "limits.series": "Series of a scrape; where there could be more, the finest detail is left out: see "
    "[operations.md](operations.md#limits).",
    "limits.pending_predictions": "Predictions of a model that wait for labels; beyond it the oldest are given up.",
    "limits.remembered_labels": "Pairs of a model that are remembered, to know repeated and corrected labels.",
    "limits.versions": "Versions of a model; events of further ones are refused.",
    "limits.features": "Features of a profile.",
    "limits.categories": "Categories of one feature in a profile; in events, any other counts as `other`.",
    "limits.classes": "Classes of a profile; memory grows with their square.",
    "limits.groups": "Groups of one attribute or intersection; in events, any other counts as `other` or `unknown`.",
    "limits.queue_events": "Events that wait to be counted; beyond it senders get 429.",
    "limits.body_bytes": "Size of a body after decompression; beyond it senders get 413.",
}
"""What each key is for; a key without an entry here or a page of its section's own is an error."""

PAGES = {"sources[]": "sources.md", "compute": "compute.md"}
"""Pages that explain all keys of a section."""

PILLARS = {"model": "The model", "data": "The data", "compute": "The compute", "exporter": "The exporter itself"}


def metrics() -> str:
    """Return docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made by `python -m tests.documents` from `exposition/catalogue.py`. Names, types and labels are a contract.",
        "",
        "Two classes, never mixed: **counters** add up over replicas, so any range and any fleet is a PromQL "
        "expression; **gauges with a `window` label** are this replica's rolling view. A value that cannot be computed "
        "honestly is absent, never 0 or NaN, and its sample size is there to say why.",
    ]
    for pillar, title in PILLARS.items():
        lines += ["", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        lines += [_row(metric) for metric in all_metrics() if metric.pillar == pillar]
    return "\n".join(lines) + "\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {labels} | {metric.help.replace('|', chr(92) + '|')} |"


def configuration() -> str:
    """Return the tables of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Written by `python -m tests.documents` from `settings/`. `mlops-exporter check FILE` names the file, "
        "line and key of every fault, and says what would be right. Relative paths start from the directory of the "
        "configuration file. Durations are Prometheus': `30s`, `15m`, `1h30m`, `7d`.",
    ]
    for title, settings in dict(_settings("", Config)).items():
        lines += ["", f"## {title or 'The file'}", "", cleandoc(settings.__doc__ or "")]
        if settings.model_fields:
            lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in settings.model_fields.items():
            kind = "duration" if "BeforeValidator" in repr(field.metadata) else _type(field.annotation)
            lines.append(f"| `{name}` | {kind} | {_default(field)} | {_meaning(f'{title}.{name}'.lstrip('.'))} |")
    return "\n".join(lines) + "\n"


def _meaning(key: str) -> str:
    """Return what a key is for; raises KeyError for one that nobody explained."""
    page = next((page for section, page in PAGES.items() if key.startswith(section)), None)
    return MEANINGS[key] if key in MEANINGS or page is None else f"see [{page}]({page})"


def _settings(path: str, settings: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each kind of settings with the path of its keys, a parent before its children."""
    yield path, settings
    for name, field in settings.model_fields.items():
        for inner in _models(field.annotation):
            kind = (
                "[]"
                if get_origin(field.annotation) in (list, tuple)
                else ".NAME"
                if _is_mapping(field.annotation)
                else ""
            )
            yield from _settings(f"{path}.{name}{kind}".lstrip("."), inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if next(_models(annotation), None) is not None:
        return {list: "list of mappings", tuple: "list of mappings", dict: "mapping by name"}.get(origin, "mapping")
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if origin is not None and all(isinstance(argument, str) for argument in arguments):
        return ", ".join(f"`{argument}`" for argument in arguments)
    if arguments and "BeforeValidator" in repr(annotation):
        return "duration"
    if arguments:
        return _type(arguments[0])
    return {"str": "text", "int": "whole number", "float": "number", "bool": "`true`, `false`", "Path": "path"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    return f"`{_written(field.default, _type(field.annotation) + repr(field.metadata))}`"


def _written(value: Any, kind: str) -> str:
    if isinstance(value, BaseModel):
        inner = {name: getattr(value, name) for name in type(value).model_fields if name in value.model_fields_set}
        return _written(inner, "")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_written(member, '')}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(member, kind) for member in value) + "]"
    if isinstance(value, float) and ("duration" in kind or "BeforeValidator" in kind):
        return format_duration(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


DOCUMENTS = {DOCS / "metrics.md": metrics, DOCS / "configuration.md": configuration}


def main() -> None:
    """Write the documents."""
    for path, text in DOCUMENTS.items():
        path.write_text(text())


if __name__ == "__main__":
    main()
