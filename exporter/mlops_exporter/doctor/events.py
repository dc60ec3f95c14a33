"""What has arrived at a running exporter, and why a panel may be empty all the same.

The way of an event is followed: received, taken, of a known model and version, with its features, inside a window, in
sufficient number, with an id, joined by its label.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import cast

from mlops_exporter.doctor.findings import Finding, ok, problem, warning
from mlops_exporter.doctor.listening import Labels, Running
from mlops_exporter.doctor.remedies import example, refusal
from mlops_exporter.events.reasons import Reason
from mlops_exporter.events.schema import DEFAULT_VERSION
from mlops_exporter.exposition import catalogue
from mlops_exporter.judging.judge import limit
from mlops_exporter.judging.performance import needs_scores
from mlops_exporter.judging.seasonality import Seasonality
from mlops_exporter.judging.status import ModelState, SourceState
from mlops_exporter.profile.profile import Profile
from mlops_exporter.profile.profiles import Profiles
from mlops_exporter.settings.cadence import CONTINUOUS
from mlops_exporter.settings.config import Config
from mlops_exporter.settings.durations import format_duration, parse_duration
from mlops_exporter.settings.models import ModelSettings

AREA = "events"
_DAY = 86400.0
FEW_PREDICTIONS = 10
"""In fewer, a feature may well be absent."""


def check(running: Running, settings: Config, profiles: dict[str, Profiles]) -> Iterator[Finding]:
    """Yield what happened to events, source by source and model by model."""
    for source in running.report.sources:
        yield from _source(source, running, settings, profiles)
    for model in settings.models:
        # A version that was only expected, from the profile, is there with nothing in it.
        versions = [state for state in running.report.models if state.model == model.name and state.predictions]
        if not versions and any(source.accepted for source in running.report.sources):
            yield _absent(model.name, running)
        for version in versions:
            yield from _version(version, model, profiles[model.name], running)


def _absent(model: str, running: Running) -> Finding:
    labels = _unjoined(model, running)
    if labels:
        what = f"{model}: {labels:.0f} labels came, and no prediction that they could be of"
        return problem(AREA, what, "send the predictions too, each with the id that its label will have")
    remedy = f"""senders name it by "model":"{model}"; remove it from the configuration if it is not in use"""
    return warning(AREA, f"{model}: no event of this model has come", remedy)


def _unjoined(model: str, running: Running) -> float:
    """Return how many labels have found no prediction, or not yet."""
    names = (catalogue.LABELS_UNMATCHED.name, catalogue.PENDING_LABELS.name)
    return sum(running.total(name, model=model) for name in names)


def _source(
    source: SourceState, running: Running, settings: Config, profiles: dict[str, Profiles]
) -> Iterator[Finding]:
    name, now = source.source, running.report.time
    if not source.up:
        yield problem(AREA, f"{name}: down: {source.error or 'connecting'}", "see this source under sources")
    for reason, count in source.rejected_by_reason.items():
        share = f"{name}: {count} of {count if not source.accepted else source.accepted + source.rejected} events"
        found = warning if source.accepted else problem
        yield found(AREA, f"{share} were refused as {reason}", refusal(cast(Reason, reason), settings))
    if source.accepted:
        ago = max(0.0, now - (source.last_event or now))
        what = f"{name}: {source.accepted} events taken, the last {format_duration(round(ago))} ago"
        shortest = min(min(model.windows) for model in settings.models)
        if ago > shortest:
            remedy = f"windows of {format_duration(shortest)} are empty by now: see whether senders still send"
            yield warning(AREA, what, remedy)
        else:
            yield ok(AREA, what)
    elif not source.rejected and source.up:
        age = format_duration(max(0, round(now - running.report.started)))
        yield warning(
            AREA,
            f"{name}: nothing has arrived since the start {age} ago",
            _how_to_send(name, running, settings, profiles),
        )
    for model, features in source.ignored.items():
        what = f"{name}: {model} does not know these features, and they are ignored: {', '.join(features)}"
        remedy = "spell them as its profile does (profile show lists the names), leave them out, or build it with them"
        yield warning(AREA, what, remedy)
    if source.late:
        yield warning(
            AREA,
            f"{name}: {source.late} of {source.accepted} events were older than their model's longest window",
            "they count in counters and in no window: see the clock and the unit of ts, or use replay for history",
        )


def _how_to_send(name: str, running: Running, settings: Config, profiles: dict[str, Profiles]) -> str:
    if not any(source.name == name and source.http is not None for source in settings.sources):
        return "see this source under sources, and whether the model server writes there"
    model = settings.models[0].name
    return (
        f"let the model server post to {running.access.url}/v1/events; to try it: curl -H 'Content-Type: "
        f"application/x-ndjson' -d '{example(model, profiles[model].newest)}' {running.access.url}/v1/events"
    )


def _version(state: ModelState, model: ModelSettings, profiles: Profiles, running: Running) -> Iterator[Finding]:
    name = f"{state.model} {state.version}"
    if "model" in running.switched_off:
        yield ok(AREA, f"{name}: {state.predictions} predictions, {state.labels} labels joined")
        return
    windows = sorted(
        (parse_duration(labels["window"]), labels["window"], value)
        for labels, value in running.values(catalogue.WINDOW_PREDICTIONS.name, model=state.model, version=state.version)
    )
    recent = windows[-1][2] if windows else 0.0
    longest = windows[-1][1] if windows else ""
    yield ok(
        AREA,
        f"{name}: {state.predictions} predictions, {recent:.0f} of them in {longest}; {state.labels} labels joined",
    )
    profile = profiles.of(state.version)
    if profile is None:
        yield warning(
            AREA,
            f"{name}: there is no profile of this version, so nothing is compared with a reference",
            f"build one with mlops-exporter profile build --model-version {state.version}, beside those of the others",
        )
    else:
        yield from _identity(state, profile)
    if state.predictions:
        needed = model.min_samples.drift
        if recent < needed:
            what = f"{name}: {recent:.0f} predictions in {longest}: drift shows from {needed} in a window on"
            yield warning(AREA, what, "wait, send more, lengthen windows, or lower min_samples.drift")
        if "data" not in running.switched_off:
            yield from _features(state, running)
        if state.seasonality is not None:
            yield _seasonality(state, state.seasonality, model)
        if state.hours is not None and model.cadence != CONTINUOUS:
            what = f"{name}: its profile is by hour, and its windows hold the batches of a job ({model.cadence})"
            yield warning(AREA, what, "they are compared with the whole reference: a profile without --time is enough")
    yield from _labels(state, model, profile or profiles.newest, recent, running)


def _identity(state: ModelState, profile: Profile) -> Iterator[Finding]:
    name = f"{state.model} {state.version}"
    if state.profile_hash != profile.digest:
        what = f"{name}: the exporter runs with profile {state.profile_hash}, the file now has {profile.digest}"
        yield warning(AREA, what, "reload or restart it to take up the new profile; its versions then begin anew")
    if state.version != profile.provenance.model_version:
        wrote = "events say no version" if state.version == DEFAULT_VERSION else f"events say version {state.version}"
        yield warning(
            AREA,
            f"{name}: {wrote}, the profile is of version {profile.provenance.model_version}",
            "send the version in events, or build the profile of this version (--model-version)",
        )


def _features(state: ModelState, running: Running) -> Iterator[Finding]:
    """Yield the features that came in no event, or never as what they are."""
    counts: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for labels, value in running.values(catalogue.FEATURE_VALUES.name, model=state.model, version=state.version):
        counts[labels["feature"]]["known" if labels["range"] else labels["bin"]] += value
    name = f"{state.model} {state.version}"
    found = problem if state.predictions >= FEW_PREDICTIONS else warning
    for kind, what, remedy in (
        ("missing", "in no event", "spell it in features as the profile does (profile show lists the names)"),
        ("invalid", "never a value of its type", "send numbers as numbers, not as strings"),
        ("other", "never a category of the reference", "compare the spelling of its values with profile show"),
    ):
        all_so = [feature for feature, bins in counts.items() if bins[kind] and bins[kind] == sum(bins.values())]
        if all_so:
            shown = f"{', '.join(all_so[:5])}{', …' if len(all_so) > 5 else ''}"
            yield found(AREA, f"{name}: {len(all_so)} of {len(counts)} features are {what}: {shown}", remedy)


def _seasonality(state: ModelState, seasonality: Seasonality, model: ModelSettings) -> Finding:
    """Say which window or reference suits features that differ from one window to the next without a change."""
    what = (
        f"{state.model} {state.version}: windows of {seasonality.window} differ among each other, in "
        f"{', '.join(seasonality.features)} most: {seasonality.predictions} predictions are worth {seasonality.worth}"
    )
    weekly = "rules of ml:feature_last_week:psi compare with the same hours of last week"
    by_hour = {
        None: "build the profile with --time, which keeps what is usual at each hour",
        "hour": "build the profile with --rhythm weekday-hour, or from more recent rows: hours alone do not explain it",
        "weekday-hour": "build the profile from more recent rows: what it knows of the hours does not explain it",
    }[state.hours]
    if seasonality.even is not None:
        what = f"{what}; {seasonality.even} evens it out, so it is a rhythm, or began within it"
        remedy = f"{by_hour}, or let windows be of {seasonality.even} and more: small changes show in these; {weekly}"
    elif max(model.windows) < _DAY:
        remedy = (
            f"if the time of the day may be why, {by_hour}, or add a window of a whole day, 24h, or week, 7d; {weekly}"
        )
    else:
        what = f"{what}; no longer window evens it out"
        remedy = f"thresholds allow for it: neighbours in time are alike, or something has just changed; {weekly}"
    return warning(AREA, what, remedy)


def _labels(
    state: ModelState, model: ModelSettings, profile: Profile, recent: float, running: Running
) -> Iterator[Finding]:
    name = f"{state.model} {state.version}"
    unmatched = running.total(catalogue.LABELS_UNMATCHED.name, model=state.model)
    unjoined = _unjoined(state.model, running)
    if not state.labels and unjoined:
        yield problem(
            AREA,
            f"{name}: {unjoined:.0f} labels came, none found its prediction",
            "send a label with the very id of its prediction, and both with the same model",
        )
    elif not state.labels:
        no_ids = state.predictions and not state.pending and not state.unlabelled
        what = "its predictions carry no id, so no label can find them" if no_ids else "no label has come"
        remedy = f"""{{"model":"{state.model}","id":"ID OF THE PREDICTION","label":…}}"""
        yield warning(
            AREA,
            f"{name}: {what}: performance needs labels",
            f"{'give predictions an id, then ' if no_ids else ''}send {remedy} once the truth is known",
        )
    else:
        if unmatched > state.labels:
            what = f"{state.model}: {unmatched:.0f} labels found no prediction, {state.labels} did"
            yield warning(
                AREA, what, "compare the ids of both; a label_ttl shorter than the delay of labels does this too"
            )
        inside = max(
            (
                value
                for _, value in running.values(catalogue.WINDOW_LABELS.name, model=state.model, version=state.version)
            ),
            default=0.0,
        )
        if inside < model.min_samples.performance:
            needed = model.min_samples.performance
            what = f"{name}: {inside:.0f} labels in the longest window, performance shows from {needed} on"
            yield warning(AREA, what, "wait, send more labels, lengthen windows, or lower min_samples.performance")
        yield from _unjudged(state, inside, recent, model, running)
        scored = running.total(catalogue.CALIBRATION_PREDICTIONS.name, model=state.model, version=state.version)
        if profile.has_scores and not scored:
            key = "score" if profile.task == "binary" else "scores"
            what = f"{name}: no labelled prediction had {key}, so there is no roc_auc, log_loss or calibration"
            yield warning(AREA, what, f"send {key} with predictions")


def _unjudged(
    state: ModelState, labels: float, predictions: float, model: ModelSettings, running: Running
) -> Iterator[Finding]:
    """Yield the benchmarks that nothing can be held against, though the longest window has as much as it takes."""
    for metric, size, key in (
        (catalogue.BENCHMARK_JUDGED.name, labels, "min_labels"),
        (catalogue.FAIRNESS_BENCHMARK_JUDGED.name, predictions, "min_predictions"),
    ):
        if size < max(limit(key), model.min_samples.performance):
            continue
        for of, judged in running.values(metric, model=state.model, version=state.version):
            if not judged:
                attribute = f" between groups of {of['attribute']}" if "attribute" in of else ""
                what = f"{state.model} {state.version}: the benchmark of {of['metric']}{attribute} cannot be judged"
                yield warning(AREA, f"{what}: no window has a value of it with an interval", _why_unjudged(of, model))


def _why_unjudged(of: Labels, model: ModelSettings) -> str:
    if "attribute" in of:
        assert model.fairness is not None
        return (
            f"each of two groups needs {model.fairness.min_group_size} (fairness.min_group_size) of what the rate is "
            "divided by: predictions, or labels of a class; see that events carry the group, wait, or lengthen windows"
        )
    if needs_scores(of["metric"]):
        return (
            "send scores with predictions, and see that both classes are among the labels, or agree on another metric"
        )
    if of["metric"] == "skill":
        return (
            "send `naive` with forecasts, what was known without the model, or agree on another metric; a naive "
            "forecast without any error has none"
        )
    if of["metric"] in ("pinball_loss", "coverage"):
        return "send `quantiles` with predictions, all of the profile's, or agree on another metric"
    return "see that what it is divided by occurs among the labels (each class; of mape, labels other than zero)"
