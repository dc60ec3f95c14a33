"""What sums mean: performance, drift, fairness, benchmarks, status."""
