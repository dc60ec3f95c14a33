"""Documentation that follows from the code: `python -m tests.documents` writes it, the test suite compares it."""

import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mlops_exporter.exposition.catalogue import Metric, all_metrics
from mlops_exporter.service.switches import switched
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.durations import format_duration

DOCS = Path(__file__).parent.parent / "docs"

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
    lines += ["", "## Collectors", "", "Each is switched by `--collector.NAME` or `--no-collector.NAME`.", ""]
    lines += ["| collector | by default | gives |", "|---|---|---|"]
    lines += [f"| `{kind.name}` | {'on' if kind.by_default else 'off'} | {kind.about} |" for kind in switched()]
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
    for title, settings in dict(settings_by_path("", Config)).items():
        lines += ["", f"## {title or 'The file'}", "", cleandoc(settings.__doc__ or "")]
        if settings.model_fields:
            lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in settings.model_fields.items():
            kind = "duration" if "BeforeValidator" in repr(field.metadata) else _type(field.annotation)
            lines.append(f"| `{name}` | {kind} | {_default(field)} | {field.description} |")
    return "\n".join(lines) + "\n"


def settings_by_path(path: str, settings: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
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
            yield from settings_by_path(f"{path}.{name}{kind}".lstrip("."), inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0]) if "BeforeValidator" not in repr(annotation) else "duration"
    kinds = [argument for argument in arguments if argument is not NoneType]
    if origin in (UnionType, Union) and len({next(_models(kind), None) is None for kind in kinds}) == 2:
        return " or ".join(map(_type, kinds))
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


LONG = 120
"""Lines from which on a page begins with its contents."""


def with_contents(page: str) -> str:
    """Return a page with links to its sections below the title, where it is long and has several."""
    page = re.sub(r"\n\*\*On this page\*\*: .*\n", "", page, count=1)
    sections = re.findall(r"^## (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    if page.count("\n") < LONG or len(sections) < 4:
        return page
    links = " · ".join(f"[{section}](#{_anchor(section)})" for section in sections)
    title, _, rest = page.partition("\n")
    return f"{title}\n\n**On this page**: {links}\n{rest}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


DOCUMENTS = {DOCS / "metrics.md": metrics, DOCS / "configuration.md": configuration}


def main() -> None:
    """Write the documents."""
    for path, text in DOCUMENTS.items():
        path.write_text(text())
    for page in DOCS.glob("*.md"):
        page.write_text(with_contents(page.read_text()))


if __name__ == "__main__":
    main()
