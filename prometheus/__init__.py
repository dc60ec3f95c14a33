"""Rules for Prometheus, their tests, and in `source` what both are made of."""
