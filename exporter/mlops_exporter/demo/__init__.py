"""The demonstration: two models on bundled real data, replayed as live traffic."""
