"""The SQLite file of the marks and sessions: a pool of connections, and errors as the package's own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from gpubranches.core.files import new_file
from gpubranches.errors import CatalogFormatError, DataError, UnavailableError, WaitError

FILE = "labels.sqlite"
"""The name of the file in the folder of a catalog."""
WAIT_S = 1.0
"""How long a write waits for other writes of this process, and then for other processes."""
_KEPT = 4
"""Idle connections that stay open. Each has up to three file handles."""
_OTHERS = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


def problems(path: Path) -> list[str]:
    """Check the structure of an SQLite file; return one line per problem, none if it is intact or missing.

    SQLite keeps no checksums: a changed text within an intact structure is not found.
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
            found = _checked(path, "immutable=1")  # in a read-only folder no process can write meanwhile
    except sqlite3.Error as error:
        found = [str(error)]
    return [f"{path}: damaged: {problem}" for problem in found]


def _checked(path: Path, how: str) -> list[str]:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, timeout=10)
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return ["it holds no tables"]
        lines = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    finally:
        connection.close()
    return [line for text in lines if text != "ok" for line in text.splitlines()[:1]]


class Database:
    """An SQLite file. Safe to use from several threads: each transaction has a connection of its own.

    Reads wait for nobody; writes of this process come one after another. what: the content of the file, for messages.
    """

    def __init__(self, path: Path | None, connection: sqlite3.Connection, what: str):
        self.what = what
        self._path = path
        self._idle = [connection]
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._alone = threading.RLock()
        self._own = threading.local()
        self._closed = False

    @classmethod
    def open(cls, path: str | Path, schema: str, what: str) -> Self:
        """Open or create the file at `path` with the tables of a schema.

        Raises DataError if it cannot be used, CatalogFormatError for a file of another kind.
        """
        with sqlite_errors(path, what):
            if str(path) != ":memory:":
                _make(Path(path), schema, what)
            connection = _connected(path)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(schema)
        return cls(None if str(path) == ":memory:" else Path(path), connection, what)

    @classmethod
    def in_memory(cls, schema: str, what: str) -> Self:
        """Return a database in memory, which exists as long as this object; its transactions run one after another."""
        return cls.open(":memory:", schema, what)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for reading. Raises DataError if the file cannot be read."""
        with sqlite_errors(self._path or "memory", self.what), self._lent() as connection:
            yield connection

    @contextmanager
    def writing(self, wait_s: float = WAIT_S) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one transaction; it is committed at the end of the block, or rolled back on an error.

        Within the block the same thread gets the same transaction. Raises WaitError if another process writes for more
        than `wait_s` seconds, UnavailableError if the disk is full or the file is read-only.
        """
        within: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if within is not None:
            yield within
            return
        if not self._writing.acquire(timeout=wait_s):
            raise _waited(self._path or "memory", self.what)
        try:
            with sqlite_errors(self._path or "memory", self.what), self._lent() as connection:
                connection.execute(f"PRAGMA busy_timeout={round(1000 * wait_s)}")
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    self._own.connection = connection
                    yield connection
        finally:
            self._own.connection = None
            self._writing.release()

    def require_writable(self) -> None:
        """Raise UnavailableError if the file cannot be written."""
        with self.writing() as connection:
            # On a read-only file SQLite can begin a transaction; only the first change fails.
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute(f"PRAGMA user_version={version}")
            connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; a connection in use is closed when it is returned."""
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        if self._path is None:  # another connection would have an empty database of its own
            with self._alone:
                yield self._idle[0]
            return
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = _connected(self._path) if connection is None else connection
        try:
            yield connection
        finally:
            with self._lock:
                if self._closed or len(self._idle) >= _KEPT:
                    connection.close()
                else:
                    self._idle.append(connection)


class Tables:
    """Some tables of a `Database`. what: names their content in messages; schema: SQL that creates missing ones."""

    what: ClassVar[str]
    schema: ClassVar[str]

    def __init__(self, database: Database):
        self.database = database

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open or create the tables in the file at `path`. Raises DataError if it cannot be used."""
        return cls(Database.open(path, cls.schema, cls.what))

    def close(self) -> None:
        """Close the file."""
        self.database.close()


@contextmanager
def sqlite_errors(where: object, what: str) -> Iterator[None]:
    """Turn errors of SQLite into UnavailableError, DataError or, for a file of another kind, CatalogFormatError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _OTHERS:
            raise _waited(where, what) from error
        message = f"{where}: cannot read or write {what}: {error}; check space and permissions"
        if code in _REFUSED:
            raise UnavailableError(message) from error
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            raise CatalogFormatError(
                f"{where}: expected an SQLite file of {what}: {error}; restore or remove it"
            ) from error
        raise DataError(message) from error


def _make(path: Path, schema: str, what: str) -> None:
    """Make a file with the tables of a schema, complete or not at all; an existing file stays.

    Raises UnavailableError if it cannot be written.
    """
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(schema)
        content = memory.serialize()
    try:
        new_file(path, content)
    except OSError as error:
        raise UnavailableError(
            f"{path}: cannot write {what}: {error.strerror or error}; check space and permissions"
        ) from error


def _waited(where: object, what: str) -> WaitError:
    return WaitError(f"{where}: cannot read or write {what} now: another process or request is writing; try again")


def _connected(path: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=WAIT_S, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    return connection
