"""Recording rules: thresholds, the window to judge by, and the fleet's drift, performance and fairness from counters.

Counters of all replicas add up, so these rules see the whole stream where a replica's gauges see its share. Every
aggregation is `without` the replica's labels: job, cluster or whatever else a scrape adds stays.
"""

from collections.abc import Iterable, Mapping
from textwrap import dedent
from types import MappingProxyType
from typing import NamedTuple

from scipy.special import ndtri

from mlops_exporter.doctor.prometheus import JOB
from mlops_exporter.judging.judge import MONTH_SECONDS, NORMAL_QUANTILE, ONE_SIDED, VERDICTS, Verdict
from prometheus.source.alert import ON_METRIC, ON_WINDOW, Alert, widened
from prometheus.source.thresholds import THRESHOLDS, threshold


class Record(NamedTuple):
    """One recording rule; `comment` goes above it."""

    record: str
    expr: str
    labels: Mapping[str, str] = MappingProxyType({})
    comment: str = ""


class Group(NamedTuple):
    """Rules that are evaluated in order, each seeing the results of those before; no interval means the global one."""

    name: str
    rules: list[Record]
    interval: str | None = None


_HIGHER, _LOWER = ("accuracy", "precision", "recall", "f1", "roc_auc"), ("mae", "rmse")
"""Metrics that are realised and estimated, by which of two values is better."""

FLEET_WINDOWS = ("1h", "1d")
BURN_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

_LAST_WEEK_CHANCE = 0.01

_REPLICA = "instance, pod"
_VALID_BINS = ('{bin!~"invalid|missing"}', '{bin=~"invalid|missing",range!=""}')  # a category may be called missing
_OF_BINS = "ignoring (feature, bin, range, profile_hash) group_left (profile_hash)"
_ALL = "(?s)(.*)"  # with newlines in 2.42, where a dot alone excludes them


def thresholds() -> list[Group]:
    """One constant series for each threshold."""
    rules = [
        Record(f"ml:threshold:{name}", f"vector({number.value:g})", comment=number.meaning)
        for name, number in THRESHOLDS.items()
    ]
    return [Group("ml-thresholds", rules)]


def windows() -> list[Group]:
    """Which of a version's windows alerts judge by."""
    return [
        Group(
            "ml-windows",
            [
                Record(
                    "ml:model_window:full",
                    "ml_model_window_seconds\nunless on (job, instance, model, version, window)\n"
                    "ml_model_window_filled_ratio < 1",
                    comment="Length of the windows that are full: after a start the others hold some hours alone.",
                ),
                Record(
                    "ml:model_window:current",
                    _shortest(
                        "ml:model_window:current",
                        "ml_model_window_predictions",
                        "min_predictions",
                        "ml:model_window:full",
                    ),
                    comment="Length of the shortest full window with enough predictions: the one to judge drift by.",
                ),
                Record(
                    "ml:model_window:freshest",
                    _shortest(
                        "ml:model_window:freshest",
                        "ml_model_window_predictions",
                        "min_predictions",
                        "ml_model_window_seconds",
                    ),
                    comment="Length of the shortest window with enough predictions, full or not: for bad values.",
                ),
                Record(
                    "ml:model_window:labelled",
                    _shortest(
                        "ml:model_window:labelled", "ml_model_window_labels", "min_labels", "ml:model_window:full"
                    ),
                    comment="Length of the shortest full window with enough labels: it refutes alerts on performance.",
                ),
                Record(
                    "ml:model_window:surprise",
                    dedent(f"""\
                        sqrt(-2 * ln(clamp_max(
                          ml_model_window_seconds * {threshold("benchmark_chance")} / {MONTH_SECONDS:.0f}, {ONE_SIDED}
                        )))"""),
                    comment="How improbable a shortfall must be to count: a short window has many chances in a month.",
                ),
                Record(
                    "ml:model_window:caution",
                    dedent(f"""\
                        (
                            ml:model_window:surprise
                          - (2.30753 + 0.27061 * ml:model_window:surprise)
                            / (1 + 0.99229 * ml:model_window:surprise + 0.04481 * ml:model_window:surprise ^ 2)
                        ) / {NORMAL_QUANTILE}"""),
                    comment="How many times its width a 95 % interval must have for that: the normal quantile, by "
                    "Hastings' approximation (Abramowitz and Stegun, 26.2.22).",
                ),
            ],
        ),
        Group(
            "ml-harm",
            [
                Record(
                    "ml:model_performance:loss",
                    _loss("ml_model_performance", "ml_model_window_labels", "min_labels")
                    + "\nor\n"
                    + _loss("ml_model_performance_estimated", "ml_model_window_predictions", "min_predictions"),
                    comment="Share by which performance, realised or estimated, is surely worse than the reference's.",
                ),
                Record(
                    "ml:model:harm",
                    dedent(f"""\
                          max without (stream) (
                            ml_model_change_evidence{{stream="error"}} > bool ml_model_change_evidence_threshold
                          ) > 0
                        or
                          max without (metric) (ml:model_performance:loss) > bool {threshold("performance_loss")}"""),
                    comment="Whether performance has moved: 1 if so, 0 if not, absent where nobody can tell.",
                ),
            ],
        ),
    ]


def _loss(performance: str, size: str, minimum: str) -> str:
    """Share by which the better end of the widened interval is worse than the reference, in the worst full window."""
    reference = f"/ {ON_METRIC} group_left () ml_model_performance_reference"
    higher, lower = (f'{{metric=~"{"|".join(names)}"}}' for names in (_HIGHER, _LOWER))
    return dedent("""\
        max without (window) (
          (
              1 - {best} {higher}
            or
              {worst} {lower} - 1
          )
          and {on} ({size} >= {minimum})
          and {on} ml:model_window:full
        )""").format(
        best=widened(performance, "upper").replace("\n", "\n      "),
        worst=widened(performance, "lower").replace("\n", "\n      "),
        higher=reference + higher,
        lower=reference + lower,
        on=ON_WINDOW,
        size=size,
        minimum=threshold(minimum),
    )


def _shortest(record: str, size: str, minimum: str, windows: str) -> str:
    """Return the shortest window with enough; the one that had enough stays until it clearly has not.

    At the edge it would change back and forth, and what an alert waits for would begin anew with each change.
    """
    here = "on (job, instance, model, version, window)"
    return dedent(f"""\
        bottomk without (window) (1,
          {windows}
          and {here} (
              {size} >= {threshold(minimum)}
            or
              {size} >= {threshold(minimum)} * {threshold("window_kept_ratio")}
              and {here} {record}
          )
        )""")


def states(alerts: Iterable[Alert]) -> list[Group]:
    """Return what state each version of a model is in: the worst verdict that an alert on it, pending or firing, tells.

    A version without any that has labels enough to be judged is good.
    """
    judging = [alert for alert in alerts if alert.verdict is not None]
    parts = [_told(verdict, judging) for verdict in VERDICTS if any(it.verdict == verdict for it in judging)]
    versions = "max without (task, profile_hash, profile_version) (ml_model_info)"
    judged = dedent(f"""\
        (
          ml_model_performance
          and on (job, instance, model, version, window)
          ml_model_window_labels >= {threshold("min_labels")}
        )""")
    rated = f"(ml_outcome_window_values >= {threshold('min_labels')})"
    good = [f"{versions} * {rank('good')}\nand on (job, instance, model, version)\n{of}" for of in (judged, rated)]
    told = "\nor\n".join(f"(\n{_indent_by(2, part)}\n)" for part in [*parts, *good, f"{versions} * {rank('unknown')}"])
    meaning = ", ".join(f"{rank(verdict)} {verdict}" for verdict in reversed(VERDICTS))
    return [Group("ml-states", [Record("ml:model:state", told, comment=f"State of each version: {meaning}.")])]


def rank(verdict: Verdict) -> int:
    """Return the value of `ml:model:state`, higher for what needs somebody more."""
    return len(VERDICTS) - 1 - VERDICTS.index(verdict)


def _told(verdict: Verdict, alerts: Iterable[Alert]) -> str:
    """Return the versions of which an alert of that verdict tells, with the verdict's rank."""
    names: dict[tuple[str, ...], list[str]] = {}
    for alert in alerts:
        if alert.verdict == verdict:
            on = tuple(label for label in ("job", "instance", "model", "version") if label in alert.labels)
            names.setdefault(on, []).append(alert.name)
    versions = f"max without (task, profile_hash, profile_version) (ml_model_info) * {rank(verdict)}"
    return "\nor\n".join(
        f'{versions}\nand on ({", ".join(on)})\nALERTS{{alertname=~"{"|".join(told)}"}}' for on, told in names.items()
    )


def exporters() -> list[Group]:
    """Which targets are exporters, whatever their job is called: an operator names it after a service or a pod."""
    return [
        Group(
            "ml-exporters",
            [
                Record(
                    "ml:exporter:up",
                    dedent(f"""\
                        up
                        and on (job, instance) (
                            up{{job=~".*{JOB}.*"}}
                          or on (job, instance)
                            last_over_time(ml_exporter_build_info[1d])
                          or on (job, instance)
                            ml:exporter:up
                        )"""),
                    comment="up of the targets that are exporters, by name or because they were within the last day; "
                    "one that is down stays one.",
                )
            ],
        )
    ]


def fleet() -> list[Group]:
    """Return drift, performance, calibration and fairness over all replicas; labels are counted by `error_budget`."""
    reference = Group(
        "ml-fleet-reference",
        [
            Record(
                "ml:model_profile:now",
                _alone("ml_model_info"),
                comment="The profile by which each replica counts.",
            ),
            Record(
                "ml:feature_reference:values",
                f"max without ({_REPLICA}) (\n  (\n"
                + "\n    or\n".join(
                    f"    ml_feature_reference_ratio{bins}\n"
                    "      * ignoring (bin, range) group_left () ml_feature_reference_values"
                    for bins in _VALID_BINS
                )
                + f"\n  )\n  * {_OF_BINS}\n  ml:model_profile:now\n)",
                comment="Reference counts of valid values, of each profile.",
            ),
            Record("ml:feature_reference:share", _smoothed("ml:feature_reference:values")),
        ],
        "2m",  # a reference stays as it is
    )
    return [reference, *(_fleet(window) for window in FLEET_WINDOWS)]


def last_week() -> list[Group]:
    """Return drift from the same hours of last week: a second reference, which has the day and the week as they are."""
    return [Group("ml-last-week", [rule for window in FLEET_WINDOWS for rule in _last_week(window)], "2m")]


def error_budget() -> list[Group]:
    """Return labelled and bad predictions of the windows over which burn rates are taken, and the budget itself."""
    budget = Record(
        "ml:model_error_budget:ratio",
        f'1 - max without ({_REPLICA}, version, metric) (ml_model_benchmark_min{{metric="accuracy"}})',
        comment="Share of bad predictions that the accuracy benchmark of any version allows.",
    )
    return [Group("ml-error-budget", [budget]), *(_labels(window) for window in BURN_WINDOWS)]


def _alone(info: str) -> str:
    """Return the profile of each replica's versions, of those that have one alone: two would match nothing."""
    profiles = f"group without (task, profile_version) ({info})"
    return f"{profiles}\nunless ignoring (profile_hash)\n(count without (profile_hash) ({profiles}) > 1)"


def _last_week(window: str) -> list[Record]:
    values, n = f"ml:feature_values:increase{window}", f"ml:feature_sample:increase{window}"
    share, then, enough = f"ml:feature_share:increase{window}", "offset 1w", threshold("min_predictions")
    degrees = f"(count without (bin, range) ({values}) - 1)"
    spread = f"2 / (9 * {degrees})"
    return [
        Record(
            "ml:feature_last_week:psi",
            dedent(f"""\
                sum without (bin, range) (({share} - {share} {then}) * ln({share} / {share} {then}))
                and ({n} >= {enough})
                and ({n} {then} >= {enough})
                and {n} offset 1w{window}"""),
            {"window": window},
            "Distance from the same hours of last week, which were counted from their beginning on.",
        ),
        Record(
            "ml:feature_last_week:psi_threshold",
            dedent(f"""\
                clamp_min(
                  {degrees} * (1 - {spread} + {ndtri(1 - _LAST_WEEK_CHANCE):.4f} * sqrt({spread})) ^ 3
                    * (1 / ({n} >= {enough}) + 1 / ({n} {then} >= {enough})),
                  {threshold("last_week_psi")}
                )"""),
            {"window": window},
            f"What chance exceeds in {_LAST_WEEK_CHANCE:.0%} of all windows (chi-squared, by Wilson and Hilferty), "
            "or the least distance that matters.",
        ),
    ]


def _interval(window: str) -> str | None:
    return "2m" if window.endswith("d") else None


def _increase(metric: str, window: str) -> str:
    return f"sum without ({_REPLICA}) (increase({metric}[{window}]))"


def _smoothed(values: str) -> str:
    """Shares after adding 1/2 to every bin, as ml_feature_drift does."""
    return dedent(f"""\
        ({values} + 0.5)
          / ignoring (bin, range) group_left ()
        sum without (bin, range) ({values} + 0.5)""")


def _labels(window: str) -> Group:
    """Labelled predictions of classifiers, and the share of bad predictions among all."""
    confusion = f"ml:model_confusion:increase{window}"
    hits = dedent(f"""\
        {confusion}
        and
        label_replace(sum without (actual) ({confusion}), "actual", "$1", "predicted", "{_ALL}")""")
    return Group(
        f"ml-labels-{window}",
        [
            Record(confusion, _increase("ml_model_confusion_total", window)),
            Record(
                f"ml:model_labels:increase{window}",
                f"  sum without (predicted, actual) ({confusion})\nor\n  {_increase('ml_model_labels_total', window)}",
                comment="Labelled predictions; of a classifier those that had a prediction.",
            ),
            Record(
                f"ml:class_hits:increase{window}",
                f"sum without (predicted, actual) (\n"
                f'  label_replace({_indent(hits)}, "class", "$1", "predicted", "{_ALL}")\n)',
                comment="Right predictions of each class.",
            ),
            Record(
                f"ml:model_failed_predictions:ratio{window}",
                f"{_increase('ml_model_prediction_failures_total', window)}\n/\n"
                f"({_increase('ml_model_predictions_total', window)} > 0)",
            ),
            Record(
                f"ml:model_bad_predictions:ratio{window}",
                dedent(f"""\
                    1 - (1 - ml:model_failed_predictions:ratio{window})
                      * sum without (class) (ml:class_hits:increase{window})
                      / (ml:model_labels:increase{window} > 0)"""),
                comment="Share of predictions that failed, or did not and were wrong as far as labels tell.",
            ),
        ],
        _interval(window),
    )


def _indent_by(columns: int, text: str) -> str:
    return "\n".join(" " * columns + line for line in text.splitlines())


def _indent(text: str) -> str:
    return text.replace("\n", "\n    ")


def _of_sets(side: str, window: str) -> str:
    return _increase(f"ml_model_class_confusion_total{{{side}}}", window)


def _fleet(window: str) -> Group:
    values, n = f"ml:feature_values:increase{window}", f"ml:feature_sample:increase{window}"
    share, reference = f"ml:feature_share:increase{window}", "ml:feature_reference:share"
    enough = f"and ({n} >= {threshold('min_predictions')})"
    drift, performance = f"ml:feature_drift:{window}", f"ml:model_performance:{window}"
    confusion, labels = f"ml:model_confusion:increase{window}", f"ml:model_labels:increase{window}"
    hits, by_class = f"ml:class_hits:increase{window}", f"ml:class_performance:{window}"
    labelled = f"and ({labels} >= {threshold('min_labels')})"
    predictions = f"ml:group_predictions:increase{window}"
    profile, known = f"ml:model_profile:{window}", f"last_over_time(ml_model_info[{window}])"
    return Group(
        f"ml-fleet-{window}",
        [
            Record(
                f"ml:model_profiles:{window}",
                f"count without (profile_hash) (group without ({_REPLICA}, task, profile_version) ({known}))",
                comment="How many profiles the range spans: counts by the bins of one are not added to another's.",
            ),
            Record(
                profile,
                _alone(known),
                comment="The profile by which each replica counts, where it is the same in the whole range.",
            ),
            Record(
                values,
                f"sum without ({_REPLICA}) (\n  (\n"
                + "\n    or\n".join(f"    increase(ml_feature_values_total{bins}[{window}])" for bins in _VALID_BINS)
                + f"\n  )\n  * {_OF_BINS}\n  {profile}\n)",
                comment="Valid values by bin, of each profile.",
            ),
            Record(n, f"sum without (bin, range) ({values})"),
            Record(share, _smoothed(values)),
            Record(
                drift,
                f"sum without (bin, range) (({share} - {reference}) * ln({share} / {reference}))\n{enough}",
                {"statistic": "psi"},
            ),
            Record(
                drift,
                dedent(f"""\
                    sqrt(clamp_min(
                      sum without (bin, range) (
                          {share} * log2(2 * {share} / ({share} + {reference}))
                        + {reference} * log2(2 * {reference} / ({share} + {reference}))
                      ) / 2
                    , 0))
                    {enough}"""),
                {"statistic": "js"},
            ),
            Record(
                drift,
                dedent(f"""\
                    sum without (bin, range) (abs(
                        {values} / ignoring (bin, range) group_left () {n}
                      - ml:feature_reference:values
                        / ignoring (bin, range) group_left () sum without (bin, range) (ml:feature_reference:values)
                    )) / 2
                    {enough}"""),
                {"statistic": "tvd"},
            ),
            Record(
                performance,
                f"sum without (class) ({hits}) / {labels}\n{labelled}",
                {"metric": "accuracy"},
            ),
            Record(
                f"ml:class_predicted:increase{window}",
                f"sum without (predicted) (label_replace(\n"
                f'  sum without (actual) ({confusion}), "class", "$1", "predicted", "{_ALL}"\n))',
            ),
            Record(
                f"ml:class_actual:increase{window}",
                f"sum without (actual) (label_replace(\n"
                f'  sum without (predicted) ({confusion}), "class", "$1", "actual", "{_ALL}"\n))',
            ),
            Record(by_class, f"{hits} / (ml:class_predicted:increase{window} > 0)", {"metric": "precision"}),
            Record(by_class, f"{hits} / (ml:class_actual:increase{window} > 0)", {"metric": "recall"}),
            Record(
                by_class,
                f"2 * {hits} / (ml:class_predicted:increase{window} + ml:class_actual:increase{window} > 0)",
                {"metric": "f1"},
            ),
            Record(
                performance,
                dedent(f"""\
                    (
                        sum without (class) (
                          {by_class} and on (job, model, version, class) ml_model_positive_class
                        )
                      or
                        avg without (class) (
                          {by_class} unless on (job, model, version) ml_model_positive_class
                        )
                    )
                    and ignoring (metric) ({labels} >= {threshold("min_labels")})
                    or
                      {_increase("ml_ranking_metric_sum_total", window)}
                      / ignoring (metric) group_left ()
                      ({labels} >= {threshold("min_labels")})"""),
                comment="Precision, recall and f1: a binary model's of its positive class, else the classes' mean. "
                "And metrics of ranked lists that are final.",
            ),
            Record(
                performance,
                f"{_increase('ml_model_exact_sets_total', window)} / {labels}\n{labelled}",
                {"metric": "subset_accuracy"},
            ),
            Record(
                performance,
                dedent(f"""\
                    2 * sum without (class, predicted, actual) ({_of_sets('predicted="1",actual="1"', window)})
                    /
                    (
                        sum without (class, predicted, actual) ({_of_sets('predicted="1"', window)})
                      + sum without (class, predicted, actual) ({_of_sets('actual="1"', window)})
                      > 0
                    )
                    {labelled}"""),
                {"metric": "micro_f1"},
            ),
            Record(
                performance,
                f"{_increase('ml_model_absolute_error_sum_total', window)} / {labels}\n{labelled}",
                {"metric": "mae"},
            ),
            Record(
                performance,
                f"sqrt({_increase('ml_model_squared_error_sum_total', window)} / {labels})\n{labelled}",
                {"metric": "rmse"},
            ),
            Record(
                performance,
                dedent(f"""\
                    sum without (bin) (abs(
                        {_increase("ml_model_calibration_positives_total", window)}
                      - {_increase("ml_model_calibration_score_sum_total", window)}
                    ))
                    /
                    (sum without (bin) ({_increase("ml_model_calibration_predictions_total", window)}) > 0)
                    {labelled}"""),
                {"metric": "expected_calibration_error"},
            ),
            Record(
                predictions,
                _increase('ml_group_predictions_total{predicted!=""}', window),
                comment="By predicted class, which a regression does not have.",
            ),
            Record(
                f"ml:group_selection_ratio:{window}",
                dedent(f"""\
                    {predictions}
                      / ignoring (predicted) group_left ()
                    (sum without (predicted) ({predictions}) >= {threshold("min_group_predictions")})"""),
                comment="Share of a group's predictions that are this class.",
            ),
            Record(
                f"ml:fairness:{window}",
                f"  max without (group) (ml:group_selection_ratio:{window})\n"
                f"- min without (group) (ml:group_selection_ratio:{window})",
                {"metric": "demographic_parity_difference"},
            ),
            Record(
                f"ml:fairness:{window}",
                f"  min without (group) (ml:group_selection_ratio:{window})\n"
                f"/ (max without (group) (ml:group_selection_ratio:{window}) > 0)",
                {"metric": "demographic_parity_ratio"},
            ),
        ],
        _interval(window),
    )
