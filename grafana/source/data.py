"""Dashboard "Data drift": what comes in against the reference, the worst feature first."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import ALERTS, TARGET, largest, on, series
from mlops_exporter.exposition import catalogue as c

_ONE_FEATURE = 'feature="$feature"'

_NO_DRIFT = "Not judged: the window holds fewer values than min_samples.drift, or the profile has no features."
_NO_QUALITY = "Too few values in the window."
_NO_OUTCOME = "Too few in the window, or the profile holds no distribution of them."
_NO_JOINT = "Not judged: the profile holds no multivariate statistics, or the window too few predictions."

# Distance over threshold, the worst statistic of each feature: above 1 is drift.
_OF_THRESHOLD = f"({series(c.FEATURE_DRIFT)} / {series(c.FEATURE_DRIFT_THRESHOLD)})"
_RATIO = f"max by (feature) {_OF_THRESHOLD}"
_LEVELS = p.ranges(
    (None, 0.99999, "As in the reference", p.GOOD),
    (0.99999, 2, "Drift", p.WATCH),
    (2, None, "Strong drift", p.BAD),
)
_LAST_WEEK_LEVELS = p.ranges(
    (None, 1.00001, "As last week", p.GOOD),
    (1.00001, 2, "Different", p.WATCH),
    (2, None, "Far from last week", p.BAD),
)
# The same from the same hours of last week, in the last hour or day: all exporters together, as counters add up.
_LAST_WEEK = (
    f'max by (feature) (ml:feature_last_week:psi{{{ALERTS},model="$model",version="$version"}}'
    " / ml:feature_last_week:psi_threshold)"
)
# Features, the worst first: the default of the variable.
_FEATURES = f"{_RATIO} or max by (feature) ({series(c.FEATURE_REFERENCE)}) * 0"


def _times(metric: c.Metric, threshold: c.Metric, by: str) -> str:
    return f"max by ({by}) ({series(metric)} / {series(threshold)})"


def _head() -> list[p.Panel]:
    return [
        p.number(
            "Drifted features?",
            "Features with a statistic above its threshold. The threshold is what chance exceeds at the configured "
            "false-alarm rate and the window's sample size, and at least the smallest effect that matters.",
            "none",
            f"max({series(c.DRIFTED_FEATURES)})",
            empty=_NO_DRIFT,
            size=(4, 4),
            alarming=p.WATCH,
        ),
        p.number(
            "How many surely?",
            "Drifted features that stand out among all: without drift it exceeds 0 at the false-alarm rate at most, "
            "however many features there are (Benjamini-Hochberg).",
            "none",
            f"max({series(c.DRIFTED_FEATURES_CONTROLLED)})",
            empty=_NO_DRIFT,
            size=(4, 4),
            alarming=p.WATCH,
        ),
        p.number(
            "Even slightly?",
            "Features whose distance from the reference is no chance (Benjamini-Hochberg at the false-alarm rate); it "
            "may be too small to matter.",
            "none",
            f"max({series(c.DRIFTED_FEATURES_SIGNIFICANT)})",
            empty=_NO_DRIFT,
            size=(3, 4),
        ),
        p.number(
            "Of how many?",
            "Features in the reference profile.",
            "none",
            f"max({series(c.MODEL_FEATURES)})",
            empty="No profile",
            size=(3, 4),
        ),
        p.number(
            "From how many?",
            "Predictions in the window: thresholds fall as they grow.",
            "short",
            f"sum({series(c.WINDOW_PREDICTIONS)})",
            empty="No predictions",
            size=(3, 4),
        ),
        p.number(
            "Do predictions drift?",
            "Distance of scores (without scores: of predictions) from the reference over its threshold, in words.",
            "none",
            f"max({series(c.PREDICTION_DRIFT)} / {series(c.PREDICTION_DRIFT_THRESHOLD)})",
            empty=_NO_OUTCOME,
            size=(4, 4),
            mappings=_LEVELS,
        ),
        p.number(
            "Labels drift?",
            "Distance of the labels from the reference over its threshold, in words.",
            "none",
            f"max({series(c.LABEL_DRIFT)} / {series(c.LABEL_DRIFT_THRESHOLD)})",
            empty=_NO_OUTCOME,
            size=(3, 4),
            mappings=_LEVELS,
        ),
    ]


def _features() -> list[p.Panel]:
    return [
        p.table_of(
            "Which features drift most?",
            "Each feature's distance from the reference as a multiple of its threshold, for its worst statistic and "
            "the replica where it is furthest; above 1 is drift. Weight is the feature's share in the model's "
            "decisions. The link draws the feature below.",
            [
                f"max by (feature, statistic) (topk by (feature) (1, {_OF_THRESHOLD}))",
                f"max by (feature) ({series(c.FEATURE_IMPORTANCE)})",
            ],
            [
                p.Column(
                    "feature",
                    "Feature",
                    least=100,
                    link="/d/mlops-data?var-feature=${__data.fields.Feature}"
                    "&${model:queryparam}&${version:queryparam}&${window:queryparam}&" + p.SHARED_VARIABLES,
                ),
                p.Column("statistic", "Statistic", width=100),
                p.Column("A", "Times the threshold", unit="none", decimals=2, width=150),
                p.Column("B", "Weight", unit="percentunit", decimals=0, width=70),
            ],
            empty=_NO_DRIFT,
            size=(10, 11),
            sort="Times the threshold",
        ),
        p.states(
            "When did which feature drift?",
            "The twenty features that drifted most in the time range, in words. Drift is above the threshold, strong "
            "drift above twice the threshold.",
            [p.Query(largest(20, _RATIO, "feature"), "{{feature}}")],
            _LEVELS,
            empty=_NO_DRIFT,
            size=(14, 11),
        ),
        p.states(
            "Which differ from the same hours of last week?",
            "The last hour and the last day against the same hours of last week, on all exporters together: the ten "
            "features that differed most, in words. What drifts from the reference and not from last week, the rhythm "
            "of the day or the week may explain.",
            [p.Query(largest(10, _LAST_WEEK, "feature"), "{{feature}}")],
            _LAST_WEEK_LEVELS,
            empty="The recording rules have not seen the same hours of last week, or too few predictions in them.",
            size=(24, 7),
        ),
    ]


# Bins are those of a profile: only exporters that had one and the same in the whole range may be added up.
_PROFILES = f"group by ({TARGET}, profile_hash) (last_over_time({series(c.MODEL_INFO)}[$__range]))"
_SAME_BINS = (
    f"{on()} ({_PROFILES} and on (profile_hash) topk(1, count by (profile_hash) ({_PROFILES}))"
    f" unless {on()} (count by ({TARGET}) ({_PROFILES}) > 1))"
)


def _one_feature() -> list[p.Panel]:
    added = f"(increase({series(c.FEATURE_VALUES, _ONE_FEATURE)}[$__range]) and {_SAME_BINS})"
    counts, total = f"sum by (bin, range) {added}", f"scalar(sum{added} > 0)"
    reference = f"max by (bin, range) ({series(c.FEATURE_REFERENCE, _ONE_FEATURE)} and {_SAME_BINS})"
    # Bins without a range (missing, invalid, other) are named by their bin.
    named = 'label_replace({}, "range", "$1", "bin", "(missing|invalid|other)")'
    return [
        p.number(
            "How many references?",
            "Reference profiles of this version in the time range, on all exporters. Bins of one are never added to "
            "another's: with several, the bars show the exporters that had the most common one all the time. Choose a "
            "range before or after the change to see the others.",
            "none",
            f"count(count by (profile_hash) ({_PROFILES}))",
            empty="No exporter knows this version",
            size=(4, 9),
            mappings=p.ranges((None, 1.5, "One", p.GOOD), (1.5, None, "Several", p.WATCH)),
        ),
        p.bars(
            "How does $feature compare with the reference?",
            "Share of the values in each bin of the reference: those of the time range against the training data. "
            "Choose the time of an incident to see its distribution.",
            "percentunit",
            {
                "Reference": named.format(reference),
                "This time range": named.format(f"{counts} / {total}"),
            },
            by="range",
            order="bin",
            empty="No values of this feature in the time range, or the reference changed in it on every exporter.",
            size=(11, 9),
            colors=(p.QUIET, p.NEUTRAL),
        ),
        p.over_time(
            "Is $feature beyond its thresholds?",
            "Each statistic of the feature (solid) and its threshold (dashed) at the sample size of that moment.",
            "none",
            [
                p.Query(f"max by (statistic) ({series(c.FEATURE_DRIFT, _ONE_FEATURE)})", "{{statistic}}"),
                p.Query(
                    f"max by (statistic) ({series(c.FEATURE_DRIFT_THRESHOLD, _ONE_FEATURE)})",
                    "threshold of {{statistic}}",
                ),
            ],
            empty=_NO_DRIFT,
            size=(9, 9),
            overrides=_SOLID_AND_DASHED,
            low=0,
        ),
    ]


_STATISTIC_COLORS = {
    "psi": p.NEUTRAL, "js": p.WATCH, "ks": p.GOOD, "hellinger": p.PINK, "wasserstein": p.SKY, "tvd": p.QUIET,
    "mmd": p.NEUTRAL, "pca_reconstruction": p.WATCH,
}  # fmt: skip
_SOLID_AND_DASHED = {
    **{name: p.line(color) for name, color in _STATISTIC_COLORS.items()},
    **{f"threshold of {name}": p.line(color, dashed=True, width=1) for name, color in _STATISTIC_COLORS.items()},
}


def _against_threshold(question: str, what: str, metric: c.Metric, threshold: c.Metric, empty: str) -> p.Panel:
    return p.over_time(
        question,
        f"Distance of {what} from the reference (solid) and its threshold (dashed), for each statistic.",
        "none",
        [
            p.Query(f"max by (statistic) ({series(metric)})", "{{statistic}}"),
            p.Query(f"max by (statistic) ({series(threshold)})", "threshold of {{statistic}}"),
        ],
        empty=empty,
        size=(8, 8),
        overrides=_SOLID_AND_DASHED,
        low=0,
    )


def _outcomes() -> list[p.Panel]:
    weighted = f"max by (statistic) ({series(c.WEIGHTED_DRIFT)})"
    return [
        _against_threshold(
            "Do scores drift?", "scores, or predictions without scores,", c.PREDICTION_DRIFT,
            c.PREDICTION_DRIFT_THRESHOLD, _NO_OUTCOME,
        ),
        _against_threshold("Do labels drift?", "labels", c.LABEL_DRIFT, c.LABEL_DRIFT_THRESHOLD, _NO_OUTCOME),
        _against_threshold(
            "Do features drift together?", "the joint distribution of the features",
            c.DATA_DRIFT, c.DATA_DRIFT_THRESHOLD, _NO_JOINT,
        ),
        p.over_time(
            "Do embeddings drift?",
            "Distance of vector-valued features from the reference as a multiple of its threshold, for each statistic: "
            "above 1 (dashed) is drift.",
            "none",
            [
                p.Query(
                    "max by (feature, statistic) "
                    f"({series(c.EMBEDDING_DRIFT)} / {series(c.EMBEDDING_DRIFT_THRESHOLD)})",
                    "{{feature}} {{statistic}}",
                ),
                p.Query(f"max({series(c.EMBEDDING_DRIFT_THRESHOLD)}) * 0 + 1", "Threshold"),
            ],
            empty="The profile holds no embeddings.",
            size=(12, 8),
            overrides={"Threshold": p.line(p.BAD, dashed=True)},
            low=0,
        ),
        p.over_time(
            "Do important features drift?",
            "Drift of all features, each weighted by its importance in the profile: drift that the model feels.",
            "none",
            [p.Query(weighted, "{{statistic}}")],
            empty="The profile has no importances (profile build --importances), or too few values to judge drift.",
            size=(12, 8),
            overrides=_SOLID_AND_DASHED,
            low=0,
        ),
    ]  # fmt: skip


def _quality() -> list[p.Panel]:
    kinds = [
        ("Which values are missing?", "absent, null or NaN", c.FEATURE_MISSING),
        ("Which values are invalid?", "of the wrong type or infinite", c.FEATURE_INVALID),
        ("Which values are out of range?", "outside the reference's range (numeric)", c.FEATURE_OUT_OF_RANGE_RATIO),
        ("Which categories are unseen?", "of a category that the profile does not list", c.FEATURE_UNSEEN),
    ]
    return [
        p.over_time(
            question,
            f"Share of each feature's values that are {what}: the ten features with most of them.",
            "percentunit",
            [p.Query(largest(10, f"max by (feature) ({series(metric)})", "feature"), "{{feature}}")],
            empty=_NO_QUALITY,
            size=(6, 8),
            low=0,
        )
        for question, what, metric in kinds
    ]


def build() -> model.Dashboard:
    """Return the dashboard."""
    return p.dashboard(
        "mlops-data",
        "What comes in against what the model was trained on: features, quality, predictions, labels, all together.",
        [
            *p.model_variables(),
            p.window_variable(),
            p.worst_first("feature", _FEATURES),
        ],
        {
            "": _head(),
            "Which features?": _features(),
            "Feature $feature": _one_feature(),
            "Predictions, labels, all features together": _outcomes(),
            "Are the values valid?": _quality(),
        },
        matchers=',model="$model"',
        one_environment=True,
    )  # fmt: skip
