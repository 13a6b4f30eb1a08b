"""The sessions over one catalog: those in memory, and the book that names them all."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gpubranches.database import Database
from gpubranches.pictures.uploads import SCHEMA as UPLOADS
from gpubranches.session import Session
from gpubranches.session.labels import SCHEMA, Labels

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
_LIST = (
    "SELECT n.session, coalesce(s.name, ''), coalesce(s.settings, '{}'), "
    "max(coalesce(s.used_s, 0), coalesce(e.used_s, 0)) AS used "
    "FROM (SELECT session FROM sessions UNION SELECT session FROM events) n LEFT JOIN sessions s USING (session) "
    "LEFT JOIN (SELECT session, max(at_s) AS used_s FROM events GROUP BY session) e USING (session) "
    "WHERE s.deleted_s IS NULL AND (e.session IS NOT NULL OR s.name != '') ORDER BY used DESC LIMIT ?"
)


EXAMPLES = 3
"""Items by which a session is recognised."""


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


class Book(Database):
    """Names and settings of all sessions, kept in the SQLite file of their marks."""

    what = "sessions"
    schema = SCHEMA + UPLOADS + _SCHEMA

    def note(self, session: str, *, name: str | None = None, **settings: Any) -> None:
        """Write down a session's name, unless None, and some of its settings; the others stay."""
        row = {"session": session, "name": name, "settings": json.dumps(settings), "now": time.time()}
        with self._used():
            self._connection.execute(_NOTE, row)

    def record(self, session: str) -> Record:
        """Return what is known of a session, without counts; an empty record for one that is new."""
        query = "SELECT session, name, settings, used_s FROM sessions WHERE session = ? AND deleted_s IS NULL"
        with self._used():
            row = self._connection.execute(query, (session,)).fetchone()
        return Record(session) if row is None else _record(row)

    def records(self, limit: int = 200) -> list[Record]:
        """Return the sessions that have a name or a mark, the last used first, with their counts of marks."""
        with self._used():
            records = [_record(row) for row in self._connection.execute(_LIST, (limit,))]
            marks = [Labels(self._connection, record.session).current() for record in records]
        right = [[item for item, label in held.items() if label > 0] for held in marks]
        return [
            replace(record, positive=len(own), negative=len(held) - len(own), examples=tuple(own[:EXAMPLES]))
            for record, held, own in zip(records, marks, right, strict=True)
        ]

    def delete(self, session: str) -> None:
        """Remove a session with its marks and pictures for good; what remains is that it was deleted."""
        with self._used():
            self._connection.execute(_NOTE, {"session": session, "name": "", "settings": "{}", "now": time.time()})
            self._connection.execute(
                "UPDATE sessions SET deleted_s = used_s, settings = '{}' WHERE session = ?", (session,)
            )
            for table in ("events", "pictures"):
                self._connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))

    def deleted(self, session: str) -> bool:
        """Return whether a session was deleted."""
        query = "SELECT 1 FROM sessions WHERE session = ? AND deleted_s IS NOT NULL"
        with self._used():
            return self._connection.execute(query, (session,)).fetchone() is not None

    def exists(self, session: str) -> bool:
        """Return whether a session has an entry here or a mark, and was not deleted."""
        query = (
            "SELECT coalesce((SELECT deleted_s IS NULL FROM sessions WHERE session = :session), "
            "EXISTS (SELECT 1 FROM events WHERE session = :session))"
        )
        with self._used():
            return bool(self._connection.execute(query, {"session": session}).fetchone()[0])


def _record(row: tuple[str, str, str, float]) -> Record:
    session, name, settings, used_s = row
    return Record(session, name, json.loads(settings), used_s)


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    making: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    session: Session | None = None


class OpenSessions:
    """Sessions in memory by name; beyond `limit` the oldest idle ones are shut.

    make: builds the session of a name anew, from its labels.
    """

    def __init__(self, make: Callable[[str], Session], limit: int = 256):
        self._make = make
        self._limit = limit
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
            self._shut_idle(0)

    @contextmanager
    def _lent(self, name: str) -> Iterator[_Entry]:
        with self._lock:
            entry = self._entries.setdefault(name, _Entry())
            self._entries.move_to_end(name)
            entry.users += 1
        try:
            yield entry
        finally:
            with self._lock:
                entry.users -= 1
                self._shut_idle(self._limit)

    def _made(self, name: str, entry: _Entry) -> Session:
        with entry.making:
            if entry.session is None:
                entry.session = self._make(name)
            return entry.session

    def _shut_idle(self, limit: int) -> None:
        surplus = len(self._entries) - limit
        idle = [name for name, entry in self._entries.items() if not entry.users]
        for name in idle[: max(0, surplus)]:
            session = self._entries.pop(name).session
            if session is not None:
                session.labels.close()
