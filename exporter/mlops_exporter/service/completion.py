"""Scripts by which bash, zsh and fish complete the command line, made from its parser."""

import argparse
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_PROGRAM = "mlops-exporter"


@dataclass(frozen=True)
class _Flag:
    """A flag under one of its names."""

    name: str
    help: str
    choices: tuple[str, ...]
    takes_value: bool


@dataclass(frozen=True)
class _Command:
    """A command by its words, and what may come after it."""

    words: tuple[str, ...]
    inner: dict[str, str]
    flags: tuple[_Flag, ...]
    choices: tuple[str, ...]

    @property
    def path(self) -> str:
        """Return the words as they are typed."""
        return " ".join(self.words)

    def after(self) -> dict[str, str]:
        """Return what may stand next, with what it means."""
        return self.inner | dict.fromkeys(self.choices, "") | {flag.name: flag.help for flag in self.flags}

    def step(self) -> str:
        """Return the command above and the last word, by which the scripts find their way."""
        return f"{' '.join(self.words[:-1])} {self.words[-1]}"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script of a shell of `SHELLS`."""
    return SHELLS[shell](list(_commands(parser, ())))


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[_Command]:
    """Yield the command of a parser, and those below it."""
    inner: dict[str, str] = {}
    choices: tuple[str, ...] = ()
    flags: list[_Flag] = []
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            inner = {found.dest: found.help or "" for found in action._choices_actions}
        elif not action.option_strings:
            choices = tuple(action.choices or ())
        names = (name for name in action.option_strings if name.startswith("--"))
        given = tuple(action.choices or ())
        flags += [_Flag(name, action.help or "", given, action.nargs != 0) for name in names]
    yield _Command(words, inner, tuple(flags), choices)
    for word, each in below.items():
        yield from _commands(each, (*words, word))


def _cases(commands: list[_Command], among: Callable[[tuple[str, ...]], str], files: str) -> Iterator[str]:
    """Yield what bash and zsh do after a flag that takes a value."""
    for command in commands:
        free = []
        for flag in command.flags:
            place = shlex.quote(f"{command.path} {flag.name}")
            if flag.choices:
                yield f"        {place}) {among(flag.choices)}; return ;;"
            elif flag.takes_value:
                free.append(place)
        if free:
            yield f"        {'|'.join(free)}) {files}; return ;;"


def _steps(commands: list[_Command], between: str) -> str:
    return between.join(shlex.quote(command.step()) for command in commands if command.words)


def _bash(commands: list[_Command]) -> str:
    def among(words: tuple[str, ...]) -> str:
        return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$current"))'

    # Bash parts words at = and :, too.
    return "\n".join(
        [
            "_mlops_exporter() {",
            '    local word command="" current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD - 1]}"',
            '    [ "$current" = "=" ] && current=""',
            '    [ "$previous" = "=" ] && previous="${COMP_WORDS[COMP_CWORD - 2]}"',
            '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
            '        case "$command $word" in',
            f'        {_steps(commands, "|")}) command="${{command:+$command }}$word" ;;',
            "        esac",
            "    done",
            "    COMPREPLY=()",
            '    case "$command $previous" in',
            *_cases(commands, among, "true"),  # where nothing is offered, bash completes names of files
            "    esac",
            '    case "$command" in',
            *(f"        {shlex.quote(each.path)}) {among(tuple(each.after()))} ;;" for each in commands),
            "    esac",
            "}",
            f"complete -o default -F _mlops_exporter {_PROGRAM}\n",
        ]
    )


def _zsh(commands: list[_Command]) -> str:
    def described(command: _Command) -> str:
        told = (shlex.quote(f"{word}:{help_}") for word, help_ in command.after().items())
        return f"        {shlex.quote(command.path)}) offered=({' '.join(told)}) ;;"

    return "\n".join(
        [
            f"#compdef {_PROGRAM}",
            "_mlops_exporter() {",
            '    local word command="" previous="${words[CURRENT-1]}"',
            "    local -a offered",
            '    for word in "${(@)words[2,CURRENT-1]}"; do',
            '        case "$command $word" in',
            f'        {_steps(commands, "|")}) command="${{command:+$command }}$word" ;;',
            "        esac",
            "    done",
            '    if [[ "$PREFIX" == --*=* ]]; then',
            '        previous="${PREFIX%%=*}"',
            "        compset -P '*='",
            "    fi",
            '    case "$command $previous" in',
            *_cases(commands, lambda words: f"compadd -- {' '.join(map(shlex.quote, words))}", "_files"),
            "    esac",
            '    case "$command" in',
            *map(described, commands),
            "    esac",
            f"    _describe {_PROGRAM} offered || _files",
            "}",
            'if [ "$funcstack[1]" = _mlops_exporter ]; then _mlops_exporter "$@"; '
            f"else compdef _mlops_exporter {_PROGRAM}; fi\n",
        ]
    )


def _fish(commands: list[_Command]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def offers(command: _Command) -> Iterator[str]:
        where = f"complete -c {_PROGRAM} -n {quoted(f'test (__mlops_exporter_command) = {quoted(command.path)}')}"
        for word, help_ in (command.inner | dict.fromkeys(command.choices, "")).items():
            yield f"{where} -f -a {quoted(word)} -d {quoted(help_)}"
        for flag in command.flags:
            value = f" -x -a {quoted(' '.join(flag.choices))}" if flag.choices else " -r" if flag.takes_value else ""
            yield f"{where} -l {flag.name[2:]}{value} -d {quoted(flag.help)}"

    return "\n".join(
        [
            "function __mlops_exporter_command",
            "    set -l command ''",
            "    for word in (commandline -opc)[2..-1]",
            '        switch "$command $word"',
            f"            case {_steps(commands, ' ')}",
            '                set command (string trim -- "$command $word")',
            "        end",
            "    end",
            "    echo $command",
            "end",
            *(line for command in commands for line in offers(command)),
            "",
        ]
    )


SHELLS: dict[str, Callable[[list[_Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
