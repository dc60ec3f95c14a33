"""A real exporter under load and faults, for as long as is wanted: `python -m tests.soak`."""
