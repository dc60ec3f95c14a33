"""A fleet as users have it, on a clock that stands: what dashboards and notifications are looked at with."""
