"""What is kept in the SQLite file of the marks beside them: opened, shared by threads, and its errors told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from gpubranches.errors import DataError


def problems(path: Path) -> list[str]:
    """Check the structure of an SQLite file; one line a problem, empty if it is sound or not there.

    SQLite keeps no checksums: changed text within a sound structure is not found.
    """
    if not path.exists():
        return []
    if not path.is_file():
        return [f"{path}: expected a file, got a folder, a pipe or a device"]
    try:
        try:
            found = _checked(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
                raise
            found = _checked(path, "immutable=1")  # where nothing can be written, nobody writes meanwhile
    except sqlite3.Error as error:
        found = [str(error)]
    return [f"{path}: damaged: {problem}" for problem in found]


def _checked(path: Path, how: str) -> list[str]:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, timeout=10)
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return ["it holds no tables"]
        told = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    finally:
        connection.close()
    return [line for text in told if text != "ok" for line in text.splitlines()[:1]]


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
