import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_exporter.compute.advice import Advice, Demand, advise_gpus, advise_host
from mlops_exporter.compute.cost import CostCollector, CostSampler, Meter, ResourceSnapshot, pool
from mlops_exporter.compute.cpu import CpuSnapshot
from mlops_exporter.compute.gpu import GpuIdentity, GpuProcess, GpuReading, GpuSampler, GpuShare, GpuSnapshot, share_of
from mlops_exporter.compute.memory import MemorySnapshot
from mlops_exporter.compute.snapshots import Published
from mlops_exporter.compute.usage import UsageWindow
from mlops_exporter.settings.compute import AdviceSettings, CostSettings
from tests.series import collect

RULE = AdviceSettings()
PRICES = CostSettings(currency="EUR", host_per_hour=3.6, gpu_per_hour=7.2)


def cpu(utilization: float | None, cores: float = 8) -> CpuSnapshot:
    return CpuSnapshot(cores, 0.0, utilization, (), None, (0.0, 0.0, 0.0))


def memory(used: int) -> MemorySnapshot:
    return MemorySnapshot(used, 100, ())


def gpus(*utilizations: float | None, used: int = 10) -> GpuSnapshot:
    readings = [
        GpuReading(GpuIdentity(str(i), f"G{i}"), utilization=u, memory_used=used, memory_total=100)
        for i, u in enumerate(utilizations)
    ]
    return GpuSnapshot("nvidia", None, "1", tuple(readings), ({},) * len(readings))


# The documented rule.


@pytest.mark.parametrize(
    ("cpu_p95", "memory_max", "cores", "advice"),
    [
        (0.60, 0.50, 8, Advice("keep", 1.0)),
        (0.36, 0.20, 8, Advice("keep", 1.0)),  # half of it would run at 0.72
        (0.35, 0.20, 8, Advice("scale_down", 0.5)),
        (0.10, 0.20, 8, Advice("scale_down", 0.25)),  # a quarter: CPU 0.4, memory 0.8
        (0.10, 0.22, 8, Advice("scale_down", 0.5)),  # a quarter would hold 0.88 of memory
        (0.01, 0.01, 8, Advice("scale_down", 0.125)),  # never below one core
        (0.01, 0.01, 1, Advice("keep", 1.0)),
        (0.01, 0.01, 1.5, Advice("keep", 1.0)),
        (0.85, 0.50, 8, Advice("keep", 1.0)),
        (0.86, 0.50, 8, Advice("scale_out", 2.0)),
        (0.20, 0.90, 8, Advice("scale_out", 2.0)),
        (1.00, 0.10, 8, Advice("scale_out", 2.0)),
    ],
)
def test_host_rule(cpu_p95: float, memory_max: float, cores: float, advice: Advice) -> None:
    assert advise_host(Demand(cpu_p95, memory_max), cores, RULE) == advice


@pytest.mark.parametrize(
    ("p95", "memory_max", "count", "advice"),
    [
        (0.125, 0.1, 8, Advice("scale_down", 2 / 8)),  # one of eight busy: ceil(1 / 0.7) = 2
        (0.50, 0.1, 8, Advice("scale_down", 6 / 8)),
        (0.70, 0.1, 8, Advice("keep", 1.0)),
        (0.84, 0.1, 8, Advice("keep", 1.0)),  # above the target, but not yet too little
        (0.90, 0.1, 8, Advice("scale_out", 11 / 8)),
        (0.86, 0.1, 1, Advice("scale_out", 2.0)),
        (0.05, 0.9, 8, Advice("keep", 1.0)),  # full memory keeps it
        (0.05, 0.4, 8, Advice("scale_down", 4 / 8)),
        (0.00, 0.0, 1, Advice("keep", 1.0)),  # never below one
    ],
)
def test_gpu_rule(p95: float, memory_max: float, count: int, advice: Advice) -> None:
    assert advise_gpus(Demand(p95, memory_max), count, RULE) == advice


ratio = st.floats(0, 1)


@given(ratio, ratio, st.integers(1, 256))
def test_following_the_host_advice_is_enough_and_settles(p95: float, memory_max: float, cores: int) -> None:
    advice = advise_host(Demand(p95, memory_max), cores, RULE)
    after = Demand(min(p95 / advice.capacity_ratio, 1), min(memory_max / advice.capacity_ratio, 1))
    assert max(after.utilization_p95, after.memory_max) <= RULE.scale_out_above
    assert advise_host(after, cores * advice.capacity_ratio, RULE).action == "keep"


@given(ratio, ratio, st.integers(1, 64))
def test_following_the_gpu_advice_settles(p95: float, memory_max: float, count: int) -> None:
    advice = advise_gpus(Demand(p95, memory_max), count, RULE)
    fewer = round(count * advice.capacity_ratio)
    assert fewer >= 1
    after = Demand(p95 * count / fewer, memory_max * count / fewer)
    assert advise_gpus(after, fewer, RULE).action == "keep"


def test_saving_is_negative_where_it_costs_more() -> None:
    assert Advice("scale_down", 0.25).saving_per_hour(4.0) == 3.0
    assert Advice("keep", 1.0).saving_per_hour(4.0) == 0.0
    assert Advice("scale_out", 2.0).saving_per_hour(4.0) == -4.0


# The window that it rests on.


def test_window_forgets_what_has_left_it() -> None:
    window = UsageWindow(2400.0)  # panes of 100 s
    for second in range(100):
        window.observe(float(second), 1.0)
    for second in range(100, 2400):
        window.observe(float(second), 0.1)
    assert (window.count, window.maximum) == (2400, 1.0)
    assert window.mean == pytest.approx((100 + 230) / 2400)
    window.observe(2400.0, 0.1)
    assert (window.count, window.maximum) == (2301, 0.1)
    assert window.mean == pytest.approx(0.1)


def test_quantile_agrees_with_numpy_to_a_hundredth() -> None:
    generator = random.Random(7)
    values = [generator.betavariate(2, 5) for _ in range(5000)]
    window = UsageWindow(86_400.0)
    for second, value in enumerate(values):
        window.observe(float(second), value)
    for q in (0.5, 0.95, 0.99):
        assert window.quantile(q) == pytest.approx(np.quantile(values, q), abs=0.01)
    assert window.quantile(1.0) == max(values)


def test_a_window_without_observations_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="no observation"):
        UsageWindow(60.0).quantile(0.5)


# Cost.


def test_the_documented_example_of_idle_cost() -> None:
    meter = Meter()
    for _ in range(3600):
        meter.add(2.50, 1.0, 0.30)
    assert meter.total == pytest.approx(2.50)
    assert meter.idle == pytest.approx(1.75)


def test_unknown_utilization_costs_and_is_not_called_idle() -> None:
    meter = Meter()
    meter.add(3600.0, 1.0, None)
    assert (meter.total, meter.idle) == (1.0, 0.0)


def run(sampler: CostSampler, seconds: int, *args: object) -> tuple[ResourceSnapshot, ...]:
    for second in range(seconds):
        snapshots = sampler.sample(float(second), *args)  # type: ignore[arg-type]
    return snapshots


def test_host_and_gpus_are_metered_apart() -> None:
    sampler = CostSampler(PRICES, RULE, 1.0)
    host, gpu = run(sampler, 1001, cpu(0.25), memory(20), [gpus(1.0, 0.5, None)])
    assert (host.price_per_hour, host.cost, host.idle_cost) == pytest.approx((3.6, 1.0, 0.75))
    assert gpu.price_per_hour == pytest.approx(21.6)
    assert gpu.cost == pytest.approx(6.0)
    assert gpu.idle_cost == pytest.approx(1.0), "half of the second GPU; of the third nothing is known"


class _Garbage:
    """A driver of one GPU that says `values` one after the other."""

    vendor = "acme"

    def __init__(self, *values: object) -> None:
        self._values = list(values)

    def open(self) -> str:
        return "1"

    def read(self) -> list[GpuReading]:
        value = self._values.pop(0)
        return [GpuReading(GpuIdentity("0", ""), utilization=value, memory_used=1, memory_total=100)]  # type: ignore[arg-type]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("garbage", [42949672.95, -0.01, math.nan, math.inf, "busy"])
def test_garbage_of_any_driver_is_no_idle_money(garbage: object) -> None:
    driver = GpuSampler(_Garbage(0.5, garbage, 0.5))
    sampler = CostSampler(PRICES, RULE, 1.0)
    for second in range(3):
        _, gpu = sampler.sample(second * 1000.0, cpu(0.5), memory(1), [driver.sample(float(second))])
    assert (gpu.cost, gpu.idle_cost) == pytest.approx((4.0, 1.0)), "of the second sample nothing is known"


def test_gpus_of_a_driver_that_is_down_are_still_paid() -> None:
    sampler = CostSampler(PRICES, RULE, 1.0)
    sampler.sample(0.0, cpu(0.5), memory(1), [gpus(1.0, 1.0)])
    _, gpu = sampler.sample(1000.0, cpu(0.5), memory(1), [GpuSnapshot("nvidia", "driver_not_loaded")])
    assert (gpu.cost, gpu.idle_cost) == pytest.approx((4.0, 0.0))


def test_without_gpus_there_is_no_gpu_cost() -> None:
    snapshots = CostSampler(PRICES, RULE, 1.0).sample(0.0, cpu(None), memory(1), [GpuSnapshot("nvidia", "x")])
    assert [snapshot.resource for snapshot in snapshots] == ["host"]


def test_advice_waits_until_enough_was_observed() -> None:
    sampler = CostSampler(PRICES, AdviceSettings.model_validate({"window": "1h", "min_observed": "60s"}), 1.0)
    host, gpu = run(sampler, 59, cpu(0.1), memory(10), [gpus(0.1, 0.1)])
    assert (host.advice, host.demand, gpu.advice, host.observed_seconds) == (None, None, None, 59.0)
    host, gpu = sampler.sample(60.0, cpu(0.1), memory(10), [gpus(0.1, 0.1)])
    assert host.advice == Advice("scale_down", 0.25)
    assert host.saving_per_hour == pytest.approx(2.7)
    assert gpu.advice == Advice("scale_down", 0.5)
    assert gpu.saving_per_hour == pytest.approx(7.2)


def test_series() -> None:
    sampler = CostSampler(PRICES, AdviceSettings.model_validate({"window": "1h", "min_observed": "1s"}), 1.0)
    published = Published[tuple[ResourceSnapshot, ...]](60)
    published.put(run(sampler, 11, cpu(0.3), memory(10), []))
    assert collect([CostCollector(published, "EUR")]) == pytest.approx(
        {
            'ml_compute_cost_per_hour{resource="host",currency="EUR"}': 3.6,
            'ml_compute_cost_total{resource="host",currency="EUR"}': 0.01,
            'ml_compute_idle_cost_total{resource="host",currency="EUR"}': 0.007,
            'ml_compute_advice{resource="host",advice="scale_down"}': 1,
            'ml_compute_advice{resource="host",advice="keep"}': 0,
            'ml_compute_advice{resource="host",advice="scale_out"}': 0,
            'ml_compute_advice_capacity_ratio{resource="host"}': 0.5,
            'ml_compute_advice_saving_per_hour{resource="host",currency="EUR"}': 1.8,
            'ml_compute_advice_utilization_p95_ratio{resource="host"}': 0.3,
            'ml_compute_advice_memory_max_ratio{resource="host"}': 0.1,
            'ml_compute_advice_observed_seconds{resource="host"}': 11,
        }
    )


def test_without_prices_there_is_advice_and_no_cost() -> None:
    sampler = CostSampler(None, AdviceSettings.model_validate({"window": "1h", "min_observed": "1s"}), 1.0)
    published = Published[tuple[ResourceSnapshot, ...]](60)
    published.put(run(sampler, 3, cpu(0.3), memory(10), []))
    found = collect([CostCollector(published, "")])
    assert found['ml_compute_advice{resource="host",advice="scale_down"}'] == 1
    assert not [name for name in found if "cost" in name or "saving" in name]


def test_a_pool_is_unknown_unless_every_gpu_is_known_and_mig_is_not_counted_twice() -> None:
    assert pool([gpus(0.2, 0.4)]).utilization == pytest.approx(0.3)
    assert pool([gpus(0.2, None)]).utilization is None
    instance = GpuReading(GpuIdentity("0", "MIG-1", "0"), memory_used=1, memory_total=10)
    whole = GpuReading(GpuIdentity("0", "G0"), utilization=0.2, memory_used=1, memory_total=10)
    both = pool([GpuSnapshot("nvidia", None, "1", (whole, instance), ({}, {}))])
    assert (both.gpus, both.memory) == (1, 0.1)
    assert pool([]).utilization is None


# GPU shares of workloads.


def test_share_sums_memory_and_averages_over_the_gpus_used() -> None:
    def reading(*processes: GpuProcess) -> GpuReading:
        return GpuReading(GpuIdentity("0", "G"), processes=processes)

    first = reading(GpuProcess(1, 100, 0.2), GpuProcess(2, 50, 0.3), GpuProcess(9, 7, 0.5))
    second = reading(GpuProcess(1, 10, 1.0))
    third = reading(GpuProcess(9, 1, 1.0))
    share = share_of({1, 2}, [first, second, third])
    assert share.memory_bytes == 160
    assert share.utilization is not None
    assert math.isclose(share.utilization, 0.75)
    assert share_of({5}, [first]) == GpuShare(0, None)
    assert share_of(set(), [first]) == GpuShare(None, None)
    assert share_of({1}, [GpuReading(GpuIdentity("0", "G"))]) == GpuShare(None, None)
    assert share_of({1}, [reading(GpuProcess(1, None))]) == GpuShare(None, None)


def test_a_successor_goes_on_by_other_prices() -> None:
    sampler = CostSampler(PRICES, RULE, 1.0)
    run(sampler, 1001, cpu(0.25), memory(20), [])
    dearer = CostSettings.model_validate({"currency": PRICES.currency, "host_per_hour": 36})
    following = sampler.successor(dearer, RULE)
    (host,) = following.sample(1100.0, cpu(1.0), memory(20), [])
    assert (host.cost, host.idle_cost) == pytest.approx((2.0, 0.75))
    assert host.observed_seconds == 1002
    (host,) = sampler.sample(1100.0, cpu(1.0), memory(20), [])
    assert host.cost == pytest.approx(1.1), "the former goes on by itself"


def test_a_successor_does_not_add_up_two_currencies_or_two_windows() -> None:
    sampler = CostSampler(PRICES, RULE, 1.0)
    run(sampler, 1001, cpu(0.25), memory(20), [])
    francs = CostSettings.model_validate({"currency": "CHF", "host_per_hour": 36})
    rule = AdviceSettings.model_validate({"window": "2h"})
    (host,) = sampler.successor(francs, rule).sample(1100.0, cpu(0.5), memory(20), [])
    assert (host.cost, host.observed_seconds) == pytest.approx((1.0, 1))
