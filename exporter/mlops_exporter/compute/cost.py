"""What the resources cost, how much of that is idle, and what would be the right size."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from mlops_exporter.compute.advice import ACTIONS, Advice, Demand, advise_gpus, advise_host
from mlops_exporter.compute.cpu import CpuSnapshot
from mlops_exporter.compute.gpu import GpuSnapshot
from mlops_exporter.compute.memory import MemorySnapshot
from mlops_exporter.compute.snapshots import Published
from mlops_exporter.compute.usage import UsageWindow
from mlops_exporter.exposition import catalogue
from mlops_exporter.exposition.samples import Rows, Samples
from mlops_exporter.settings.compute import AdviceSettings, CostSettings

RESOURCES = ("host", "gpu")


@dataclass(slots=True)
class Meter:
    """Accumulates the cost of one resource.

    cost += price × hours; idle cost += price × hours × (1 - utilisation). Time whose utilisation is not known costs,
    but is not called idle.
    """

    total: float = 0.0
    idle: float = 0.0

    def add(self, price_per_hour: float, seconds: float, utilization: float | None) -> None:
        """Account for `seconds` at a utilisation between 0 and 1."""
        cost = price_per_hour * seconds / 3600
        self.total += cost
        if utilization is not None:
            self.idle += cost * (1 - utilization)


@dataclass(frozen=True, slots=True)
class GpuPool:
    """All whole GPUs together, by their activity. None where a GPU does not say, so that no mean is of only some."""

    gpus: int
    utilizations: tuple[float | None, ...]
    utilization: float | None
    memory: float | None


def pool(snapshots: Iterable[GpuSnapshot]) -> GpuPool:
    """Sum up the whole GPUs; MIG instances are shares of them, and not counted again."""
    gpus = [reading for snapshot in snapshots for reading in snapshot.readings if not reading.identity.mig]
    utilizations = tuple(gpu.activity for gpu in gpus)
    known = [utilization for utilization in utilizations if utilization is not None]
    used = [gpu.memory_used for gpu in gpus if gpu.memory_used is not None]
    total = [gpu.memory_total for gpu in gpus if gpu.memory_total]
    return GpuPool(
        len(gpus),
        utilizations,
        sum(known) / len(gpus) if gpus and len(known) == len(gpus) else None,
        sum(used) / sum(total) if gpus and len(used) == len(total) == len(gpus) else None,
    )


@dataclass(frozen=True, slots=True)
class ResourceSnapshot:
    """Cost and advice of one resource: cost is None without a configured price, demand and advice while unknown."""

    resource: str
    price_per_hour: float | None
    cost: float | None
    idle_cost: float | None
    observed_seconds: float
    demand: Demand | None
    advice: Advice | None

    @property
    def saving_per_hour(self) -> float | None:
        """What following the advice saves; None without advice or price."""
        if self.advice is None or self.price_per_hour is None:
            return None
        return self.advice.saving_per_hour(self.price_per_hour)


@dataclass(slots=True)
class _Usage:
    utilization: UsageWindow
    memory: UsageWindow

    @classmethod
    def over(cls, window: float) -> "_Usage":
        return cls(UsageWindow(window), UsageWindow(window))

    def observe(self, now: float, utilization: float, memory: float) -> None:
        self.utilization.observe(now, utilization)
        self.memory.observe(now, memory)


class CostSampler:
    """Turns the other samplers' snapshots into cost and advice, once per sampling interval."""

    def __init__(self, prices: CostSettings | None, rule: AdviceSettings, interval: float) -> None:
        self._prices = prices
        self._rule = rule
        self._interval = interval
        self._previous: float | None = None
        self._host = Meter()
        self._gpu = Meter()
        self._host_usage = _Usage.over(rule.window)
        self._gpu_usage = _Usage.over(rule.window)
        self._gpus = 0

    def successor(self, prices: CostSettings | None, rule: AdviceSettings) -> "CostSampler":
        """Return a sampler by other prices or another rule, which goes on with what those do not touch.

        Amounts in another currency begin anew, and so does what was observed for another window. This sampler may go
        on, too.
        """
        following = deepcopy(self)
        following._prices, following._rule = prices, rule
        if _currency(prices) != _currency(self._prices):
            following._host, following._gpu = Meter(), Meter()
        if rule.window != self._rule.window:
            following._host_usage, following._gpu_usage = _Usage.over(rule.window), _Usage.over(rule.window)
        return following

    def sample(
        self, now: float, cpu: CpuSnapshot | None, memory: MemorySnapshot | None, gpus: Sequence[GpuSnapshot]
    ) -> tuple[ResourceSnapshot, ...]:
        """Account for the time since the last call. None is a sample that could not be taken."""
        elapsed = 0.0 if self._previous is None else now - self._previous
        self._previous = now
        snapshots = [self._host_sample(now, elapsed, cpu, memory)]
        answering = [snapshot for snapshot in gpus if snapshot.error is None]
        if answering or self._gpus:
            snapshots.append(self._gpu_sample(now, elapsed, pool(answering)))
        return tuple(snapshots)

    def _host_sample(
        self, now: float, elapsed: float, cpu: CpuSnapshot | None, memory: MemorySnapshot | None
    ) -> ResourceSnapshot:
        price = None if self._prices is None else self._prices.host_per_hour
        utilization = None if cpu is None else cpu.utilization
        self._host.add(price or 0.0, elapsed, utilization)
        if utilization is not None and memory is not None:
            self._host_usage.observe(now, utilization, memory.utilization)
        demand = self._demand(self._host_usage)
        advice = None
        if demand is not None and cpu is not None:
            advice = advise_host(demand, cpu.cores, self._rule)
        return self._snapshot("host", price, self._host, self._host_usage, demand, advice)

    def _gpu_sample(self, now: float, elapsed: float, gpus: GpuPool) -> ResourceSnapshot:
        # GPUs that the driver does not list at the moment are still paid for.
        self._gpus = gpus.gpus or self._gpus
        per_gpu = None if self._prices is None else self._prices.gpu_per_hour
        for index in range(self._gpus):
            utilization = gpus.utilizations[index] if index < gpus.gpus else None
            self._gpu.add(per_gpu or 0.0, elapsed, utilization)
        if gpus.utilization is not None and gpus.memory is not None:
            self._gpu_usage.observe(now, gpus.utilization, gpus.memory)
        demand = self._demand(self._gpu_usage)
        advice = advise_gpus(demand, self._gpus, self._rule) if demand is not None and self._gpus else None
        price = None if per_gpu is None else per_gpu * self._gpus
        return self._snapshot("gpu", price, self._gpu, self._gpu_usage, demand, advice)

    def _demand(self, usage: _Usage) -> Demand | None:
        observed = usage.utilization.count * self._interval
        if not observed or observed < self._rule.min_observed:
            return None
        return Demand(usage.utilization.quantile(0.95), usage.memory.maximum)

    def _snapshot(
        self,
        resource: str,
        price: float | None,
        meter: Meter,
        usage: _Usage,
        demand: Demand | None,
        advice: Advice | None,
    ) -> ResourceSnapshot:
        observed = usage.utilization.count * self._interval
        cost, idle = (None, None) if price is None else (meter.total, meter.idle)
        return ResourceSnapshot(resource, price, cost, idle, observed, demand, advice)


def _currency(prices: CostSettings | None) -> str:
    return "" if prices is None else prices.currency


class CostCollector:
    """Samples of the latest cost and advice; nothing of a resource that is not there or has no price."""

    name = "cost"
    about = "cost, idle cost and advice on the right size"
    by_default = True

    def __init__(self, published: Published[tuple[ResourceSnapshot, ...]], currency: str) -> None:
        self._published = published
        priced = [(resource, currency) for resource in RESOURCES]
        plain = [(resource,) for resource in RESOURCES]
        self._rows: tuple[tuple[Rows, Callable[[ResourceSnapshot], float | None]], ...] = (
            (Rows(catalogue.COMPUTE_COST_PER_HOUR, priced), lambda it: it.price_per_hour),
            (Rows(catalogue.COMPUTE_COST, priced), lambda it: it.cost),
            (Rows(catalogue.COMPUTE_IDLE_COST, priced), lambda it: it.idle_cost),
            (Rows(catalogue.COMPUTE_ADVICE_SAVING_PER_HOUR, priced), lambda it: it.saving_per_hour),
            (
                Rows(catalogue.COMPUTE_ADVICE_CAPACITY_RATIO, plain),
                lambda it: it.advice.capacity_ratio if it.advice else None,
            ),
            (
                Rows(catalogue.COMPUTE_ADVICE_UTILIZATION_P95_RATIO, plain),
                lambda it: it.demand.utilization_p95 if it.demand else None,
            ),
            (
                Rows(catalogue.COMPUTE_ADVICE_MEMORY_MAX_RATIO, plain),
                lambda it: it.demand.memory_max if it.demand else None,
            ),
            (Rows(catalogue.COMPUTE_ADVICE_OBSERVED_SECONDS, plain), lambda it: it.observed_seconds),
        )
        self._advice = Rows(catalogue.COMPUTE_ADVICE, [(name, action) for name in RESOURCES for action in ACTIONS])

    def collect(self, now: float) -> Iterable[Samples]:
        """Return the latest sample. Raises what prevented it."""
        snapshots = self._published.get()
        if snapshots is None:
            return
        by_resource = {snapshot.resource: snapshot for snapshot in snapshots}
        present = [by_resource.get(resource) for resource in RESOURCES]
        for rows, value_of in self._rows:
            yield _samples(rows, [None if snapshot is None else value_of(snapshot) for snapshot in present])
        yield _samples(
            self._advice,
            [
                None if snapshot is None or snapshot.advice is None else float(snapshot.advice.action == action)
                for snapshot in present
                for action in ACTIONS
            ],
        )


def _samples(rows: Rows, values: Sequence[float | None]) -> Samples:
    return Samples(rows, np.array(values, dtype=np.float64))
