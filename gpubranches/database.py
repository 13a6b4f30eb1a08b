"""What is kept in the SQLite file of the marks beside them: opened, shared by threads, and its errors told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from gpubranches.errors import DataError


class Database:
    """Some tables of an SQLite file. Safe to use from several threads.

    what: they hold, as messages name it; schema: makes them where they are missing.
    """

    what: ClassVar[str]
    schema: ClassVar[str]

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open or create the tables in the file at `path`. Raises DataError if it cannot be used."""
        try:
            connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(cls.schema)
        except sqlite3.Error as error:
            raise DataError(f"{path}: cannot keep {cls.what} there: {error}; check space and permissions") from error
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Hold the connection for one transaction. Raises DataError if the file cannot be read or written."""
        try:
            with self._lock, self._connection:
                yield
        except sqlite3.Error as error:
            raise DataError(f"{self.what}: cannot read or write them: {error}; check space and permissions") from error
