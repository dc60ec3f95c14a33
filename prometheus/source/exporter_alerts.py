"""Alerts on the exporter itself: whoever watches models must notice when nobody watches them."""

from textwrap import dedent

from prometheus.source.alert import AGO, HOST, PERCENT, Alert, constant, each, value
from prometheus.source.thresholds import threshold

_SOURCE = (*HOST, "source")
_THIS_SOURCE = "source {{ $labels.source }} of {{ $labels.instance }}"

ALERTS = [
    Alert(
        "MLExporterDown",
        "availability",
        "critical",
        HOST,
        dedent("""\
            ml:exporter:up == 0
            or
            (avg_over_time(up[10m]) < 0.5 and ml:exporter:up)"""),
        "An exporter of model metrics cannot be scraped.",
        "Prometheus cannot scrape {{ $labels.instance }} (job {{ $labels.job }}): its models are not watched. Of the "
        "scrapes in the last 10m " + value("avg_over_time(up{SELECT}[10m])", HOST, PERCENT) + " succeeded.",
        "See the target's error on Prometheus' page of targets; then whether the process runs and what it logged last.",
        "3m",
    ),
    Alert(
        "MLExporterAbsent",
        "availability",
        "critical",
        (),
        "absent(ml:exporter:up)",
        "Prometheus knows no exporter of model metrics.",
        "Of the targets none is an exporter of model metrics, or was in the last day, where at least one is expected: "
        "no model is watched.",
        "See whether the scrape job is still in prometheus.yml and whether its service discovery finds anything.",
        "10m",
    ),
    Alert(
        "MLExporterRestarting",
        "availability",
        "warning",
        HOST,
        f"changes(process_start_time_seconds[30m]) >= {threshold('restarts')}\nand on (job, instance) ml:exporter:up",
        "An exporter of model metrics restarts again and again.",
        f"{{{{ $labels.instance }}}} has started {{{{ $value }}}} times in the last 30m, where {constant('restarts')} "
        "warn. Between its starts it can be scraped, but what its windows held in memory alone is lost each time.",
        "Read what it logged last, and whether the kernel or the container's limit killed it for memory.",
        "1m",
        "15m",
    ),
    Alert(
        "MLSourceDown",
        "availability",
        "critical",
        _SOURCE,
        dedent("""\
            ml_exporter_source_up == 0
            or
            (avg_over_time(ml_exporter_source_up[10m]) < 0.5 and changes(ml_exporter_source_up[10m]) >= 4)"""),
        "A source of events is down.",
        f"{_THIS_SOURCE[0].upper()}{_THIS_SOURCE[1:]} cannot deliver events, or fails again and again; its last event "
        "came: "
        + value("time() - ml_exporter_source_last_event_timestamp_seconds{SELECT}", _SOURCE, AGO, none="never")
        + ".",
        "Read the exporter's log for the source's error; check broker, credentials and network.",
        "5m",
        "5m",
    ),
    Alert(
        "MLModelFeedDown",
        "availability",
        "info",
        ("job", "model"),
        dedent("""\
            count without (instance, pod, version, task, profile_hash, profile_version) (
              last_over_time(ml_model_info[1d])
              and on (job, instance)
              ALERTS{alertname=~"MLExporterDown|MLSourceDown",alertstate="firing"}
            ) > 0"""),
        "An exporter of a model, or one of its sources, is down.",
        "An exporter of model {{ $labels.model }} or a source of that exporter is down, as another alert tells; so "
        "that no predictions or labels of the model come is not told.",
        "Nothing here: the alert on the exporter or the source says what to do.",
        "0m",
        "5m",
    ),
    Alert(
        "MLTableRewritten",
        "source",
        "warning",
        _SOURCE,
        "ml_exporter_source_rewritten_files > 0",
        "Files of a table changed after they had been counted.",
        f"{{{{ $value }}}} files of {_THIS_SOURCE} changed after they were read, and were not read again: what is "
        "shown is of their former rows.",
        "See the exporter's log for their names; if the new rows are to count, let the job write new files, or set "
        "rewritten: again.",
        "15m",
        "5m",
    ),
    Alert(
        "MLSourceLagging",
        "source",
        "warning",
        _SOURCE,
        dedent(f"""\
            ml_exporter_source_lag_events > {threshold("source_lag_events")}
            and
            ml_exporter_source_lag_events > rate(ml_exporter_events_total[15m]) * {threshold("source_lag_seconds")}"""),
        "A source of events falls behind.",
        "{{ $value | humanize }} events of "
        f"{_THIS_SOURCE} wait; at the pace of "
        + value("rate(ml_exporter_events_total{SELECT}[15m])", _SOURCE, 'printf "%.3g"')
        + f" a second that is more than {constant('source_lag_seconds', 'humanizeDuration')}.",
        "See the exporter's CPU: if it is busy, add a replica to the group; if not, the broker is slow.",
        "10m",
        "15m",
    ),
    Alert(
        "MLEventsRejected",
        "source",
        "warning",
        _SOURCE,
        dedent(f"""\
            sum without (reason) (increase(ml_exporter_events_rejected_total[15m]))
            / (
                increase(ml_exporter_events_total[15m])
              + sum without (reason) (increase(ml_exporter_events_rejected_total[15m]))
            ) > {threshold("rejected_ratio")}
            and
            sum without (reason) (increase(ml_exporter_events_rejected_total[15m]))
              >= {threshold("rejected_events")}"""),
        "Events are refused.",
        f"{{{{ $value | {PERCENT} }}}} of the events of {_THIS_SOURCE} were refused in the last 15m, where "
        f"{constant('rejected_ratio', PERCENT)} are tolerated"
        + each(
            "sort_desc(topk(3, increase(ml_exporter_events_rejected_total{SELECT}[15m]) > 0))",
            _SOURCE,
            "reason",
            'printf "%.0f"',
            before=". Most often: ",
        )
        + ".",
        "Send one refused event by hand: the answer names line and reason.",
        "5m",
        "15m",
    ),
    Alert(
        "MLLedgersRefused",
        "source",
        "warning",
        _SOURCE,
        "increase(ml_exporter_ledgers_rejected_total[1h]) > 0",
        "Partial ledgers are refused, and their events count nowhere.",
        f'{{{{ $value | printf "%.0f" }}}} partial ledgers for {_THIS_SOURCE} were refused in the last hour, each with '
        "all of its events; as many were added: "
        + value("increase(ml_exporter_ledgers_total{SELECT}[1h])", _SOURCE, 'printf "%.0f"')
        + each(
            "sort_desc(topk(3, increase(ml_exporter_events_rejected_total{SELECT}[1h]) > 0))",
            _SOURCE,
            "reason",
            'printf "%.0f"',
            before=". What was refused there, most often: ",
        )
        + ".",
        "Read the exporter's log: it names the first refused ledger of each reason, and what is wrong with it.",
        "5m",
    ),
    Alert(
        "MLQueueFilling",
        "exporter",
        "warning",
        HOST,
        f"min_over_time(ml_exporter_queue_events[5m]) / ml_exporter_queue_capacity_events > {threshold('queue_ratio')}",
        "An exporter takes events more slowly than they come.",
        "For 5m at least {{ $value | humanizePercentage }} of the queue of {{ $labels.instance }} were full ("
        + value("ml_exporter_queue_events{SELECT}", HOST, 'printf "%.0f"')
        + " of "
        + value("ml_exporter_queue_capacity_events{SELECT}", HOST, 'printf "%.0f"')
        + f" events), where {constant('queue_ratio', PERCENT)} warns; beyond it senders get 429.",
        "See the exporter's CPU and the disk of state.path; then add a replica.",
        "5m",
        "10m",
    ),
    Alert(
        "MLCheckpointFailing",
        "exporter",
        "warning",
        HOST,
        dedent(f"""\
            time() - ml_exporter_checkpoint_last_success_timestamp_seconds > {threshold("checkpoint_age_seconds")}
            or
            sum without (fault) (increase(ml_exporter_state_errors_total[15m])) > 0"""),
        "An exporter cannot save its state.",
        "{{ $labels.instance }} had "
        + value("sum(increase(ml_exporter_state_errors_total{SELECT}[15m]))", HOST, 'printf "%.0f"')
        + " errors with its state in the last 15m; its last good checkpoint was made: "
        + value("time() - ml_exporter_checkpoint_last_success_timestamp_seconds{SELECT}", HOST, AGO, none="never")
        + f" (limit {constant('checkpoint_age_seconds', 'humanizeDuration')}). A restart may lose what came since.",
        "Check space and permissions of state.path.",
        "5m",
        "15m",
    ),
    Alert(
        "MLStateDamaged",
        "exporter",
        "warning",
        (*HOST, "file"),
        "time() - ml_exporter_state_damaged_timestamp_seconds < 86400",
        "A checkpoint of an exporter was damaged; nothing is lost.",
        "{{ $labels.instance }} started without its {{ $labels.file }} {{ $value | "
        + AGO
        + " }}, by the other one and the journal; damaged in the last day: "
        + value("count(time() - ml_exporter_state_damaged_timestamp_seconds{SELECT} < 86400)", HOST, 'printf "%.0f"')
        + ". A second damage may lose counts.",
        "Read the exporter's log for the file, and the system's for faults of the disk under state.path.",
        "1m",
    ),
    Alert(
        "MLSeriesLimitHit",
        "exporter",
        "warning",
        HOST,
        "sum without (detail) (ml_exporter_series_dropped) > 0",
        "An exporter has more series than its limit and leaves some out.",
        "{{ $labels.instance }} leaves out {{ $value | humanize }} series beyond its limit of "
        + value("ml_exporter_series_limit{SELECT}", HOST, 'printf "%.0f"')
        + ": "
        + each("sort_desc(ml_exporter_series_dropped{SELECT} > 0)", HOST, "detail", 'printf "%.0f"')
        + ".",
        "See at /api/v1/status whose they are; leave out features, groups or windows, or raise limits.series.",
        "15m",
        "30m",
    ),
    Alert(
        "MLConfigReloadFailed",
        "exporter",
        "warning",
        HOST,
        "ml_exporter_config_last_reload_successful == 0",
        "An exporter runs with an old configuration.",
        "{{ $labels.instance }} could not load its configuration file and keeps the old one, loaded: "
        + value("time() - ml_exporter_config_last_reload_success_timestamp_seconds{SELECT}", HOST, AGO)
        + ".",
        "Run mlops-exporter check on the file: it names line and key.",
        "5m",
    ),
    Alert(
        "MLModelFileBroken",
        "exporter",
        "warning",
        (*HOST, "file"),
        "ml_exporter_model_file_broken == 1",
        "A model or a version is left out, because its file has faults.",
        "{{ $labels.instance }} leaves out {{ $labels.file }}; files that it cannot take: "
        + value("count(ml_exporter_model_file_broken{job=%[1]q,instance=%[2]q})", HOST, 'printf "%.0f"')
        + ".",
        "Run mlops-exporter check on the configuration: it names line and key. All others go on.",
        "5m",
    ),
    Alert(
        "MLCollectorFailing",
        "exporter",
        "warning",
        (*HOST, "collector"),
        "ml_exporter_collector_success == 0",
        "Part of an exporter's metrics is missing.",
        "Collector {{ $labels.collector }} of {{ $labels.instance }} fails, and its metrics are absent. Those that "
        "work: " + value("sum(ml_exporter_collector_success{job=%[1]q,instance=%[2]q})", HOST, 'printf "%.0f"') + ".",
        "Read the exporter's log: it holds the error once, from when the collector began to fail.",
        "5m",
        "10m",
    ),
    Alert(
        "MLRulesIncomplete",
        "exporter",
        "critical",
        (),
        dedent("""\
            absent(ml:threshold:min_labels)
            or
            absent(ml:threshold:checkpoint_age_seconds)
            or
            absent(ml:model_window:caution) and on () count(ml_model_window_seconds)
            or
            count(ml:threshold:min_labels) > 1
            or
            sum(increase(prometheus_rule_evaluation_failures_total{rule_group=~".*;ml-.*"}[15m])) > 0
            or
            max(increase(prometheus_rule_group_iterations_missed_total{rule_group=~".*;ml-.*"}[15m]))
              >= scalar(ml:threshold:missed_evaluations)"""),
        "Rules that watch models are missing, doubled or failing.",
        "Alerts cannot fire as they should. Each threshold ml:threshold:* must be there once, and was there "
        + value("count(ml:threshold:min_labels) or vector(0)", (), 'printf "%.0f times"')
        + "; ml:model_window:* must come from windows.yml"
        + each(
            "sort_desc(topk(3, sum by (rule_group) "
            '(increase(prometheus_rule_evaluation_failures_total{rule_group=~".*;ml-.*"}[15m])) > 0))',
            (),
            "rule_group",
            'printf "%.0f"',
            before="; evaluations that failed in the last 15m: ",
        )
        + each(
            "sort_desc(topk(3, sum by (rule_group) "
            '(increase(prometheus_rule_group_iterations_missed_total{rule_group=~".*;ml-.*"}[15m])) > 0))',
            (),
            "rule_group",
            'printf "%.0f"',
            before="; evaluations that were missed in the last 15m: ",
        )
        + ".",
        "Load every file of prometheus/rules once, and read errors and durations on Prometheus' page of rules.",
        "10m",
    ),
    Alert(
        "MLWatchdog",
        "watchdog",
        "info",
        (),
        "vector(1) > 0",
        "Always fires, to prove that alerts arrive.",
        "This alert always fires, whatever the models do; when it stops arriving, nothing arrives: Prometheus, "
        "Alertmanager or the way between them is broken.",
        "Nothing, as long as it comes. Let a service outside of this monitoring page when it does not.",
        "0m",
    ),
]
