"""A profile as text for people."""

from collections.abc import Iterable, Iterator

import numpy as np

from mlops_exporter.profile.bins import INVALID, MISSING, NumericVariable, Variable
from mlops_exporter.profile.forecasts import level_name
from mlops_exporter.profile.hours import HourlyReference, described
from mlops_exporter.profile.profile import Profile

_BAR = 24


def describe(profile: Profile) -> str:
    """Return the profile as lines of text: where it comes from, how good the model was, what each variable holds."""
    return "\n".join(_lines(profile))


def _lines(profile: Profile) -> Iterator[str]:
    origin = profile.provenance
    yield f"profile {profile.digest}  {profile.task}, model version {origin.model_version}, {profile.rows} rows"
    yield f"built {origin.created} by mlops-exporter {origin.tool_version} from {origin.data}"
    yield f"sha256 of the data {origin.data_sha256}"
    if isinstance(profile.hours, HourlyReference):
        yield from described(profile.hours)
    if profile.classes:
        names = ", ".join(profile.classes)
        yield f"classes {names}" + (f" (positive: {profile.positive})" if profile.task == "binary" else "")
    if profile.forecast and profile.forecast.horizons:
        yield f"horizons {', '.join(profile.forecast.horizons)}"
    if profile.forecast and profile.forecast.quantiles:
        yield f"quantiles {', '.join(map(level_name, profile.forecast.quantiles))}"
    if profile.forecast and profile.forecast.naive_absolute is not None:
        yield f"mean absolute error of the naive forecast {profile.forecast.naive_absolute:.6g}"
    if profile.ranking:
        cutoffs = ", ".join(map(str, profile.ranking.cutoffs))
        yield f"lists of up to {profile.ranking.length} items, looked at up to position {cutoffs}"
    if profile.performance:
        yield ""
        yield "reference performance"
        width = max(map(len, profile.performance))
        yield from (f"  {name:{width}}  {value:.4g}" for name, value in profile.performance.items())
    variables: dict[str, Variable] = dict(profile.features)
    for name, variable in (("score", profile.score), ("prediction", profile.prediction), ("label", profile.label)):
        if variable is not None:
            variables[f"({name})"] = variable
    for name, variable in variables.items():
        yield ""
        yield from _describe(name, variable)
    for name, group in profile.groups.items():
        yield ""
        yield from _describe(f"(group) {name}", group)


def _describe(name: str, variable: Variable) -> Iterator[str]:
    kind = "categorical"
    if isinstance(variable, NumericVariable):
        kind = f"numeric, mean {variable.mean:.6g}, standard deviation {variable.standard_deviation:.6g}"
    yield f"{name}: {kind}"
    begins = [*variable.exported_starts, variable.cells + INVALID, variable.cells + MISSING]
    counts = np.add.reduceat(variable.counts, begins)
    total = max(int(counts.sum()), 1)
    labels = [text or label for label, text in variable.exported_labels]
    yield from _bars(labels, counts.tolist(), total)


def _bars(labels: Iterable[str], counts: Iterable[int], total: int) -> Iterator[str]:
    rows = [(label, count) for label, count in zip(labels, counts, strict=True) if count]
    width = max((len(label) for label, _ in rows), default=0)
    for label, count in rows:
        yield f"  {label:{width}}  {count / total:6.1%}  {'█' * round(_BAR * count / total)}"
