"""Dashboard "Exporter": whether the exporter sees everything, and what it costs."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.promql import EXPORTER, TARGET, culprits, rate, rate_of, series
from mlops_exporter.exposition import catalogue as c

_SOURCE = 'source=~"$source"'
_NO_EVENTS = "No events yet: nothing sends to this source, or it cannot be reached."
_NO_STATE = "No state: without state.path the exporter keeps everything in memory only."
_BUILD = series(c.EXPORTER_BUILD_INFO, free="version")
_OF_EXPORTERS = f"and on ({TARGET}) {_BUILD}"
# One that is down stays in the first for a day; the second is for whoever has not loaded the rules.
_UP_OF_EACH = (
    f"min by (instance) (ml:exporter:up{{{EXPORTER}}}"
    f" or up{{{EXPORTER}}} and on ({TARGET}) last_over_time({_BUILD}[1d]))"
)
_UP = p.Words({1: ("Up", p.GOOD), 0: ("Down", p.BAD)})
_DONE = p.Words({1: ("Good", p.GOOD), 0: ("Failed", p.BAD)})


def _head() -> list[p.Panel]:
    return [
        p.number(
            "Can all be scraped?",
            "Whether the last scrape of every exporter succeeded; otherwise, of which it did not. An exporter that is "
            "gone is missed for a day.",
            "none",
            culprits(_UP_OF_EACH, "== 0"),
            legend="{{instance}}",
            empty="No exporter was scraped within the last day.",
            words=_UP,
            named=True,
        ),
        p.number(
            "Are all sources up?",
            "Whether every source can deliver events; otherwise, which cannot.",
            "none",
            culprits(f"min by (instance, source) ({series(c.SOURCE_UP, _SOURCE)})", "== 0"),
            legend="{{instance}} {{source}}",
            empty="No source is configured.",
            words=_UP,
            named=True,
        ),
        p.number(
            "Is every config good?",
            "Whether the configuration was loaded without error the last time; otherwise, which exporter failed to.",
            "none",
            culprits(f"min by (instance) ({series(c.CONFIG_RELOAD_SUCCESSFUL)})", "== 0"),
            legend="{{instance}}",
            empty="No exporter is scraped.",
            words=_DONE,
            named=True,
        ),
        p.number(
            "Do collectors work?",
            "Whether every collector produced its samples for the last scrape; a failed one leaves its metrics out.",
            "none",
            culprits(f"min by (instance, collector) ({series(c.EXPORTER_COLLECTOR_SUCCESS)})", "== 0"),
            legend="{{instance}} {{collector}}",
            empty="No exporter is scraped.",
            words=_DONE,
            named=True,
        ),
        p.number(
            "Last event?",
            "Time since the newest accepted event of any source arrived.",
            "s",
            f"time() - max({series(c.SOURCE_LAST_EVENT, _SOURCE)})",
            empty="No event yet",
            decimals=0,
        ),
        p.number(
            "Which version runs?",
            "Version of the exporter and of its Python; several names mean that the fleet is mixed.",
            "none",
            f"count by (version, pythonversion) ({_BUILD})",
            legend="{{version}}, Python {{pythonversion}}",
            empty="No exporter is scraped.",
            name_only=True,
        ),
    ]


def _sources() -> list[p.Panel]:
    rejected = f"sum by (source, reason) ({rate(c.EVENTS_REJECTED, _SOURCE)})"
    by, of_each = "by (source)", "by (instance, source)"
    return [
        p.table_of(
            "How is each source?",
            "A row for each source of each exporter: whether it can deliver, how long ago its last event came, how "
            "many wait where it pulls them from, and what was accepted, refused and late over the time range.",
            [
                f"min {of_each} ({series(c.SOURCE_UP, _SOURCE)})",
                f"time() - max {of_each} ({series(c.SOURCE_LAST_EVENT, _SOURCE)})",
                f"sum {of_each} ({series(c.SOURCE_LAG, _SOURCE)})",
                f"sum {of_each} (increase({series(c.EVENTS, _SOURCE)}[$__range]))",
                f"sum {of_each} (increase({series(c.EVENTS_REJECTED, _SOURCE)}[$__range]))",
                f"sum {of_each} (increase({series(c.EVENTS_LATE, _SOURCE)}[$__range]))",
            ],
            [
                p.Column("source", "Source", least=90),
                p.Column("instance", "Instance", width=130),
                p.Column("A", "State", words=_UP, width=70),
                p.Column("B", "Last event", unit="s", decimals=0, width=90),
                p.Column("C", "Waiting", unit="none", decimals=0, width=80),
                p.Column("D", "Accepted", unit="short", decimals=1, width=85),
                p.Column("E", "Refused", unit="none", decimals=0, width=75),
                p.Column("F", "Late", unit="none", decimals=0, width=60),
            ],
            empty="No source is configured.",
            size=(14, 7),
            sort="State",
            descending=False,
        ),
        p.ranking(
            "Why are events refused?",
            "Refused events over the time range, by source and reason.",
            "short",
            "sort_desc(topk(10, round(sum by (source, reason) "
            f"(increase({series(c.EVENTS_REJECTED, _SOURCE)}[$__range]))) > 0))",
            "{{source}}: {{reason}}",
            empty="No event was refused in the time range.",
            size=(10, 7),
        ),
        p.over_time(
            "How many events come in?",
            "Accepted events per second, by source, and partial ledgers, which bring many.",
            "eps",
            [
                p.Query(f"sum {by} ({rate(c.EVENTS, _SOURCE)})", "{{source}}"),
                p.Query(f"sum {by} ({rate(c.LEDGERS, _SOURCE)}) > 0", "{{source}}: ledgers"),
                p.Query(f"sum {by} ({rate(c.EVENTS_PASSED, _SOURCE)}) > 0", "{{source}}: passed to other members"),
            ],
            empty=_NO_EVENTS,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "How many are refused or late?",
            "Events per second that were refused, by reason, or counted in totals only because they were older than "
            "the longest window; a refused ledger counts as one event, and again by itself.",
            "eps",
            [
                p.Query(f"{rejected} > 0", "{{source}}: {{reason}}"),
                p.Query(f"sum {by} ({rate(c.LEDGERS_REJECTED, _SOURCE)}) > 0", "{{source}}: refused ledgers"),
                p.Query(f"sum {by} ({rate(c.EVENTS_LATE, _SOURCE)})", "{{source}}: late"),
            ],
            empty="Nothing counted yet.",
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "Does it fall behind?",
            "Events that wait where a source pulls them from, and those that are read again and not counted, since "
            "another exporter has.",
            "short",
            [
                p.Query(f"sum {by} ({series(c.SOURCE_LAG, _SOURCE)})", "{{source}}"),
                p.Query(f"sum {by} ({series(c.SOURCE_REFILL, _SOURCE)}) > 0", "{{source}}: read again"),
            ],
            empty="No source has a backlog to know: pushed events wait with their sender.",
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "What becomes of CloudEvents?",
            "Requests and responses of KServe's inference logger per second, by what became of them, and how many "
            "wait for their other half.",
            "short",
            [
                p.Query(f"sum by (source, outcome) ({rate(c.CLOUD_EVENTS, _SOURCE)}) > 0", "{{source}}: {{outcome}}"),
                p.Query(f"sum by (source) ({series(c.CLOUD_EVENTS_WAITING, _SOURCE)}) > 0", "{{source}}: waiting"),
            ],
            empty="No CloudEvent has come.",
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "Do models get features that they do not know?",
            "Values per second of features that no version's profile has, by model: they are ignored. A misspelt or "
            "renamed feature is missing under its own name at the same time.",
            "short",
            [p.Query(f"sum by (model) ({rate(c.FEATURES_IGNORED, free='model')}) > 0", "{{model}}")],
            empty="Every feature that came is known.",
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "What do alerts ask of retraining?",
            "Notifications that the receiver of retraining got within the last hour, by what it could do with them.",
            "short",
            [p.Query(f"sum by (outcome) (increase({series(c.RETRAINING_NOTIFICATIONS)}[1h]))", "{{outcome}}")],
            empty="No receiver of retraining runs here.",
            size=(8, 8),
            low=0,
        ),
    ]


def _inside() -> list[p.Panel]:
    return [
        p.over_time(
            "Is its queue filling?",
            "Events received and not yet counted, against the number that may wait (dashed); beyond it, 429.",
            "short",
            [
                p.Query(f"sum by (instance) ({series(c.QUEUE_EVENTS)})", "Waiting, {{instance}}"),
                p.Query(f"min({series(c.QUEUE_CAPACITY)})", "Capacity"),
            ],
            empty="No exporter is scraped.",
            size=(8, 8),
            overrides={"Capacity": p.line(p.BAD, dashed=True)},
            low=0,
        ),
        p.over_time(
            "How old is its last checkpoint?",
            "Time since the last checkpoint: what a restart has to read again.",
            "s",
            [p.Query(f"time() - max by (instance) ({series(c.CHECKPOINT_LAST_SUCCESS)})", "{{instance}}")],
            empty=_NO_STATE,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "How long does a checkpoint take?",
            "Duration of the last checkpoint.",
            "s",
            [p.Query(f"max by (instance) ({series(c.CHECKPOINT_DURATION)})", "{{instance}}")],
            empty=_NO_STATE,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "What goes wrong with its state?",
            "Times that the state could not be read or written over the last hour, by kind of fault.",
            "short",
            [p.Query(f"sum by (fault) (increase({series(c.STATE_ERRORS)}[1h]))", "{{fault}}")],
            empty=_NO_STATE,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "What does a scrape cost?",
            "Time that Prometheus waits for the exporter.",
            "s",
            [p.Query(f"scrape_duration_seconds{{{EXPORTER}}} {_OF_EXPORTERS}", "{{instance}}")],
            empty="No exporter is scraped.",
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "Which collector takes how long?",
            "Time that each collector takes for a scrape.",
            "s",
            [p.Query(f"max by (collector) ({series(c.EXPORTER_COLLECTOR_DURATION)})", "{{collector}}")],
            empty="No exporter is scraped.",
            size=(8, 8),
            low=0,
            stacked=True,
        ),
        p.over_time(
            "How many series does it export?",
            "Samples of the last scrape.",
            "short",
            [p.Query(f"scrape_samples_scraped{{{EXPORTER}}} {_OF_EXPORTERS}", "{{instance}}")],
            empty="No exporter is scraped.",
            size=(6, 8),
            low=0,
        ),
        p.over_time(
            "How much memory does it use?",
            "Resident memory of the exporter's process.",
            "bytes",
            [p.Query(f"process_resident_memory_bytes{{{EXPORTER}}} {_OF_EXPORTERS}", "{{instance}}")],
            empty="No exporter is scraped.",
            size=(6, 8),
            low=0,
        ),
        p.over_time(
            "How much CPU does it use?",
            "CPU seconds per second of the exporter's process: 1 is a whole core.",
            "none",
            [p.Query(f"{rate_of(f'process_cpu_seconds_total{{{EXPORTER}}}')} {_OF_EXPORTERS}", "{{instance}}")],
            empty="No exporter is scraped.",
            size=(6, 8),
            low=0,
        ),
        p.over_time(
            "How far has a start come?",
            "Share of the configured models whose references are ready: below 1 while an exporter starts.",
            "percentunit",
            [p.Query(f"{series(c.MODELS_READY)} / ({series(c.MODELS)} > 0)", "{{instance}}")],
            empty="No exporter with models is scraped.",
            size=(6, 8),
            low=0,
        ),
    ]


def build() -> model.Dashboard:
    """Return the dashboard."""
    sources = f"label_values({series(c.SOURCE_UP)}, source)"
    return p.dashboard(
        "mlops-exporter",
        "The exporter itself: sources, lag, refused events, queue, state, cost of a scrape, series.",
        [p.variable("source", sources, several=True)],
        {"": _head(), "Does it see everything?": _sources(), "Is it well itself?": _inside()},
        matchers=',model=""',
    )
