"""The life of a model: what starts its retraining, and the registry that knows its versions."""
