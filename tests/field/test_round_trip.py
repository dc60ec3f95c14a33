"""The reference's own rows, sent back as events, fall into the reference's own bins, in every format.

So the population stability index of identical data is 0, no category is unseen, no value invalid, nothing is refused.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_exporter.profiling.build import BuildRequest, build
from tests.field.rows import EVENTS, TABLES, counts, reference_counts

ROWS = 60

JSON_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8).filter(
    lambda name: name not in ("label", "prediction", "score")
)
"""What a column may be called: quotes, backslashes, tabs, line ends, marks of direction."""

NUMBERS = st.one_of(
    st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: value + 0.0),
    st.integers(-(2**53), 2**53),
    st.sampled_from([0, 0.0, 0.1, 0.2, 0.1 + 0.2, -0.0, 1e-300, 1.5, 2**31, 16777217]),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["NA", "none", "None", "null", "N/A", "nan", "True", "false", "007", "1.0", "2024_01", "DE", "a,b"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=5),
)


@st.composite
def columns(draw: st.DrawFn) -> list[Any]:
    """A column of one kind, with gaps and many equal cells."""
    cells: list[Any] = draw(
        st.one_of(
            st.lists(NUMBERS, min_size=1, max_size=6),
            st.lists(TEXTS, min_size=1, max_size=6).filter(lambda texts: texts[0] != ""),
            st.just([True, False]),
        )
    )
    cells = [float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else cell for cell in cells]
    return [cells[0], *(draw(st.sampled_from([*cells, None])) for _ in range(ROWS - 1))]


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """A table of a binary model: some features, a score now and then a little outside [0, 1], a label."""
    names = draw(st.lists(JSON_NAMES, min_size=1, max_size=3, unique=True))
    table: dict[str, list[Any]] = {name: draw(columns()) for name in names}
    classes = draw(st.sampled_from([("no", "yes"), ("none", "some"), ('5" disk', "a\\b\t"), (0, 1), (False, True)]))
    scores = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 1.0000001, -1e-9, 0.3]))
    table["score"] = [draw(scores) for _ in range(ROWS)]
    table["label"] = [classes[row % 2] for row in range(ROWS)]
    return table


@pytest.mark.parametrize("kind", TABLES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(table=tables())
def test_the_references_own_rows_are_nothing_new(kind: str, table: dict[str, list[Any]]) -> None:
    positive = {"no": "yes", "none": "some", '5" disk': "a\\b\t"}.get(table["label"][0])
    features = tuple(name for name in table if name not in ("score", "label"))
    if kind == "csv":  # whose digits are numbers: events then carry numbers, too
        table |= {name: [_number_or_text(cell) for cell in table[name]] for name in features}
    with TemporaryDirectory() as directory:
        path = TABLES[kind](Path(directory) / f"reference.{kind}", table)
        profile, _ = build(
            BuildRequest(
                path,
                "binary",
                label="label",
                scores={"positive": "score"},
                positive=positive,
                features=features,
            )
        )
    for form, events in EVENTS.items():
        assert counts(profile, events(table)) == reference_counts(profile), (form, table)


def _number_or_text(cell: Any) -> Any:
    """A text that is a number, as none."""
    try:
        return f"t{cell}" if isinstance(cell, str) and float(cell) is not None else cell
    except ValueError:
        return cell
