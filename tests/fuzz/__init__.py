"""Fuzzing of the decoder: `python -m tests.fuzz --tries 2000000`."""
