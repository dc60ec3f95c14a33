"""What goes wrong with a profile to be built."""


class BuildError(Exception):
    """A profile that cannot be built as asked; the message says what would be right."""
