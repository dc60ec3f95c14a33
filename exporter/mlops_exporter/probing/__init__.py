"""Probes: pinned labelled rows through the live endpoint, and what their answers say of it."""
