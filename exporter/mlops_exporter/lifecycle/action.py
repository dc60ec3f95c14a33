"""Starting a retraining: a command, or an HTTP call, from the same template values."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import msgspec

from mlops_exporter.lifecycle.evidence import Alert, as_json
from mlops_exporter.settings.retraining import CallSettings, ModelRetraining
from mlops_exporter.sources.calls import CallError, call, in_thread

CONFLICT = 409
"""Status of a pipeline that has a run of this id already: an earlier try had arrived."""

_TAIL = 400

LONGEST_EVIDENCE = 64 * 1024
"""Bytes of the evidence as a text: an argument or a variable of the environment takes 128 KiB on Linux."""


class ActionError(Exception):
    """A try that failed; the message says how."""


class Order(msgspec.Struct):
    """One retraining: `id` is the same in all its tries.

    `tries` were made, and the next is due at `due` (Unix seconds) unless one is `running`.
    """

    id: str
    model: str
    version: str
    reasons: list[str]
    evidence: list[Alert]
    tries: int = 0
    due: float = 0.0
    error: str = ""
    running: bool = False

    def values(self) -> dict[str, str]:
        """Return the values of the placeholders as texts."""
        return {
            "id": self.id,
            "model": self.model,
            "version": self.version,
            "reasons": ",".join(self.reasons),
            "evidence": self._told(),
        }

    def _told(self) -> str:
        """Return the evidence as JSON, its first alerts where all are too long; a body and standard input have all."""
        size, told = 2, []
        for alert in as_json(self.evidence):
            text = msgspec.json.encode(alert).decode()
            size += len(text.encode()) + 1
            if size > LONGEST_EVIDENCE:
                break
            told.append(text)
        return f"[{','.join(told)}]"

    def content(self) -> dict[str, Any]:
        """Return the whole order, as a command reads it."""
        return {
            "id": self.id,
            "model": self.model,
            "version": self.version,
            "reasons": self.reasons,
            "evidence": as_json(self.evidence),
        }


def arguments(command: list[str], order: Order) -> list[str]:
    """Return a command with the values of an order in place of their names; no shell sees them."""
    return [Template(word).safe_substitute(order.values()) for word in command]


def body(template: Any, order: Order) -> Any:
    """Return a body with the values of an order in place of their names."""
    if isinstance(template, dict):
        return {key: body(value, order) for key, value in template.items()}
    if isinstance(template, list):
        return [body(value, order) for value in template]
    if template == "$evidence":
        return as_json(order.evidence)
    if template == "$reasons":
        return order.reasons
    return Template(template).safe_substitute(order.values()) if isinstance(template, str) else template


def address(settings: CallSettings, order: Order) -> str:
    """Return the address with escaped values."""
    return Template(settings.url).safe_substitute({name: quote(text, "") for name, text in order.values().items()})


async def perform(settings: ModelRetraining, order: Order, output: Path) -> None:
    """Try once; the command's output goes to a file. Raises ActionError."""
    if settings.command is not None:
        await _run(arguments(settings.command, order), order, output, settings.timeout)
    elif settings.call is not None:
        target = settings.call
        content = msgspec.json.encode(body(target.body, order))
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        where = address(target, order)
        await in_thread(_calling(target, where, content, headers))


def _calling(target: CallSettings, where: str, content: bytes, headers: Mapping[str, str]) -> Callable[[], None]:
    def send() -> None:
        try:
            call(target.method, where, target, body=content, headers=headers, timeout=target.timeout)
        except CallError as error:
            if error.status != CONFLICT:
                raise ActionError(str(error)) from None

    return send


async def _run(command: list[str], order: Order, output: Path, timeout: float) -> None:
    """Run a command in a session of its own, which ends with all its processes when it takes too long."""
    environment = {**os.environ, **{f"RETRAINING_{name.upper()}": text for name, text in order.values().items()}}
    try:
        with output.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        raise ActionError(f"{command[0]}: cannot be started: {error}") from None
    try:
        async with asyncio.timeout(timeout):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # not every command reads
                await process.communicate(msgspec.json.encode(order.content()))
            status = await process.wait()
    except TimeoutError:
        raise ActionError(f"{command[0]}: stopped after {timeout:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status != 0:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            said = file.read().decode(errors="replace").strip()
        raise ActionError(f"{command[0]}: exit status {status}: {said}")
