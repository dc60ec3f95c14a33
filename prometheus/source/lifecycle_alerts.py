"""Alerts on probes of live endpoints, and on retraining."""

from textwrap import dedent

from prometheus.source.alert import AGO, HOST, Alert, constant, value
from prometheus.source.thresholds import threshold

_PROBE = (*HOST, "probe", "model")
_VERSION = (*_PROBE, "version")
_METRIC = (*_VERSION, "metric")
_WHERE = "probe {{ $labels.probe }} of model {{ $labels.model }} ({{ $labels.instance }})"
_SAID = "probe {{ $labels.probe }} of model {{ $labels.model }} version {{ $labels.version }} ({{ $labels.instance }})"
_ON = "on (job, instance, probe, model, version, metric)"
_SELF = "{job=%[1]q,instance=%[2]q,probe=%[3]q,model=%[4]q,version=%[5]q,metric=%[6]q}"


def _beyond(end: str, bound: str, sign: int) -> str:
    """How far the interval, twice as wide, lies beyond a benchmark: fresh samples are new chances to err."""
    widened = dedent(f"""\
        (
          ml_probe_performance
          + 2 * (ml_probe_performance_{end} - ml_probe_performance)
        )""")
    agreed = f"{_ON} group_left () ml_probe_benchmark_{bound}"
    return f"{widened} - {agreed} > 0" if sign > 0 else f"0 - ({widened} - {agreed}) > 0"


ALERTS = [
    Alert(
        "MLProbeFailing",
        "probe",
        "critical",
        _PROBE,
        f"ml_probe_failed_passes >= {threshold('probe_failed_passes')}",
        "A model's endpoint does not answer its probe.",
        f"{_WHERE[0].upper()}{_WHERE[1:]} has failed {{{{ $value }}}} times in a row, where "
        f"{constant('probe_failed_passes')} alarm. All rows were last answered: "
        + value("time() - ml_probe_last_success_timestamp_seconds{SELECT}", _PROBE, AGO, none="never")
        + ".",
        "Read the exporter's log for what went wrong; then whether the endpoint answers anybody.",
        "1m",
    ),
    Alert(
        "MLProbeSilent",
        "probe",
        "warning",
        _PROBE,
        f"time() - ml_probe_last_run_timestamp_seconds > {threshold('probe_missed_runs')} * ml_probe_interval_seconds",
        "A probe of a model's endpoint does not run any more.",
        f"{_WHERE[0].upper()}{_WHERE[1:]} last began "
        + '{{ $value | humanizeDuration | printf "%s ago" }}'
        + ", and should every "
        + value("ml_probe_interval_seconds{SELECT}", _PROBE, "humanizeDuration")
        + ".",
        "Read the exporter's log for the probe; a request that hangs ends after its time-out.",
        "1m",
    ),
    Alert(
        "MLProbeOutputsChanged",
        "probe",
        "critical",
        _VERSION,
        f"ml_probe_outputs_changed_ratio > {threshold('probe_changed_ratio')}",
        "A model answers pinned rows differently than before.",
        f"To {_SAID}, "
        "{{ $value | humanizePercentage }} of the outputs are not those that were pinned, where "
        + constant("probe_changed_ratio", "humanizePercentage")
        + " are let pass.",
        "If a release was meant to change them, pin the new outputs; if none was, roll back: artifact, "
        "order of the columns, or preprocessing is another.",
        "1m",
    ),
    Alert(
        "MLProbePerformanceBelowBenchmark",
        "probe",
        "critical",
        _METRIC,
        f"(\n  {_beyond('upper', 'min', -1).replace(chr(10), chr(10) + '  ')}\n)\nor\n"
        f"(\n  {_beyond('lower', 'max', 1).replace(chr(10), chr(10) + '  ')}\n)",
        "A live endpoint performs worse than agreed on labelled rows.",
        f"{{{{ $labels.metric }}}} in {_SAID} is "
        + value("ml_probe_performance{SELECT}", _METRIC, 'printf "%.4g"')
        + "; agreed is"
        + value(f"ml_probe_benchmark_min{_SELF}", _METRIC, 'printf " at least %.4g"', none="")
        + value(f"ml_probe_benchmark_max{_SELF}", _METRIC, 'printf " at most %.4g"', none="")
        + '. Even with twice the interval, it is off by {{ $value | printf "%.4g" }}.',
        "See whether its outputs changed, too: then the endpoint is at fault. If not, the set or the benchmark is.",
        "1m",
        action="consider_retraining",
    ),
    Alert(
        "MLRetrainingFailed",
        "retraining",
        "warning",
        (*HOST, "model"),
        "ml_retraining_last_result == 0",
        "A retraining was started and given up.",
        "The last retraining of model {{ $labels.model }} ({{ $labels.instance }}) failed in all its tries. It ended: "
        + value("time() - ml_retraining_last_end_timestamp_seconds{SELECT}", (*HOST, "model"), AGO, none="unknown")
        + ".",
        "Read the last line of the dead letters, which has the whole call and the error; start it by hand.",
        "1m",
    ),
    Alert(
        "MLRegistryUnreachable",
        "retraining",
        "warning",
        (*HOST, "model"),
        "ml_registry_up == 0",
        "The model registry does not answer: new versions have no profile here yet.",
        "The registry was not reached for model {{ $labels.model }} ({{ $labels.instance }}); it last answered: "
        + value("time() - ml_registry_last_success_timestamp_seconds{SELECT}", (*HOST, "model"), AGO, none="never")
        + ".",
        "Read the exporter's log for the registry's error; check its address, credentials and network.",
        "10m",
    ),
]
