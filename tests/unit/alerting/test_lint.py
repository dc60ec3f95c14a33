"""The lint itself: what it must find."""

import pytest

from tests.unit.alerting.promql import Lint, LintError, Series, compares

SERIES = {
    "a": Series(frozenset({"job", "model", "window"})),
    "b": Series(frozenset({"job", "model"})),
    "c_total": Series(frozenset({"job", "model"}), counter=True),
    "d_bucket": Series(frozenset({"job", "le"}), counter=True),
}


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("a", "job model window"),
        ("max without (window) (a)", "job model"),
        ("sum by (model) (a)", "model"),
        ("a / on (job, model) group_left () b > 1", "job model window"),
        ("b - on (job, model) group_right () a", "job model window"),
        ("a / ignoring (window) group_left () b", "job model window"),
        ("sum by (model) (a) / on (model) sum by (model) (b)", "model"),
        ("rate(c_total[5m]) > 1 or b", "job model"),
        ('absent(b{job="x"})', "job"),
        ("vector(1)", ""),
        ("b > scalar(sum(a))", "job model"),
        ('label_replace(b, "kind", "$1", "model", "(.*)")', "job model kind"),
        ("histogram_quantile(0.9, sum without () (rate(d_bucket[5m])))", "job"),
        ("bottomk without (window) (1, a)", "job model window"),
    ],
)
def test_labels_of_a_result(expression: str, labels: str) -> None:
    assert Lint(SERIES).check(expression) == set(labels.split())


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("renamed", "neither in the catalogue"),
        ('a{colour="red"}', "no label colour"),
        ("c_total", "needs rate"),
        ("max_over_time(c_total[5m])", "needs rate"),
        ("rate(b[5m])", "no counter"),
        ("a / b", "without on"),
        ("a and b", "without on"),
        ("a or b", "without on"),
        ("a / on (window) b", "a side lacks"),
        ("b / on (model) group_left () a", "several series"),
        ("a / ignoring (colour) b", "no side has"),
        ("a / ignoring (model) group_left () b", "matches"),
        ("sum by (colour) (a)", "does not have"),
        ("sum without (colour) (a)", "does not have"),
        ("histogram_quantile(0.9, sum by (job) (rate(d_bucket[5m])))", "needs le"),
        ("mad_over_time(a[5m])", "not in every"),
        ("a >", "not PromQL"),
    ],
)
def test_faults(expression: str, fault: str) -> None:
    with pytest.raises(LintError, match=fault):
        Lint(SERIES).check(expression)


def test_an_alert_without_comparison_is_found() -> None:
    assert compares("a > 1")
    assert compares('absent(b{job="x"})')
    assert not compares("a and on (job) b")
