"""Where the rules come from: thresholds, recording rules, alerts and the promtool cases that test them.

`python -m prometheus.source` writes prometheus/rules and prometheus/tests; the YAML there is what Prometheus loads.
"""
