"""The page about language models: its configuration, its commands and its queries, run as they stand there."""

import json
import random
from pathlib import Path

import pytest

from tests.integration.test_documented_commands import World, running
from tests.support.pages import blocks
from tests.support.prometheus import eventually, running_prometheus

PAGE = (Path(__file__).parents[2] / "docs" / "language-models.md").read_text()


@pytest.mark.slow
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    world = World(tmp_path)
    (written,) = blocks(PAGE, "yaml")
    (tmp_path / "mlops-exporter.yml").write_text(written)
    assert "good, 1 model" in world.run("language-models", "mlops-exporter check")
    chance = random.Random(1)
    asked = (f"{chance.lognormvariate(5, 1):.0f},{chance.choice(['en', 'de'])}" for _ in range(1000))
    (tmp_path / "prompts.csv").write_text("\n".join(["characters,language", *asked]))
    assert "chat.json: 1000 rows, 2 features" in world.run("language-models", "profile build")

    target = {"job_name": "mlops-exporter", "static_configs": [{"targets": [f"localhost:{world.port}"]}]}
    with (
        running(world, "language-models", "mlops-exporter run"),
        running_prometheus({"scrape_configs": [target]}, tmp_path) as server,
    ):
        failures, tokens, means = blocks(PAGE, "promql")
        eventually(lambda: server.query('ml_exporter_events_total{source="push"} == 0'), 30)
        sent = 20
        for _ in range(sent):
            events = world.documented("language-models", "prompt-7").replace('"id":"a', f'"id":"{chance.random()}')
            assert json.loads(world.shell.run(events)) == {"accepted": 3, "rejected": 0, "errors": []}
        world.run("language-models", "prompt-7")
        assert json.loads(world.run("language-models", '{"rating":2}'))["accepted"] == 1  # the next day
        eventually(lambda: server.query(f'ml_outcome_values_total{{outcome="rating"}} == {sent + 2}'), 30)
        eventually(lambda: server.query(f'ml_outcome_values_total{{outcome="tokens"}} == {2 * sent + 2}'), 30)
        found = {each["metric"]["outcome"]: float(each["value"][1]) for each in server.query(means)}
        assert found == pytest.approx({"judge": 0.58, "tokens": 846})  # ratings are still too few
        eventually(lambda: server.query(failures) and server.query(tokens), 30)
