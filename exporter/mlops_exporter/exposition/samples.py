"""What a collector hands to the exposition: label sets rendered once, and their values of the moment.

Rendering label sets is what makes exposition slow, and they hardly ever change: a collector keeps its `Rows` and
makes only `Samples` at each scrape.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlops_exporter.arrays import Floats
from mlops_exporter.exposition.catalogue import Metric
from mlops_exporter.logs import escaped

_LOOKS_ESCAPED = re.compile(r"\\(?=u[0-9a-f]{4})")


def escape_label_value(value: str) -> str:
    r"""Escape a label value for the text formats: backslash, double quote and line feed.

    Other characters that a terminal obeys or hides become the text `\uXXXX`. A backslash that would look like one of
    those becomes `\u005c`, so that two names never make one series.
    """
    if not (value.isascii() and value.isprintable()) or "\\u" in value:
        value = "\n".join(escaped(_LOOKS_ESCAPED.sub(r"\\u005c", line)) for line in value.split("\n"))
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def unescape_label_value(value: str) -> str:
    """Undo `escape_label_value`."""
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], value) if "\\" in value else value


_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Rows:
    """The label sets of one metric, rendered once.

    `rows` holds one label set per series, each with a value per name in `metric.labels`. A histogram's row is
    one label set too, and yields its `_bucket`, `_sum` and `_count` series: `series` counts those.
    """

    __slots__ = ("__weakref__", "metric", "prefixes")

    def __init__(self, metric: Metric, rows: Iterable[Sequence[str]]) -> None:
        self.metric = metric
        self.prefixes: list[str] = []
        for row in rows:
            if len(row) != len(metric.labels):
                raise ValueError(f"{metric.name} has labels {metric.labels}, not {len(row)} values: {tuple(row)}")
            pairs = [f'{name}="{escape_label_value(value)}"' for name, value in zip(metric.labels, row, strict=True)]
            if metric.type == "histogram":
                for bound in (*(repr(float(b)) for b in metric.buckets), "+Inf"):
                    bucket = ",".join([*pairs, f'le="{bound}"'])
                    self.prefixes.append(f"{metric.name}_bucket{{{bucket}}} ")
                braces = f"{{{','.join(pairs)}}}" if pairs else ""
                self.prefixes.append(f"{metric.name}_sum{braces} ")
                self.prefixes.append(f"{metric.name}_count{braces} ")
            else:
                self.prefixes.append(f"{metric.name}{{{','.join(pairs)}}} " if pairs else f"{metric.name} ")

    def __len__(self) -> int:
        return len(self.prefixes)

    def label_values(self, name: str, rows: Iterable[int] | None = None) -> list[str]:
        """Return the value that each of the series has of a label. Reads their texts: too slow for every scrape."""
        place = self.metric.labels.index(name)
        texts = self.prefixes if rows is None else [self.prefixes[row] for row in rows]
        return [unescape_label_value(_VALUE.findall(text)[place]) for text in texts]


@dataclass(frozen=True, slots=True)
class Samples:
    """Values beside their rows, `values[i]` for `rows.prefixes[i]`. NaN means absent: the series is left out.

    For a histogram the values of each row are: cumulative bucket counts (+Inf last), sum, count.
    """

    rows: Rows
    values: Floats

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows),):
            raise ValueError(f"{self.rows.metric.name}: {self.values.shape} values for {len(self.rows)} series")


class Collector(Protocol):
    """A source of samples. `name` is the value of the label `collector` and of the switch `--collector.NAME`."""

    name: str

    def collect(self, now: float) -> Iterable[Samples]:
        """Return the samples at `now` (Unix seconds). An exception costs this collector's samples only."""
        ...
