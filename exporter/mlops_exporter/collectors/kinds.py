"""Finds the kinds of collectors: a class that says what it is `about` needs no entry anywhere."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mlops_exporter import collectors
from mlops_exporter.collectors.parts import Kind, Parts
from mlops_exporter.exposition.samples import Collector


def classes_in(package: ModuleType) -> Iterator[Any]:
    """Yield the classes of collectors that the modules of a package define, by the names of the modules."""
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        for value in vars(module).values():
            is_own = inspect.isclass(value) and value.__module__ == module.__name__
            if is_own and isinstance(getattr(value, "name", None), str) and hasattr(value, "collect"):
                yield value


def kinds() -> list[Kind]:
    """Return the kinds of this folder."""
    return list(classes_in(collectors))


def made_of(parts: Parts) -> list[Collector]:
    """Return the collectors of these parts, one of each kind that has something to collect."""
    return [collector for kind in kinds() if (collector := kind.of(parts)) is not None]
