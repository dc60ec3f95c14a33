"""Prometheus exporter for machine-learning models in production."""

__version__ = "0.2.0"
