"""Alerts on compute: saturated, idle, out of memory, hot, broken or gone."""

from textwrap import dedent

from prometheus.source.alert import HOST, PERCENT, Alert, constant, each, names, value
from prometheus.source.thresholds import threshold

_GPU = ("job", "instance", "gpu", "uuid", "mig")
_THIS_GPU = "GPU {{ $labels.gpu }} of {{ $labels.instance }}"
_MEMORY = "ml_compute_memory_used_bytes / ml_compute_memory_total_bytes"
_WORKLOADS = each(
    "sort_desc(topk(3, sum by (workload) (ml_workload_memory_bytes{SELECT})))",
    HOST,
    "workload",
    'humanize1024 | printf "%sB"',
    before=". Largest: ",
)
_BYTES = (
    value("ml_compute_memory_used_bytes{SELECT}", HOST, "humanize1024")
    + "B of "
    + value("ml_compute_memory_total_bytes{SELECT}", HOST, "humanize1024")
    + "B"
)

# Of the host alone: for GPUs the matchers contradict each other.
_FEWER_CORES = (
    "instance:ml_compute_cpu_cores:needed_1w < on (cluster, namespace, job, instance)"
    " max by (cluster, namespace, job, instance) (ml_compute_cpu_cores)"
    " and on (job, instance) ml_compute_cost_per_hour{SELECT,resource='host'}"
)

ALERTS = [
    Alert(
        "MLCpuSaturated",
        "host",
        "warning",
        HOST,
        f"avg_over_time(ml_compute_cpu_utilization_ratio[15m]) > {threshold('cpu_saturated_ratio')}",
        "The CPU of a machine that runs models is saturated.",
        f"{{{{ $labels.instance }}}} used {{{{ $value | {PERCENT} }}}} of its "
        + value("ml_compute_cpu_cores{SELECT}", HOST, "humanize")
        + f" cores over 15m, where {constant('cpu_saturated_ratio', PERCENT)} counts as saturated"
        + each(
            "sort_desc(topk(3, sum by (workload) (rate(ml_workload_cpu_seconds_total{SELECT}[15m]))))",
            HOST,
            "workload",
            'printf "%.1f cores"',
            before=". Busiest: ",
        )
        + ".",
        "See the right-sizing advice; add cores or replicas if latency suffers, else wait for training to end.",
        "15m",
        "15m",
    ),
    Alert(
        "MLComputeIdle",
        "cost",
        "info",
        (*HOST, "resource", "currency"),
        dedent(f"""\
            rate(ml_compute_idle_cost_total[6h]) * 3600 > {threshold("idle_cost_per_hour")}
            and
            rate(ml_compute_idle_cost_total[6h]) / rate(ml_compute_cost_total[6h]) > {threshold("idle_cost_ratio")}"""),
        "Money is spent on compute that idles.",
        'Idle {{ $labels.resource }} of {{ $labels.instance }} costs {{ $value | printf "%.2f" }} '
        "{{ $labels.currency }} an hour, "
        + value(
            "rate(ml_compute_idle_cost_total{SELECT}[6h]) / rate(ml_compute_cost_total{SELECT}[6h])",
            (*HOST, "resource", "currency"),
            PERCENT,
        )
        + f" of what is paid for it; {constant('idle_cost_ratio', PERCENT)} are tolerated"
        + value(_FEWER_CORES, (*HOST, "resource", "currency"), 'printf "; a week of its use needs %.0f cores"', none="")
        + ".",
        "See the right-sizing advice: scale down, share the machine, or switch it off between trainings.",
        "6h",
        "6h",
    ),
    Alert(
        "MLMemoryNearLimit",
        "host",
        "warning",
        HOST,
        f"{_MEMORY} > {threshold('memory_ratio')}",
        "A machine that runs models is nearly out of memory.",
        f"{{{{ $labels.instance }}}} uses {_BYTES} of memory, {{{{ $value | {PERCENT} }}}}, where "
        f"{constant('memory_ratio', PERCENT)} warns{_WORKLOADS}.",
        "See whether the largest workload still grows; lower its batch size or cache, or raise the limit.",
        "10m",
        "15m",
    ),
    Alert(
        "MLMemoryExhausted",
        "host",
        "critical",
        HOST,
        f"{_MEMORY} > {threshold('memory_critical_ratio')}",
        "A machine that runs models is about to kill a process for memory.",
        f"{{{{ $labels.instance }}}} uses {_BYTES} of memory, {{{{ $value | {PERCENT} }}}}, where "
        f"{constant('memory_critical_ratio', PERCENT)} pages{_WORKLOADS}.",
        "Restart or stop the workload that can best be missed before the kernel chooses one.",
        "2m",
        "10m",
    ),
    Alert(
        "MLOutOfMemoryKill",
        "host",
        "critical",
        HOST,
        "increase(ml_compute_oom_kills_total[15m]) > 0",
        "The kernel killed a process for want of memory on a machine that runs models.",
        "{{ $labels.instance }} had {{ $value | humanize }} processes killed in the last 15m, where none is tolerated; "
        f"now it uses {_BYTES} of memory{_WORKLOADS}.",
        "Find the victim in the kernel log and see that it runs again; then lower its need or raise the limit.",
        "1m",
        "15m",
    ),
    Alert(
        "MLGpuSaturated",
        "gpu",
        "info",
        _GPU,
        f"avg_over_time(ml_gpu_utilization_ratio[1h]) > {threshold('gpu_saturated_ratio')}",
        "A GPU is busy all the time.",
        f"{_THIS_GPU} was busy {{{{ $value | {PERCENT} }}}} of the last hour, where "
        f"{constant('gpu_saturated_ratio', PERCENT)} counts as saturated.",
        "If it trains, nothing: that is good. If it serves, see whether latency keeps its objective; else scale out.",
        "1h",
        "1h",
    ),
    Alert(
        "MLGpuMemoryNearLimit",
        "gpu",
        "warning",
        _GPU,
        f"ml_gpu_memory_used_bytes / ml_gpu_memory_total_bytes > {threshold('gpu_memory_ratio')}",
        "A GPU is nearly out of memory.",
        f"{_THIS_GPU} has {{{{ $value | {PERCENT} }}}} of its "
        + value("ml_gpu_memory_total_bytes{SELECT}", _GPU, "humanize1024")
        + f"B allocated, where {constant('gpu_memory_ratio', PERCENT)} warns.",
        "Lower the batch size; a server that reserves all memory on purpose needs a lower reservation or a silence.",
        "15m",
        "15m",
    ),
    Alert(
        "MLGpuThermalThrottling",
        "gpu",
        "warning",
        _GPU,
        f'max without (reason) (avg_over_time(ml_gpu_throttled{{reason=~"(hw|sw)_thermal_slowdown"}}[15m]))'
        f" > {threshold('throttled_ratio')}",
        "A GPU is slowed down by heat.",
        f"{_THIS_GPU} was slowed down by heat for {{{{ $value | {PERCENT} }}}} of the last 15m, where "
        f"{constant('throttled_ratio', PERCENT)} is tolerated; it has "
        + value("ml_gpu_temperature_celsius{SELECT}", _GPU, 'printf "%.0f °C"')
        + ".",
        "Check fans and air flow of the machine; a lower power limit costs less speed than throttling.",
        "10m",
        "30m",
    ),
    Alert(
        "MLGpuEccErrors",
        "gpu",
        "critical",
        _GPU,
        'max without (type) (increase(ml_gpu_ecc_errors_total{type="uncorrected"}[1h])) > 0',
        "A GPU's memory returned wrong data.",
        _THIS_GPU + ' had {{ $value | printf "%.0f" }} uncorrected memory errors in the last hour, where none is '
        "tolerated.",
        "Drain the GPU and reset it; distrust what was trained on it since. If it comes back, replace it.",
        "1m",
        "1h",
    ),
    Alert(
        "MLGpuEccErrorsCorrected",
        "gpu",
        "warning",
        _GPU,
        'max without (type) (increase(ml_gpu_ecc_errors_total{type="corrected"}[1d])) '
        f"> {threshold('ecc_corrected_per_day')}",
        "A GPU's memory is wearing out.",
        _THIS_GPU + ' corrected {{ $value | printf "%.0f" }} memory errors in a day, where '
        f"{constant('ecc_corrected_per_day')} are tolerated.",
        "Nothing is wrong yet: plan to replace the GPU, and look whether its neighbours are hot too.",
        "15m",
        "6h",
    ),
    Alert(
        "MLGpuLost",
        "gpu",
        "critical",
        _GPU,
        "ml_gpu_up == 0",
        "A GPU no longer answers.",
        f"{_THIS_GPU}{{{{ with $labels.mig }}}} (MIG {{{{ . }}}}){{{{ end }}}} has stopped answering; "
        + value("count(ml_gpu_up{job=%[1]q,instance=%[2]q} == 1) or vector(0)", _GPU, 'printf "%.0f"')
        + " GPUs of the machine still do, of "
        + value("count(ml_gpu_up{job=%[1]q,instance=%[2]q})", _GPU, 'printf "%.0f"')
        + ".",
        "Move its work away and read the kernel log for an Xid; a reset or a reboot brings most back.",
        "2m",
        "10m",
    ),
    Alert(
        "MLGpuDriverDown",
        "gpu",
        "critical",
        (*HOST, "vendor"),
        'ml_gpu_driver_up == 0\nunless on (job, instance, vendor)\nml_gpu_driver_error{error="library_not_found"}',
        "A GPU driver no longer answers.",
        "The {{ $labels.vendor }} driver of {{ $labels.instance }} does not answer ("
        + names("ml_gpu_driver_error{SELECT}", (*HOST, "vendor"), "error", "it does not say why")
        + "); while it is down no GPU of the machine is watched.",
        "Read the kernel log; after an update of the driver, reload its module or reboot.",
        "5m",
        "10m",
    ),
]
