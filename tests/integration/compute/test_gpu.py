"""The real pynvml on a fake libnvidia-ml.so.1."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.support.fake_gpu import A100, H200, Machine, build_library

GPU0 = 'gpu="0",uuid="GPU-0000",mig=""'
GPU1 = 'gpu="1",uuid="GPU-0001",mig=""'


def of(gpu: str, found: dict[str, float]) -> dict[str, float]:
    """Return the series of one GPU, without its labels."""
    return {name.replace(gpu, "").replace("{,", "{"): value for name, value in found.items() if gpu in name}


def test_everything_a_gpu_gives_becomes_series_in_base_units(machine: Machine) -> None:
    machine.set({**A100, "count": 1, "0.throttle": 0x04 | 0x40}, "0.process 71 1073741824 30", "0.process 72 5 0")
    found = machine.sample(0.0)
    assert found['ml_gpu_driver_up{vendor="nvidia"}'] == 1
    expected = {
        "ml_gpu_up{}": 1.0,
        'ml_gpu_info{vendor="nvidia",name="NVIDIA A100-SXM4-80GB",driver_version="550.54.15",'
        'pci_bus_id="00000000:01:00.0"}': 1.0,
        "ml_gpu_utilization_ratio{}": 0.5,
        "ml_gpu_memory_utilization_ratio{}": 0.2,
        "ml_gpu_memory_used_bytes{}": float(20 << 30),
        "ml_gpu_memory_total_bytes{}": float(80 << 30),
        "ml_gpu_power_watts{}": 250.5,
        "ml_gpu_power_limit_watts{}": 400.0,
        "ml_gpu_energy_joules_total{}": 7000.123,
        "ml_gpu_temperature_celsius{}": 61.0,
        'ml_gpu_clock_hertz{clock="sm"}': 1.41e9,
        'ml_gpu_clock_hertz{clock="memory"}': 1.593e9,
        'ml_gpu_throttled{reason="sw_power_cap"}': 1.0,
        'ml_gpu_throttled{reason="hw_slowdown"}': 0.0,
        'ml_gpu_throttled{reason="sync_boost"}': 0.0,
        'ml_gpu_throttled{reason="sw_thermal_slowdown"}': 0.0,
        'ml_gpu_throttled{reason="hw_thermal_slowdown"}': 1.0,
        'ml_gpu_throttled{reason="hw_power_brake_slowdown"}': 0.0,
        'ml_gpu_ecc_errors_total{type="corrected"}': 3.0,
        'ml_gpu_ecc_errors_total{type="uncorrected"}': 0.0,
        'ml_gpu_pcie_bytes_total{direction="receive"}': 2000.0,
        'ml_gpu_pcie_bytes_total{direction="transmit"}': 1000.0,
        'ml_gpu_nvlink_bytes_total{direction="receive"}': 4096.0,
        'ml_gpu_nvlink_bytes_total{direction="transmit"}': 3072.0,
        'ml_gpu_process_memory_bytes{pid="71"}': float(1 << 30),
        'ml_gpu_process_memory_bytes{pid="72"}': 5.0,
    }
    plain = {name: value for name, value in of(GPU0, found).items() if not name.startswith("ml_gpu_utilization_")}
    assert plain == pytest.approx({k: v for k, v in expected.items() if k != "ml_gpu_utilization_ratio{}"})
    assert found[f"ml_gpu_utilization_ratio{{{GPU0}}}"] == 0.5


def test_a_peak_between_two_scrapes_stays_in_the_histogram(machine: Machine) -> None:
    for second, percent in enumerate((5, 97, 5)):
        machine.set({**A100, "count": 1, "0.utilization": percent})
        found = machine.sample(float(second))
    assert found[f"ml_gpu_utilization_ratio{{{GPU0}}}"] == 0.05
    assert found[f'ml_gpu_utilization_bucket{{{GPU0},le="0.1"}}'] == 2
    assert found[f'ml_gpu_utilization_bucket{{{GPU0},le="0.9"}}'] == 2
    assert found[f'ml_gpu_utilization_bucket{{{GPU0},le="1.0"}}'] == 3
    assert found[f"ml_gpu_utilization_sum{{{GPU0}}}"] == pytest.approx(1.07)


def test_mig_instances_have_their_own_memory_and_processes(machine: Machine) -> None:
    machine.set(
        {
            **A100,
            "count": 2,
            "0.mig": 2,
            "0.utilization.error": 3,
            "*.*.name": "NVIDIA A100 MIG 3g.40gb",
            "*.*.memory_total": 40 << 30,
            "0.0.memory_used": 1 << 30,
            "0.1.memory_used": 2 << 30,
        },
        "0.process 99 4096",
        "0.1.process 99 4096",
    )
    found = machine.sample(0.0)
    first, second = 'gpu="0",uuid="MIG-0000-0",mig="0"', 'gpu="0",uuid="MIG-0000-1",mig="1"'
    assert found[f"ml_gpu_memory_used_bytes{{{first}}}"] == 1 << 30
    assert found[f"ml_gpu_memory_used_bytes{{{second}}}"] == 2 << 30
    assert found[f'ml_gpu_process_memory_bytes{{{second},pid="99"}}'] == 4096
    assert f'ml_gpu_process_memory_bytes{{{GPU0},pid="99"}}' not in found, "the same bytes would count twice"
    assert f"ml_gpu_utilization_ratio{{{GPU0}}}" not in found
    assert found[f'ml_gpu_field_unavailable{{{GPU0},field="utilization",reason="not_supported"}}'] == 1
    assert found[f"ml_gpu_utilization_ratio{{{GPU1}}}"] == 0.5

    machine.set({**A100, "count": 2})
    found = machine.sample(1.0)
    assert not [name for name in found if "MIG-" in name], "instances that are gone leave no series"


def test_an_unsupported_field_costs_only_itself_and_says_why(machine: Machine) -> None:
    machine.set({**A100, "count": 1, "0.power.error": 3, "0.ecc_corrected.error": 4, "0.nvlink_received.error": 3})
    found = machine.sample(0.0)
    gone = {
        f"ml_gpu_power_watts{{{GPU0}}}",
        f'ml_gpu_ecc_errors_total{{{GPU0},type="corrected"}}',
        f'ml_gpu_nvlink_bytes_total{{{GPU0},direction="receive"}}',
    }
    assert not gone & found.keys()
    reasons = {name for name in found if name.startswith("ml_gpu_field_unavailable")}
    assert reasons == {
        f'ml_gpu_field_unavailable{{{GPU0},field="power",reason="not_supported"}}',
        f'ml_gpu_field_unavailable{{{GPU0},field="ecc_corrected",reason="no_permission"}}',
        f'ml_gpu_field_unavailable{{{GPU0},field="nvlink_received",reason="not_supported"}}',
    }
    assert found[f"ml_gpu_temperature_celsius{{{GPU0}}}"] == 61
    assert found[f"ml_gpu_up{{{GPU0}}}"] == 1


def test_a_lost_gpu_costs_only_itself_and_comes_back(machine: Machine) -> None:
    machine.set({**A100, "count": 2})
    machine.sample(0.0)
    machine.set({**A100, "count": 2, "1.lost": 15})
    for second in range(1, 10):  # long enough for the library to be opened again
        found = machine.sample(float(second))
        if 'ml_gpu_driver_up{vendor="nvidia"}' in found and found['ml_gpu_driver_up{vendor="nvidia"}'] == 1:
            assert of(GPU1, found) == {
                "ml_gpu_up{}": 0.0,
                'ml_gpu_field_unavailable{field="all",reason="gpu_is_lost"}': 1.0,
                **{name: value for name, value in of(GPU1, found).items() if name.startswith("ml_gpu_info")},
            }
            assert found[f"ml_gpu_power_watts{{{GPU0}}}"] == 250.5
    machine.set({**A100, "count": 2})
    found = machine.sample(200.0)
    assert found[f"ml_gpu_up{{{GPU1}}}"] == 1
    assert found[f"ml_gpu_power_watts{{{GPU1}}}"] == 250.5


def test_a_gpu_missing_from_the_count_is_reported_as_down(machine: Machine) -> None:
    machine.set({**A100, "count": 2})
    machine.sample(0.0)
    machine.set({**A100, "count": 1, "1.lost": 15})
    assert machine.sample(1.0)[f"ml_gpu_up{{{GPU1}}}"] == 0


def test_a_driver_that_returns_with_fewer_gpus_leaves_no_series_of_the_rest(machine: Machine) -> None:
    machine.set({**A100, "count": 2})
    machine.sample(0.0)
    machine.set({**A100, "count": 2, "count.error": 9, "init.error": 9})
    machine.sample(1.0)
    machine.set({**A100, "count": 1})
    assert not [name for name in machine.sample(100.0) if GPU1 in name]


def test_a_driver_that_goes_and_returns_with_another_library_is_followed(machine: Machine, tmp_path: Path) -> None:
    machine.set({**A100, "count": 1})
    machine.sample(0.0)
    machine.set({**A100, "count": 1, "count.error": 9, "init.error": 9})
    answer = machine.ask(sample=1.0)
    assert answer["series"] == {
        'ml_gpu_driver_up{vendor="nvidia"}': 0.0,
        'ml_gpu_driver_error{vendor="nvidia",error="driver_not_loaded"}': 1.0,
    }
    assert answer["log"] == ["WARNING NVIDIA driver does not answer: driver_not_loaded"]
    assert machine.ask(sample=60.0)["log"] == [], "one line for one change"

    build_library(tmp_path, "-DOLD_DRIVER")  # as an update replaces the library on disk: this one differs visibly
    machine.set({**A100, "count": 1, "driver": "570.10"})
    answer = machine.ask(sample=200.0)
    assert answer["log"] == ["INFO NVIDIA driver 570.10 answers"]
    assert 'driver_version="570.10"' in next(name for name in answer["series"] if name.startswith("ml_gpu_info"))
    assert f"ml_gpu_energy_joules_total{{{GPU0}}}" not in answer["series"], "the library on disk was not loaded"
    assert answer["series"][f"ml_gpu_utilization_count{{{GPU0}}}"] == 2, "the histogram goes on"


def test_a_name_that_is_not_text_costs_only_its_letters(machine: Machine) -> None:
    broken = "Tesla \udcff\udcfe"  # two bytes that are not UTF-8
    machine.set({**A100, "count": 2, "1.name": broken, "driver": f"550 {broken}"})
    answer = machine.ask(sample=0.0)
    found = answer["series"]
    assert found[f"ml_gpu_power_watts{{{GPU0}}}"] == 250.5
    assert found[f"ml_gpu_power_watts{{{GPU1}}}"] == 250.5
    assert [name for name in found if name.startswith("ml_gpu_info") and 'name="Tesla \ufffd\ufffd"' in name]


def test_a_uuid_that_is_not_text_still_tells_the_gpus_apart(machine: Machine) -> None:
    machine.set({**A100, "count": 2, "0.uuid": "GPU-\udcff", "1.uuid": "GPU-\udcff", "1.utilization": 90})
    machine.sample(0.0)
    found = machine.sample(1.0)
    assert found['ml_gpu_utilization_ratio{gpu="0",uuid="GPU-\ufffd",mig=""}'] == 0.5
    assert found['ml_gpu_utilization_ratio{gpu="1",uuid="GPU-\ufffd",mig=""}'] == 0.9


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_processes_of_a_driver_that_writes_longer_entries(tmp_path: Path, processes: int) -> None:
    build_library(tmp_path, "-DLONG_PROCESS")
    machine = Machine(tmp_path)
    expected = {pid: pid * 4096 for pid in range(71, 71 + processes)}
    machine.set({**A100, "count": 1}, *(f"0.process {pid} {held} 30" for pid, held in expected.items()))
    found = machine.sample(0.0)
    machine.close()
    prefix = f"ml_gpu_process_memory_bytes{{{GPU0},pid="
    assert {name: value for name, value in found.items() if name.startswith(prefix)} == {
        f'{prefix}"{pid}"}}': held for pid, held in expected.items()
    }
    assert not [name for name in found if "dropped" in name]


@pytest.mark.parametrize("garbage", [4294967295, -1, 101])
def test_an_impossible_value_is_dropped_and_counted_and_the_rest_goes_on(machine: Machine, garbage: int) -> None:
    machine.set({**A100, "count": 2})
    machine.sample(0.0)
    machine.set({**A100, "count": 2, "1.utilization": garbage})
    found = machine.sample(1.0)
    assert f"ml_gpu_utilization_ratio{{{GPU1}}}" not in found
    assert found[f'ml_gpu_field_unavailable{{{GPU1},field="utilization",reason="impossible"}}'] == 1
    assert found[f'ml_gpu_values_dropped_total{{{GPU1},field="utilization"}}'] == 1
    assert found[f"ml_gpu_power_watts{{{GPU1}}}"] == 250.5
    assert found[f"ml_gpu_utilization_ratio{{{GPU0}}}"] == 0.5
    machine.set({**A100, "count": 2})
    found = machine.sample(2.0)
    assert found[f"ml_gpu_utilization_count{{{GPU1}}}"] == 2
    assert found[f"ml_gpu_utilization_sum{{{GPU1}}}"] == 1.0
    assert found[f'ml_gpu_values_dropped_total{{{GPU1},field="utilization"}}'] == 1


def test_garbage_in_every_field_leaves_no_trace(machine: Machine) -> None:
    fields = [
        *("utilization", "power", "power_limit", "energy", "temperature", "sm_clock", "memory_clock"),
        *("ecc_corrected", "ecc_uncorrected", "pcie_received", "nvlink_received", "throttle", "memory_used"),
    ]
    state = {**A100, "count": 1, **{f"0.{name}": -1 for name in fields}, "0.temperature": 4095}
    machine.set(state, "0.process 4294967290 5 30")
    found = of(GPU0, machine.sample(0.0))
    kept = {name for name in found if name.startswith("ml_gpu_") and not name.startswith("ml_gpu_values_dropped")}
    assert {name.partition("{")[0] for name in kept} == {
        "ml_gpu_up",
        "ml_gpu_info",
        "ml_gpu_field_unavailable",
        "ml_gpu_memory_utilization_ratio",
        "ml_gpu_memory_total_bytes",
        "ml_gpu_pcie_bytes_total",
        "ml_gpu_nvlink_bytes_total",
    }
    assert {found[name] for name in kept if "nvlink_bytes" in name} == {3072.0}, "of the other direction"
    dropped = [name for name in found if name.startswith("ml_gpu_values_dropped")]
    assert len(dropped) == len(fields), "throttle is unreadable, not a number too large; a process is dropped besides"


def test_an_impossible_number_of_gpus_is_a_driver_that_does_not_answer(machine: Machine) -> None:
    machine.set({**A100, "count": 4_000_000_000})
    found = machine.sample(0.0)
    assert found['ml_gpu_driver_error{vendor="nvidia",error="unreadable"}'] == 1


def test_an_old_driver_lacks_symbols_not_series(tmp_path: Path) -> None:
    build_library(tmp_path, "-DOLD_DRIVER")
    machine = Machine(tmp_path)
    machine.set({**A100, "count": 1, "0.throttle": 4}, "0.process 71 4096 30")
    found = machine.sample(0.0)
    machine.close()
    assert found[f'ml_gpu_process_memory_bytes{{{GPU0},pid="71"}}'] == 4096
    assert found[f"ml_gpu_temperature_celsius{{{GPU0}}}"] == 61
    assert found[f"ml_gpu_memory_used_bytes{{{GPU0}}}"] == 20 << 30
    assert found[f'ml_gpu_throttled{{{GPU0},reason="sw_power_cap"}}'] == 1
    assert f"ml_gpu_energy_joules_total{{{GPU0}}}" not in found
    assert found[f'ml_gpu_field_unavailable{{{GPU0},field="energy",reason="function_not_found"}}'] == 1
    assert found[f'ml_gpu_field_unavailable{{{GPU0},field="links",reason="function_not_found"}}'] == 1


def test_xid_errors_are_counted_and_kept_over_a_reload(machine: Machine) -> None:
    machine.set({**A100, "count": 2})
    machine.sample(0.0)
    machine.set({**A100, "count": 2}, "1.xid 79 1", "1.xid 48 2", "1.xid 79 3")
    found = machine.sample(1.0)
    assert found[f'ml_gpu_xid_errors_total{{{GPU1},xid="79"}}'] == 2
    assert found[f'ml_gpu_xid_errors_total{{{GPU1},xid="48"}}'] == 1
    assert not [name for name in found if name.startswith("ml_gpu_xid") and GPU0 in name]
    assert not [name for name in found if 'field="xid"' in name]
    machine.set({**A100, "count": 2, "count.error": 9, "init.error": 9})
    machine.sample(2.0)
    machine.set({**A100, "count": 2})
    assert machine.sample(100.0)[f'ml_gpu_xid_errors_total{{{GPU1},xid="79"}}'] == 2


def test_a_gpu_without_xid_events_says_so(machine: Machine) -> None:
    machine.set({**A100, "count": 2, "1.events.error": 3})
    unavailable = [name for name in machine.sample(0.0) if name.startswith("ml_gpu_field_unavailable")]
    assert unavailable == [f'ml_gpu_field_unavailable{{{GPU1},field="xid",reason="not_supported"}}']


def test_without_a_driver_there_is_one_line_and_no_error(machine_without_driver: Machine, tmp_path: Path) -> None:
    machine = machine_without_driver
    answer = machine.ask(sample=0.0)
    absent = {
        'ml_gpu_driver_up{vendor="nvidia"}': 0.0,
        'ml_gpu_driver_error{vendor="nvidia",error="library_not_found"}': 1.0,
    }
    assert answer == {"series": absent, "log": ["INFO NVIDIA driver does not answer: library_not_found"]}
    for second in range(1, 130):
        assert machine.ask(sample=float(second)) == {"series": absent, "log": []}

    build_library(tmp_path)
    machine.set({**A100, "count": 1})
    assert machine.sample(300.0)[f"ml_gpu_up{{{GPU0}}}"] == 1, "a driver installed later is found"


def test_a_hanging_driver_stops_neither_cpu_sampling_nor_the_exporter(machine: Machine) -> None:
    machine.set({**A100, "count": 1})
    machine.ask(start={"interval": "100ms"})
    _wait_for(machine, f"ml_gpu_up{{{GPU0}}}")
    machine.set({**A100, "count": 1, "hang.ms": 60_000})
    time.sleep(0.3)
    before = machine.ask(scrape=True)["series"]["ml_compute_cpu_utilization_count"]
    time.sleep(0.5)
    assert machine.ask(scrape=True)["series"]["ml_compute_cpu_utilization_count"] >= before + 3
    assert machine.ask(stop=True)["seconds"] < 2
    machine.process.terminate()


def test_workloads_and_cost_have_their_share_of_the_gpus(machine: Machine) -> None:
    with subprocess.Popen(["sleep", "1000003"]) as process:
        machine.set(
            {**A100, "count": 2, "0.utilization": 100, "1.utilization": 0},
            f"0.process {process.pid} 1000 40",
            f"1.process {process.pid} 500 20",
            "1.process 1 7 80",
        )
        workloads = [{"name": "w", "phase": "training", "match": "sleep 1000003"}]
        prices = {"currency": "USD", "gpu_per_hour": 3600.0}
        machine.ask(start={"interval": "100ms", "workloads": workloads, "cost": prices})
        labels = '{workload="w",phase="training",pod_namespace="",pod_name=""}'
        try:
            _wait_for(machine, f"ml_workload_gpu_memory_bytes{labels}")
            time.sleep(0.5)
            found = machine.ask(scrape=True)["series"]
        finally:
            process.kill()
    assert found[f"ml_workload_gpu_memory_bytes{labels}"] == 1500
    assert found[f"ml_workload_gpu_utilization_ratio{labels}"] == pytest.approx(0.3)
    resource = '{resource="gpu",currency="USD"}'
    assert found[f"ml_compute_cost_per_hour{resource}"] == 7200
    assert found[f"ml_compute_cost_total{resource}"] > 0.8
    assert found[f"ml_compute_idle_cost_total{resource}"] == pytest.approx(
        found[f"ml_compute_cost_total{resource}"] / 2
    )
    time.sleep(0.4)
    left = machine.ask(scrape=True)["series"]
    machine.ask(stop=True)
    assert not [name for name in left if name.startswith("ml_workload_gpu")]


_LOADS = {  # what NVML calls busy, and what the multiprocessors do
    "idle": (0, 0, 0, 0),
    "memory-bound": (100, 85, 0, 92),
    "matrix": (100, 95, 71, 30),
    "one small kernel": (100, 1, 0, 0.5),
}


def test_loads_that_utilization_calls_the_same_are_told_apart(machine: Machine) -> None:
    means: dict[str, tuple[float, ...]] = {}
    names = ("sm_activity", "tensor_activity", "memory_bandwidth")
    series = [f"ml_gpu_{name}_sum{{{GPU0}}}" for name in names]
    before, now = [0.0] * len(names), 0
    for load, (utilization, *counters) in _LOADS.items():
        given = {f"0.{name}": percent for name, percent in zip(names, counters, strict=True)}
        machine.set({**H200, "count": 1, "0.utilization": utilization, **given})
        for _ in range(5):
            found = machine.sample(float(now))
            now += 1
        after = [found.get(name, 0.0) for name in series]
        samples = 4 if load == "idle" else 5  # the very first sets the baseline
        means[load] = tuple(round((b - a) / samples, 3) for a, b in zip(before, after, strict=True))
        before = after
    assert means == {load: tuple(round(p / 100, 3) for p in counters) for load, (_, *counters) in _LOADS.items()}
    assert found[f"ml_gpu_sm_occupancy_count{{{GPU0}}}"] == 19
    assert found[f"ml_gpu_utilization_count{{{GPU0}}}"] == 20


def test_a_gpu_without_gpm_is_as_it_was(machine: Machine) -> None:
    machine.set({**A100, "count": 1})
    for second in range(3):
        found = machine.sample(float(second))
    assert not [name for name in found if "gpm" in name or "sm_activity" in name or "tensor" in name]


def test_gpm_that_is_forbidden_costs_only_itself_and_says_why(machine: Machine) -> None:
    machine.set({**H200, "count": 1, "0.gpm.error": 4})
    machine.sample(0.0)
    found = machine.sample(1.0)
    assert found[f'ml_gpu_field_unavailable{{{GPU0},field="gpm",reason="no_permission"}}'] == 1
    assert found[f"ml_gpu_utilization_ratio{{{GPU0}}}"] == 0.5
    machine.set({**H200, "count": 1})
    machine.sample(2.0)
    assert machine.sample(3.0)[f"ml_gpu_sm_activity_sum{{{GPU0}}}"] == pytest.approx(0.4)


def test_impossible_activity_is_dropped_and_a_hair_above_full_is_full(machine: Machine) -> None:
    machine.set({**H200, "count": 2, "0.sm_activity": "nan", "1.sm_activity": 100.4})
    machine.sample(0.0)
    found = machine.sample(1.0)
    assert f"ml_gpu_sm_activity_sum{{{GPU0}}}" not in found
    assert found[f'ml_gpu_values_dropped_total{{{GPU0},field="sm_activity"}}'] == 1
    assert found[f"ml_gpu_sm_activity_sum{{{GPU1}}}"] == 1


def test_gpm_begins_anew_when_a_gpu_or_the_driver_comes_back(machine: Machine) -> None:
    machine.set({**H200, "count": 1})
    machine.sample(0.0)
    machine.sample(1.0)
    machine.set({**H200, "count": 1, "0.lost": 15})
    for second in range(2, 6):
        machine.sample(float(second))
    machine.set({**H200, "count": 1})
    for second in range(100, 104):
        found = machine.sample(float(second))
    assert found[f"ml_gpu_up{{{GPU0}}}"] == 1
    assert found[f"ml_gpu_sm_activity_count{{{GPU0}}}"] == 1 + 3


def _divided(*parts: tuple[int, float]) -> dict[str, object]:
    """A GPU in MIG mode, by slices and activity of its instances."""
    state: dict[str, object] = {**H200, "count": 1, "0.mig": len(parts), "0.utilization.error": 3}
    for place, (slices, percent) in enumerate(parts):
        state |= {f"0.{place}.memory_used": 1 << 30, f"0.{place}.memory_total": 40 << 30}
        state |= {f"0.{place}.slices": slices, f"0.{place}.sm_activity": percent}
    return state


def test_a_divided_gpu_is_as_busy_as_its_instances_by_their_slices(machine: Machine) -> None:
    machine.set(_divided((4, 50), (2, 25)))
    machine.sample(0.0)
    found = machine.sample(1.0)
    first, second = 'gpu="0",uuid="MIG-0000-0",mig="0"', 'gpu="0",uuid="MIG-0000-1",mig="1"'
    assert found[f"ml_gpu_sm_activity_sum{{{first}}}"] == pytest.approx(0.5)
    assert found[f"ml_gpu_sm_activity_sum{{{second}}}"] == pytest.approx(0.25)
    assert found[f"ml_gpu_sm_activity_sum{{{GPU0}}}"] == pytest.approx((4 * 0.5 + 2 * 0.25) / 7)

    machine.set({**_divided((4, 50), (4, 50)), "0.0.gpu_instance": 1, "0.1.gpu_instance": 1})
    machine.sample(2.0)
    before = machine.sample(3.0)[f"ml_gpu_sm_activity_sum{{{GPU0}}}"]
    after = machine.sample(4.0)[f"ml_gpu_sm_activity_sum{{{GPU0}}}"]
    assert after - before == pytest.approx(4 * 0.5 / 7), "two compute instances of one GPU instance count once"


@pytest.mark.parametrize(
    ("state", "settings", "idle"),
    [
        ({**H200, "count": 1, "0.utilization": 100, "0.sm_activity": 10}, {}, 0.9),
        ({**H200, "count": 1, "0.utilization": 100, "0.sm_activity": 10}, {"gpm": False}, 0.0),
        ({**A100, "count": 1, "0.utilization": 100}, {}, 0.0),
        (_divided((4, 50), (3, 0)), {}, 5 / 7),
    ],
)
def test_idle_cost_rests_on_what_the_gpu_really_does(
    machine: Machine, state: dict[str, object], settings: dict[str, object], idle: float
) -> None:
    machine.set(state)
    prices = {"currency": "USD", "gpu_per_hour": 3600.0}
    machine.ask(start={"interval": "100ms", "cost": prices, **settings})
    resource = '{resource="gpu",currency="USD"}'
    _wait_for(machine, f"ml_compute_cost_total{resource}")
    time.sleep(0.5)
    before = machine.ask(scrape=True)["series"]
    time.sleep(0.6)
    after = machine.ask(scrape=True)["series"]
    machine.ask(stop=True)
    cost, wasted = (
        after[f"ml_compute_{name}_total{resource}"] - before[f"ml_compute_{name}_total{resource}"]
        for name in ("cost", "idle_cost")
    )
    assert cost > 0
    assert wasted == pytest.approx(idle * cost, rel=1e-6, abs=1e-9)
    assert any("sm_activity" in name for name in after) == (settings == {} and "*.gpm" in state)


def _wait_for(machine: Machine, name: str) -> None:
    deadline = time.monotonic() + 5
    while name not in machine.ask(scrape=True)["series"]:
        assert time.monotonic() < deadline, f"no {name}"
        time.sleep(0.05)
