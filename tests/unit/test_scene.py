"""What Grafana's libraries read of the scene, as the golden files have it."""

import re
from pathlib import Path

import pytest

from tests.dashboards import DASHBOARDS, panels

GOLDEN = Path(__file__).parents[1] / "scene" / "golden"

NOTHING = {
    "Which differ from the same hours of last week?": "the scene's life is two hours long",
}
"""Panels that have nothing to show in the scene, and why."""


@pytest.mark.parametrize("uid", sorted(DASHBOARDS))
def test_every_panel_shows_something_somewhere(uid: str) -> None:
    """A panel that nobody has seen with data is not done."""
    files = [GOLDEN / f"{uid}.txt", *GOLDEN.glob(f"{uid}-*.txt")]
    parts = [part for file in files for part in file.read_text().split("\n\n")]
    for panel in panels(DASHBOARDS[uid]):
        title = re.escape(panel["title"])
        title = re.sub(r"\\\$\w+", ".+", title)
        of_panel = [part for part in parts if re.match(rf"\[[\w-]+\] {title}   \(", part)]
        shown = [part for part in of_panel if "(no data; says" not in part]
        assert of_panel, panel["title"]
        assert bool(shown) != (panel["title"] in NOTHING), panel["title"]
