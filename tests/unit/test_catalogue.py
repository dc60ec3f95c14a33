"""The metrics that users build on: their names, types, labels and help are a contract."""

import re

import pytest

from mlops_exporter.exposition.catalogue import Metric, all_metrics
from tests import golden


def test_the_contract() -> None:
    """A changed line is a change that users must hear of; see tests/golden."""
    lines = []
    for metric in sorted(all_metrics(), key=lambda metric: metric.name):
        lines += [f"{metric.name} {metric.type} {{{', '.join(metric.labels)}}}", f"    {metric.help}"]
        if metric.buckets:
            lines.append(f"    buckets {' '.join(f'{bound:g}' for bound in metric.buckets)}")
    golden.compare(golden.DIRECTORY / "metrics.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("metric", all_metrics(), ids=lambda metric: metric.name)
def test_names_follow_the_rules_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"ml_[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.type == "counter")
    assert not re.search(r"_(bucket|count|sum)$", metric.name)
    assert not re.search(r"milli|micro|minutes|hours_|days|percent", metric.name)
    assert len(set(metric.labels)) == len(metric.labels)
    assert all(
        re.fullmatch(r"[a-z][a-z0-9_]*", label) and label not in ("le", "job", "instance") for label in metric.labels
    )
    assert bool(metric.buckets) == (metric.type == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("metric", all_metrics(), ids=lambda metric: metric.name)
def test_help_is_a_sentence(metric: Metric) -> None:
    assert not metric.help[0].islower()
    assert metric.help.endswith((".", ")."))
    assert "\n" not in metric.help
    assert len(metric.help) < 300
