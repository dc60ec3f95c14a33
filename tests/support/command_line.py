"""What the command line offers."""

import argparse
from collections.abc import Iterator
from functools import cache

from mlops_exporter.cli import _parser


@cache
def commands() -> dict[str, frozenset[str]]:
    """The flags of every command, by `run`, `profile build` and so on."""

    def walk(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, frozenset[str]]]:
        yield name, frozenset(flag for action in parser._actions for flag in action.option_strings)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, inner in action.choices.items():
                    yield from walk(inner, f"{name} {word}".strip())

    return dict(walk(_parser(), ""))
