"""A database that is read through ADBC, whose drivers give Arrow batches.

The session reads only, and both connecting and asking have a time-out. No message repeats the url, which may hold a
password.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, unquote

from mlops_exporter.logs import redacted
from mlops_exporter.settings.tables import DatabaseSettings
from mlops_exporter.tables.errors import TableError

_CONNECT_SECONDS = 10


class Database:
    """Where rows are asked for."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings

    @contextmanager
    def batches(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[Iterator[Any]]:
        """Have the batches of a query, in which `mark` stands for a parameter. Raises TableError for whatever fails."""
        try:
            with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(query, list(parameters) or None)
                yield iter(cursor.fetch_record_batch())
        except (TableError, GeneratorExit):
            raise
        except Exception as error:
            raise TableError(self._without_secret(str(error) or type(error).__name__)) from None

    @property
    def mark(self) -> str:
        """What stands for the one parameter of a query."""
        return "$1" if self._url().startswith("postgresql://") else "?"

    def _url(self) -> str:
        if self._settings.url is not None:
            return self._settings.url
        assert self._settings.url_file is not None
        try:
            return self._settings.url_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise TableError(f"{self._settings.url_file}: {error.strerror or error}") from None

    def _connect(self) -> Any:
        url = self._url()
        if url.startswith("postgresql://"):
            import adbc_driver_postgresql.dbapi as postgresql

            milliseconds = round(1000 * self._settings.timeout)
            options = f"-c default_transaction_read_only=on -c statement_timeout={milliseconds}"
            mark = "&" if "?" in url else "?"
            return postgresql.connect(f"{url}{mark}connect_timeout={_CONNECT_SECONDS}&options={quote(options)}")
        if url.startswith("sqlite:///"):
            import adbc_driver_sqlite.dbapi as sqlite

            return sqlite.connect(f"file:{quote(url.removeprefix('sqlite:///'))}?mode=ro")
        raise TableError("url: write postgresql://HOST/DATABASE or sqlite:///PATH")

    def _without_secret(self, message: str) -> str:
        """Return the first line of a database's message, without what may be a password."""
        line = message.strip().splitlines()[0]
        line = line.replace(self._url(), "the database")
        password = re.search(r"//[^/:]*:(.+)@", self._url())  # which may hold / and @ though it should be quoted
        if password is not None:
            for form in (password[1], unquote(password[1])):
                line = line.replace(form, "***")
        return redacted(line)
