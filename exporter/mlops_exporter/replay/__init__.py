"""`mlops-exporter replay`: past events to the metrics that the exporter would have shown, for Prometheus' storage."""
