"""Events: bodies to columns."""
