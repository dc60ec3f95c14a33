"""The rules of Grafana's dashboard-linter, and some of our own, for the committed dashboards."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from grafana.source import panels as source
from grafana.source.environment import LABELS, read
from grafana.source.render import dashboards
from mlops_exporter.exposition import catalogue
from tests.dashboards import DASHBOARDS, DIRECTORY, annotations, panels, targets, variables

pytestmark = pytest.mark.parametrize("uid", sorted(DASHBOARDS))

SCREEN = 1280 - 2 * 16  # pixels between the margins of the smallest screen
PANEL_PADDING = 2 * 8 + 10

# Selectors that lack the instance, and why.
WITHOUT_INSTANCE = dict.fromkeys(("ALERTS", "ALERTS_FOR_STATE"), "alerts about a fleet have no instance")
WITHOUT_INSTANCE |= dict.fromkeys(
    (
        f"job:ml_compute_cost:per_{work}_1d"
        for work in ("training_hour", "1000_predictions", "1000_correct_predictions")
    ),
    "a price of work is of all of a job's machines",
)
WITHOUT_INSTANCE["ml:feature_last_week:psi"] = "counters of all replicas add up"
# Ranges other than $__rate_interval, and why.
RANGES = {
    "$__range": "a sum over the time range that is shown",
    "$__range:$__interval": "the largest in the time range that is shown",
    "5m": "where scrapes are so rare that $__rate_interval holds one sample",
    "1d": "for so long an exporter that is gone is missed",
    "1h": "a sum over an hour, as the title's description says; or whether something was there an hour ago",
}


# What may be averaged, and why: nothing by now.
AVERAGED: set[str] = set()
# From which metrics variables are filled that hold the name of one.
MEANING = {
    "metric": {"model_performance"},
    "fairness_metric": {"fairness"},
    "group_metric": {"group_performance"},
    "attribute": {"fairness"},
}
MADE = dashboards()


def strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def test_the_committed_file_is_what_the_code_makes(uid: str) -> None:
    assert (DIRECTORY / f"{uid}.json").read_text() == MADE[f"{uid}.json"], "run make dashboards"


def test_all_dashboards_are_committed_under_their_own_identifier(uid: str) -> None:
    assert set(DASHBOARDS) == set(source.DASHBOARDS)
    assert DASHBOARDS[uid]["uid"] == uid
    assert "id" not in DASHBOARDS[uid]
    assert DASHBOARDS[uid]["schemaVersion"] in range(39, 43)


def test_it_is_not_edited_in_the_browser(uid: str) -> None:
    assert DASHBOARDS[uid]["editable"] is False


def test_there_is_one_data_source_variable(uid: str) -> None:
    found = [variable for variable in variables(uid).values() if variable["type"] == "datasource"]
    assert [(each["name"], each["label"], each["query"]) for each in found] == [
        ("datasource", "Data source", "prometheus")
    ]


@pytest.mark.parametrize("name", ["job", "instance"])
def test_job_and_instance_are_chosen_from_all(uid: str, name: str) -> None:
    variable = variables(uid)[name]
    assert (variable["label"], variable["multi"], variable["includeAll"]) == (name.capitalize(), True, True)
    assert variable["allValue"] == ".+"
    assert variable["current"]["value"] == "$__all"


def test_environments_are_chosen_on_every_dashboard(uid: str) -> None:
    for label in LABELS:
        variable = variables(uid)[label]
        about_one_model = "model" in variables(uid)
        assert variable["multi"] is not about_one_model, "numbers of one model are of one environment"
        if not about_one_model:
            assert variable["allValue"] == ".*", "who has no such label sees everything too"
    for target in targets(uid):
        for name, matchers in re.findall(r"([A-Za-z_:]*)\{([^{}]*)\}", target.expr):
            for label in LABELS:
                assert f'{label}=~"${label}"' in matchers, f"{target}: {name}"


def test_replicas_are_matched_within_their_environment(uid: str) -> None:
    for target in targets(uid):
        for labels in re.findall(r"\bon \(([^)]*)\)", target.expr):
            if "job" in labels:
                assert set(LABELS) <= set(labels.split(", ")), f"{target}: on ({labels})"


def test_nothing_is_averaged_over_what_differs(uid: str) -> None:
    for target in targets(uid):
        found = re.findall(r"\bavg( by \([^)]*\))? ?\(([a-z_]+)", target.expr)
        assert all(name in AVERAGED for _, name in found), f"{target}: {found}"


def test_numbers_are_shown_whatever_the_version_of_grafana(uid: str) -> None:
    """Up to 11 no range without an end matches, and from 12 on an empty text hides the number."""
    for panel in panels(DASHBOARDS[uid]):
        for mapping in mappings(panel):
            if mapping["type"] == "range":
                assert None not in (mapping["options"].get("from"), mapping["options"].get("to")), panel["title"]
            results = mapping["options"].values() if mapping["type"] == "value" else [mapping["options"]["result"]]
            assert all(result["text"] for result in results), panel["title"]


def mappings(panel: Any) -> Iterator[Any]:
    """All value mappings of a panel, those in overrides too."""
    yield from panel.get("fieldConfig", {}).get("defaults", {}).get("mappings", [])
    for override in panel.get("fieldConfig", {}).get("overrides", []):
        for each in override["properties"]:
            if each["id"] == "mappings":
                yield from each["value"]


def test_labels_are_text(uid: str) -> None:
    """Version 2026.10 is not the number 2026.1, and a class called 1 is not 100 %."""
    for panel in panels(DASHBOARDS[uid]):
        if panel["type"] == "table":
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"] == "string" or panel["title"] == "What does it take for what?", panel["title"]
        if panel["type"] == "barchart":
            by_name = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
            assert {"id": "unit", "value": "string"} in by_name[panel["options"]["xField"]], panel["title"]


def test_tables_are_sorted_by_what_can_be_sorted(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        names = [each["id"] for each in panel.get("transformations", [])]
        assert "timeSeriesTable" not in names, f"{panel['title']}: Grafana does not sort by a column of curves"


def test_the_largest_are_chosen_once_for_the_whole_time_range(uid: str) -> None:
    for target in targets(uid):
        if not target.instant and "topk(" in target.expr:
            assert "@ end()" in target.expr, f"{target}: topk chooses anew at every step, and leaves gaps"


def test_shares_that_are_zero_have_an_axis(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if panel["type"] == "timeseries" and defaults["unit"] == "percentunit":
            assert "max" in defaults or defaults["custom"]["axisSoftMax"] == 0.1, f"{panel['title']}: up to 10,000 %"


def test_rates_need_no_setting_of_the_data_source(uid: str) -> None:
    for target in targets(uid):
        alone = re.sub(r"rate\([^()]*\[\$__rate_interval\]\) or rate\([^()]*\[5m\]\)", "", target.expr)
        assert "$__rate_interval" not in alone, f"{target}: empty where scrapes are rarer than the data source says"


def test_a_variable_means_the_same_on_every_dashboard(uid: str) -> None:
    """Dashboards hand their variables to each other: a name must stand for one thing."""
    for name, variable in variables(uid).items():
        if variable["type"] == "query":
            metrics = set(
                re.findall(r"\bml_(fairness|group_performance|model_performance)", variable["query"]["query"])
            )
            assert metrics <= MEANING.get(name, set()), f"{name} is filled from {metrics}"


def test_variables_follow_the_time_range_and_the_data_source(uid: str) -> None:
    for variable in variables(uid).values():
        if variable["type"] == "query":
            assert variable["refresh"] == 2, variable["name"]
            assert variable["datasource"]["uid"] == "${datasource}"


def test_panels_say_what_they_ask_and_what_they_mean(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        assert panel["title"].endswith("?"), panel["title"]
        assert len(panel["description"]) > 20
        if panel["type"] != "text":
            assert panel["datasource"]["uid"] == "${datasource}"
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"], panel["title"]
            assert defaults["noValue"], f"{panel['title']}: say why there may be no data"
            assert panel["targets"]


def test_titles_fit_their_panels(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        room = SCREEN * panel["gridPos"]["w"] / 24 - PANEL_PADDING - 24
        assert 7.4 * len(panel["title"]) <= room, f"{panel['title']} is longer than {room:.0f} pixels"


def test_columns_fit_their_tables(uid: str) -> None:
    for panel in panels(DASHBOARDS[uid]):
        if panel["type"] == "table":
            properties = [
                {each["id"]: each["value"] for each in override["properties"]}
                for override in panel["fieldConfig"]["overrides"]
                if override["matcher"]["id"] == "byName"
            ]
            needed = sum(each.get("custom.width", each.get("custom.minWidth", 0)) for each in properties)
            assert needed <= SCREEN * panel["gridPos"]["w"] / 24 - PANEL_PADDING, panel["title"]


def test_panels_neither_overlap_nor_leave_the_grid(uid: str) -> None:
    everything = DASHBOARDS[uid]["panels"]
    places = {panel["title"]: panel["gridPos"] for panel in everything}
    assert len({panel["id"] for panel in everything}) == len(everything)
    for title, place in places.items():
        assert place["x"] + place["w"] <= 24, title
    for (one, a), (other, b) in combinations(places.items(), 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one} overlaps {other}"


def test_queries_are_narrowed_to_job_and_instance(uid: str) -> None:
    for target in targets(uid):
        for name, matchers in re.findall(r"([A-Za-z_:0-9]*)\{([^{}]*)\}", target.expr):
            assert 'job=~"$job"' in matchers, f"{target}: {name}"
            if name not in WITHOUT_INSTANCE:
                assert 'instance=~"$instance"' in matchers, f"{target}: {name}"


def test_counters_are_asked_for_their_rate_over_a_known_range(uid: str) -> None:
    for target in targets(uid):
        for metric in re.findall(r"(\w+(?:_total|_bucket|_sum|_count))\{[^{}]*\}(?!\[)", target.expr):
            pytest.fail(f"{target}: {metric} without a rate")
        for length in re.findall(r"\[([^\]]*)\]", target.expr):
            assert length == "$__rate_interval" or length in RANGES, f"{target}: [{length}]"


def test_queries_name_metrics_of_the_catalogue(uid: str) -> None:
    known = {metric.name for metric in catalogue.all_metrics()}
    known |= {metric.name + end for metric in catalogue.all_metrics() for end in ("_bucket", "_sum", "_count")}
    for text in strings(DASHBOARDS[uid]):
        assert set(re.findall(r"\bml_\w+(?=\{)", text)) <= known


def test_annotations_have_a_step(uid: str) -> None:
    assert {each["name"] for each in annotations(uid)} >= {"Alerts", "New versions"}
    for each in annotations(uid):
        assert each["step"] == "60s", "without a step, every sample is an event, and the browser hangs"
        assert each["datasource"]["uid"] == "${datasource}"
        assert 'job=~"$job"' in each["expr"]


def test_links_lead_to_dashboards_that_exist_and_keep_the_time(uid: str) -> None:
    links = DASHBOARDS[uid]["links"]
    assert {link["url"] for link in links} == {f"/d/{other}" for other in set(DASHBOARDS) - {uid}}
    assert all(link["keepTime"] and link["includeVars"] for link in links)
    for text in strings(DASHBOARDS[uid]):
        for other, query in re.findall(r"/d/([\w-]+)\??(\S*)", text):
            assert other in DASHBOARDS
            if query:
                assert "${__url_time_range}" in query
                assert "${job:queryparam}" in query
                for label in LABELS:
                    assert f"var-{label}=" in query or f"${{{label}:queryparam}}" in query, f"the link forgets {label}"
                named = set(re.findall(r"var-(\w+)=", query)) | set(re.findall(r"\$\{(\w+):queryparam\}", query))
                assert named <= set(variables(other)), f"{other} has no variable {named - set(variables(other))}"


def test_colours_are_told_apart_by_everybody(uid: str) -> None:
    palette = {source.GOOD, source.WATCH, source.BAD, source.NEUTRAL, source.QUIET, source.SKY, source.PINK}
    for text in strings(DASHBOARDS[uid]):
        for colour in re.findall(r"#[0-9A-Fa-f]{6}", text):
            assert colour in palette
    for panel in panels(DASHBOARDS[uid]):
        for mapping in panel.get("fieldConfig", {}).get("defaults", {}).get("mappings", []):
            results = mapping["options"].values() if mapping["type"] == "value" else [mapping["options"]["result"]]
            colours = [result["color"] for result in results]
            assert len({result["text"] for result in results}) >= len(set(colours)), "a colour needs a word"


def test_variables_in_queries_exist(uid: str) -> None:
    known = set(variables(uid)) | {
        "__rate_interval",
        "__range",
        "__interval",
        "__url_time_range",
        "__data",
        "__all",
        "1",
    }
    for text in strings(DASHBOARDS[uid]):
        assert set(re.findall(r"\$\{?(\w+)", text)) <= known


def test_labels_of_environments_are_checked(uid: str, tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text("labels: [env, region]")
    assert read(file) == ("env", "region")
    file.write_text("labels: cluster, namespace")
    with pytest.raises(ValueError, match="must be a list of label names"):
        read(file)
