"""Single classes beside the reference: a mean over many classes hides that one of them got worse."""

import numpy as np

from mlops_exporter.arrays import Flags, Floats
from mlops_exporter.counting.reference import Reference
from mlops_exporter.judging import judge
from mlops_exporter.judging.dependence import Effects
from mlops_exporter.judging.judge import limit
from mlops_exporter.judging.performance import class_metrics_of, estimates
from mlops_exporter.statistics.discovery import discoveries
from mlops_exporter.statistics.slices import p_of_kept

_MICRO = "micro_"


class Classes:
    """Holds each class of a reference against its own value there.

    What may be lost of a metric of all classes (`max_drop`; of a micro average as of the metric itself) may be lost of
    it by each class. The value in the reference is taken for the lower end of its interval: a rare class may owe it to
    chance.
    """

    def __init__(self, reference: Reference) -> None:
        settings, profile = reference.settings, reference.profile
        self._layout, self._of_reference = reference.layout, profile.class_lower
        possible = class_metrics_of(reference.layout)
        drops = {
            name.removeprefix(_MICRO): benchmark.max_drop
            for name, benchmark in settings.benchmarks.items()
            if benchmark.max_drop is not None and name.removeprefix(_MICRO) in possible
        }
        self.metrics = {name: possible[name] for name in drops if self._of_reference}
        self.names = profile.classes
        self._bounds = np.array(
            [[self._of_reference.get(cls, {}).get(name, np.nan) - drops[name] for name in self.metrics]
             for cls in self.names]
        )  # fmt: skip
        self._least = max(settings.min_samples.performance, limit("min_labels"))
        self._rates = judge.chance(np.array(settings.windows))[:, np.newaxis]

    def worse(self, totals: Floats, effects: Effects) -> Flags:
        """Return which classes are surely worse in which metric, (V * W, K, metrics), from ledgers, (V * W, cells).

        Ledgers are those of all windows of some versions. False discoveries are controlled over all classes and
        metrics of a window.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            found = estimates(self.metrics, self._layout, totals, effects.labels)
            p = [
                p_of_kept(estimate, bound, "higher")
                for estimate, bound in zip(found.values(), self._bounds.T, strict=True)
            ]
        enough = totals[:, self._layout.labels] >= self._least
        tests = np.where(enough[..., np.newaxis], np.stack(p, axis=-1), np.nan)
        of_windows = tests.reshape(-1, len(self._rates), tests[0].size)
        return discoveries(of_windows, self._rates).reshape(tests.shape)


def classes_of(reference: Reference) -> Classes | None:
    """Return what judges the classes of a reference; None where nothing is agreed of them."""
    found = Classes(reference)
    return found if found.metrics else None
