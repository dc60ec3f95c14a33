"""From ledgers and windows to samples: one file for each part of what Prometheus is shown."""
