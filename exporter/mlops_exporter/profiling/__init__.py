"""Makes profiles from tables."""
