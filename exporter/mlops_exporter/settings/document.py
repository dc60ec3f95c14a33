"""Settings from a YAML file: every fault of it with file, line, key and what would be right, and never a secret."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Location = tuple[str | int, ...]

MAX_CHARACTERS = 2 * 1024 * 1024
MAX_MARKS = 50_000
"""Commas, brackets and lines of a file."""

MAX_DEPTH = 100
MAX_VALUES = 30_000
"""Of a file. Aliases may repeat values within values, so that a few lines say more than fits in memory."""

MAX_NUMBER = 1000
"""Characters of what may be a number or a date: to read one of a megabyte takes minutes."""

MAX_FAULTS = 100
"""Described of a file; to look for each takes a walk through it."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(Exception):
    """A configuration that cannot be used; `faults` has one line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Settings(BaseModel):
    """A mapping of the file; keys that it does not name are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def or_alone(key: str) -> Callable[[dict[str, Any]], None]:
    """Return what lets the schema of a mapping take the value of one of its keys alone."""

    def extend(schema: dict[str, Any]) -> None:
        mapping = dict(schema)
        schema.clear()
        alone = {name: part for name, part in mapping["properties"][key].items() if name in ("type", "items")}
        schema.update(title=mapping.pop("title"), anyOf=[alone, mapping])

    return extend


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file: what it says, and where. Values under the keys `secret` are never repeated."""

    path: Path
    content: dict[str, Any]
    node: yaml.Node
    secret: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path, *, example: str, secret: frozenset[str] = frozenset()) -> "Document":
        """Read a file whose content is a mapping, for instance with `example`; raises ConfigError."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"{path}: cannot be read: {error}"]) from error
        if sum(map(text.count, ",[{\n")) > MAX_MARKS or len(text) > MAX_CHARACTERS:
            raise ConfigError([f"{path}: is over {MAX_CHARACTERS} characters or {MAX_MARKS} values"])
        try:
            if fault := _excess(text):
                raise ConfigError([f"{path}:{fault}"])
            node = yaml.compose(text, Loader=_Loader)
            if node is not None and _values_in(node, {}) > MAX_VALUES:
                raise ConfigError([f"{path}: holds over {MAX_VALUES} values, those counted again that aliases repeat"])
            content = yaml.load(text, Loader=_Loader)  # nosec B506: it is a safe one
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError([f"{path}:{line}: not YAML: {error.problem}"]) from None
        except yaml.YAMLError as error:
            raise ConfigError([f"{path}: not YAML: {error}"]) from None
        except (ValueError, OverflowError) as error:  # of a number or a date that is none
            raise ConfigError([f"{path}: not YAML: {error}"]) from None
        if node is None or not isinstance(content, dict):
            raise ConfigError([f"{path}:1: must be a mapping with {example}"])
        return cls(path, content, node, secret)

    def fault(self, location: Location, message: str) -> str:
        """Return a fault as one line that says where and what."""
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
        place = f"{self.path}:{self._line(location)}"
        return f"{place}: {key}: {message}" if key else f"{place}: {message}"

    def describe(self, error: ValidationError, settings: type[Settings]) -> list[str]:
        """Return the faults that pydantic found, each with what would be right."""
        faults = error.errors(include_url=False)
        described = [self._describe(fault, settings) for fault in faults[:MAX_FAULTS]]
        more = len(faults) - MAX_FAULTS
        return [*described, f"{self.path}: and {more} faults more"] if more > 0 else described

    def duplicate_keys(self) -> list[str]:
        """Return a fault for each key given twice, of which YAML would silently drop one."""
        return list(_duplicate_keys(self.path, self.node))

    def _describe(self, fault: Any, settings: type[Settings]) -> str:
        location = tuple(part for part in fault["loc"] if not isinstance(part, str) or "[" not in part)
        message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if fault["type"] == "extra_forbidden":
            message = f"unknown key; {near_or_all(location[-1], _known_keys(settings, location[:-1]))}"
        elif fault["type"] == "missing":
            message = "missing; it must be given"
        elif fault["type"] == "dict_type":
            message = "must be a mapping, as in {key: value}"
        elif fault["type"] == "model_type":
            message = f"must be a mapping; known here: {', '.join(sorted(_known_keys(settings, location)))}"
        elif fault["type"] == "list_type":
            message = "must be a list, as in [a, b]"
        elif fault["type"] == "too_short":
            message = "must have at least one entry"
        elif fault["type"] == "value_error" and isinstance(fault["input"], dict):
            head, _, rest = message.partition(": ")
            if self._has((*location, *head.split("."))):  # the validator of a mapping names the key that is at fault
                location, message = (*location, *head.split(".")), rest
        secret = not self.secret.isdisjoint(location) or fault["type"] == "extra_forbidden"  # a misspelt password, say
        if not secret and not isinstance(fault["input"], dict | list) and repr(fault["input"]) not in message:
            message = f"{fault['input']!r}: {message}"
        return self.fault(location, message)

    def _line(self, location: Location) -> int:
        """Return the line of the deepest part of `location` that the file has."""
        return [self.node.start_mark.line + 1, *_path(self.node, location)][-1]

    def _has(self, location: Location) -> bool:
        """Whether the file has `location`."""
        return len(list(_path(self.node, location))) == len(location)


def near_or_all(name: object, known: Iterable[str]) -> str:
    """Return the one that was probably meant, else all that there are."""
    close = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"


def _known_keys(model: Any, location: Location) -> set[str]:
    """Return the keys of the settings at `location`."""
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            continue
        model = next((found for found in _settings_in(field.annotation)), model)
    return set(model.model_fields)


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for argument in get_args(annotation):
        yield from _settings_in(argument)


def _path(node: yaml.Node, location: Location) -> Iterator[int]:
    """Yield the line of each part of `location` until one that the file lacks."""
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                return
            yield found[0].start_mark.line + 1
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            yield node.start_mark.line + 1
        else:
            return


def _excess(text: str) -> str | None:
    """Return line and fault of a text with too many, too deep or too long values; nothing is built of it."""
    depth = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for number, event in enumerate(events):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_NUMBER and _may_be_number(event):
            return f"{line}: a number of over {MAX_NUMBER} characters; write a text in quotes"
        if depth > MAX_DEPTH:
            return f"{line}: nested too deeply, over {MAX_DEPTH} levels"
        if number > MAX_VALUES:
            return f"{line}: over {MAX_VALUES} values up to here"
    return None


def _may_be_number(event: Any) -> bool:
    """Whether a scalar is made something else than a text by a tag, or by how it begins."""
    return event.tag is not None or (event.implicit[0] and event.value[0] in "+-.0123456789")


def _values_in(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Return how many values a node stands for; too many where it holds itself. `known` are those counted."""
    if node not in known:
        known[node] = MAX_VALUES + 1  # until it is counted
        parts: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.MappingNode):
            parts = (part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[node] = 1 + sum(_values_in(part, known) for part in parts)
    return known[node]


def _duplicate_keys(path: Path, node: yaml.Node) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                yield f"{path}:{line}: {key.value}: given twice, first in line {seen[key.value]}"
            seen[key.value] = line
            yield from _duplicate_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicate_keys(path, value)
