"""What goes wrong with tables."""


class TableError(Exception):
    """A table that cannot be read; the message names the file and says what would be right."""
