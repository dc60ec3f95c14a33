"""Dashboards as code: Prometheus panels for Grafana."""
