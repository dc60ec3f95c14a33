"""A lint for PromQL: which labels an expression leaves, and whether what it names exists.

Works on the syntax tree alone, so it sees what tests with a few series cannot: a metric that was renamed, a label that
no side has, a counter outside rate.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import promql_parser as promql

from mlops_exporter.exposition.catalogue import Metric, all_metrics

TARGET_LABELS = frozenset({"job", "instance"})
OPTIONAL_TARGET_LABELS = frozenset(
    {"cluster", "namespace", "pod"}
)  # where Prometheus discovers pods, of one cluster or of several

_OVER_TIME = {"rate", "increase"}
_SETS = {"and", "or", "unless"}
_COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}
_SCALARS = {"time", "scalar", "vector"}
_SINCE_2_42 = {"mad_over_time", "sort_by_label", "sort_by_label_desc", "info", "double_exponential_smoothing"}
_GONE_IN_3 = {"holt_winters"}


class LintError(Exception):
    """An expression that names what does not exist, or joins what does not match."""


@dataclass(frozen=True)
class Series:
    """What a name stands for: its labels, and whether it only grows."""

    labels: frozenset[str]
    counter: bool = False


def catalogue_series(metrics: Iterable[Metric] | None = None) -> dict[str, Series]:
    """Return the series of the catalogue, with the target's labels."""
    known = {}
    for metric in all_metrics() if metrics is None else metrics:
        labels = frozenset(metric.labels) | TARGET_LABELS
        if metric.type == "histogram":
            known[f"{metric.name}_bucket"] = Series(labels | {"le"}, counter=True)
            known[f"{metric.name}_sum"] = known[f"{metric.name}_count"] = Series(labels, counter=True)
        else:
            known[metric.name] = Series(labels, metric.type == "counter")
    return known


class Lint:
    """Checks expressions against known series, and ALERTS against the labels that each alert has of its own."""

    def __init__(self, known: Mapping[str, Series], alerts: Mapping[str, frozenset[str]] | None = None) -> None:
        self.known = dict(known)
        self.alerts = alerts or {}

    def check(self, text: str) -> frozenset[str]:
        """Return the labels of the expression's result; raises LintError."""
        try:
            tree = promql.parse(text)
        except ValueError as error:
            raise LintError(f"not PromQL: {error}") from error
        labels = self._labels(tree)
        return labels if labels is not None else frozenset()

    def _labels(self, node: object, over_time: bool = False) -> frozenset[str] | None:
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr():
                return self._labels(node.expr)
            case promql.SubqueryExpr():
                return self._labels(node.expr)
            case promql.MatrixSelector():
                return self._selector(node.vector_selector, over_time)
            case promql.VectorSelector():
                return self._selector(node, over_time, instant=True)
            case promql.AggregateExpr():
                return self._aggregate(node)
            case promql.Call():
                return self._call(node)
            case promql.BinaryExpr():
                return self._binary(node)
            case _:
                raise LintError(f"unknown part {node}")

    def _selector(
        self, node: promql.VectorSelector, over_time: bool, instant: bool = False, existence: bool = False
    ) -> frozenset[str]:
        if node.name not in self.known:
            raise LintError(f"{node.name} is neither in the catalogue nor recorded")
        series = self.known[node.name]
        for matcher in node.matchers.matchers:
            if matcher.name not in series.labels:
                raise LintError(f"{node.name} has no label {matcher.name}")
        named = any(matcher.name == "alertname" for matcher in node.matchers.matchers)
        if node.name == "ALERTS" and named and self.alerts:
            return frozenset.intersection(*self._of_alerts(node))
        if node.name == "ALERTS_FOR_STATE" and named and self.alerts:
            return frozenset.union(*self._of_alerts(node)) - {"alertstate"}
        if existence:
            return series.labels
        if series.counter and (instant or not over_time):
            raise LintError(f"{node.name} is a counter and needs rate or increase")
        if over_time and not series.counter:
            raise LintError(f"{node.name} is no counter: rate and increase mean nothing")
        return series.labels

    def _of_alerts(self, node: promql.VectorSelector) -> list[frozenset[str]]:
        """The labels of each alert whose name is selected."""
        wanted = next(matcher.value for matcher in node.matchers.matchers if matcher.name == "alertname")
        found = [labels for name, labels in self.alerts.items() if re.fullmatch(wanted, name)]
        if not found:
            raise LintError(f"no alert is called {wanted}")
        return found

    def _aggregate(self, node: promql.AggregateExpr) -> frozenset[str]:
        if str(node.op) in ("count", "group") and isinstance(node.expr, promql.VectorSelector):
            labels = self._selector(node.expr, over_time=False, existence=True)
        else:
            labels = self._vector(node.expr)
        if node.modifier is None:
            return labels if str(node.op) in ("topk", "bottomk") else frozenset()
        named = frozenset(node.modifier.labels)
        if missing := named - labels - OPTIONAL_TARGET_LABELS:
            raise LintError(f"{node.op} names labels that {node.expr} does not have: {sorted(missing)}")
        if str(node.op) in ("topk", "bottomk"):
            return labels
        return labels & named if node.modifier.type == promql.AggModifierType.By else labels - named

    def _call(self, node: promql.Call) -> frozenset[str] | None:
        name = node.func.name
        if name in _SINCE_2_42 | _GONE_IN_3:
            raise LintError(f"{name} is not in every Prometheus from 2.42 on")
        if name == "absent":
            selector = node.args[0]
            self._vector(selector)
            return frozenset(m.name for m in selector.matchers.matchers if m.op == promql.MatchOp.Equal)
        if name == "vector":
            return frozenset()
        parts = [self._labels(argument, name in _OVER_TIME) for argument in node.args]
        if name in _SCALARS:
            return None
        vectors = [part for part in parts if part is not None]
        labels = vectors[0] if vectors else None
        if name == "label_replace" and labels is not None:
            target, source = node.args[1].val, node.args[3].val
            if source not in labels:
                raise LintError(f"label_replace reads {source}, which is not there")
            return labels | {target}
        if name == "histogram_quantile" and labels is not None:
            if "le" not in labels:
                raise LintError("histogram_quantile needs le")
            return labels - {"le"}
        return labels

    def _vector(self, node: object) -> frozenset[str]:
        labels = self._labels(node)
        if labels is None:
            raise LintError(f"{node} is a scalar")
        return labels

    def _binary(self, node: promql.BinaryExpr) -> frozenset[str] | None:
        operator = str(node.op).strip()
        left = self._labels(node.lhs)
        if operator in ("and", "unless") and isinstance(node.rhs, promql.VectorSelector):
            right: frozenset[str] | None = self._selector(node.rhs, over_time=True, existence=True)
        else:
            right = self._labels(node.rhs)
        if left is None or right is None:
            return left if right is None else right
        matching = node.modifier.matching if node.modifier else None
        if matching is None:
            if left != right:
                raise LintError(f"{operator} joins different labels, {sorted(left)} and {sorted(right)}, without on")
            return left
        named = frozenset(matching.labels)
        on = matching.type == promql.LabelModifierType.Include
        if on:
            if missing := ((named - left) | (named - right)) - OPTIONAL_TARGET_LABELS:
                raise LintError(f"{operator} matches on labels that a side lacks: {sorted(missing)}")
        else:
            if missing := named - left - right:
                raise LintError(f"{operator} ignores labels that no side has: {sorted(missing)}")
            if left - named != right - named:
                raise LintError(f"{operator} matches {sorted(left - named)} with {sorted(right - named)}")
        if operator in _SETS:
            return left
        card = node.modifier.card if node.modifier else None
        alone = [] if card == promql.VectorMatchCardinality.ManyToOne else [left]
        alone += [] if card == promql.VectorMatchCardinality.OneToMany else [right]
        if on and "instance" not in named and any(side - named for side in alone):
            raise LintError(f"{operator} finds several series that agree on {sorted(named)}: use ignoring")
        if card == promql.VectorMatchCardinality.ManyToOne:
            return left
        if card == promql.VectorMatchCardinality.OneToMany:
            return right
        return left & named if on else left - named


def compares(text: str) -> bool:
    """Whether an alert's expression can be false: it has a comparison, or asks for absence."""
    return any(
        (isinstance(node, promql.BinaryExpr) and str(node.op).strip() in _COMPARISONS)
        or (isinstance(node, promql.Call) and node.func.name == "absent")
        for node in _nodes(promql.parse(text))
    )


def names(text: str) -> set[str]:
    """Return the series that an expression reads."""
    return {node.name for node in _nodes(promql.parse(text)) if isinstance(node, promql.VectorSelector) and node.name}


def _nodes(node: object) -> Iterator[object]:
    yield node
    match node:
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr() | promql.AggregateExpr():
            yield from _nodes(node.expr)
        case promql.MatrixSelector():
            yield node.vector_selector
        case promql.Call():
            for argument in node.args:
                yield from _nodes(argument)
        case promql.BinaryExpr():
            yield from _nodes(node.lhs)
            yield from _nodes(node.rhs)
        case _:
            pass
