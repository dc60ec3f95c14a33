"""The metrics that users build on: their names, types, labels and help are a contract."""

import re

from mlops_exporter.exposition.catalogue import all_metrics
from tests import golden


def test_the_contract() -> None:
    """A changed line is a change that users must hear of; see tests/golden."""
    lines = []
    for metric in sorted(all_metrics(), key=lambda metric: metric.name):
        lines += [f"{metric.name} {metric.type} {{{', '.join(metric.labels)}}}", f"    {metric.help}"]
        if metric.buckets:
            lines.append(f"    buckets {' '.join(f'{bound:g}' for bound in metric.buckets)}")
    golden.compare(golden.DIRECTORY / "metrics.txt", "\n".join(lines) + "\n")


def test_names_follow_the_rules_of_prometheus() -> None:
    for metric in all_metrics():
        assert re.fullmatch(r"ml_[a-z][a-z0-9_]*", metric.name)
        assert metric.name.endswith("_total") == (metric.type == "counter"), metric.name
        assert not re.search(r"_(bucket|count|sum)$", metric.name), metric.name
        assert not re.search(r"milli|micro|minutes|hours_|days|percent", metric.name), metric.name
        assert len(set(metric.labels)) == len(metric.labels), metric.name
        for label in metric.labels:
            assert re.fullmatch(r"[a-z][a-z0-9_]*", label), metric.name
            assert label not in ("le", "job", "instance"), metric.name
        assert bool(metric.buckets) == (metric.type == "histogram"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric.name


def test_help_is_a_sentence() -> None:
    for metric in all_metrics():
        assert not metric.help[0].islower(), metric.name
        assert metric.help.endswith((".", ").")), metric.name
        assert "\n" not in metric.help, metric.name
        assert len(metric.help) < 300, metric.name
