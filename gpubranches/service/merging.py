"""Joining catalogs including the sessions and marks of their users."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gpubranches.catalog import Catalog
from gpubranches.catalog.merging import merge_into
from gpubranches.core.files import atomic_folder, escaped_path, require_text
from gpubranches.errors import ShardError, UsageError
from gpubranches.service.database import FILE, sqlite_errors
from gpubranches.service.session_store import SessionStore

_WHAT = "the sessions of a part"
_TABLES = {
    "events": "event_id, session, action, kind, item, label, origin, at_s",
    "sessions": "session, name, settings, used_s, deleted_s",
    "pictures": "session, name, embedding, thumbnail, sent_s",
}
"""The columns that are copied, by table; rows keep their order."""

_COUNT = (
    "SELECT count(*) FROM (SELECT session FROM sessions WHERE deleted_s IS NULL UNION SELECT session FROM events "
    "WHERE session NOT IN (SELECT session FROM sessions WHERE deleted_s IS NOT NULL))"
)


@dataclass(frozen=True)
class MergeReport:
    """The result of `merge`.

    n: live items; parts: number of joined catalogs; segments; sessions: number of copied sessions; copied_bytes: of
    segments that could not be linked; seconds: wall-clock time.
    """

    n: int
    parts: int
    segments: int
    sessions: int
    copied_bytes: int
    seconds: float


def merge(
    out: str | Path, parts: Sequence[str | Path], *, report: Callable[[int, int], None] | None = None
) -> MergeReport:
    """Make one catalog of several with disjoint ids and the same codec; the parts do not change. Nothing is encoded.

    The folder appears complete, or not at all. Ids, metadata, deletions, records of inputs, sessions and marks come
    from the parts; their segments are linked, or copied if the file system allows no link. report: called with (done,
    total) segments. Raises ShardError for parts that do not form one catalog: with different heads or quantizers,
    overlapping ids, or a missing or unfinished shard; UsageError if `out` is not empty; and the errors of
    `Catalog.open`.
    """
    began = time.perf_counter()
    folder, paths = Path(out), [Path(part) for part in parts]
    require_text(folder)
    if not paths:
        raise UsageError("parts: expected the folders of one catalog or more, got none")
    with atomic_folder(folder) as partial:
        copied = merge_into(partial, paths, report or (lambda done, total: None))
        sessions = _merge_sessions(partial / FILE, [path / FILE for path in paths if (path / FILE).exists()])
    catalog = Catalog.open(folder)
    seconds = time.perf_counter() - began
    return MergeReport(catalog.n, len(paths), len(catalog.segments), sessions, copied, seconds)


def _merge_sessions(path: Path, logs: Sequence[Path]) -> int:
    """Copy the sessions of all logs into a new log; return their number. Without sessions no log is made."""
    if not logs:
        return 0
    with closing(SessionStore.open(path)) as store:
        for log in logs:
            with store.database.writing() as connection:
                _copy_sessions(connection, log)
        with store.database.reading() as connection:
            return int(connection.execute(_COUNT).fetchone()[0])


def _copy_sessions(connection: sqlite3.Connection, log: Path) -> None:
    """Insert the rows of a log. Raises ShardError if a session already exists."""
    # If the log is in use, its last events are in a second file (WAL). Otherwise it can be read without making that
    # file.
    how = "mode=ro" if log.with_name(f"{log.name}-wal").exists() else "immutable=1"
    with (
        sqlite_errors(log, _WHAT),
        closing(sqlite3.connect(f"file:{quote(str(log.absolute()))}?{how}", uri=True)) as old,
    ):
        present = {name for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, columns in _TABLES.items():
            if table not in present:  # an older version had fewer
                continue
            holders = ", ".join("?" for _ in columns.split(", "))
            # The names are constants; values are bound.
            rows = old.execute(f"SELECT {columns} FROM {table} ORDER BY rowid")  # nosec B608
            try:
                connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({holders})", rows)  # nosec B608
            except sqlite3.IntegrityError as error:
                raise ShardError(
                    f"{escaped_path(str(log))}: expected sessions that no other part has, got one twice; move the "
                    "file away from one of the parts if they are copies of each other"
                ) from error
