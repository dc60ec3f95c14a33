"""Settings that all tests share."""

from hypothesis import settings

settings.register_profile("default", deadline=None)  # machines are noisy; the suite has a time limit of its own
settings.load_profile("default")
