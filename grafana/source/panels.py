"""What all dashboards share: panels, variables, annotations and links, on top of Grafana's own builders."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as query_builders
from grafana_foundation_sdk.models import barchart, bargauge, common, heatmap, prometheus, stat, statetimeline
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import text as text_model
from grafana_foundation_sdk.models import timeseries as time_series

from grafana.source import promql
from grafana.source.environment import LABELS
from grafana.source.promql import EXPORTER
from mlops_exporter.exposition import catalogue

Panel = build.Panel
Properties = Mapping[str, object]

# Okabe and Ito's colours: told apart by colour-blind readers, on white and on black.
GOOD, WATCH, BAD, NEUTRAL, QUIET = "#009E73", "#E69F00", "#D55E00", "#0072B2", "#8E8E8E"
SKY, PINK = "#56B4E9", "#CC79A7"

STATE = "ml:model:state"
"""The recording rule with the one judge's verdict on each version."""

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

# The dashboards from the top down: identifier, title, tooltip of the link to it.
DASHBOARDS = {
    "mlops-models": ("Models", "Every model: what needs attention first"),
    "mlops-model": ("Model", "One model: performance, confusion, calibration, labels, latency"),
    "mlops-data": ("Data drift", "Features, predictions and labels against the reference"),
    "mlops-fairness": ("Fairness", "Groups of people side by side"),
    "mlops-compute": ("Compute", "Host, workloads, GPUs, cost and advice"),
    "mlops-exporter": ("Exporter", "The exporter itself: sources, lag, rejects, state"),
}
SHARED_VARIABLES = "&".join(
    [*(f"${{{name}:queryparam}}" for name in ("datasource", *LABELS, "job", "instance")), "${__url_time_range}"]
)
"""What links carry that stay in the environment that is chosen."""
OF_ROW = "&".join(
    [
        "${datasource:queryparam}&${job:queryparam}",
        *(f"var-{label}=${{__data.fields.{label.capitalize()}}}" for label in LABELS),
        "${__url_time_range}",
    ]
)
"""What links carry that lead to the environment of a table's row."""


@dataclass(frozen=True)
class Query:
    """A PromQL query: over the time range, or (`instant`) at its end, as a table where `rows` is set."""

    expr: str
    legend: str = "__auto"
    instant: bool = False
    rows: bool = False


def at_end(expr: str, legend: str = "__auto") -> Query:
    """Return a query for the end of the time range, one series for each result."""
    return Query(expr, legend, instant=True)


def rows(expr: str) -> Query:
    """Return a query for the end of the time range, one table row for each result."""
    return Query(expr, instant=True, rows=True)


@dataclass(frozen=True)
class Words:
    """What numbers are called: text and colour by value."""

    meanings: Mapping[float, tuple[str, str]]

    @property
    def mappings(self) -> list[model.ValueMapping]:
        """Grafana's value mappings."""
        results = {
            f"{value:g}": model.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(self.meanings.items())
        }
        return [model.ValueMap(options=results)]


_FARTHEST = 1e15


def ranges(*steps: tuple[float | None, float | None, str, str]) -> list[model.ValueMapping]:
    """Return mappings from ranges (low, high, text, colour) to words; None is without limit.

    Grafana up to 11 matches no range that lacks an end, and from 12 on an empty text hides the number.
    """
    return [
        model.RangeMap(
            options=model.DashboardRangeMapOptions(
                from_val=-_FARTHEST if low is None else low,
                to=_FARTHEST if high is None else high,
                result=model.ValueMappingResult(text=text, color=color, index=index),
            )
        )
        for index, (low, high, text, color) in enumerate(steps)
    ]


def panel(
    kind: str,
    question: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    empty: str,
    size: tuple[int, int] = (12, 8),
    options: object = None,
    custom: object = None,
    overrides: Mapping[str, Properties] | None = None,
    transformations: Sequence[tuple[str, object]] = (),
    mappings: Sequence[model.ValueMapping] = (),
    color: str = "palette-classic",
    decimals: int | None = None,
    low: float | None = None,
    high: float | None = None,
    alarming: str = "",
) -> Panel:
    """Return a panel of `size` (columns of 24, rows). `empty` says why there may be no data.

    `overrides` maps a field's name, or a regular expression between slashes, to properties. Numbers from 1 on have the
    colour `alarming`, where it is given.
    """
    steps = [model.Threshold(None, NEUTRAL), *([model.Threshold(1.0, alarming)] if alarming else [])]
    mode = model.FieldColorModeId(color) if not color.startswith("#") else model.FieldColorModeId.FIXED
    shade = build.FieldColor().mode(mode)
    if color.startswith("#"):
        shade = shade.fixed_color(color)
    made = (
        build.Panel()
        .type(kind)
        .title(question)
        .description(description)
        .datasource(DATASOURCE)
        .span(size[0])
        .height(size[1])
        .unit(unit)
        .no_value(empty)
        .color_scheme(shade)
        .thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .mappings(list(mappings))
        .transformations([model.DataTransformerConfig(id_val=name, options=value) for name, value in transformations])
        .options(options if options is not None else {})
    )
    for letter, query in zip("ABCDEFGHIJKLM", queries, strict=False):
        made = made.with_target(_target(letter, query))
    if custom is not None:
        made = made.custom(custom)
    if decimals is not None:
        made = made.decimals(decimals)
    if low is not None:
        made = made.min(low)
    if high is not None:
        made = made.max(high)
    for name, properties in (overrides or {}).items():
        values = [model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]
        made = made.override_by_regexp(name, values) if name.startswith("/") else made.override_by_name(name, values)
    return made


def _target(letter: str, query: Query) -> query_builders.Dataquery:
    made = query_builders.Dataquery().ref_id(letter).datasource(DATASOURCE).expr(query.expr)
    made = made.legend_format(query.legend).editor_mode(prometheus.QueryEditorMode.CODE)
    made = made.instant() if query.instant else made.range()
    return made.format(prometheus.PromQueryFormat.TABLE if query.rows else prometheus.PromQueryFormat.TIME_SERIES)


# --- kinds of panels -------------------------------------------------------------------------------------------------
def _legend(*calcs: str, at: str = "bottom", shown: bool = True) -> common.VizLegendOptions:
    return common.VizLegendOptions(
        display_mode=common.LegendDisplayMode.TABLE if calcs else common.LegendDisplayMode.LIST,
        placement=common.LegendPlacement(at),
        show_legend=shown,
        calcs=list(calcs),
    )


TOOLTIP = common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING)

# The interval of a value, drawn as a band: two queries with these legends, the upper one first.
UPPER, LOWER = "95 % interval, upper end", "95 % interval, lower end"


def band(upper: str = UPPER, lower: str = LOWER, color: str = NEUTRAL) -> dict[str, Properties]:
    """Return the overrides that fill the space between two lines and hide the lines themselves."""
    plain = {"custom.lineWidth": 0, "color": {"mode": "fixed", "fixedColor": color}}
    hidden = {"custom.hideFrom": {"legend": True, "tooltip": False, "viz": False}}
    return {
        upper: {**plain, "custom.fillBelowTo": lower, "custom.fillOpacity": 20},
        lower: {**plain, "custom.fillOpacity": 0, **hidden},
    }


def objective(name: str, legend: str) -> Query:
    """Return a threshold of prometheus/rules/thresholds.yml, the one that alerts read; it is nobody's in particular."""
    return Query(f"max(ml:threshold:{name})", legend)


def line(color: str, *, dashed: bool = False, width: int = 2) -> Properties:
    """Return the properties of a line of this colour; benchmarks and thresholds are dashed."""
    style = {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}} if dashed else {}
    return {"color": {"mode": "fixed", "fixedColor": color}, "custom.lineWidth": width, **style}


# All zero, Grafana would draw an axis up to 10,000 %, or to a hundred.
_LEAST_AXIS = {"percentunit": 0.1, "short": 1.0, "cps": 0.1, "eps": 0.1, "reqps": 0.1}


def over_time(
    question: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    empty: str,
    size: tuple[int, int] = (12, 8),
    overrides: Mapping[str, Properties] | None = None,
    stacked: bool = False,
    low: float | None = None,
    high: float | None = None,
    centered: bool = False,
) -> Panel:
    """Return lines over time."""
    custom = time_series.FieldConfig(
        line_width=2,
        fill_opacity=20 if stacked else 0,
        show_points=common.VisibilityMode.AUTO,  # a value between two gaps is no line
        axis_centered_zero=centered or None,
        axis_soft_max=_LEAST_AXIS.get(unit) if high is None else None,
        span_nulls=False,
        stacking=common.StackingConfig(mode=common.StackingMode.NORMAL, group="A") if stacked else None,
    )
    options = time_series.Options(legend=_legend(), tooltip=TOOLTIP)
    return panel(
        "timeseries", question, description, unit, queries, empty=empty, size=size, options=options, custom=custom,
        overrides=overrides, low=low, high=high,
    )  # fmt: skip


def number(
    question: str,
    description: str,
    unit: str,
    query: str,
    *,
    empty: str,
    size: tuple[int, int] = (4, 4),
    words: Words | None = None,
    mappings: Sequence[model.ValueMapping] = (),
    decimals: int | None = None,
    legend: str = "__auto",
    trend: bool = False,
    named: bool = False,
    name_only: bool = False,
    alarming: str = "",
) -> Panel:
    """Return one number (one for each result, with its name, where `named`), or what it is called.

    A count of what should not be reads None in green at 0, and has the colour `alarming` from 1 on.
    """
    coloured = bool(words or mappings or alarming)
    text_mode = common.BigValueTextMode.VALUE_AND_NAME if named else common.BigValueTextMode.VALUE
    text_mode = common.BigValueTextMode.NAME if name_only else text_mode
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.AREA if trend else common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.BACKGROUND_SOLID if coloured else common.BigValueColorMode.NONE,
        text_mode=text_mode,
        reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"], values=False, fields=""),
        orientation=common.VizOrientation.AUTO,
    )
    return panel(
        "stat", question, description, unit, [Query(query, legend, instant=not trend)], empty=empty, size=size,
        options=options, mappings=Words({0: ("None", GOOD)}).mappings if alarming else
        words.mappings if words else mappings, decimals=decimals, color=NEUTRAL if trend else "thresholds",
        alarming=alarming,
    )  # fmt: skip


@dataclass(frozen=True)
class Column:
    """How a table shows one of its columns; `source` is the query's letter or the label's name."""

    source: str
    title: str
    unit: str = ""
    width: int = 0
    least: int = 0
    words: Words | None = None
    mappings: tuple[model.ValueMapping, ...] = ()
    decimals: int | None = None
    link: str = ""
    away: bool = False
    gauge: bool = False
    high: float | None = None


def _properties(column: Column) -> Properties:
    made: dict[str, object] = {"noValue": "–"}
    if column.unit:
        made["unit"] = column.unit
    if column.width:
        made["custom.width"] = column.width
    if column.least:
        made["custom.minWidth"] = column.least
    if column.decimals is not None:
        made["decimals"] = column.decimals
    mappings = column.words.mappings if column.words else list(column.mappings)
    if mappings:
        made["mappings"] = mappings
        made["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
        made["custom.align"] = "center"
    if column.gauge:
        made["custom.cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
        made["min"] = 0
        made["color"] = {"mode": "fixed", "fixedColor": NEUTRAL}
    if column.high is not None:
        made["max"] = column.high
    if column.link:
        made["links"] = [{"title": "Open", "url": column.link, "targetBlank": column.away}]
    return made


def table_of(
    question: str,
    description: str,
    queries: Sequence[str],
    columns: Sequence[Column],
    *,
    empty: str,
    size: tuple[int, int],
    sort: str,
    descending: bool = True,
) -> Panel:
    """Return a table with one row for each set of labels: a column for each query, sorted by the column `sort`.

    Labels are text, whatever they look like: version 2026.10 is not 2026.1, nor is 007 7.
    """
    several = len(queries) > 1
    value = {letter: f"Value #{letter}" if several else "Value" for letter in "ABCDEFGHIJKLM"[: len(queries)]}
    names = {value.get(column.source, column.source): column for column in columns}
    transformations: list[tuple[str, object]] = []
    if several:
        transformations.append(("merge", {}))
    transformations.append(("filterFieldsByName", {"include": {"names": list(names)}}))
    transformations.append(
        (
            "organize",
            {
                "excludeByName": {},
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": {name: column.title for name, column in names.items()},
            },
        )
    )
    transformations.append(("sortBy", {"fields": {}, "sort": [{"field": sort, "desc": descending}]}))
    options = {"showHeader": True, "cellHeight": "sm"}  # the builder's footer is unknown to Grafana 13
    custom = common.TableFieldOptions(align=common.FieldTextAlignment.AUTO, inspect=False)
    return panel(
        "table", question, description, "string", [rows(query) for query in queries], empty=empty, size=size,
        options=options, custom=custom,
        overrides={column.title: _properties(column) for column in columns},
        transformations=transformations, color="thresholds",
    )  # fmt: skip


def states(
    question: str,
    description: str,
    queries: Sequence[Query],
    mappings: Sequence[model.ValueMapping],
    *,
    empty: str,
    size: tuple[int, int],
    unit: str = "none",
) -> Panel:
    """Return states in words over time, one row for each series."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.AUTO, row_height=0.85, merge_values=True,
        legend=_legend(), tooltip=common.VizTooltipOptions(mode=common.TooltipDisplayMode.SINGLE), per_page=20,
    )  # fmt: skip
    return panel(
        "state-timeline", question, description, unit, queries, empty=empty, size=size, options=options,
        custom=statetimeline.FieldConfig(fill_opacity=80, line_width=0), mappings=mappings, color="thresholds",
    )  # fmt: skip


def bars(
    question: str,
    description: str,
    unit: str,
    queries: Mapping[str, str],
    *,
    by: str,
    empty: str,
    size: tuple[int, int] = (12, 9),
    colors: Sequence[str] = (QUIET, NEUTRAL, WATCH),
    axis: str = "",
    order: str = "",
    horizontal: bool = False,
) -> Panel:
    """Return groups of bars, one group for each value of the label `by`, one bar for each query (by its title).

    Groups stand in the order of the label `order`, or of `by`.
    """
    several = len(queries) > 1
    values = [f"Value #{letter}" if several else "Value" for letter, _ in zip("ABCDEFG", queries, strict=False)]
    transformations: list[tuple[str, object]] = [("merge", {})] if several else []
    transformations += [
        ("sortBy", {"fields": {}, "sort": [{"field": order or by, "desc": False}]}),
        ("filterFieldsByName", {"include": {"names": [by, *values]}}),
        (
            "organize",
            {
                "excludeByName": {},
                "indexByName": {name: index for index, name in enumerate([by, *values])},
                "renameByName": dict(zip(values, queries, strict=True)),
            },
        ),
    ]
    options = barchart.Options(
        x_field=by,
        orientation=common.VizOrientation.HORIZONTAL if horizontal else common.VizOrientation.VERTICAL,
        show_value=common.VisibilityMode.NEVER,
        stacking=common.StackingMode.NONE,
        legend=_legend(),
        tooltip=TOOLTIP,
        x_tick_label_max_length=16,
    )
    return panel(
        "barchart", question, description, unit, [rows(query) for query in queries.values()], empty=empty, size=size,
        options=options, custom=barchart.FieldConfig(axis_label=axis or None, fill_opacity=85),
        overrides={
            by: {"unit": "string"},
            **{
                title: {"color": {"mode": "fixed", "fixedColor": color}}
                for title, color in zip(queries, colors, strict=False)
            },
        },
        transformations=transformations, low=0,
    )  # fmt: skip


def matrix(
    question: str,
    description: str,
    query: str,
    *,
    row: str,
    column: str,
    row_title: str,
    empty: str,
    size: tuple[int, int],
) -> Panel:
    """Return shares as a table: a row for each value of the label `row`, a column for each of the label `column`."""
    custom = common.TableFieldOptions(align=common.FieldTextAlignment.AUTO, inspect=False, min_width=60)
    cells: Properties = {"custom.cellOptions": {"type": "color-background", "mode": "basic"}, "unit": "percentunit"}
    return panel(
        "table", question, description, "percentunit", [at_end(query)], empty=empty, size=size,
        options={"showHeader": True, "cellHeight": "md"}, custom=custom,
        overrides={"/.*/": {**cells, "color": {"mode": "continuous-blues"}, "min": 0, "max": 1},
                   row_title: {"custom.cellOptions": {"type": "auto"}, "unit": "string"}},
        transformations=[
            ("labelsToFields", {"mode": "columns", "valueLabel": column}),
            ("merge", {}),
            ("organize", {"excludeByName": {"Time": True}, "indexByName": {row: 0}, "renameByName": {row: row_title}}),
            ("sortBy", {"fields": {}, "sort": [{"field": row_title, "desc": False}]}),
        ],
        decimals=1,
    )  # fmt: skip


def ranking(
    question: str,
    description: str,
    unit: str,
    query: str,
    legend: str,
    *,
    empty: str,
    size: tuple[int, int] = (12, 8),
    high: float | None = None,
) -> Panel:
    """Return horizontal bars at the end of the time range, in the order that the query gives."""
    options = bargauge.Options(
        display_mode=common.BarGaugeDisplayMode.BASIC,
        orientation=common.VizOrientation.HORIZONTAL,
        reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"], values=False, fields=""),
        value_mode=common.BarGaugeValueMode.TEXT,
        text=common.VizTextDisplayOptions(title_size=14, value_size=16),
    )
    return panel(
        "bargauge", question, description, unit, [at_end(query, legend)], empty=empty, size=size, options=options,
        color=NEUTRAL, low=0, high=high,
    )  # fmt: skip


def density(question: str, description: str, unit: str, query: str, *, empty: str, size: tuple[int, int]) -> Panel:
    """Return a heatmap of a histogram's buckets over time; `query` yields increases `by (le)`."""
    options = heatmap.Options(
        calculate=False,
        color=heatmap.HeatmapColorOptions(
            mode=heatmap.HeatmapColorMode.SCHEME, scheme="Blues", steps=32, exponent=0.5, fill=NEUTRAL, reverse=False,
            scale=heatmap.HeatmapColorScale.EXPONENTIAL,
        ),
        y_axis=heatmap.YAxisConfig(unit=unit, axis_placement=common.AxisPlacement.LEFT),
        legend=heatmap.HeatmapLegend(show=True),
        tooltip=heatmap.HeatmapTooltip(mode=common.TooltipDisplayMode.SINGLE, y_histogram=False),
        filter_values=heatmap.FilterValueRange(le=1e-9),
    )  # fmt: skip
    made = panel("heatmap", question, description, unit, [], empty=empty, size=size, options=options)
    return made.with_target(_target("A", Query(query, "{{le}}")).format(prometheus.PromQueryFormat.HEATMAP))


def text(question: str, content: str, *, size: tuple[int, int]) -> Panel:
    """Return text in Markdown."""
    return (
        build.Panel()
        .type("text")
        .title(question)
        .description(question)
        .span(size[0])
        .height(size[1])
        .options(text_model.Options(mode=text_model.TextMode.MARKDOWN, content=content))
    )


# --- variables -------------------------------------------------------------------------------------------------------
def variable(
    name: str,
    query: str,
    *,
    label: str = "",
    several: bool = False,
    all_value: str = "",
    regex: str = "",
    sort: model.VariableSort = model.VariableSort.ALPHABETICAL_ASC,
    description: str = "",
) -> build.QueryVariable:
    """Return a variable filled by a query: its first value is the default, or all where it holds `several`."""
    made = (
        build.QueryVariable(name)
        .label(label or name.capitalize())
        .description(description)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(sort)
        .regex(regex)
        .multi(several)
        .include_all(several)
    )
    if several:
        made = made.current(model.VariableOption(text="All", value="$__all", selected=True))
        made = made.all_value(all_value or ".*")
    return made


def _exporter_variables(one: bool) -> list[build.QueryVariable | build.DatasourceVariable]:
    """Return what chooses exporters: `one` environment, or several."""
    info = catalogue.EXPORTER_BUILD_INFO.name
    made: list[build.QueryVariable | build.DatasourceVariable] = [
        build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    ]
    chosen = ""
    for label in LABELS:
        made.append(variable(label, f"label_values({info}{{{chosen}}}, {label})", several=not one))
        chosen += f'{label}=~"${label}",'
    made.append(variable("job", f"label_values({info}{{{chosen[:-1]}}}, job)", several=True, all_value=".+"))
    chosen += 'job=~"$job"'
    made.append(variable("instance", f"label_values({info}{{{chosen}}}, instance)", several=True, all_value=".+"))
    return made


def model_variables(of: catalogue.Metric | None = None) -> list[build.QueryVariable]:
    """Return the variables model and version; those whose state is worst are the default.

    Of models those come first that have the metric `of`, where the dashboard is about nothing else.
    """
    info = f"{catalogue.MODEL_INFO.name}{{{EXPORTER}"
    state = f"{STATE}{{{EXPORTER}"
    chosen = ',model="$model"'
    models = f"max by (model) ({state}}}) or max by (model) ({info}}} * 0)"
    if of is not None:
        models = f"({models}) and on (model) {of.name}{{{EXPORTER}}} or max by (model) ({info}}} * 0 - 1)"
    return [
        worst_first("model", models),
        worst_first("version", f"max by (version) ({state}{chosen}}}) or max by (version) ({info}{chosen}}} * 0)"),
    ]


def worst_first(name: str, badness: str, label: str = "", of: str = "") -> build.QueryVariable:
    """Return a variable with the values of the label `of` (or `name`), the one with the largest `badness` first."""
    return variable(
        name,
        f"query_result(sort_desc({badness}))",
        label=label,
        regex=f'/[{{,]{of or name}="((?:[^"\\\\]|\\\\.)+)"/',
        sort=model.VariableSort.DISABLED,
        description="What needs attention first comes first.",
    )


def window_variable() -> build.QueryVariable:
    """Return the variable window."""
    lengths = f'{catalogue.WINDOW_SECONDS.name}{{{EXPORTER},model="$model",version="$version"}}'
    return variable(
        "window",
        f"query_result(sort(max by (window) ({lengths})))",
        regex='/window="([^"]+)"/',
        sort=model.VariableSort.DISABLED,
        description="Rolling window of the exporter, the shortest first.",
    )


# --- dashboards ------------------------------------------------------------------------------------------------------
def _alerts(matchers: str) -> build.AnnotationQuery:
    # Without a step, every sample of an alert would be an event of its own.
    return (
        build.AnnotationQuery()
        .name("Alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(BAD)
        .expr(f'ALERTS{{alertstate="firing",severity!="none",{promql.ALERTS}{matchers}}}')
        .step("60s")
        .title_format("{{alertname}}")
        .text_format("{{severity}} {{model}} {{version}} {{metric}} {{window}}")
        .tag_keys("severity,category")
    )


def _new_versions(matchers: str) -> build.AnnotationQuery:
    info = f"{catalogue.MODEL_INFO.name}{{{EXPORTER}{matchers}}}"
    seen = f"last_over_time({info}[1h] offset 1m)"
    return (
        build.AnnotationQuery()
        .name("New versions")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(NEUTRAL)
        .expr(f"group by (model, version) ({info}) unless on (model, version) {seen}")
        .step("60s")
        .title_format("New version")
        .text_format("{{model}} {{version}}")
        .tag_keys("model,version")
    )


def dashboard(
    uid: str,
    description: str,
    variables: Sequence[build.QueryVariable],
    rows_: Mapping[str, Sequence[Panel]],
    *,
    matchers: str = "",
    since: str = "now-1h",
    one_environment: bool = False,
    folded: Collection[str] = (),
) -> model.Dashboard:
    """Return the dashboard `uid` of `DASHBOARDS`: rows by title (the first may have none: ""), and links to the others.

    `matchers` narrow the annotations to what it is about. A dashboard about one model is about `one_environment`. The
    rows that are `folded` ask nothing until somebody opens them.
    """
    made = (
        build.Dashboard(f"ML / {DASHBOARDS[uid][0]}")
        .uid(uid)
        .description(description)
        .tags(["mlops-exporter"])
        .readonly()
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .annotation(_alerts(matchers))
        .annotation(_new_versions(matchers))
    )
    for each in [*_exporter_variables(one_environment), *variables]:
        made = made.with_variable(each)
    for other, (title, tooltip) in DASHBOARDS.items():
        if other != uid:
            made = made.link(
                build.DashboardLink(title)
                .type(model.DashboardLinkType.LINK)
                .icon("dashboard")
                .url(f"/d/{other}")
                .tooltip(tooltip)
                .keep_time(True)
                .include_vars(True)
            )
    for title, panels in rows_.items():
        row = build.Row(title)
        if title in folded:
            for shown in panels:
                row = row.with_panel(shown)
        if title:
            made = made.with_row(row)
        if title not in folded:
            for shown in panels:
                made = made.with_panel(shown)
    done = made.build()
    placed = [each for panel in done.panels or [] for each in (panel, *getattr(panel, "panels", []))]
    for identifier, each in enumerate(placed, start=1):
        each.id_val = identifier
    return done
