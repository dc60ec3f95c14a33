"""Upper bounds of the histograms that ledgers hold, in seconds, without infinity."""

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From a request to its prediction."""

LABEL_DELAY = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 259200.0, 604800.0, 1209600.0, 2592000.0)
"""From a prediction to its label."""
