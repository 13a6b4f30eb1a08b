"""The sessions over one catalog: those in memory, and the book that names them all."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from sqlite3 import Connection
from typing import Any, TypedDict
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from gpubranches.catalog import Catalog
from gpubranches.errors import DataError
from gpubranches.service import Session
from gpubranches.service.database import WAIT_S, Database, Tables
from gpubranches.service.labels import SCHEMA
from gpubranches.service.uploads import SCHEMA as UPLOADS

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    session TEXT PRIMARY KEY,
    name TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '{}',
    used_s REAL NOT NULL,
    deleted_s REAL
);
"""

_NOTE = (
    "INSERT INTO sessions (session, name, settings, used_s) VALUES (:session, coalesce(:name, ''), :settings, :now) "
    "ON CONFLICT (session) DO UPDATE SET name = coalesce(:name, name), used_s = :now, "
    "settings = json_patch(settings, :settings)"
)
# The names of the sessions by steps over the index, for it may hold many events of each.
_LIST = """
WITH RECURSIVE logged(session) AS (
    SELECT min(session) FROM events
    UNION ALL SELECT (SELECT min(session) FROM events WHERE session > logged.session) FROM logged
    WHERE logged.session IS NOT NULL
),
named AS (SELECT session FROM sessions UNION SELECT session FROM logged WHERE session IS NOT NULL),
latest AS (SELECT session, (SELECT max(seq) FROM events e WHERE e.session = named.session) AS seq FROM named)
SELECT l.session, coalesce(s.name, ''), coalesce(s.settings, '{}'), max(coalesce(s.used_s, 0), coalesce(e.at_s, 0)),
    coalesce(l.seq, 0)
FROM latest l LEFT JOIN sessions s USING (session) LEFT JOIN events e ON e.seq = l.seq
WHERE s.deleted_s IS NULL AND (l.seq IS NOT NULL OR s.name != '') ORDER BY 4 DESC LIMIT ?
"""
# As `Labels` reads its events: the last undo or redo of an action holds, and then the last mark of an item.
_COUNT = """
WITH turned AS (
    SELECT coalesce(u.action, t.action) AS action, u.action IS NULL AS undone, max(t.seq)
    FROM events t LEFT JOIN events u ON u.event_id = t.action AND u.kind = 'undo'
    WHERE t.session = :session AND t.seq <= :seq AND t.kind = 'undo' GROUP BY 1
),
held AS (
    SELECT item, label, max(seq) AS seq FROM events WHERE session = :session AND seq <= :seq AND kind = 'mark'
    AND action NOT IN (SELECT action FROM turned WHERE undone) GROUP BY item
)
"""
# Only constants; values are bound.
_COUNTED = _COUNT + "SELECT coalesce(sum(label = 1), 0), coalesce(sum(label = -1), 0) FROM held"  # nosec B608
_FIRST = _COUNT + "SELECT item FROM held WHERE label = 1 ORDER BY seq LIMIT :examples"  # nosec B608


EXAMPLES = 3
"""Items by which a session is recognised."""
LIMIT_BYTES = 256 << 20
"""Of all sessions in memory."""
_DICT_BYTES = 100
"""Of an item in a dict of small numbers."""
_NOTE_WAIT_S = 0.2
"""How long an answer waits for a note of it."""


@dataclass(frozen=True)
class Record:
    """What the book says of a session.

    name: the user's, "" for none; settings: `query` (the address of the last query), `asked` (the first one, as it is
    read), `words` (the last one that had some, as it is typed), `where` (the filter that holds, "" for none), `seed`,
    `model`, `second_stage`, `random_negatives`, `negative_weight` and `lean` of the last find all, as far as they are
    known; used_s: when it was last used, seconds since 1970; positive, negative: how many items it has marked right and
    wrong; examples: ids of the first ones marked right.
    """

    session: str
    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    used_s: float = 0.0
    positive: int = 0
    negative: int = 0
    examples: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The name, else what was asked first, else "Untitled"."""
        return self.name or str(self.settings.get("asked") or "Untitled")

    @property
    def query(self) -> str:
        """What was asked last, as one types it, "" if nothing was."""
        asked = dict(parse_qsl(urlsplit(str(self.settings.get("query", ""))).query))
        return asked.get("q") or (f"#{asked['id']}" if "id" in asked else "")

    @property
    def words(self) -> str:
        """The last query that had words, as one types it, "" if none had."""
        return str(self.settings.get("words", ""))


class _Counts(TypedDict):
    """How many items a session has marked right and wrong, and the first ones marked right."""

    positive: int
    negative: int
    examples: tuple[int, ...]


class Book(Tables):
    """Names and settings of all sessions, kept in the SQLite file of their marks."""

    what = "sessions"
    schema = SCHEMA + UPLOADS + _SCHEMA

    def __init__(self, database: Database):
        super().__init__(database)
        self._counted: dict[str, tuple[int, _Counts]] = {}

    def remember(self, session: str, **settings: Any) -> None:
        """Write settings down as `note` does if that is possible at once: an answer is worth more than a note of it."""
        try:
            self._write(session, None, settings, _NOTE_WAIT_S)
        except DataError as error:
            _log.warning("session %s goes on without a note of %s: %s", session, ", ".join(settings), error)

    def note(self, session: str, *, name: str | None = None, **settings: Any) -> None:
        """Write down a session's name, unless None, and some of its settings; the others stay."""
        self._write(session, name, settings, WAIT_S)

    def _write(self, session: str, name: str | None, settings: dict[str, Any], wait_s: float) -> None:
        row = {"session": session, "name": name, "settings": json.dumps(settings), "now": time.time()}
        with self.database.writing(wait_s) as connection:
            connection.execute(_NOTE, row)

    def record(self, session: str) -> Record:
        """Return what is known of a session, without counts; an empty record for one that is new."""
        query = "SELECT session, name, settings, used_s FROM sessions WHERE session = ? AND deleted_s IS NULL"
        with self.database.reading() as connection:
            row = connection.execute(query, (session,)).fetchone()
        return Record(session) if row is None else _record(row)

    def records(self, limit: int = 200) -> list[Record]:
        """Return the sessions that have a name or a mark, the last used first, with their counts of marks."""
        with self.database.reading() as connection:
            rows = connection.execute(_LIST, (limit,)).fetchall()
            counts = [self._counts(connection, session, seq) for session, _, _, _, seq in rows]
        return [replace(_record(row[:4]), **count) for row, count in zip(rows, counts, strict=True)]

    def _counts(self, connection: Connection, session: str, seq: int) -> _Counts:
        """Return what a session has marked up to an event; counted anew where there are others since the last time."""
        known = self._counted.get(session)
        if known is None or known[0] != seq:
            asked = {"session": session, "seq": seq, "examples": EXAMPLES}
            positive, negative = connection.execute(_COUNTED, asked).fetchone() if seq else (0, 0)
            examples = tuple(item for (item,) in connection.execute(_FIRST, asked)) if positive else ()
            known = seq, _Counts(positive=positive, negative=negative, examples=examples)
            self._counted[session] = known
        return known[1]

    def delete(self, session: str) -> None:
        """Remove a session with its marks and pictures for good; what remains is that it was deleted."""
        with self.database.writing() as connection:
            connection.execute(_NOTE, {"session": session, "name": "", "settings": "{}", "now": time.time()})
            connection.execute("UPDATE sessions SET deleted_s = used_s, settings = '{}' WHERE session = ?", (session,))
            for table in ("events", "pictures"):
                connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))  # nosec B608  # two constants

    def deleted(self, session: str) -> bool:
        """Return whether a session was deleted."""
        query = "SELECT 1 FROM sessions WHERE session = ? AND deleted_s IS NOT NULL"
        with self.database.reading() as connection:
            return connection.execute(query, (session,)).fetchone() is not None

    def exists(self, session: str) -> bool:
        """Return whether a session has an entry here or a mark, and was not deleted."""
        query = (
            "SELECT coalesce((SELECT deleted_s IS NULL FROM sessions WHERE session = :session), "
            "EXISTS (SELECT 1 FROM events WHERE session = :session))"
        )
        with self.database.reading() as connection:
            return bool(connection.execute(query, {"session": session}).fetchone()[0])


def _record(row: tuple[str, str, str, float]) -> Record:
    session, name, settings, used_s = row
    return Record(session, name, json.loads(settings), used_s)


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    making: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    session: Session | None = None
    bytes: int = 0


class OpenSessions:
    """Sessions in memory by name; the oldest idle ones are shut beyond `limit`, or `limit_bytes` of answers and marks.

    The one used last stays. make: builds the session of a name anew, from its labels.
    """

    def __init__(self, make: Callable[[str], Session], limit: int = 256, limit_bytes: int = LIMIT_BYTES):
        self._make = make
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, name: str) -> Iterator[Session]:
        """Lend the session of that name to the calling thread alone."""
        with self._lent(name) as entry, entry.lock:
            yield self._made(name, entry)

    @contextmanager
    def marks(self, name: str) -> Iterator[Session]:
        """Lend the session of that name for its marks alone, also while another thread holds it."""
        with self._lent(name) as entry:
            yield self._made(name, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def forget_answers(self) -> None:
        """Let every session forget its last answer; to be called while no thread holds one."""
        with self._lock:
            for entry in self._entries.values():
                if entry.session is not None:
                    entry.session.forget()

    def close(self) -> None:
        """Shut all sessions that no thread holds."""
        with self._lock:
            self._shut_idle(0, 0)

    @contextmanager
    def _lent(self, name: str) -> Iterator[_Entry]:
        with self._lock:
            entry = self._entries.setdefault(name, _Entry())
            self._entries.move_to_end(name)
            entry.users += 1
        try:
            yield entry
        finally:
            size_bytes = 0 if entry.session is None else _size(entry.session)
            with self._lock:
                entry.users -= 1
                entry.bytes = size_bytes
                self._shut_idle(self._limit, self._limit_bytes)

    def _made(self, name: str, entry: _Entry) -> Session:
        with entry.making:
            if entry.session is None:
                entry.session = self._make(name)
            return entry.session

    def _shut_idle(self, limit: int, limit_bytes: int) -> None:
        size_bytes = sum(entry.bytes for entry in self._entries.values())
        idle = [name for name, entry in self._entries.items() if not entry.users]
        if limit:
            idle = [name for name in idle if name != next(reversed(self._entries))]
        for name in idle:
            if len(self._entries) <= limit and size_bytes <= limit_bytes:
                return
            size_bytes -= self._entries.pop(name).bytes


def _size(session: Session) -> int:
    """Return about how many bytes the answer and the marks of a session take."""
    answer = session.answer
    return session.labels.size_bytes + (0 if answer is None else _array_bytes(answer, set()))


def _array_bytes(value: object, seen: set[int]) -> int:
    """Return the bytes of all arrays that an object holds, each once, without the catalog and mapped files."""
    if id(value) in seen or isinstance(value, np.memmap | Catalog):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return int(value.nbytes) if value.base is None else _array_bytes(value.base, seen)
    if isinstance(value, dict):
        return _DICT_BYTES * len(value)
    if isinstance(value, list | tuple):
        return sum(_array_bytes(part, seen) for part in value)
    return sum(_array_bytes(part, seen) for part in getattr(value, "__dict__", {}).values())
