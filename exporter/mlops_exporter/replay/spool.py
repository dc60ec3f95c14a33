"""Samples of many moments, put on disk as numbers as they come, and written at the end as OpenMetrics.

The format wants all samples of a metric together, in the order of time, while a replay makes all metrics of one moment
together. So the numbers are kept, 8 bytes each, in one file by the label sets that they belong to, and turned around
when all is there.

Format: OpenMetrics 1.0.0; histograms keep the lines of one point together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import compress, product
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mlops_exporter.arrays import Floats, Ints
from mlops_exporter.exposition.catalogue import Metric, all_metrics
from mlops_exporter.exposition.samples import Rows, Samples, escape_label_value
from mlops_exporter.exposition.text import family_header, format_numbers

BUFFER_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 256 * 1024 * 1024
"""Numbers held in memory before they are spooled, and while they are written."""


@dataclass(slots=True)
class _Entry:
    """The samples of some label sets: those in memory, and where the others are: offset and number of moments."""

    rows: Rows
    waiting: list[Floats] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)


class Spool:
    """Samples, on disk in `directory` but for BUFFER_BYTES. `labels` are added to every series."""

    def __init__(self, directory: Path, labels: Mapping[str, str]) -> None:
        self._path = directory / "samples"
        self._labels = ",".join(f'{name}="{escape_label_value(value)}"' for name, value in labels.items())
        self._entries: dict[int, _Entry] = {}
        self._waiting = 0

    def add(self, samples: Samples, time: float) -> None:
        """Keep the samples of a moment, which follows those before."""
        entry = self._entries.setdefault(id(samples.rows), _Entry(samples.rows))  # which keeps them, and so the id
        entry.waiting.append(np.concatenate([[time], samples.values]))
        self._waiting += entry.waiting[-1].nbytes
        if self._waiting > BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        with self._path.open("ab") as file:
            for entry in self._entries.values():
                if entry.waiting:
                    block = np.stack(entry.waiting)
                    entry.segments.append((file.tell(), len(block)))
                    file.write(block.data)
                    entry.waiting = []
        self._waiting = 0

    def write(self, output: BinaryIO) -> tuple[int, int]:
        """Write all of it as OpenMetrics; returns the numbers of series and of samples.

        Raises ValueError when two collectors gave the same series.
        """
        self._flush()
        position = {metric.name: index for index, metric in enumerate(all_metrics())}
        chains = sorted(self._chains(), key=lambda chain: position[chain[0].rows.metric.name])
        series = samples = 0
        previous: Metric | None = None
        for chain in chains:
            for lines in self._metrics(chain):
                metric = chain[0].rows.metric
                if metric is not previous:
                    output.write(family_header(metric, openmetrics=True).encode())
                    previous = metric
                output.write("".join(lines).encode(errors="replace"))
                series += _width(metric)
                samples += len(lines)
        output.write(b"# EOF\n")
        return series, samples

    def _chains(self) -> list[list[_Entry]]:
        """Return the entries, those together that share series: what follows each other as versions come and go."""
        entries = [*self._entries.values()]
        chain_of: dict[str, list[int]] = {}
        for number, entry in enumerate(entries):
            joined = {id(chain): chain for prefix in entry.rows.prefixes if (chain := chain_of.get(prefix))}
            chain = [*sorted(earlier for chain in joined.values() for earlier in chain), number]
            for member in chain:
                chain_of |= dict.fromkeys(entries[member].rows.prefixes, chain)
        chains = {id(chain): chain for chain in chain_of.values()}
        return [[entries[number] for number in chain] for chain in chains.values()]

    def _metrics(self, chain: list[_Entry]) -> Iterator[list[str]]:
        """Yield the lines of each label set that has any."""
        width = _width(chain[0].rows.metric)
        columns = [{prefix: index for index, prefix in enumerate(entry.rows.prefixes)} for entry in chain]
        prefixes = [*dict.fromkeys(prefix for entry in chain for prefix in entry.rows.prefixes)]
        times = np.concatenate([self._read(entry, np.zeros(1, np.intp))[:, 0] for entry in chain])
        distinct = all(len(known) == len(entry.rows) for known, entry in zip(columns, chain, strict=True))
        if not distinct or np.any(np.diff(times) <= 0):
            raise ValueError(f"{prefixes[0].strip()} was collected twice")
        block = max(1, BLOCK_BYTES // (8 * len(times) * width)) * width
        stamps = [f" {_number(time)}\n" for time in times.tolist()]
        for begin in range(0, len(prefixes), block):
            named = prefixes[begin : begin + block]
            values = np.concatenate(
                [self._columns(entry, known, named) for entry, known in zip(chain, columns, strict=True)]
            )
            for column in range(0, values.shape[1], width):
                mine = values[:, column : column + width].ravel()
                names = [self._labelled(prefix) for prefix in named[column : column + width]]
                present = ~np.isnan(mine)
                if present.any():
                    keys = compress(product(stamps, names), present.tolist())
                    numbers = format_numbers(mine[present])
                    yield [name + number + stamp for (stamp, name), number in zip(keys, numbers, strict=True)]

    def _columns(self, entry: _Entry, columns: Mapping[str, int], prefixes: list[str]) -> Floats:
        """Return the values of series, (moments, series), NaN where the entry lacks them."""
        found = np.array([columns.get(prefix, -1) for prefix in prefixes], np.intp)
        values = np.full((sum(count for _, count in entry.segments), len(prefixes)), np.nan)
        known = np.flatnonzero(found >= 0)
        values[:, known] = self._read(entry, 1 + found[known])
        return values

    def _read(self, entry: _Entry, columns: Ints) -> Floats:
        """Return columns of all moments; the first one is the time."""
        width = 1 + len(entry.rows)
        parts = [
            np.memmap(self._path, np.float64, "r", offset, (count, width))[:, columns]
            for offset, count in entry.segments
        ]
        return np.concatenate(parts)

    def _labelled(self, prefix: str) -> str:
        if not self._labels:
            return prefix
        name, brace, rest = prefix.partition("{")
        return f"{name}{{{self._labels},{rest}" if brace else f"{prefix.rstrip()}{{{self._labels}}} "


def _width(metric: Metric) -> int:
    """Return how many series a label set has."""
    return len(metric.buckets) + 3 if metric.type == "histogram" else 1


def _number(time: float) -> str:
    return f"{time:.3f}".rstrip("0").rstrip(".")
