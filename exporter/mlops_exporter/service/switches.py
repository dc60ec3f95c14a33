"""The switches of the command line: one for each collector, as its class says."""

from mlops_exporter import compute
from mlops_exporter.collectors.kinds import classes_in, kinds
from mlops_exporter.collectors.parts import Switched


def switched() -> list[Switched]:
    """Return what can be switched, in the order of their names."""
    return sorted([*kinds(), *classes_in(compute)], key=lambda kind: kind.name)
