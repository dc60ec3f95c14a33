"""`mlops-exporter doctor`: why there is no data, or what else is wrong, and what to do about it. It changes nothing."""
