"""The table of sessions in the SQLite file of the marks: names, and the last search and find all of each session."""

from __future__ import annotations

import atexit
import json
import logging
import re
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

from gpubranches.core.options import RefineOptions
from gpubranches.errors import DataError, WaitError
from gpubranches.service.database import FILE, WAIT_S, Database, Tables
from gpubranches.service.labels import SCHEMA
from gpubranches.service.uploads import SCHEMA as UPLOADS

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

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

_UPDATE = (
    "INSERT INTO sessions (session, name, settings, used_s) VALUES (:session, coalesce(:name, ''), :settings, :now) "
    "ON CONFLICT (session) DO UPDATE SET name = coalesce(:name, name), used_s = :now, "
    "settings = json_patch(settings, :settings)"
)
# The other sessions with the same title; those that began with a picture are all called the same.
_NUMBER = """
SELECT coalesce(
    (SELECT json_extract(settings, '$.number') FROM sessions WHERE session = :session),
    (SELECT max(coalesce(json_extract(settings, '$.number'), 1)) + 1 FROM sessions
     WHERE session != :session AND deleted_s IS NULL AND (json_extract(settings, '$.asked') = :asked
     OR (json_extract(settings, '$.asked') LIKE 'picture:%' AND :asked LIKE 'picture:%'))),
    1)
"""
# The recursion steps over the index from one session to the next, because each may have many events.
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
WHERE s.deleted_s IS NULL AND (l.seq IS NOT NULL OR s.name != '') ORDER BY 4 DESC
"""
# The rule is that of `Labels`: the last undo or redo of an action counts, then the last mark of an item.
_COUNT = """
WITH switched AS (
    SELECT coalesce(u.action, t.action) AS action, u.action IS NULL AS undone, max(t.seq)
    FROM events t LEFT JOIN events u ON u.event_id = t.action AND u.kind = 'undo'
    WHERE t.session = :session AND t.seq <= :seq AND t.kind = 'undo' GROUP BY 1
),
held AS (
    SELECT item, label, max(seq) AS seq FROM events WHERE session = :session AND seq <= :seq AND kind = 'mark'
    AND action NOT IN (SELECT action FROM switched WHERE undone) GROUP BY item
)
"""
# The texts are constants; values are bound.
_COUNTED = _COUNT + "SELECT coalesce(sum(label = 1), 0), coalesce(sum(label = -1), 0) FROM held"  # nosec B608
_FIRST = _COUNT + "SELECT item FROM held WHERE label = 1 ORDER BY seq LIMIT :examples"  # nosec B608
_DISCARDED = "SELECT session FROM sessions WHERE deleted_s < ?"

SESSION_NAME = re.compile(r"[A-Za-z0-9_-]{22}")
"""The pattern of the names that `new_session_name` makes."""
EXAMPLES = 4
"""Number of items marked right that illustrate a session in a list."""
_CANDIDATES = 40
"""Number of items marked right, the first ones, from which the illustrations are chosen."""
DISCARDED_S = 3600.0
"""How long a discarded session can be restored."""
LIMIT = 200
"""The default number of sessions in a list."""
Order = Literal["used", "name", "matches", "exported"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""Orders of the list of sessions: by last use, by name, by matches, by last export."""
_TRY_WAIT_S = 0.2
"""How long `try_update` waits while another process writes."""


@dataclass(frozen=True)
class Record:
    """The entry of a session.

    name: the user's, "" for none; settings: those of these keys that were stored: `query` (the last query, see
    `query_path`), `asked` (the first one, such as "dog" or "#17"), `number` (of this session among those that began
    with the same query, from 1), `words` (the last one that had words, as typed),
    `where` (the filter, "" for none), `seed`, and `model`, `second_stage`, `random_negatives`, `negative_weight`,
    `lean` of the last find all, `matches` (how many it matched as it was cut last), `exported` (the name of the last
    exported file and `at_s`, its time). used_s: time of the last use, seconds since 1970; positive, negative: how many
    items are marked right and wrong; examples: ids of some that are marked right, see `distinct_examples`.
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
        """The name, else the first query, else ""."""
        return self.name or self.asked

    @property
    def asked(self) -> str:
        """The first query, or "" if there was none."""
        return str(self.settings.get("asked") or "")

    @property
    def number(self) -> int:
        """The number of this session among those that began with the same query, 1 for the first."""
        return int(self.settings.get("number") or 1)

    def mentions(self, text: str) -> bool:
        """Return whether the title, the first or the last query contains a text, in any case."""
        wanted = text.strip().casefold()
        return any(wanted in told.casefold() for told in (self.title, self.asked, self.query, self.words))

    @property
    def path(self) -> str:
        """The path of the last query, see `query_path`; "" if there was none."""
        return str(self.settings.get("query") or "")

    @property
    def query(self) -> str:
        """The last query as typed, "" if there was none."""
        asked = dict(parse_qsl(urlsplit(self.path).query))
        return asked.get("q") or (f"#{asked['id']}" if "id" in asked else "")

    @property
    def words(self) -> str:
        """The last query that had words, as typed, "" if there was none."""
        return str(self.settings.get("words", ""))

    @property
    def where(self) -> str:
        """The filter, "" for none."""
        return str(self.settings.get("where", ""))

    @property
    def has_found(self) -> bool:
        """Whether a find all was run."""
        return "model" in self.settings

    @property
    def matches(self) -> int | None:
        """The number of matches of the last find all, after its last cut; None if none is stored."""
        count = self.settings.get("matches")
        return None if count is None else int(count)

    @property
    def exported(self) -> tuple[str, float] | None:
        """The name of the last exported file, and its time in seconds since 1970; None if nothing was exported."""
        last = self.settings.get("exported")
        return None if last is None else (str(last["name"]), float(last["at_s"]))

    @property
    def options(self) -> RefineOptions:
        """The options of the last find all, without the query; the defaults if none are stored."""
        names = ("model", "second_stage", "random_negatives", "negative_weight", "lean")
        stored = {name: self.settings[name] for name in names if name in self.settings}
        return RefineOptions(**stored, where=self.where or None)


class _Counts(TypedDict):
    positive: int
    negative: int
    examples: tuple[int, ...]


class SessionStore(Tables):
    """Names and settings of all sessions, in the SQLite file of their marks. Safe to use from several threads."""

    what = "sessions"
    schema = SCHEMA + UPLOADS + _SCHEMA

    def __init__(self, database: Database):
        super().__init__(database)
        self._counted: dict[str, tuple[int, _Counts]] = {}

    def update(self, session: str, *, name: str | None = None, **settings: Any) -> None:
        """Store a session's name, unless it is None, and settings; other settings stay. Creates a missing entry.

        Raises WaitError or UnavailableError if the file cannot be written.
        """
        self._write(session, name, settings, WAIT_S)

    def try_update(self, session: str, **settings: Any) -> None:
        """Store settings like `update`; if the file cannot be written within .2 s, log a warning instead."""
        try:
            self._write(session, None, settings, _TRY_WAIT_S)
        except DataError as error:
            _log.warning("session %s: %s not stored: %s", session, ", ".join(settings), error)

    def _write(self, session: str, name: str | None, settings: dict[str, Any], wait_s: float) -> None:
        with self.database.writing(wait_s) as connection:
            if settings.get("asked"):
                known = {"session": session, "asked": settings["asked"]}
                settings = {**settings, "number": connection.execute(_NUMBER, known).fetchone()[0]}
            row = {"session": session, "name": name, "settings": json.dumps(settings), "now": time.time()}
            connection.execute(_UPDATE, row)

    def record(self, session: str) -> Record:
        """Return the entry of a session, without counts; an empty entry if it has none."""
        query = "SELECT session, name, settings, used_s FROM sessions WHERE session = ? AND deleted_s IS NULL"
        with self.database.reading() as connection:
            row = connection.execute(query, (session,)).fetchone()
        return Record(session) if row is None else _record(row)

    def records(self, limit: int = LIMIT, text: str = "", order: Order = ORDERS[0]) -> list[Record]:
        """Return the sessions that have a name or a mark, at most `limit`, with their counts of marks.

        text: what the title, the first or the last query contains, in any case, "" for all; order: one of ORDERS; the
        last used come first among equals.
        """
        with self.database.reading() as connection:
            rows = connection.execute(_LIST).fetchall()
            found = [(_record(row[:4]), row[4]) for row in rows]
            found = [(record, seq) for record, seq in found if record.mentions(text)]
            found = sorted(found, key=lambda pair: _SORT_KEYS[order](pair[0]))[:limit]
            counts = [self._counts(connection, record.session, seq) for record, seq in found]
        chosen = distinct_examples([count["examples"] for count in counts], EXAMPLES)
        return [
            replace(record, positive=count["positive"], negative=count["negative"], examples=examples)
            for (record, _), count, examples in zip(found, counts, chosen, strict=True)
        ]

    def _counts(self, connection: Connection, session: str, seq: int) -> _Counts:
        """Return the counts of a session's marks up to an event, kept from the last call if the event is the same."""
        known = self._counted.get(session)
        if known is None or known[0] != seq:
            asked = {"session": session, "seq": seq, "examples": _CANDIDATES}
            positive, negative = connection.execute(_COUNTED, asked).fetchone() if seq else (0, 0)
            examples = tuple(item for (item,) in connection.execute(_FIRST, asked)) if positive else ()
            known = seq, _Counts(positive=positive, negative=negative, examples=examples)
            self._counted[session] = known
        return known[1]

    def discard(self, session: str) -> None:
        """Hide a session like a deleted one; `bring_back` restores it for DISCARDED_S seconds."""
        with self.database.writing() as connection:
            connection.execute(_UPDATE, {"session": session, "name": None, "settings": "{}", "now": time.time()})
            connection.execute("UPDATE sessions SET deleted_s = used_s WHERE session = ?", (session,))

    def bring_back(self, session: str) -> bool:
        """Show a discarded session again as it was; return False if it is deleted for good or unknown.

        A session that is shown stays so: the request may come twice.
        """
        query = "UPDATE sessions SET deleted_s = NULL WHERE session = ? AND coalesce(deleted_s >= ?, TRUE)"
        with self.database.writing() as connection:
            return connection.execute(query, (session, time.time() - DISCARDED_S)).rowcount > 0

    def discarded(self) -> list[Record]:
        """Return the sessions that `bring_back` can restore, without counts, the last discarded first."""
        query = "SELECT session, name, settings, used_s FROM sessions WHERE deleted_s >= ? ORDER BY deleted_s DESC"
        with self.database.reading() as connection:
            return [_record(row) for row in connection.execute(query, (time.time() - DISCARDED_S,))]

    def delete_discarded(self) -> None:
        """Delete for good the sessions that were discarded more than DISCARDED_S seconds ago."""
        before = (time.time() - DISCARDED_S,)
        with self.database.writing() as connection:
            # The texts are constants; values are bound.
            connection.execute("UPDATE sessions SET name = '', settings = '{}' WHERE deleted_s < ?", before)
            for table in ("events", "pictures"):
                connection.execute(f"DELETE FROM {table} WHERE session IN ({_DISCARDED})", before)  # nosec B608

    def delete(self, session: str) -> None:
        """Delete a session with its marks and pictures for good; the entry remains, marked as deleted."""
        with self.database.writing() as connection:
            connection.execute(_UPDATE, {"session": session, "name": "", "settings": "{}", "now": time.time()})
            connection.execute("UPDATE sessions SET deleted_s = 0, settings = '{}' WHERE session = ?", (session,))
            for table in ("events", "pictures"):
                connection.execute(f"DELETE FROM {table} WHERE session = ?", (session,))  # nosec B608  # two constants

    def deleted(self, session: str) -> bool:
        """Return whether a session was deleted."""
        query = "SELECT 1 FROM sessions WHERE session = ? AND deleted_s IS NOT NULL"
        with self.database.reading() as connection:
            return connection.execute(query, (session,)).fetchone() is not None

    def exists(self, session: str) -> bool:
        """Return whether a session has an entry or a mark, and was not deleted."""
        query = (
            "SELECT coalesce((SELECT deleted_s IS NULL FROM sessions WHERE session = :session), "
            "EXISTS (SELECT 1 FROM events WHERE session = :session))"
        )
        with self.database.reading() as connection:
            return bool(connection.execute(query, {"session": session}).fetchone()[0])


def distinct_examples(candidates: Sequence[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """Return `count` candidates of each session; those that the fewest other sessions have come first.

    So sessions that began with the same query look different. Candidates that are equally rare stay in their order.
    """
    sessions_with = Counter(item for items in candidates for item in set(items))
    return [tuple(sorted(items, key=lambda item: sessions_with[item])[:count]) for items in candidates]


def open_store(catalog: Catalog) -> tuple[SessionStore, bool]:
    """Open the store beside a catalog; return it, and whether its contents outlive this process.

    If the file there cannot be written, the store is a copy of it that is removed when this process ends.
    """
    path = catalog.path / FILE
    try:
        store = SessionStore.open(path)
    except WaitError:
        raise
    except DataError as error:
        return _temporary_store(path, error), False
    try:
        store.database.require_writable()
    except WaitError:  # another process writes, so the file can be written
        pass
    except DataError as error:
        store.close()
        return _temporary_store(path, error), False
    return store, True


def _temporary_store(path: Path, error: DataError) -> SessionStore:
    """Return a store on a copy of a file; on an empty file if it cannot be read."""
    _log.warning("marks last only as long as this server: %s", error)
    folder = Path(tempfile.mkdtemp(prefix="gpubranches-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / path.name
    try:
        for ending in ("", "-wal"):
            source = path.with_name(path.name + ending)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + ending))
        return SessionStore.open(copy)
    except (OSError, DataError) as unreadable:
        _log.warning("earlier marks are not shown: %s", unreadable)
        for file in folder.iterdir():
            file.unlink()
        return SessionStore.open(copy)


def new_session_name() -> str:
    """Return a name that no session has: 22 random letters."""
    return secrets.token_urlsafe(16)


def query_path(query: str | int, where: str = "") -> str:
    """Return how a store names a query with its filter: the path of its page, /search?q=TEXT or /like?id=ID."""
    path, named = ("/search", {"q": query}) if isinstance(query, str) else ("/like", {"id": query})
    return f"{path}?{urlencode({**named, 'where': where} if where else named)}"


_SORT_KEYS: dict[Order, Callable[[Record], Any]] = {
    "used": lambda record: 0,
    "name": lambda record: record.title.casefold(),
    "matches": lambda record: 1 if record.matches is None else -record.matches,
    "exported": lambda record: 0 if record.exported is None else -record.exported[1],
}
"""A sort that is stable keeps the last used first among equals."""


def _record(row: tuple[str, str, str, float]) -> Record:
    session, name, settings, used_s = row
    return Record(session, name, json.loads(settings), used_s)
