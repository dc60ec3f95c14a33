"""Takes events in: bounded, durable, in order."""
