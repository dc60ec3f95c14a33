"""Shows what Alertmanager would have sent, as people would get it: python alertmanager/sink.py [ADDRESS:PORT].

For trying things out: alertmanager/stack.yml sends every receiver's messages here, and nothing leaves the machine. The
last messages are kept in memory. Nothing but Python's standard library is needed.
"""

import html
import json
import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEPT = 500
LONGEST = 1 << 20
SWITCH = "dead-mans-switch"
SWITCH_SECONDS = 600.0
KINDS = {"slack": "Chat", "pagerduty": "Pager", "email": "Mail", "webhook": "Webhook"}
COLOURS = {"danger": "#D55E00", "warning": "#E69F00", "good": "#009E73"}

_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<meta http-equiv=refresh content=10><title>Notifications</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:48em;margin:0 auto;padding:1em}
article{border-left:5px solid var(--c,#8E8E8E);padding:.1em 1em;margin:1em 0;background:#8882;overflow-wrap:anywhere}
h1{font-size:1.4em}h2{font-size:1.05em;margin:.4em 0}small{opacity:.8}p{margin:.4em 0;white-space:pre-line}</style>
<h1>What would have been sent</h1>"""


@dataclass(frozen=True)
class Message:
    """One notification: when it came (Unix seconds), by which way, to whom, and what it says."""

    at: float
    kind: str
    receiver: str
    title: str
    text: str
    colour: str


def message(path: str, body: dict[str, Any], now: float) -> Message:
    """Return what somebody would get of a request to /KIND/RECEIVER."""
    kind, _, receiver = path.strip("/").partition("/")
    if attachments := body.get("attachments"):  # as for Slack, in which the title and text are rendered
        shown = attachments[0]
        return Message(now, kind, receiver, shown.get("title", ""), shown.get("text", ""), shown.get("color", ""))
    alerts = body.get("alerts", [])
    names = sorted({alert["labels"].get("alertname", "") for alert in alerts})
    what = [" ".join(f"{key}={value}" for key, value in sorted(alert["labels"].items())) for alert in alerts]
    return Message(now, kind, receiver, f"{body.get('status', '')}: {', '.join(names)}", "\n".join(what), "")


def page(messages: list[Message], heard: float | None, now: float) -> str:
    """Return the page: the newest message first; `heard` is when the dead man's switch was held last."""
    return _PAGE + _switch(heard, now) + ("".join(map(_article, messages)) or "<p>Nothing yet.</p>")


def _switch(heard: float | None, now: float) -> str:
    if heard is not None and now - heard < SWITCH_SECONDS:
        text, colour = f"Held {now - heard:.0f} s ago: alerts arrive.", "good"
    else:
        since = "Never held yet" if heard is None else f"Not held for {now - heard:.0f} s"
        text = f"{since}: if that lasts longer than ten minutes, alerts do not arrive, and you would be told elsewhere."
        colour = "warning" if heard is None else "danger"
    return f'<article style="--c:{COLOURS[colour]}"><h2>Dead man’s switch</h2><p>{text}</p></article>'


def _article(one: Message) -> str:
    at = time.strftime("%H:%M:%S UTC, %d %B", time.gmtime(one.at))
    way = f"{KINDS.get(one.kind, one.kind)} to {one.receiver}"
    return (
        f'<article style="--c:{COLOURS.get(one.colour, "#8E8E8E")}"><h2>{html.escape(one.title)}</h2>'
        f"<small>{html.escape(way)}, {at}</small><p>{_marked(one.text)}</p></article>"
    )


def _marked(text: str) -> str:
    """Return a message as HTML: Slack's <address|word> and *word*, and bare addresses, become what they stand for."""
    parts = []
    for part in re.split(r"(<https?://[^|>\s]+\|[^>]+>|https?://[^\s<>]+)", text):
        if found := re.fullmatch(r"<(https?://[^|>\s]+)\|([^>]+)>", part):
            parts.append(f'<a href="{html.escape(found[1])}">{html.escape(found[2])}</a>')
        elif part.startswith(("http://", "https://")):
            parts.append(f'<a href="{html.escape(part)}">{html.escape(part)}</a>')
        else:
            parts.append(re.sub(r"(?m)^\*(.+)\*$", r"<b>\1</b>", html.escape(part)))
    return "".join(parts)


def serving(address: tuple[str, int]) -> ThreadingHTTPServer:
    """Return a server at `address` that takes notifications and shows them."""
    messages: deque[Message] = deque(maxlen=KEPT)
    heard: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= LONGEST:
                return self._answer(413, "too long, or nothing")
            try:
                got = message(self.path, json.loads(self.rfile.read(length)), time.time())
            except (ValueError, AttributeError, KeyError, TypeError):
                return self._answer(400, "not a notification of Alertmanager")
            if got.receiver == SWITCH:
                heard[:] = [got.at]
            else:
                messages.appendleft(got)
            return self._answer(200, "ok")

        def do_GET(self) -> None:
            if self.path != "/":
                return self._answer(404, "see /")
            return self._answer(200, page(list(messages), heard[0] if heard else None, time.time()), "text/html")

        def _answer(self, status: int, text: str, kind: str = "text/plain") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the page shows what came."""

    return ThreadingHTTPServer(address, Handler)


if __name__ == "__main__":
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9095").rpartition(":")
    serving((host, int(port))).serve_forever()
