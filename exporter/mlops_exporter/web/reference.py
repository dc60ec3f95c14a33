"""The page at `/docs`: every metric and every reason of refusal, for whoever has no other documentation at hand."""

from html import escape

from mlops_exporter.events.reasons import REASONS
from mlops_exporter.exposition.catalogue import all_metrics
from mlops_exporter.web.page import page, table


def reference_page() -> str:
    """Return the HTML page."""
    metrics = [
        [f"<code>{metric.name}</code>", metric.type, escape(", ".join(metric.labels)) or "–", escape(metric.help)]
        for metric in all_metrics()
    ]
    reasons = [[f"<code>{reason}</code>", _inline_code(why)] for reason, why in REASONS.items()]
    return page(
        "mlops-exporter: metrics",
        f"""<header>
<h1>What the metrics mean</h1>
<nav aria-label="Pages"><a href="/">Overview</a></nav>
</header>
<main>
<h2>Metrics</h2>
{table("Metrics", ["Metric", "Type", "Labels", "Meaning"], metrics)}
<h2>Why events are refused</h2>
{table("Reasons of refusal", ["Reason", "Meaning"], reasons)}
</main>""",
    )


def _inline_code(text: str) -> str:
    """Turn `code` in plain text to HTML."""
    plain = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(plain))
