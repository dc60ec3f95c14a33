"""Counts the events of models: sums, nothing but sums."""
