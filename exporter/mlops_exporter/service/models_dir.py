"""One file a model: what the directory `models_dir` adds to a configuration.

A file has what an entry of `models` has; its paths start at its own directory. What is wrong with one file leaves that
model out, and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mlops_exporter.settings.document import ConfigError, Document

SUFFIXES = (".yml", ".yaml")


@dataclass(frozen=True, slots=True)
class Gathered:
    """Entries for `models`, and the faults of each file that gives none, by its name."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=dict)


def gather(document: Document, check: Callable[[Document], object]) -> Gathered:
    """Read the files of `models_dir`; `check` raises ConfigError for a configuration that cannot be used.

    Raises ConfigError when the directory itself cannot be read. Names that begin with a dot, with which a mounted
    ConfigMap or a Git checkout keeps its own things, are no models.
    """
    gathered = Gathered()
    name = document.content.get("models_dir")
    if not isinstance(name, str):
        return gathered
    directory = document.path.parent / name
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    except OSError as error:
        raise ConfigError([document.fault(("models_dir",), f"{str(directory)!r} cannot be read: {error}")]) from error
    own = document.content.get("models")
    origins = {str(model.get("name")): document.path.name for model in own if isinstance(model, dict)} if own else {}
    for path in files:
        try:
            entry = _entry(path)
            alone = _alone(document, entry)
            check(alone)
            model = entry.content["name"]
            if model in origins:
                raise ConfigError([entry.fault(("name",), f"{model!r} is the name of a model in {origins[model]} too")])
        except ConfigError as error:
            gathered.broken[path.name] = [fault.replace(": models[0].", ": ", 1) for fault in error.faults]
        else:
            origins[model] = path.name
            gathered.entries.append(alone.content["models"][0])
    return gathered


def _entry(path: Path) -> Document:
    entry = Document.read(path, example="the keys name, task and profile")
    if faults := entry.duplicate_keys():
        raise ConfigError(faults)
    return entry


def _alone(document: Document, entry: Document) -> Document:
    """Return a configuration of that model alone, by the limits of the whole; faults have the lines of its own file."""
    content = entry.content | {key: _from(entry.path.parent, key, entry.content[key]) for key in entry.content}
    mark = entry.node.start_mark, entry.node.end_mark
    node = yaml.MappingNode(
        "tag:yaml.org,2002:map",
        [
            (
                yaml.ScalarNode("tag:yaml.org,2002:str", "models", *mark),
                yaml.SequenceNode("tag:yaml.org,2002:seq", [entry.node], *mark),
            )
        ],
        *mark,
    )
    shared = {"limits": document.content["limits"]} if "limits" in document.content else {}
    return replace(entry, content={"models": [content], **shared}, node=node)


def _from(directory: Path, key: str, value: Any) -> Any:
    """Return a path of a model's file as one that starts nowhere else; a URI stays as it is."""
    if key in ("profile", "profiles"):
        if isinstance(value, str) and ":" not in value:
            return str(directory.absolute() / value)
        if isinstance(value, dict):
            return {version: _from(directory, key, file) for version, file in value.items()}
    return value
