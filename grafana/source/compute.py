"""Dashboard "Compute": whether CPU, memory and GPUs are used well, and what idleness costs."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.source import panels as p
from grafana.source.environment import LABELS
from grafana.source.promql import ALERTS, EXPORTER, TARGET, WHERE, culprits, rate, series
from mlops_exporter.exposition import catalogue as c

_WORKLOAD = 'workload=~"$workload"'
_GPU = 'gpu=~"$gpu"'
_SOME = 'kind="some"'
_NOT_INSTALLED = 'error="library_not_found"'
_UNCORRECTED = 'type="uncorrected"'
_GPU_NAME = "{{instance}} GPU {{gpu}} {{mig}}"
_PLACE = " ".join(f"{{{{{label}}}}}" for label in (*LABELS, "job"))

_NO_COMPUTE = "The host is not watched: its collector is off, or the exporter is not scraped."
_NO_WORKLOAD = "No workload: compute.workloads is not configured, or none of its processes runs."
_NO_GPU = "No GPU: the host has none, or its driver does not answer (ml_gpu_driver_error says why)."
_NO_GPM = "No GPU that counts this (Hopper and later), or compute.gpm is off."
_NO_COST = "No price: compute.cost is not configured."
_NO_ADVICE = "No advice yet: it needs compute.cost or a longer observation (compute.advice.min_observed)."
_NO_WEEK = "No advice of a week yet: it needs six days, and a number of cores that did not change."
_NO_WORK_COST = "No price, or no prediction and no training within the last day."
_NO_PRESSURE = "The kernel keeps no pressure stall information."
_NO_OOM_KILLS = "The kernel keeps no count of processes killed for memory."
_NO_QUOTA = "No CPU quota holds here."

_ADVICE = p.Words({3: ("Scale out", p.BAD), 2: ("Scale down", p.WATCH), 1: ("Keep", p.GOOD)})
_DRIVER = p.Words(
    {3: ("All answer", p.GOOD), 2: ("No GPU", p.QUIET), 1: ("GPU lost", p.BAD), 0: ("Driver fails", p.BAD)}
)
# A host without a driver has no GPU: that says nothing of the others. Of a host with GPUs the worst counts.
_DRIVERS = (
    f"min by (instance) (({series(c.GPU_DRIVER_UP)} == 0) * 0 unless on ({TARGET}, vendor)"
    f" {series(c.GPU_DRIVER_ERROR, _NOT_INSTALLED)})"
    f" or min by (instance) ({series(c.GPU_UP)} * 2 + 1)"
)
_ANSWERS = f"({culprits(_DRIVERS, '< 3')}) or label_replace(max({series(c.GPU_DRIVER_UP)}) * 0 + 2, " + (
    f'"instance", "all", "", "") unless on () ({_DRIVERS})'
)


def _advised(advice: str, number: int) -> str:
    chosen = f'advice="{advice}"'
    return f"max by (resource) ({series(c.COMPUTE_ADVICE, chosen)} == 1) * 0 + {number}"


_ADVISED = f"{_advised('scale_out', 3)} or {_advised('scale_down', 2)} or {_advised('keep', 1)}"


def _recorded(name: str) -> str:
    """Return the selector of a recording rule by instance."""
    return f"{name}{{{EXPORTER}}}"


def _memory_ratio() -> str:
    return f"{series(c.COMPUTE_MEMORY_USED_BYTES)} / {series(c.COMPUTE_MEMORY_TOTAL_BYTES)}"


def _head() -> list[p.Panel]:
    return [
        p.number(
            "How busy is the CPU?",
            "Share of the usable cores that is busy: the busiest of the chosen instances.",
            "percentunit",
            f"max({series(c.COMPUTE_CPU_UTILIZATION_RATIO)})",
            empty=_NO_COMPUTE,
            decimals=0,
            trend=True,
        ),
        p.number(
            "How full is memory?",
            "Share of the usable memory in use: the fullest of the chosen instances.",
            "percentunit",
            f"max({_memory_ratio()})",
            empty=_NO_COMPUTE,
            decimals=0,
            trend=True,
        ),
        p.number(
            "How many cores?",
            "CPU cores that may be used: the smallest of online CPUs, cpuset and quota; all chosen instances.",
            "none",
            f"sum({series(c.COMPUTE_CPU_CORES)})",
            empty=_NO_COMPUTE,
        ),
        p.number(
            "Do GPUs answer?",
            "Whether every GPU answers; otherwise, on which host one does not. Hosts without a driver are left out.",
            "none",
            _ANSWERS,
            legend="{{instance}}",
            empty="GPUs are not watched",
            words=_DRIVER,
            named=True,
        ),
        p.number(
            "What does it cost?",
            "Configured price per hour of host and GPUs, all chosen instances.",
            "none",
            f"sum by (currency) ({series(c.COMPUTE_COST_PER_HOUR)})",
            legend="{{currency}} per hour",
            empty=_NO_COST,
            named=True,
            decimals=2,
        ),
        p.number(
            "What should be done?",
            "Right-sizing advice for each resource, from the 95th percentile of utilisation and the largest use of "
            "memory in the advice window.",
            "none",
            _ADVISED,
            legend="{{resource}}",
            empty=_NO_ADVICE,
            words=_ADVICE,
            named=True,
        ),
    ]


def _host() -> list[p.Panel]:
    throttled = f"{rate(c.COMPUTE_CPU_THROTTLED_PERIODS)} / ({rate(c.COMPUTE_CPU_PERIODS)} > 0)"
    return [
        p.over_time(
            "Is the CPU used well?",
            "Share of the usable cores that is busy: mean and 95th percentile of the samples that the exporter takes "
            "every interval, so that peaks between scrapes are seen.",
            "percentunit",
            [
                p.Query(
                    f"sum by (instance) ({rate(c.COMPUTE_CPU_UTILIZATION, suffix='_sum')})"
                    f" / sum by (instance) ({rate(c.COMPUTE_CPU_UTILIZATION, suffix='_count')})",
                    "{{instance}} mean",
                ),
                p.Query(
                    f"histogram_quantile(0.95, sum by (instance, le) "
                    f"({rate(c.COMPUTE_CPU_UTILIZATION, suffix='_bucket')}))",
                    "{{instance}} 95th percentile",
                ),
                p.objective("cpu_saturated_ratio", "Saturated"),
            ],
            empty=_NO_COMPUTE,
            size=(8, 8),
            overrides={"Saturated": p.line(p.BAD, dashed=True)},
            low=0,
            high=1,
        ),
        p.density(
            "How is CPU utilisation distributed?",
            "Samples of CPU utilisation by tenth over time: dark is frequent. All dark at the bottom is idleness, at "
            "the top saturation, at both a load that comes in bursts.",
            "percentunit",
            f"sum by (le) ({rate(c.COMPUTE_CPU_UTILIZATION, suffix='_bucket')})",
            empty=_NO_COMPUTE,
            size=(8, 8),
        ),
        p.over_time(
            "Is memory running out?",
            "Memory in use against what may be used (dashed).",
            "bytes",
            [
                p.Query(f"sum by (instance) ({series(c.COMPUTE_MEMORY_USED_BYTES)})", "{{instance}} used"),
                p.Query(f"sum by (instance) ({series(c.COMPUTE_MEMORY_TOTAL_BYTES)})", "{{instance}} total"),
            ],
            empty=_NO_COMPUTE,
            size=(8, 8),
            overrides={"/ total$/": {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}}},
            low=0,
        ),
        p.over_time(
            "What do tasks wait for?",
            "Share of time in which some tasks waited for CPU, memory or I/O (pressure stall information): saturation "
            "that utilisation alone does not show.",
            "percentunit",
            [
                p.Query(f"max by (resource) ({rate(c.COMPUTE_PRESSURE_SECONDS, _SOME)})", "{{resource}}"),
            ],
            empty=_NO_PRESSURE,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "Is it held back by its quota?",
            "Share of the periods in which the container had used up its CPU quota.",
            "percentunit",
            [p.Query(f"max by (instance) ({throttled})", "{{instance}}")],
            empty=_NO_QUOTA,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "How much time does it lose to its quota?",
            "Seconds per second for which the container was held back by its quota, summed over its cores, and the "
            "cores that are busy, of the host or the container, whichever is watched.",
            "none",
            [
                p.Query(f"max by (instance) ({rate(c.COMPUTE_CPU_THROTTLED_SECONDS)})", "{{instance}} held back"),
                p.Query(
                    f"{rate(c.COMPUTE_CPU_SECONDS)} * on ({TARGET}) group_left (scope) {series(c.COMPUTE_INFO)}",
                    "{{instance}} busy cores of the {{scope}}",
                ),
            ],
            empty=_NO_COMPUTE,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "Was anything killed for memory?",
            "Processes that the kernel killed for want of memory within the last hour.",
            "short",
            [p.Query(f"sum by (instance) (increase({series(c.COMPUTE_OOM_KILLS)}[1h]))", "{{instance}}")],
            empty=_NO_OOM_KILLS,
            size=(8, 8),
            low=0,
        ),
        p.over_time(
            "How many tasks want to run?",
            "Load average of the whole host against its usable cores (dashed).",
            "none",
            [
                p.Query(f"max by (window) ({series(c.COMPUTE_LOAD_AVERAGE, free='window')})", "{{window}}"),
                p.Query(f"min({series(c.COMPUTE_CPU_CORES)})", "Cores"),
            ],
            empty=_NO_COMPUTE,
            size=(8, 8),
            overrides={"Cores": p.line(p.BAD, dashed=True)},
            low=0,
        ),
    ]


def _workloads() -> list[p.Panel]:
    by, legend = "by (phase, workload)", "{{phase}}: {{workload}}"
    of_each = "by (workload, phase, instance)"

    def lines(question: str, description: str, unit: str, query: str, size: tuple[int, int] = (6, 8)) -> p.Panel:
        queries = [p.Query(query, legend)]
        return p.over_time(question, description, unit, queries, empty=_NO_WORKLOAD, size=size, low=0)

    return [
        p.table_of(
            "How is each workload?",
            "A row for each workload on each host: how long its oldest process has run, the processes seen to start "
            "over the time range (restarts, where it has one), and its threads and open files: growing, they leak.",
            [
                f"sum {of_each} ({series(c.WORKLOAD_PROCESSES, _WORKLOAD)})",
                f"time() - min {of_each} ({series(c.WORKLOAD_START_TIME_SECONDS, _WORKLOAD)})",
                f"sum {of_each} (increase({series(c.WORKLOAD_PROCESSES_STARTED, _WORKLOAD)}[$__range]))",
                f"sum {of_each} ({series(c.WORKLOAD_THREADS, _WORKLOAD)})",
                f"sum {of_each} ({series(c.WORKLOAD_OPEN_FILES, _WORKLOAD)})",
            ],
            [
                p.Column("workload", "Workload", least=130),
                p.Column("phase", "Phase", width=100),
                p.Column("instance", "Instance", width=180),
                p.Column("A", "Processes", unit="none", decimals=0, width=100),
                p.Column("B", "Runs for", unit="s", decimals=0, width=110),
                p.Column("C", "Started", unit="none", decimals=0, width=90),
                p.Column("D", "Threads", unit="none", decimals=0, width=90),
                p.Column("E", "Open files", unit="none", decimals=0, width=100),
            ],
            empty=_NO_WORKLOAD,
            size=(24, 6),
            sort="Workload",
            descending=False,
        ),
        lines(
            "How many processes run?",
            "Processes of each workload, by phase: training or serving.",
            "none",
            f"sum {by} ({series(c.WORKLOAD_PROCESSES, _WORKLOAD)})",
        ),
        lines(
            "Who uses the CPU?",
            "CPU seconds per second of each workload: 1 is a whole core.",
            "none",
            f"sum {by} ({rate(c.WORKLOAD_CPU_SECONDS, _WORKLOAD)})",
        ),
        lines(
            "Who uses memory?",
            "Resident memory of each workload's processes.",
            "bytes",
            f"sum {by} ({series(c.WORKLOAD_MEMORY_BYTES, _WORKLOAD)})",
        ),
        lines(
            "Who reads and writes?",
            "Bytes per second that each workload made storage read or write.",
            "Bps",
            f"sum {by} ({rate(c.WORKLOAD_READ_BYTES, _WORKLOAD)} + {rate(c.WORKLOAD_WRITTEN_BYTES, _WORKLOAD)})",
        ),
        lines(
            "Who uses the GPUs?",
            "Share of the compute time of the GPUs that each workload runs on, used by it: the busiest host's.",
            "percentunit",
            f"max {by} ({series(c.WORKLOAD_GPU_UTILIZATION_RATIO, _WORKLOAD)})",
            (12, 8),
        ),
        lines(
            "Who holds GPU memory?",
            "GPU memory held by each workload's processes, over all GPUs.",
            "bytes",
            f"sum {by} ({series(c.WORKLOAD_GPU_MEMORY_BYTES, _WORKLOAD)})",
            (12, 8),
        ),
    ]


def _gpus() -> list[p.Panel]:
    def lines(question: str, description: str, unit: str, *queries: p.Query, empty: str = _NO_GPU) -> p.Panel:
        return p.over_time(question, description, unit, queries, empty=empty, size=(8, 8), low=0)

    by = "by (instance, gpu, mig)"
    return [
        p.table_of(
            "Which GPUs are there?",
            "A row for each GPU, those that do not answer on top.",
            [
                f"min {by} ({series(c.GPU_UP, _GPU)})",
                f"max by (instance, gpu, mig, name) ({series(c.GPU_INFO, _GPU)})",
                f"max {by} ({series(c.GPU_UTILIZATION_RATIO, _GPU)})",
                f"max {by} ({series(c.GPU_MEMORY_USED_BYTES, _GPU)} / {series(c.GPU_MEMORY_TOTAL_BYTES, _GPU)})",
                f"max {by} ({series(c.GPU_TEMPERATURE_CELSIUS, _GPU)})",
                f"max {by} ({series(c.GPU_THROTTLED, _GPU)})",
                f"sum {by} (increase({series(c.GPU_ECC_ERRORS, _GPU, _UNCORRECTED)}[$__range]))",
            ],
            [
                p.Column("instance", "Instance", least=130),
                p.Column("gpu", "GPU", width=70),
                p.Column("mig", "MIG", width=70),
                p.Column("name", "Kind", width=180),
                p.Column("A", "State", words=p.Words({1: ("Answers", p.GOOD), 0: ("Lost", p.BAD)}), width=90),
                p.Column("C", "Busy", unit="percentunit", decimals=0, width=80),
                p.Column("D", "Memory", unit="percentunit", decimals=0, width=80),
                p.Column("E", "Temperature", unit="celsius", decimals=0, width=110),
                p.Column("F", "Held down", words=p.Words({1: ("Yes", p.WATCH), 0: ("No", p.GOOD)}), width=95),
                p.Column("G", "Wrong data", unit="none", decimals=0, width=95),
            ],
            empty=_NO_GPU,
            size=(24, 6),
            sort="State",
            descending=False,
        ),
        lines(
            "Are the GPUs used?",
            "Share of time in which a kernel ran.",
            "percentunit",
            p.Query(f"max {by} ({series(c.GPU_UTILIZATION_RATIO, _GPU)})", _GPU_NAME),
        ),
        lines(
            "What do they really do?",
            "Means of what GPUs with GPM (Hopper and later) count: multiprocessors that were busy, warps that were "
            "active, tensor operations, and memory bandwidth. A GPU that is used all the time with few "
            "multiprocessors busy has room; with its bandwidth used up it waits for memory.",
            "percentunit",
            *(
                p.Query(
                    f"max {by} ({rate(metric, _GPU, suffix='_sum')} / {rate(metric, _GPU, suffix='_count')})",
                    f"{_GPU_NAME} {what}",
                )
                for metric, what in (
                    (c.GPU_SM_ACTIVITY, "multiprocessors"),
                    (c.GPU_SM_OCCUPANCY, "warps"),
                    (c.GPU_TENSOR_ACTIVITY, "tensor"),
                    (c.GPU_MEMORY_BANDWIDTH, "bandwidth"),
                )
            ),
            empty=_NO_GPM,
        ),
        lines(
            "Are they busy with their memory?",
            "Share of time in which GPU memory was read or written: near 1 with a busy GPU, memory is the bottleneck.",
            "percentunit",
            p.Query(f"max {by} ({series(c.GPU_MEMORY_UTILIZATION_RATIO, _GPU)})", _GPU_NAME),
        ),
        lines(
            "Which processes hold GPU memory?",
            "GPU memory held by each process, by its number on the host: also by those that are no workload here.",
            "bytes",
            p.Query(
                f"max by (instance, gpu, mig, pid) ({series(c.GPU_PROCESS_MEMORY_BYTES, _GPU)})",
                _GPU_NAME + " process {{pid}}",
            ),
        ),
        lines(
            "How much energy do they use?",
            "Energy over the last hour, from the driver's own count, which misses no peak between scrapes.",
            "joule",
            p.Query(f"sum {by} (increase({series(c.GPU_ENERGY_JOULES, _GPU)}[1h]))", _GPU_NAME),
        ),
        p.density(
            "How is GPU utilisation distributed?",
            "Samples of GPU utilisation by tenth over time: dark is frequent.",
            "percentunit",
            f"sum by (le) ({rate(c.GPU_UTILIZATION, _GPU, suffix='_bucket')})",
            empty=_NO_GPU,
            size=(8, 8),
        ),
        lines(
            "Is GPU memory running out?",
            "GPU memory allocated, as a share of all.",
            "percentunit",
            p.Query(
                f"max {by} ({series(c.GPU_MEMORY_USED_BYTES, _GPU)} / {series(c.GPU_MEMORY_TOTAL_BYTES, _GPU)})",
                _GPU_NAME,
            ),
        ),
        lines(
            "How much power do they draw?",
            "Power drawn, and the limit that the driver enforces.",
            "watt",
            p.Query(f"max {by} ({series(c.GPU_POWER_WATTS, _GPU)})", _GPU_NAME),
            p.Query(f"max {by} ({series(c.GPU_POWER_LIMIT_WATTS, _GPU)})", "Limit of " + _GPU_NAME),
        ),
        lines(
            "How hot are they?",
            "Temperature of each GPU.",
            "celsius",
            p.Query(f"max {by} ({series(c.GPU_TEMPERATURE_CELSIUS, _GPU)})", _GPU_NAME),
        ),
        lines(
            "What holds their clocks down?",
            "Reasons for which clocks are held down at the moment; 1 is yes.",
            "none",
            p.Query(
                f"max by (instance, gpu, reason) ({series(c.GPU_THROTTLED, _GPU)} == 1)",
                "{{instance}} GPU {{gpu}}: {{reason}}",
            ),
        ),
        lines(
            "Do they make errors?",
            "Memory errors and critical driver events (XID) over the last hour.",
            "short",
            p.Query(
                f"sum by (instance, gpu, type) (increase({series(c.GPU_ECC_ERRORS, _GPU)}[1h]))",
                "{{instance}} GPU {{gpu}} {{type}}",
            ),
            p.Query(
                f"sum by (instance, gpu, xid) (increase({series(c.GPU_XID_ERRORS, _GPU)}[1h]))",
                "{{instance}} GPU {{gpu}} XID {{xid}}",
            ),
        ),
        lines(
            "Does the driver tell nonsense?",
            "Values over the last hour that no GPU can have and that were dropped, by field.",
            "short",
            p.Query(
                f"sum by (instance, gpu, field) (increase({series(c.GPU_VALUES_DROPPED, _GPU)}[1h]))",
                "{{instance}} GPU {{gpu}} {{field}}",
            ),
            empty="No value of a GPU was dropped.",
        ),
        lines(
            "What goes over the buses?",
            "Bytes per second over PCIe and NVLink.",
            "Bps",
            p.Query(f"sum by (direction) ({rate(c.GPU_PCIE_BYTES, _GPU)})", "PCIe {{direction}}"),
            p.Query(f"sum by (direction) ({rate(c.GPU_NVLINK_BYTES, _GPU)})", "NVLink {{direction}}"),
        ),
        lines(
            "How fast do they run?",
            "Current clock rates of processors and memory.",
            "hertz",
            p.Query(
                f"max by (instance, gpu, clock) ({series(c.GPU_CLOCK_HERTZ, _GPU)})",
                "{{instance}} GPU {{gpu}} {{clock}}",
            ),
        ),
    ]


def _cost() -> list[p.Panel]:
    by = "by (resource, currency)"
    total, idle = (
        f"sum {by} (increase({series(metric)}[$__range]))" for metric in (c.COMPUTE_COST, c.COMPUTE_IDLE_COST)
    )
    return [
        p.table_of(
            "What did it cost, and how much of it was idle?",
            "Cost of each resource over the time range, and the part of it that bought idleness: price times time "
            "times (1 - utilisation).",
            [f"sum {by} ({series(c.COMPUTE_COST_PER_HOUR)})", total, idle, f"{idle} / ({total} > 0)"],
            [
                p.Column("resource", "Resource", least=80),
                p.Column("currency", "Currency", width=80),
                p.Column("A", "Per hour", unit="none", decimals=2, width=85),
                p.Column("B", "Cost", unit="none", decimals=2, width=85),
                p.Column("C", "Idle cost", unit="none", decimals=2, width=85),
                p.Column("D", "Idle", unit="percentunit", decimals=0, width=70),
            ],
            empty=_NO_COST,
            size=(12, 8),
            sort="Idle cost",
        ),
        p.table_of(
            "What should be scaled, and what does it save?",
            "Right-sizing advice: the capacity advised over the present one, the saving per hour (negative where it "
            "costs more), and what the advice rests on.",
            [
                _ADVISED,
                f"max by (resource) ({series(c.COMPUTE_ADVICE_CAPACITY_RATIO)})",
                f"sum by (resource) ({series(c.COMPUTE_ADVICE_SAVING_PER_HOUR)})",
                f"max by (resource) ({series(c.COMPUTE_ADVICE_UTILIZATION_P95_RATIO)})",
                f"max by (resource) ({series(c.COMPUTE_ADVICE_MEMORY_MAX_RATIO)})",
                f"min by (resource) ({series(c.COMPUTE_ADVICE_OBSERVED_SECONDS)})",
            ],
            [
                p.Column("resource", "Resource", least=70),
                p.Column("A", "Advice", words=_ADVICE, width=95),
                p.Column("B", "Capacity", unit="percentunit", decimals=0, width=78),
                p.Column("C", "Saving/h", unit="none", decimals=2, width=80),
                p.Column("D", "Use p95", unit="percentunit", decimals=0, width=75),
                p.Column("E", "Memory", unit="percentunit", decimals=0, width=75),
                p.Column("F", "Observed", unit="s", decimals=0, width=82),
            ],
            empty=_NO_ADVICE,
            size=(12, 8),
            sort="Saving/h",
        ),
        p.table_of(
            "How many cores would do for a week's use?",
            "The cores at which the 99th percentile of the last week's CPU use stays under 70 % and the most memory "
            "used under 85 %, if work spreads over cores and memory comes with them; and what that saves of the "
            "host's price in a month of 730 hours, negative where more cores are needed.",
            [
                f"max by ({TARGET}) ({_recorded('instance:ml_compute_cpu_cores:needed_1w')})",
                f"max by ({TARGET}) ({series(c.COMPUTE_CPU_CORES)})",
                f"max by ({TARGET}) ({_recorded('instance:ml_compute_cpu_utilization:p99_1w')})",
                f"max by ({TARGET}) ({_recorded('instance:ml_compute_memory_utilization:max_1w')})",
                f"max by ({TARGET}) ({_recorded('instance:ml_compute_cost:saving_per_month_1w')})",
            ],
            [
                p.Column("instance", "Instance", least=120),
                p.Column("A", "Needed", unit="none", decimals=0, width=75),
                p.Column("B", "Cores", unit="none", decimals=1, width=70),
                p.Column("C", "Use p99", unit="percentunit", decimals=0, width=75),
                p.Column("D", "Memory", unit="percentunit", decimals=0, width=75),
                p.Column("E", "Saving/month", unit="none", decimals=0, width=110),
            ],
            empty=_NO_WEEK,
            size=(12, 8),
            sort="Saving/month",
        ),
        p.over_time(
            "What does the work cost?",
            "All cost of the last day, idleness included, over what it bought: hours in which a machine trained, "
            "thousands of predictions, and thousands of predictions that were right.",
            "none",
            [
                p.Query(f"sum by ({WHERE}, job, currency) ({name}{{{ALERTS}}})", f"{_PLACE} {{{{currency}}}} {what}")
                for name, what in (
                    ("job:ml_compute_cost:per_training_hour_1d", "per hour of training"),
                    ("job:ml_compute_cost:per_1000_predictions_1d", "per 1000 predictions"),
                    ("job:ml_compute_cost:per_1000_correct_predictions_1d", "per 1000 right predictions"),
                )
            ],
            empty=_NO_WORK_COST,
            size=(12, 8),
            low=0,
        ),
    ]


def build() -> model.Dashboard:
    """Return the dashboard."""
    return p.dashboard(
        "mlops-compute",
        "Whether CPU, memory and GPUs are used well in training and in serving, what they cost, and what to change.",
        [
            p.variable("workload", f"label_values({series(c.WORKLOAD_PROCESSES)}, workload)", several=True),
            p.variable("gpu", f"label_values({series(c.GPU_INFO)}, gpu)", several=True, label="GPU"),
        ],
        {
            "": _head(),
            "Host or container": _host(),
            "Cost and advice": _cost(),
            "Workloads, by phase": _workloads(),
            "GPUs": _gpus(),
        },
        matchers=',model=""',
    )
