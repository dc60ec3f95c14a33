"""Alerts on data: drift of features and predictions, and the quality of values.

All look at the freshest window that has enough predictions, so that they end when the data are good again. Drift waits
until that is full: before, it holds some hours of the day alone.
"""

from textwrap import dedent

from mlops_exporter.judging.judge import CAUTIOUS_STATISTICS, STANDARD_ERRORS
from prometheus.source.alert import (
    CURRENT,
    FRESHEST,
    MODEL,
    MODEL_HERE,
    ON_FEATURE,
    ON_MODEL,
    ON_WINDOW,
    PERCENT,
    TIMES,
    WHERE,
    Alert,
    by_window,
    constant,
    each,
    indented,
    names,
    value,
    whether,
)
from prometheus.source.thresholds import threshold

_SLICE = (*MODEL_HERE, "segment", "slice")
_COUNT = '{{ $value | printf "%.0f" }} {{ if eq $value 1.0 }}feature{{ else }}features{{ end }}'
_LATELY = f"in the last {names('ml:model_window:current{SELECT}', MODEL_HERE, 'window', 'window')}"
_FRESHLY = _LATELY.replace("current", "freshest")


def _excess(ratio: str, reference: str | None) -> str:
    """Share of values above the reference's, less four standard errors."""
    lines = [
        ratio,
        f"- {STANDARD_ERRORS:g} * sqrt({ratio} * (1 - {ratio})",
        f"    / {ON_WINDOW} group_left () ml_model_window_predictions)",
    ]
    if reference is not None:
        lines += [f"- {ON_FEATURE} group_left ()", "  max without (bin, range) (", f"    {reference}", "  )"]
    return "\n".join(lines)


def _reference(name: str) -> str:
    return f'ml_feature_reference_ratio{{bin="{name}",range=""}}'


def _poor(excess: str, limit: str) -> str:
    """Count features with more excess than the limit."""
    return "\n".join(
        (
            "count without (feature) (max without (window) (",
            indented(excess),
            f"  {FRESHEST}",
            f") > {threshold(limit)})",
        )
    )


def _worst(ratio: str) -> str:
    on = f"and {ON_WINDOW} ml:model_window:freshest"
    query = f"sort_desc(topk(3, max by (feature) (({ratio.replace('SELECTED', '{SELECT}')}) {on}) > 0))"
    return each(query, MODEL_HERE, "feature", PERCENT, before="; most: ")


def _quality(
    name: str, ratio: str, reference: str | None, limit: str, summary: str, kind: str, than: str, first: str
) -> Alert:
    return Alert(
        name,
        "data_quality",
        "warning",
        MODEL_HERE,
        _poor(_excess(ratio, reference), limit),
        summary,
        f"{_COUNT} of {WHERE} had too many {kind} {_FRESHLY}{_worst(f'{ratio}SELECTED')}. "
        f"{constant(limit, PERCENT)} {than} is tolerated.",
        first,
        "10m",
        "30m",
        verdict="impaired",
    )


_OF_THRESHOLD = "ml_prediction_drift{} / ml_prediction_drift_threshold"
_CAUTIOUS = "|".join(sorted(CAUTIOUS_STATISTICS))
_OF_THRESHOLD_JOINTLY = dedent(f"""\
    (
        ml_data_drift{{0}} / ml_data_drift_threshold{{{{statistic!~"{_CAUTIOUS}"}}}}
      or
        ml_data_drift{{0}} / ml_data_drift_threshold{{{{statistic=~"{_CAUTIOUS}"}}}}
          / {ON_WINDOW} group_left () ml:model_window:caution
    )""")
"""The noise of a short window's reconstruction error exceeds its smallest effect, so that a month of looks counts."""


def _drifted(of_threshold: str) -> str:
    """How many times its own threshold the worst statistic is."""
    return "\n".join(
        (
            "max without (window, statistic) (",
            indented(of_threshold.format("")),
            f"  {CURRENT}",
            ") > 1",
        )
    )


def _far(of_threshold: str) -> str:
    query = f"sort_desc(topk(3, max by (statistic) ({of_threshold.format('{SELECT}')} {CURRENT})))"
    return (
        f"were {{{{ $value | {TIMES} }}}} as far from the reference as is tolerated {_LATELY}"
        + each(query, MODEL_HERE, "statistic", TIMES, before="; by statistic: ")
        + _MOVED
    )


_HARMLESS = f"{ON_MODEL} (ml:model:harm == 0)"
_MOVED = (
    whether(
        "ml:model:harm{SELECT}",
        MODEL_HERE,
        ". Performance, realised or estimated, has moved, too",
        ". Whether performance has moved nobody can tell, as there are neither labels nor estimates",
    )
    + each(
        f"sort_desc(topk(3, ml:model_performance:loss{{SELECT}} > {threshold('performance_loss')}))",
        MODEL_HERE,
        "metric",
        PERCENT,
        before=": surely worse than the reference's, by share, is ",
    )
    + "."
)
_IMPORTANT = each(
    f"sort_desc(topk(3, ml_feature_importance_ratio{{SELECT}} and {ON_FEATURE} "
    f"(ml_feature_drift > ml_feature_drift_threshold {CURRENT})))",
    MODEL_HERE,
    "feature",
    PERCENT,
    before=". Of these most important to the model: ",
)
_OF_LAST_WEEK = "max by (feature) (ml:feature_last_week:psi{SELECT} / ml:feature_last_week:psi_threshold)"
_LAST_WEEK = (
    each(
        f"sort_desc(topk(3, {_OF_LAST_WEEK} > 1))",
        MODEL,
        "feature",
        TIMES,
        before=" Beyond what is tolerated against the same hours of last week, too: ",
        none=whether(
            f"count({_OF_LAST_WEEK})",
            MODEL,
            " Against the same hours of last week no feature is beyond what is tolerated: the hours may explain it",
            " The same hours of last week are not known",
        ),
    )
    + "."
)
_DRIFT_FIRST = "See whether a data-quality alert explains it, then ask the owner of the worst feature what changed."
_WORST_DRIFT = each(
    f"sort_desc(topk(3, max by (feature) (ml_feature_drift{{SELECT}} / ml_feature_drift_threshold {CURRENT})))",
    MODEL_HERE,
    "feature",
    TIMES,
    before=". Worst, against their own thresholds: ",
)

_MANY_DRIFTED = dedent(f"""\
    max without (window) (
      (ml_model_drifted_features_controlled or ml_model_drifted_features) > 0
      {CURRENT}
    )
    >= {ON_MODEL} group_left ()
    ml_model_features * {threshold("drifted_features_ratio")}""")
_MOVED_FAR = dedent(f"""\
    count without (feature) (max without (window, statistic) (
      ml_feature_drift{{statistic="psi"}} > ml_feature_drift_threshold
      {CURRENT}
    ) >= {threshold("severe_drift_psi")})""")


def _harmful(drift: str) -> str:
    """Drift of models whose performance has moved, too, or of which nobody can tell."""
    return f"{drift}\nunless {_HARMLESS}"


def _without_harm(*drifts: str) -> str:
    """Drift of any kind of models whose performance is known not to have moved."""
    told = "\nor\n".join(f"(\n{indented(drift)}\n)" for drift in drifts)
    return f"(\n{indented(told)}\n)\nand {_HARMLESS}"


ALERTS = [
    Alert(
        "MLFeatureDrift",
        "drift",
        "warning",
        MODEL_HERE,
        _harmful(_MANY_DRIFTED),
        "Several features of a model no longer look like its training data.",
        '{{ $value | printf "%.0f" }} of the '
        + value("ml_model_features{SELECT}", MODEL_HERE, 'printf "%.0f"')
        + f" features of {WHERE} drifted {_LATELY}; less than {constant('drifted_features_ratio', PERCENT)} are "
        f"tolerated{_WORST_DRIFT}{_IMPORTANT}{_MOVED}{_LAST_WEEK}",
        _DRIFT_FIRST,
        "15m",
        "30m",
        verdict="drifting",
        action="consider_retraining",
    ),
    Alert(
        "MLFeatureDriftSlight",
        "drift",
        "info",
        MODEL_HERE,
        dedent(f"""\
            max without (window) (
              ml_model_drifted_features_significant > 0
              {CURRENT}
            )"""),
        "Features of a model differ from its training data, if only slightly.",
        f"{_COUNT} of {WHERE} differed from the reference by more than chance {_LATELY}, however little{_WORST_DRIFT}.",
        "Look at the feature's bins for what is new in them; where it is known and harmless, leave it.",
        "2h",
        "2h",
    ),
    Alert(
        "MLFeatureDriftSevere",
        "drift",
        "warning",
        MODEL_HERE,
        _harmful(_MOVED_FAR),
        "A feature has moved far from a model's training data.",
        f"{_COUNT} of {WHERE} drifted by a PSI of {constant('severe_drift_psi')} or more {_LATELY}"
        + each(
            f'sort_desc(topk(3, max by (feature) (ml_feature_drift{{SELECT,statistic="psi"}} {CURRENT})))',
            MODEL_HERE,
            "feature",
            'printf "%.2f"',
            before="; most: ",
        )
        + _IMPORTANT
        + _MOVED
        + _LAST_WEEK,
        "Compare the feature's bins with the reference: a shift of all of them points to a changed unit or source.",
        "15m",
        "1h",
        verdict="drifting",
        action="consider_retraining",
    ),
    Alert(
        "MLPredictionDrift",
        "drift",
        "warning",
        MODEL_HERE,
        _harmful(_drifted(_OF_THRESHOLD)),
        "A model predicts otherwise than on its reference data.",
        f"The predictions of {WHERE} {_far(_OF_THRESHOLD)}",
        "See whether features drifted too; if none did, look for a changed model, threshold or preprocessing.",
        "15m",
        "30m",
        verdict="drifting",
        action="consider_retraining",
    ),
    Alert(
        "MLSegmentDrift",
        "drift",
        "warning",
        _SLICE,
        _harmful(f"max without (window) (\n  ml_segment_drifted\n  and {ON_WINDOW} ml:model_window:full\n) == 1"),
        "A model predicts otherwise in one slice than on its reference data of that slice.",
        f"The predictions of {WHERE} where {{{{ $labels.segment }}}} is {{{{ $labels.slice }}}} differ from the "
        "reference's by "
        + by_window("ml_segment_drift{SELECT}", _SLICE, PERCENT)
        + " of them; tolerated is "
        + by_window("ml_segment_drift_threshold{SELECT}", _SLICE, PERCENT)
        + _MOVED,
        "See which features of the slice moved, and what was released or changed upstream for it alone.",
        "30m",
        "1h",
        verdict="drifting",
    ),
    Alert(
        "MLOutcomeDrift",
        "drift",
        "warning",
        (*MODEL_HERE, "outcome"),
        _drifted("ml_outcome_drift{} / ml_outcome_drift_threshold"),
        "Answers of a model are rated otherwise than in its reference data.",
        f"The values of {{{{ $labels.outcome }}}} of {WHERE} were {{{{ $value | {TIMES} }}}} as far from the "
        f"reference's as is tolerated {_LATELY}"
        + each(
            "sort_desc(topk(3, max by (statistic) (ml_outcome_drift{SELECT} / ml_outcome_drift_threshold "
            f"{CURRENT})))",
            (*MODEL_HERE, "outcome"),
            "statistic",
            TIMES,
            before="; by statistic: ",
        )
        + ".",
        "See whether their mean moved, too; if not, look for another mixture of requests, or another way to rate.",
        "15m",
        "30m",
        verdict="drifting",
    ),
    Alert(
        "MLMultivariateDrift",
        "drift",
        "warning",
        MODEL_HERE,
        _harmful(_drifted(_OF_THRESHOLD_JOINTLY)),
        "Features of a model occur in combinations that its training data do not have.",
        f"The features of {WHERE}, taken together, {_far(_OF_THRESHOLD_JOINTLY)}",
        "If no feature drifts by itself, look for a broken join or a new segment of users.",
        "15m",
        "30m",
        verdict="drifting",
        action="consider_retraining",
    ),
    Alert(
        "MLDriftWithoutHarm",
        "drift",
        "info",
        MODEL_HERE,
        _without_harm(_MANY_DRIFTED, _MOVED_FAR, _drifted(_OF_THRESHOLD), _drifted(_OF_THRESHOLD_JOINTLY)),
        "What a model gets or predicts has changed, and its performance has not.",
        f"Features or predictions of {WHERE} no longer look like its reference {_LATELY}, while its performance, "
        f"realised or estimated, is not worse than the reference's by {constant('performance_loss', PERCENT)} of it, "
        f"chance allowed for{_WORST_DRIFT}{_IMPORTANT}.{_LAST_WEEK}",
        "Nothing needs to be done now; see whether the hours or the season explain it, else make a newer profile.",
        "15m",
        "30m",
        verdict="drifting",
    ),
    Alert(
        "MLFeatureUnusable",
        "data_quality",
        "critical",
        MODEL_HERE,
        _poor(
            "(\n"
            + indented(_excess("ml_feature_missing_ratio", _reference("missing")))
            + "\n)\n+ (\n"
            + indented(_excess("ml_feature_invalid_ratio", _reference("invalid")))
            + "\n)",
            "unusable_excess",
        ),
        "Most values of a feature do not reach a model.",
        f"Most values of {_COUNT} of {WHERE} were missing or invalid {_FRESHLY}"
        + _worst("ml_feature_missing_ratioSELECTED + ml_feature_invalid_ratio")
        + f". {constant('unusable_excess', PERCENT)} more than in the reference is the limit.",
        "Stop what feeds this feature or roll its last change back: the model is guessing without it.",
        "5m",
        "15m",
        verdict="unusable",
    ),
    _quality(
        "MLFeatureMissing",
        "ml_feature_missing_ratio",
        _reference("missing"),
        "missing_excess",
        "Values of a model's features are missing.",
        "missing values",
        "more than in the reference",
        "Follow the feature upstream to the first table or service where it is missing.",
    ),
    _quality(
        "MLFeatureInvalid",
        "ml_feature_invalid_ratio",
        _reference("invalid"),
        "invalid_excess",
        "Values of a model's features are of the wrong type.",
        "invalid values",
        "more than in the reference",
        "Look at a raw event: text where a number belongs, or an infinite number, says which serializer changed.",
    ),
    _quality(
        "MLFeatureOutOfRange",
        "ml_feature_out_of_range_ratio",
        None,
        "out_of_range",
        "Values of a model's features lie outside the range of its training data.",
        "values outside the reference's range",
        "of the values",
        "Compare the range with the reference's: a factor of 100 or 1000 is a changed unit.",
    ),
    _quality(
        "MLFeatureUnseenCategories",
        "ml_feature_unseen_category_ratio",
        _reference("other"),
        "unseen_excess",
        "A model gets categories that its training data did not have.",
        "values of unknown categories",
        "more than in the reference",
        "List the new categories from the raw events: a renamed one is a bug, a new one a reason to retrain.",
    ),
]
