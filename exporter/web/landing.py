"""The page at `/`: what runs here and how it is, rendered on the server, without scripts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from exporter import __version__

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8886; }
nav a { margin-right: 1rem; }
"""


def landing_page(
    status: Mapping[str, Any], *, uptime_seconds: float, telemetry_path: str, not_ready: str | None
) -> str:
    """Return the HTML page. `status["models"]` and `status["sources"]` are lists of flat dicts, one table each."""
    state = "ready" if not_ready is None else f"not ready: {not_ready}"
    links = (
        (telemetry_path, "Metrics"),
        ("/api/v1/status", "Status"),
        ("/-/healthy", "Health"),
        ("/-/ready", "Readiness"),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mlops-exporter</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>mlops-exporter</h1>
<p>Prometheus exporter for machine-learning models.</p>
<p>Version {escape(__version__)}, up for {_duration(uptime_seconds)}, {escape(state)}.</p>
<nav>{"".join(f'<a href="{escape(path)}">{label}</a>' for path, label in links)}</nav>
{_table("Models", status.get("models", ()))}
{_table("Sources", status.get("sources", ()))}
</body>
</html>
"""


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return f"<h2>{title}</h2>\n<p>None.</p>"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f'<th scope="col">{escape(column.replace("_", " "))}</th>' for column in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(column)))}</td>" for column in columns) + "</tr>" for row in rows
    )
    return f"<h2>{title}</h2>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _duration(seconds: float) -> str:
    """Return the two largest units of a duration, as `3 d 4 h`."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
