"""The page at `/`: what an operator wants to know at night with nothing but a browser, the worst first."""

from collections.abc import Sequence
from datetime import UTC, datetime

from mlops_exporter.judging.judge import VERDICTS, WORDS, Verdict
from mlops_exporter.judging.machine import AdviceState, GpuState, MachineState, WorkloadState
from mlops_exporter.judging.status import (
    HISTORY_SECONDS,
    Headline,
    ModelState,
    Report,
    SourceState,
)
from mlops_exporter.logs import Notice
from mlops_exporter.web.page import page, shown, table

_WIDTH, _HEIGHT = 240.0, 48.0

_SIGNS: dict[Verdict, str] = {
    "failing": "✖",
    "unusable": "⊘",
    "erring": "✗",
    "silent": "◌",
    "suspect": "⚠",
    "unfair": "≠",
    "drifting": "▲",
    "impaired": "◔",
    "unknown": "?",
    "good": "✔",
}
"""The colour never speaks alone."""


_ADVISED = {"scale_down": "scale down", "keep": "keep", "scale_out": "scale out"}


def landing_page(report: Report, telemetry_path: str) -> str:
    """Return the HTML page."""
    state = "Ready" if report.not_ready is None else f"Not ready: {report.not_ready}"
    tone = "good" if report.not_ready is None else "bad"
    links = ((telemetry_path, "Metrics"), ("/api/v1/status", "Status as JSON"), ("/docs", "What the metrics mean"))
    return page(
        "mlops-exporter",
        f"""<header>
<h1>mlops-exporter</h1>
<nav aria-label="Pages">{"".join(f'<a href="{shown(path)}">{name}</a> ' for path, name in links)}</nav>
<p id="renewal" class="bad" role="status"></p>
</header>
<main>
<p><span class="{tone}">{shown(state)}</span>, version {shown(report.version)},
up for {duration(report.time - report.started)}, as of {_clock(report.time)}.</p>
{_configuration(report)}
{_watched(report)}
<h2>Last warnings and errors</h2>
{_errors(report.errors, report.time)}
</main>""",
    )


def _watched(report: Report) -> str:
    if not report.watches_models:
        return f"<h2>Machine</h2>\n{_machine(report.machine, report.time)}"
    return f"""<h2>Models</h2>
{_models(report.models, report.time)}
<h2>Sources</h2>
{_sources(report.sources, report.time)}"""


def _machine(machine: MachineState | None, now: float) -> str:
    """Return the machine that is watched alone, without any model."""
    if machine is None or machine.cores is None:
        return '<p class="quiet">No sample of the machine yet.</p>'
    busy = "–" if machine.cpu is None else f"{machine.cpu:.0%} busy"
    memory = ""
    if machine.memory_used is not None and machine.memory_total:
        share = machine.memory_used / machine.memory_total
        memory = f"<dt>Memory</dt><dd>{share:.0%} of {machine.memory_total / 2**30:,.1f} GiB in use</dd>"
    failing = "".join(f'<dt>GPU driver</dt><dd class="bad">{shown(text)}</dd>' for text in machine.failing_drivers)
    if machine.pods_fault is not None:
        failing += f'<dt>Labels of pods</dt><dd class="bad">{shown(machine.pods_fault)}</dd>'
    advice = "".join(f"<dt>Advice</dt><dd>{shown(_advised(each, machine))}</dd>" for each in machine.advice)
    return f"""<p class="quiet">No model is configured: this exporter watches the machine alone.</p>
<dl><dt>CPU</dt><dd>{machine.cores:g} cores, {busy}</dd>{memory}{failing}{advice}</dl>
<h2>Workloads</h2>
{_workloads(machine.workloads, now)}
{_gpus(machine.gpus)}"""


def _advised(advice: AdviceState, machine: MachineState) -> str:
    """Return an advice and what it rests on, such as `host: scale down to 2 cores …`."""
    size = ""
    if advice.action != "keep":
        whole = machine.cores if advice.resource == "host" else sum(not gpu.mig for gpu in machine.gpus)
        unit = "cores" if advice.resource == "host" else "GPUs"
        size = f" to {(whole or 0) * advice.capacity_ratio:g} {unit}"
    saving = ""
    if advice.saving_per_hour and machine.currency:
        word = "saves" if advice.saving_per_hour > 0 else "costs"
        saving = f", which {word} {abs(advice.saving_per_hour) * 730:,.0f} {machine.currency} a month"
    return (
        f"{advice.resource}: {_ADVISED[advice.action]}{size}{saving}; 95th percentile of use "
        f"{advice.utilization_p95:.0%} over {duration(advice.observed_seconds)}"
    )


def _workloads(workloads: Sequence[WorkloadState], now: float) -> str:
    if not workloads:
        return '<p class="quiet">None is configured: name them under <code>compute.workloads</code>.</p>'
    return table(
        "Workloads",
        ["Workload", "Phase", "Processes", "Since"],
        [
            [shown(each.workload if each.pod is None else f"{each.workload} ({each.pod})"), shown(each.phase),
             _number(each.processes), _ago(each.since, now) if each.since is not None else "not running"]
            for each in workloads
        ],
    )  # fmt: skip


def _gpus(gpus: Sequence[GpuState]) -> str:
    if not gpus:
        return ""
    rows = [
        [
            shown(f"{gpu.gpu} {f'MIG {gpu.mig}' if gpu.mig else ''}".strip()),
            shown(gpu.name),
            '<span class="good">answers</span>' if gpu.up else '<span class="bad">lost</span>',
            "–" if gpu.activity is None else f"{gpu.activity:.0%}",
            "–" if gpu.memory is None else f"{gpu.memory:.0%}",
        ]
        for gpu in gpus
    ]
    return f"<h2>GPUs</h2>\n{table('GPUs', ['GPU', 'Kind', 'State', 'Busy', 'Memory'], rows)}"


def _configuration(report: Report) -> str:
    loading = report.configuration
    if loading is None:
        return ""
    loaded = f"Configuration loaded {_ago(loading.loaded, report.time)}"
    broken = "".join(
        f'<p><span class="bad">{shown(name)} is left out</span>: {shown("; ".join(faults))}</p>'
        for name, faults in loading.broken.items()
    )
    if loading.error is None:
        return f'<p class="quiet">{loaded}.</p>{broken}'
    return (
        f'<p><span class="bad">Last reload failed</span>: {shown(loading.error)}</p>\n<p>{loaded} stays in force.</p>'
    )


def _models(models: Sequence[ModelState], now: float) -> str:
    if not models:
        return '<p class="quiet">No events yet. Send some to <code>/v1/events</code>, or see the sources.</p>'
    worst_first = sorted(models, key=lambda model: (VERDICTS.index(model.state), model.model, model.version))
    return f'<ul class="models">\n{"".join(_model(model, now) for model in worst_first)}</ul>'


def _model(model: ModelState, now: float) -> str:
    sign, (words, tone) = _SIGNS[model.state], WORDS[model.state]
    reasons = "".join(f"<p>{shown(reason)}</p>" for reason in model.reasons)
    drift = f"{_number(len(model.drifted))} of {model.features}" if model.features else "no features"
    if model.features and model.hours is not None:
        drift += (
            ", from what is usual at the hour" if model.hours == "hour" else ", from what is usual at weekday and hour"
        )
    coverage = (
        "none is due yet"
        if model.label_coverage is None
        else f"{model.label_coverage:.1%} in {_window(model.performance)}"
    )
    return f"""<li>
<h3>{shown(model.model)} <span class="quiet">version {shown(model.version)}, {shown(model.task)}</span></h3>
<p class="state {tone}"><span aria-hidden="true">{sign}</span> {words}</p>
{reasons}
{_headline(model.performance)}
<dl>
<dt>Drifted</dt><dd>{drift}</dd>
<dt>Predictions</dt><dd>{_number(model.predictions)}, last {_ago(model.last_prediction, now)}</dd>
<dt>Labels</dt><dd>{_number(model.labels)}, last {_ago(model.last_label, now)}</dd>
<dt>Labelled in time</dt><dd>{coverage}</dd>
<dt>Waiting for labels</dt><dd>{_number(model.pending)}, given up {_number(model.unlabelled)}</dd>
</dl>
</li>
"""


def _window(headline: Headline) -> str:
    """Return the headline's window, and how many batches it holds where it does not go by the clock."""
    batches = {None: "", 1: " (the last batch)"}.get(headline.batches, f" (the last {headline.batches} batches)")
    return shown(headline.window + batches)


def _headline(headline: Headline) -> str:
    name = shown(headline.metric.replace("_", " "))
    if headline.value is None or headline.lower is None or headline.upper is None:
        return f'<p class="quiet">{name}: too few labels</p>'
    agreed = "".join(
        f", {words} {bound:.4g} agreed"
        for words, bound in (("at least", headline.minimum), ("at most", headline.maximum))
        if bound is not None
    )
    return (
        f'<p>{name} <span class="number">{headline.value:.4g}</span> '
        f'<span class="quiet">{headline.lower:.4g} to {headline.upper:.4g} in {_window(headline)}{agreed}</span>'
        f"</p>\n{_sparkline(headline)}"
    )


def _sparkline(headline: Headline) -> str:
    """Draw the history, with the benchmark as a dashed line; gaps stay gaps."""
    known = [value for value in headline.history if value is not None]
    if len(known) < 2:
        return ""
    bounds = [bound for bound in (headline.minimum, headline.maximum) if bound is not None]
    low, high = min(known + bounds), max(known + bounds)
    scale = (_HEIGHT - 4) / (high - low or 1.0)
    step = _WIDTH / (len(headline.history) - 1)

    def y(value: float) -> float:
        return _HEIGHT - 2 - (value - low) * scale

    curve, pen = "", "M"
    for index, value in enumerate(headline.history):
        if value is not None:
            curve += f"{pen}{index * step:.1f} {y(value):.1f}"
        pen = "M" if value is None else "L"
    lines = "".join(
        f'<line class="agreed" x1="0" x2="{_WIDTH:g}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>' for bound in bounds
    )
    said = (
        f"{headline.metric} over the last {duration(len(headline.history) * HISTORY_SECONDS)}: from {known[0]:.4g} to "
        f"{known[-1]:.4g}, lowest {min(known):.4g}, highest {max(known):.4g}"
    )
    return (
        f'<svg role="img" aria-label="{shown(said)}" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none">'
        f'{lines}<path class="curve" d="{curve}"/></svg>'
    )


def _state_of(source: SourceState) -> str:
    """Return whether a source is up, and which files it read before they changed."""
    state = '<span class="good">up</span>'
    if not source.up:
        state = f'<span class="bad">down</span> {shown(source.error or "")}'
    if source.refill_events:
        state += f"<br>{_number(source.refill_events)} events are read again, not counted: others have"
    if source.rewritten_files:
        state += f'<br><span class="warn">{_number(source.rewritten_files)} files changed after they were read</span>'
    return state


def _sources(sources: Sequence[SourceState], now: float) -> str:
    return table(
        "Sources",
        ["Source", "State", "Lag (events)", "Accepted", "Rejected", "Late", "Last event"],
        [
            [
                shown(source.source),
                _state_of(source),
                "–" if source.lag_events is None else _number(source.lag_events),
                _number(source.accepted),
                _number(source.rejected)
                + "".join(f"<br>{_number(n)} {shown(why)}" for why, n in [*source.rejected_by_reason.items()][:3])
                + "".join(
                    f"<br>ignored, unknown to {shown(model)}: {shown(', '.join(names))}"
                    for model, names in source.ignored.items()
                ),
                _number(source.late),
                _ago(source.last_event, now),
            ]
            for source in sources
        ],
    )


def _errors(errors: Sequence[Notice], now: float) -> str:
    if not errors:
        return '<p class="quiet">None since the start.</p>'
    return table(
        "Last warnings and errors",
        ["When", "Level", "Times", "What"],
        [
            [
                _ago(error.last, now),
                f'<span class="{"warn" if error.level == "warn" else "bad"}">{shown(error.level)}</span>',
                _number(error.count),
                shown(error.message),
            ]
            for error in errors
        ],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _clock(time: float) -> str:
    moment = datetime.fromtimestamp(time, UTC)
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M:%S} UTC</time>'


def _ago(time: float | None, now: float) -> str:
    if time is None:
        return "never"
    moment = datetime.fromtimestamp(time, UTC)
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{duration(max(now - time, 0))} ago</time>'


def duration(seconds: float) -> str:
    """Return the two largest units of a duration, as `3 d 4 h`."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
