"""What a GPU really does, from NVIDIA's GPM (GPU performance monitoring; Hopper and later).

NVML's utilisation is the share of time in which any kernel ran: one thread on one multiprocessor makes it 100 %. GPM
counts on the multiprocessors themselves. A figure is of the time between two samples, so that the first gives none.

Source: NVIDIA's NVML reference, "GPM functions" and "GPM enums".
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynvml
from pynvml import NVMLError

_METRICS = {
    "sm_activity": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "sm_occupancy": pynvml.NVML_GPM_METRIC_SM_OCCUPANCY,
    "tensor_activity": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    "memory_bandwidth": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
}
"""A reading's field, and GPM's metric in percent."""

_MOST_PERCENT = 101.0
"""Busy and elapsed cycles are read a moment apart, so that a full load may come out a little above 100 %."""


def supported(handle: Any) -> None:
    """Raise NVMLError, not supported, for a GPU before Hopper."""
    if not pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
        raise NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


class Counters:
    """The last sample of one GPU or instance, and room for the next. Raises NVMLError where there is no room."""

    def __init__(self) -> None:
        self._last = pynvml.nvmlGpmSampleAlloc()
        try:
            self._next = pynvml.nvmlGpmSampleAlloc()
        except NVMLError:
            pynvml.nvmlGpmSampleFree(self._last)
            raise
        self._begun = False
        self._question = pynvml.c_nvmlGpmMetricsGet_t()
        self._question.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        self._question.numMetrics = len(_METRICS)
        self._answers = [(name, self._question.metrics[place]) for place, name in enumerate(_METRICS)]
        for (_, answer), metric in zip(self._answers, _METRICS.values(), strict=True):
            answer.metricId = metric

    def read(self, take: Callable[[Any], Any]) -> dict[str, float]:
        """Take a sample with `take` and return the ratios since the last one, {} at first. Raises NVMLError."""
        try:
            take(self._next)
        except NVMLError:
            self._begun = False  # a figure over the gap would say nothing of now
            raise
        begun, self._begun = self._begun, True
        self._last, self._next = self._next, self._last
        if not begun:
            return {}
        self._question.sample1, self._question.sample2 = self._next, self._last
        pynvml.nvmlGpmMetricsGet(self._question)
        return {
            name: _ratio(answer.value) for name, answer in self._answers if answer.nvmlReturn == pynvml.NVML_SUCCESS
        }

    def free(self) -> None:
        """Give the room back, while the library is loaded."""
        for sample in (self._last, self._next):
            with suppress(NVMLError):
                pynvml.nvmlGpmSampleFree(sample)


def _ratio(percent: float) -> float:
    return 1.0 if 100.0 < percent <= _MOST_PERCENT else percent / 100.0
