"""What the exporter's pages share: head, style and policy. All of a page comes with it, nothing from elsewhere."""

import base64
import hashlib
from html import escape

from mlops_exporter.logs import escaped

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f4f5f7; --text: #1c1e21; --quiet: #565c64;
  --line: #c9cdd3; --link: #0b57c2; --good: #18692f; --warn: #7d4e00; --bad: #b3180f; --mark: #2a6fd6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14161a; --card: #1e2127; --text: #e8eaed; --quiet: #a3aab4;
    --line: #3a3f47; --link: #86b4ff; --good: #71d08a; --warn: #f0b655; --bad: #ff8f85; --mark: #6fa8ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--text);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.15rem; margin: 1.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0; }
a { color: var(--link); } nav a { display: inline-block; margin-right: .6rem; padding: .5rem 0; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.models { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr));
  list-style: none; margin: 0; padding: 0; }
.models > li { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; }
.state { font-weight: 600; } .number { font-size: 1.5rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 3rem; margin: .3rem 0; }
svg .curve { fill: none; stroke: var(--mark); stroke-width: 2; vector-effect: non-scaling-stroke; }
svg .agreed { stroke: var(--bad); stroke-dasharray: 4 3; vector-effect: non-scaling-stroke; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; margin: .4rem 0 0; }
dt { color: var(--quiet); } dd { margin: 0; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--quiet); font-weight: 600; } tbody th { font-weight: 600; }
thead th, td { overflow-wrap: break-word; } td[data-label="State"], td[data-label="What"] { overflow-wrap: anywhere; }
@media (min-width: 64rem) { tbody th code { white-space: nowrap; } }
@media (max-width: 40rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody, tr, th, td { display: block; border: 0; padding: 0; }
  tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  td::before { content: attr(data-label) ": "; color: var(--quiet); }
}
"""

# Renews <main> while the page is looked at, and says so when the exporter stops answering.
SCRIPT = """
(() => {
  const main = document.querySelector("main"), note = document.getElementById("renewal");
  if (!main || !note) return;
  const renew = async () => {
    if (document.hidden || main.contains(document.activeElement)) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error("status " + answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      main.replaceChildren(...fresh.childNodes);
      note.textContent = "";
    } catch (error) {
      note.textContent = "The exporter does not answer (" + error.message + "): this is how it was.";
    }
  };
  setInterval(renew, 10000);
  document.addEventListener("visibilitychange", renew);
})();
"""


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_digest(STYLE)}; script-src {_digest(SCRIPT)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def shown(text: str) -> str:
    """Return plain text as HTML in which nothing is left that turns, hides or controls what is shown."""
    return escape(escaped(text))


def page(title: str, body: str) -> str:
    """Return a page; `body` is HTML, the title plain text."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
{body}
<script>{SCRIPT}</script>
</body>
</html>
"""


def table(caption: str, columns: list[str], rows: list[list[str]]) -> str:
    """Return a table; captions and columns are plain text, cells HTML. The first cell heads its row."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    lines = []
    for first, *rest in rows:
        cells = "".join(
            f'<td data-label="{escape(column)}">{cell}</td>' for column, cell in zip(columns[1:], rest, strict=True)
        )
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<table aria-label="{escape(caption)}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    )
