"""Whether windows of one length differ by a rhythm of the day or the week, and which window evens it out.

Where neighbours in time merely resemble each other (sessions, slow movement), a window's design effect stays or grows
with its length. A rhythm lets it grow until the window holds the whole period, in which ups and downs cancel out: there
it falls. So a longer window with a far smaller design effect tells a rhythm from all else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlops_exporter.arrays import Floats
from mlops_exporter.judging.judge import limit
from mlops_exporter.settings.durations import format_duration

SWINGING = 4.0
"""Design effect from which a window's features are told of."""

_EVEN = 0.25
"""Share of it that is left in a window that evens it out."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Seasonality:
    """What windows of one length differ by, without a lasting change.

    `features` are those that differ most, the worst first, of which the `predictions` of a `window` are worth so many
    independent ones. `even` is the shortest window that holds their whole rhythm, None where none does.
    """

    window: str
    features: list[str]
    predictions: int
    worth: int
    even: str | None


def recognised(
    effects: Floats, predictions: Floats, lengths: Sequence[float], names: Sequence[str]
) -> Seasonality | None:
    """Return what design effects of features, (W, F), tell of windows with so many `predictions`, (W,).

    `lengths` of windows are in seconds. None where no feature has a design effect of 4 in a window with enough.
    """
    order = np.argsort(lengths)
    found = np.where(predictions[order, np.newaxis] >= limit("min_predictions"), effects[order], 1.0)
    if not names or found.max() < SWINGING:
        return None
    row, worst = np.unravel_index(found.argmax(), found.shape)
    ranked = found[row].argsort()[::-1][:_SHOWN]
    even = [
        index
        for index in range(row + 1, len(order))
        if predictions[order[index]] >= limit("min_predictions") and found[index, worst] <= _EVEN * found[row, worst]
    ]
    return Seasonality(
        format_duration(lengths[order[row]]),
        [names[index] for index in ranked if found[row, index] >= SWINGING],
        int(predictions[order[row]]),
        int(predictions[order[row]] / found[row, worst]),
        format_duration(lengths[order[even[0]]]) if even else None,
    )
