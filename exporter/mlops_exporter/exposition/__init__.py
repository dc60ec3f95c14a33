"""Exposition: what is shown, and how it is written."""
