"""The log of marks: an append-only table of events in SQLite, from which a session's marks are computed."""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from sqlite3 import Connection, connect

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.core.arrays import as_ids
from gpubranches.errors import LabelError
from gpubranches.service.database import Database, sqlite_errors

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('mark', 'undo')),
    item INTEGER,
    label INTEGER CHECK (label IN (-1, 0, 1)),
    origin TEXT NOT NULL,
    at_s REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_session ON events (session, seq);
"""

WHAT = "the labels"
ORIGINS = ("user", "suggestion", "border", "audit")
"""Who chose the marked items: a person, a suggestion near the cut, one along the border of a broad idea, an audit."""
NOT_CHOSEN = ORIGINS[1:]
"""Origins of marks on items that the program chose. These marks are not a fair sample of what is wanted."""
_Event = tuple[int, str, str, str, int, int, str]
_EVENT_BYTES = 600
_INSERT = (
    "INSERT INTO events (event_id, session, action, kind, item, label, origin, at_s) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
)


class Labels:
    """The marks of one session: item id -> +1 (right) or -1 (wrong).

    Every mark is one event; nothing is ever changed. The events of one call form an action. An undo is an event that
    names the action it takes back; a redo is an undo that names another undo. The last mark of an item that is not
    undone is valid; label 0 removes the mark. If the session already has a call with this `event_id`, the call changes
    nothing. Safe to use from several threads; another process's events are seen on the next call.
    """

    def __init__(self, database: Database, session: str):
        self.database = database
        self.session = session
        self._lock = threading.Lock()
        self._seen = 0
        self._actions: dict[str, list[tuple[int, int, str]]] = {}
        self._undone: set[str] = set()
        self._named: dict[str, str] = {}
        self._undos: list[str] = []
        self._touched: list[tuple[int, int]] = []
        self._marks: dict[int, tuple[int, str]] | None = None

    @classmethod
    def open(cls, path: Path, session: str) -> Labels:
        """Open or create the log at `path` for the named session. Raises DataError if it cannot be used."""
        return cls(Database.open(path, SCHEMA, WHAT), session)

    @classmethod
    def in_memory(cls) -> Labels:
        """Return a log that lives as long as this object."""
        return cls(Database.in_memory(SCHEMA, WHAT), "memory")

    def mark(self, ids: ArrayLike, label: int, *, origin: str = "user", event_id: str | None = None) -> None:
        """Mark items right (+1), wrong (-1) or not at all (0), as one action.

        ids: (m,) whole numbers; origin: who chose the items, one of `ORIGINS`; event_id: a repeated call with the same
        value counts once. Raises LabelError for another label or origin.
        """
        if origin not in ORIGINS:
            raise LabelError(f"origin: expected one of {', '.join(ORIGINS)}, got {origin!r:.80}")
        if label not in (-1, 0, 1):
            raise LabelError(f"label: expected +1 (right), -1 (wrong) or 0 (remove the mark), got {label!r}")
        items = as_ids(ids)
        action = event_id or uuid.uuid4().hex
        now = time.time()
        with self._writing() as connection:
            if action not in self._actions:
                connection.executemany(_INSERT, self._rows(action, items.tolist(), int(label), origin, now))

    def bring(self, marks: Sequence[tuple[int, int, str]]) -> None:
        """Copy marks from another log, all in one transaction.

        marks: item, label (+1 or -1) and origin each, in the order they were made; consecutive marks with the same
        label and origin are one action.
        """
        now, rows = time.time(), []
        for (label, origin), run in groupby(marks, key=lambda mark: mark[1:]):
            items = [item for item, _, _ in run]
            rows += self._rows(uuid.uuid4().hex, items, label, origin, now)
        with self._writing() as connection:
            connection.executemany(_INSERT, rows)

    def _rows(self, action: str, items: list[int], label: int, origin: str, now_s: float) -> list[tuple[object, ...]]:
        name = f"{self.session}/{action}"
        return [(f"{name}:{i}", self.session, action, "mark", i, label, origin, now_s) for i in items]

    def undo(self, *, event_id: str | None = None) -> NDArray[np.int64]:
        """Undo the last action that is not undone; return its items, (m,) int64, empty if there is none."""
        return self._take_back(event_id, lambda: next((a for a in reversed(self._actions) if self._stands(a)), None))

    def redo(self, *, event_id: str | None = None) -> NDArray[np.int64]:
        """Redo the last undone step, unless items have been marked since; return its items, (m,) int64."""
        return self._take_back(event_id, lambda: self._undos[-1] if self._undos else None)

    def changes(self, since: int = 0) -> tuple[int, dict[int, int]]:
        """Return the log's version, and the labels (0: none) of items with events after version `since`.

        See `version` for the meaning of versions.
        """
        with self._reading():
            marks = self._standing()
            touched = self._touched[bisect_right(self._touched, since, key=lambda event: event[0]) :]
            return self._seen, {item: marks.get(item, (0, ""))[0] for _, item in touched}

    def current(self, version: int | None = None) -> dict[int, int]:
        """Return the valid marks: item id -> +1 or -1, in the order they were made.

        version: of the log, for the marks that were valid then; None for the present marks.
        """
        with self._reading() as connection:
            log = self if version is None or version >= self._seen else self._until(version, connection)
            return {item: label for item, (label, _) in log._standing().items()}

    @property
    def version(self) -> int:
        """The log's version: it grows with every event of the session and is 0 before the first."""
        with self._reading():
            return self._seen

    def origins(self) -> dict[int, str]:
        """Return the origins of the valid marks: item id -> the `origin` that the mark was made with."""
        with self._reading():
            return {item: origin for item, (_, origin) in self._standing().items()}

    def has_origin(self, items: NDArray[np.int64], kinds: tuple[str, ...]) -> NDArray[np.bool_]:
        """Return which items, (m,) ids, have a valid mark with one of some origins, (m,) bool."""
        origins = self.origins()
        return np.array([origins.get(int(item)) in kinds for item in items], np.bool_)

    def audited(self) -> dict[int, int]:
        """Return the valid marks that were made in an audit: item id -> +1 or -1."""
        with self._reading():
            return {item: label for item, (label, origin) in self._standing().items() if origin == "audit"}

    def can_take_back(self) -> tuple[bool, bool]:
        """Return whether there is something that `undo` takes back, and something that `redo` brings back."""
        with self._reading():
            return any(self._stands(action) for action in self._actions), bool(self._undos)

    def done(self, event_id: str) -> list[tuple[int, int]]:
        """Return the items and labels that the call of `mark` with that event id marked, none for an unknown one."""
        with self._reading():
            return [(item, label) for item, label, _ in self._actions.get(event_id, [])]

    def events(self) -> list[dict[str, object]]:
        """Return all events of the session, oldest first, as dicts of the columns."""
        with self.database.reading() as connection:
            cursor = connection.execute("SELECT * FROM events WHERE session = ? ORDER BY seq", (self.session,))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    @property
    def size_bytes(self) -> int:
        """About how many bytes the events take in memory."""
        return _EVENT_BYTES * len(self._touched)

    def close(self) -> None:
        """Close the log."""
        self.database.close()

    def _stands(self, action: str) -> bool:
        return action not in self._undone

    def _take_back(self, event_id: str | None, choose: Callable[[], str | None]) -> NDArray[np.int64]:
        event = f"{self.session}/{event_id or uuid.uuid4().hex}"
        with self._writing() as connection:
            chosen = None if event in self._named else choose()
            if chosen is not None:
                row = (event, self.session, chosen, "undo", None, None, "user", time.time())
                connection.execute(_INSERT, row)
        with self._reading():
            events = self._actions.get(self._named.get(event, ""), [])
            return np.array([item for item, _, _ in events], np.int64)

    def _standing(self) -> dict[int, tuple[int, str]]:
        """Return label and origin of each marked item, in the order the marks were made; not to be changed."""
        if self._marks is None:
            marks: dict[int, tuple[int, str]] = {}
            for action, events in self._actions.items():
                if self._stands(action):
                    for item, label, origin in events:
                        marks.pop(item, None)
                        if label:
                            marks[item] = label, origin
            self._marks = marks
        return self._marks

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Lock the log for one transaction, after all earlier events are read; if it fails, nothing is written."""
        with self.database.writing() as connection, self._lock:
            self._take_over(self._events_after(connection))
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Lock the state that follows from all events; this waits for no write of another session or process."""
        with self.database.reading() as connection, self._lock:
            self._take_over(self._events_after(connection))
            yield connection

    def _until(self, version: int, connection: Connection) -> Labels:
        """Return the log as it was at a version."""
        log = Labels(self.database, self.session)
        log._take_over([event for event in log._events_after(connection) if event[0] <= version])
        return log

    def _events_after(self, connection: Connection) -> list[_Event]:
        query = (
            "SELECT seq, event_id, action, kind, item, label, origin FROM events "
            "WHERE session = ? AND seq > ? ORDER BY seq"
        )
        return connection.execute(query, (self.session, self._seen)).fetchall()

    def _take_over(self, rows: list[_Event]) -> None:
        for seq, event, action, kind, item, label, origin in rows:
            self._seen, self._marks = seq, None
            if kind == "mark":
                self._undos.clear()
                self._actions.setdefault(action, []).append((item, label, origin))
                self._touched.append((seq, item))
                continue
            marked = self._named.get(action, action)
            self._named[event] = marked
            if marked == action:
                self._undone.add(marked)
                self._undos.append(event)
            else:
                self._undone.discard(marked)
                self._undos.remove(action)
            self._touched.extend((seq, item) for item, _, _ in self._actions.get(marked, []))


def sessions(path: Path) -> list[str]:
    """Return the names of the sessions in the log at `path`, in the order they began; empty if there is no log."""
    if not path.exists():
        return []
    with sqlite_errors(path, WHAT), closing(connect(path)) as connection:
        rows = connection.execute("SELECT session FROM events GROUP BY session ORDER BY min(seq)").fetchall()
    return [name for (name,) in rows]
