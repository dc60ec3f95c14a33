import dataclasses
import re
from typing import Any

import pytest

from mlops_exporter.events.reasons import REASONS
from mlops_exporter.exposition.catalogue import all_metrics
from mlops_exporter.judging.judge import VERDICTS, Verdict
from mlops_exporter.judging.status import Headline, ModelState, Report, SourceState
from mlops_exporter.logs import Notice
from mlops_exporter.web.landing import landing_page
from mlops_exporter.web.page import STYLE
from mlops_exporter.web.reference import reference_page
from tests.dom import Element, assert_accessible, colours, contrast, parse

NOW = 1_800_000_000.0
EVIL = "<script>alert('1')</script>\"&"

HEADLINE = Headline("roc_auc", "15m", 0.81234, 0.79, 0.83, 0.9, None, [0.9, 0.89, None, 0.85, 0.8])
MODEL = ModelState(
    model="credit",
    version="3",
    task="binary",
    profile_hash="abc",
    state="failing",
    reasons=["roc_auc 0.8123 (0.79 to 0.83) in 15m, at least 0.9 is agreed", "age drifted in 15m"],
    performance=HEADLINE,
    features=12,
    drifted=["age"],
    label_coverage=0.875,
    predictions=1_234_567,
    labels=1000,
    pending=5,
    unlabelled=2,
    last_prediction=NOW - 3,
    last_label=NOW - 7200,
)
SOURCE = SourceState("stream", False, "no broker", 42.0, 100, 7, {"bad_score": 4, "unknown_model": 3}, 1, NOW - 60)
NOTICE = Notice("error", "collector data fails", NOW - 600, NOW - 61, 12)
REPORT = Report("1.2.3", NOW - 90_061, NOW, None, [MODEL], [SOURCE], [NOTICE])


def page(report: Report = REPORT) -> str:
    return landing_page(report, "/metrics")


def main(report: Report = REPORT) -> Element:
    return parse(page(report)).one("main")


def words(element: Element) -> str:
    return " ".join(element.text.split())


def with_model(**changes: Any) -> Report:
    return dataclasses.replace(REPORT, models=[dataclasses.replace(MODEL, **changes)])


def test_files_that_changed_after_they_were_read_are_told() -> None:
    batch = dataclasses.replace(SOURCE, source="batch", up=True, rewritten_files=3)
    assert "3 files changed after they were read" in page(dataclasses.replace(REPORT, sources=[batch]))
    unchanged = dataclasses.replace(batch, rewritten_files=0)
    assert "files changed" not in page(dataclasses.replace(REPORT, sources=[unchanged]))


def test_it_tells_what_an_operator_wants() -> None:
    said = words(main())
    for words_ in (
        "Ready, version 1.2.3, up for 1 d 1 h, as of 2027-01-15 08:00:00 UTC.",
        "credit version 3, binary",
        "✖ Misses its benchmark",
        "at least 0.9 is agreed",
        "roc auc 0.8123 0.79 to 0.83 in 15m, at least 0.9 agreed",
        "1 of 12",
        "Labelled in time87.5% in 15m",
        "1 234 567, last 3 s ago",
        "1 000, last 2 h 0 min ago",
    ):
        assert words_ in said
    source, error = ([words(cell) for cell in [*table.all("tr")][1].all("th", "td")] for table in main().all("table"))
    assert source == ["stream", "down no broker", "42", "100", "74 bad_score3 unknown_model", "1", "1 min 0 s ago"]
    assert error == ["1 min 1 s ago", "error", "12", "collector data fails"]
    links = [link.attributes["href"] for link in parse(page()).all("a")]
    assert links == ["/metrics", "/api/v1/status", "/docs"]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_state_has_words_and_a_sign(verdict: Any) -> None:
    state = next(e for e in main(with_model(state=verdict)).all("p") if "state" in e.attributes.get("class", ""))
    sign, *rest = words(state).split()
    assert not sign.isalnum()
    assert rest
    assert state.attributes["class"].split()[1] in ("good", "warn", "quiet", "bad")


def test_the_worst_comes_first() -> None:
    names: dict[Verdict, str] = {"good": "a", "unknown": "b", "drifting": "c", "silent": "d", "failing": "e"}
    models = [dataclasses.replace(MODEL, model=name, state=verdict) for verdict, name in names.items()]
    report = dataclasses.replace(REPORT, models=models)
    assert [heading.text[0] for heading in main(report).all("h3")] == ["e", "d", "c", "b", "a"]


def test_the_curve() -> None:
    graphic = main().one("svg")
    assert graphic.attributes["aria-label"] == "roc_auc over the last 50 s: from 0.9 to 0.8, lowest 0.8, highest 0.9"
    curve = next(iter(graphic.all("path"))).attributes["d"]
    points = [(move, float(x), float(y)) for move, x, y in re.findall(r"([ML])([\d.]+) ([\d.]+)", curve)]
    assert [move for move, _, _ in points] == ["M", "L", "M", "L"]  # the gap stays a gap
    assert [x for _, x, _ in points] == [0, 60, 180, 240]
    heights = [y for _, _, y in points]
    assert heights == sorted(heights)  # the value falls, and y grows downwards
    assert (heights[0], heights[-1]) == (2, 46)
    agreed = next(iter(graphic.all("line"))).attributes
    assert agreed["y1"] == agreed["y2"] == "2.0"


@pytest.mark.parametrize("history", [[], [0.5], [None, None], [None, 0.5]])
def test_one_point_is_no_curve(history: list[float | None]) -> None:
    report = with_model(performance=dataclasses.replace(HEADLINE, history=history))
    assert list(main(report).all("svg")) == []


def test_a_flat_curve() -> None:
    report = with_model(performance=Headline("mae", "1m", 0.0, 0.0, 0.0, None, None, [0.0, 0.0]))
    assert "nan" not in page(report).lower()
    assert list(main(report).all("svg"))


def test_an_exporter_without_anything() -> None:
    bare = Report("1.2.3", NOW, NOW, "Starting or stopping")
    said = words(main(bare))
    assert "Not ready: Starting or stopping, version 1.2.3, up for 0 s" in said
    assert "No events yet" in said
    assert "None since the start" in said
    unknown = dataclasses.replace(HEADLINE, value=None, lower=None, upper=None)
    assert "roc auc: too few labels" in words(main(with_model(performance=unknown, last_label=None, features=0)))


def test_everything_is_escaped() -> None:
    headline = dataclasses.replace(HEADLINE, metric=EVIL, window=EVIL)
    model = dataclasses.replace(
        MODEL, model=EVIL, version=EVIL, task=EVIL, reasons=[EVIL], drifted=[EVIL], performance=headline
    )
    source = dataclasses.replace(SOURCE, source=EVIL, error=EVIL, rejected_by_reason={EVIL: 1})
    notice = Notice(EVIL, EVIL, 0.0, 0.0, 1)
    evil = landing_page(Report(EVIL, 0.0, NOW, EVIL, [model], [source], [notice]), f"/{EVIL}")
    assert "alert(" in evil
    assert "<script>alert" not in evil
    assert len(list(parse(evil).all("script"))) == 1
    assert evil.count("&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&quot;&amp;") == evil.count("alert(") == 16


@pytest.mark.parametrize("html", [page(), page(Report("1", 0.0, 1.0)), reference_page()], ids=["full", "bare", "docs"])
def test_pages_are_accessible(html: str) -> None:
    assert_accessible(html)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    palette = colours(STYLE, scheme)
    for ground in ("ground", "card"):
        for text in ("text", "quiet", "link", "good", "warn", "bad"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
        assert contrast(palette["mark"], palette[ground]) >= 3, ground


def test_pages_use_no_other_colours() -> None:
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", STYLE)) == {
        *colours(STYLE, "light").values(),
        *colours(STYLE, "dark").values(),
    }
    assert 'style="' not in page()
    assert "http://" not in page()
    assert "https://" not in page()


def test_the_reference_has_every_metric_and_reason() -> None:
    heads = [cell.text for cell in parse(reference_page()).one("main").all("th") if cell.attributes["scope"] == "row"]
    assert heads == [*(metric.name for metric in all_metrics()), *REASONS]


@pytest.mark.parametrize(
    ("batches", "told"), [(None, "in 7d"), (1, "in 7d (the last batch)"), (7, "(the last 7 batches)")]
)
def test_windows_of_a_job_say_how_many_batches_they_hold(batches: int | None, told: str) -> None:
    headline = dataclasses.replace(HEADLINE, window="7d", batches=batches)
    said = words(main(with_model(performance=headline)))
    assert said.count(told) == 2  # beside the number, and the share of labels
