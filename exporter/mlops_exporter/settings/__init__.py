"""What may be written in YAML: bounds and meanings, nothing of the world."""
