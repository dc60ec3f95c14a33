"""Right-sizing: from a day's utilisation to scale down, keep, or scale out; docs/compute.md argues the rule.

A capacity is enough when at it the 95th percentile of utilisation would be at most `target`, and the most memory ever
used at most `scale_out_above`. Work is taken to spread over what capacity there is, so that utilisation is inversely
proportional to it. A host comes in halves and doubles, as machine types do; a pool of GPUs in whole GPUs.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mlops_exporter.settings.compute import AdviceSettings

Action = Literal["scale_down", "keep", "scale_out"]
ACTIONS: tuple[Action, ...] = ("scale_down", "keep", "scale_out")


@dataclass(frozen=True, slots=True)
class Demand:
    """What was asked of a resource over the window, as shares of its capacity."""

    utilization_p95: float
    memory_max: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and the advised capacity over the present one."""

    action: Action
    capacity_ratio: float

    def saving_per_hour(self, price_per_hour: float) -> float:
        """Return what following the advice saves of the present price; negative where it costs more."""
        return price_per_hour * (1 - self.capacity_ratio)


def _advice(capacity_ratio: float) -> Advice:
    if capacity_ratio == 1:
        return Advice("keep", 1.0)
    return Advice("scale_down" if capacity_ratio < 1 else "scale_out", capacity_ratio)


def advise_host(demand: Demand, cores: float, rule: AdviceSettings) -> Advice:
    """Advise on a host by halves and doubles, never below one core.

    Too little is p95 CPU or maximal memory above `scale_out_above`; then it doubles until the capacity is enough.
    Otherwise it halves as long as half of it is still enough.
    """

    def enough(capacity: float) -> bool:
        fits = demand.memory_max / capacity <= rule.scale_out_above
        return demand.utilization_p95 / capacity <= rule.target and fits

    capacity = 1.0
    if max(demand.utilization_p95, demand.memory_max) > rule.scale_out_above:
        while not enough(capacity):
            capacity *= 2
    else:
        while cores * capacity / 2 >= 1 and enough(capacity / 2):
            capacity /= 2
    return _advice(capacity)


def advise_gpus(demand: Demand, gpus: int, rule: AdviceSettings) -> Advice:
    """Advise on a pool of `gpus` equal GPUs, by whole GPUs, never below one.

    Too little is a p95 of the pool's mean utilisation above `scale_out_above`. Memory only keeps a pool from shrinking
    and never makes it grow: serving frameworks fill whatever memory they find.
    """
    needed = math.ceil(round(gpus * demand.utilization_p95 / rule.target, 6))
    if demand.utilization_p95 > rule.scale_out_above:
        return _advice(max(needed, gpus + 1) / gpus)
    for_memory = math.ceil(round(gpus * demand.memory_max / rule.scale_out_above, 6))
    return _advice(min(max(needed, for_memory, 1), gpus) / gpus)
