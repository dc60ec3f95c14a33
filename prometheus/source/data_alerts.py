"""Alerts on data: drift of features and predictions, and the quality of values.

All look at the freshest window that has enough predictions, so that they end when the data are good again.
"""

from textwrap import dedent

from mlops_exporter.judging.judge import CAUTIOUS_STATISTICS, STANDARD_ERRORS
from prometheus.source.alert import (
    CURRENT,
    MODEL_HERE,
    ON_FEATURE,
    ON_WINDOW,
    PERCENT,
    TIMES,
    WHERE,
    Alert,
    constant,
    each,
    indented,
    names,
    value,
)
from prometheus.source.thresholds import threshold

_COUNT = '{{ $value | printf "%.0f" }} {{ if eq $value 1.0 }}feature{{ else }}features{{ end }}'
_LATELY = f"in the last {names('ml:model_window:current{SELECT}', MODEL_HERE, 'window', 'window')}"


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
            f"  {CURRENT}",
            f") > {threshold(limit)})",
        )
    )


def _worst(ratio: str) -> str:
    on = f"and {ON_WINDOW} ml:model_window:current"
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
        f"{_COUNT} of {WHERE} had too many {kind} {_LATELY}{_worst(f'{ratio}SELECTED')}. "
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

ALERTS = [
    Alert(
        "MLFeatureDrift",
        "drift",
        "warning",
        MODEL_HERE,
        dedent(f"""\
            max without (window) (
              (ml_model_drifted_features_controlled or ml_model_drifted_features) > 0
              {CURRENT}
            )
            >= on (job, instance, model, version)
            ml_model_features * {threshold("drifted_features_ratio")}"""),
        "Several features of a model no longer look like its training data.",
        '{{ $value | printf "%.0f" }} of the '
        + value("ml_model_features{SELECT}", MODEL_HERE, 'printf "%.0f"')
        + f" features of {WHERE} drifted {_LATELY}; less than {constant('drifted_features_ratio', PERCENT)} are "
        f"tolerated{_WORST_DRIFT}.",
        _DRIFT_FIRST,
        "15m",
        "30m",
        verdict="drifting",
        action="consider_retraining",
    ),
    Alert(
        "MLFeatureDriftSevere",
        "drift",
        "warning",
        MODEL_HERE,
        dedent(f"""\
            count without (feature) (max without (window, statistic) (
              ml_feature_drift{{statistic="psi"}} > ml_feature_drift_threshold
              {CURRENT}
            ) >= {threshold("severe_drift_psi")})"""),
        "A feature has moved far from a model's training data.",
        f"{_COUNT} of {WHERE} drifted by a PSI of {constant('severe_drift_psi')} or more {_LATELY}"
        + each(
            f'sort_desc(topk(3, max by (feature) (ml_feature_drift{{SELECT,statistic="psi"}} {CURRENT})))',
            MODEL_HERE,
            "feature",
            'printf "%.2f"',
            before="; most: ",
        )
        + ".",
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
        _drifted(_OF_THRESHOLD),
        "A model predicts otherwise than on its reference data.",
        f"The predictions of {WHERE} {_far(_OF_THRESHOLD)}",
        "See whether features drifted too; if none did, look for a changed model, threshold or preprocessing.",
        "15m",
        "30m",
        verdict="drifting",
        action="consider_retraining",
    ),
    Alert(
        "MLMultivariateDrift",
        "drift",
        "warning",
        MODEL_HERE,
        _drifted(_OF_THRESHOLD_JOINTLY),
        "Features of a model occur in combinations that its training data do not have.",
        f"The features of {WHERE}, taken together, {_far(_OF_THRESHOLD_JOINTLY)}",
        "If no feature drifts by itself, look for a broken join or a new segment of users.",
        "15m",
        "30m",
        verdict="drifting",
        action="consider_retraining",
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
        f"Most values of {_COUNT} of {WHERE} were missing or invalid {_LATELY}"
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
