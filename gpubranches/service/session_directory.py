"""The operations on the sessions of a catalog: create, list, lend to threads, copy, delete, pack, unpack."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import DataError, SessionGoneError, UsageError
from gpubranches.retrieval.queries import Picture, parse
from gpubranches.service import Session
from gpubranches.service.labels import Labels
from gpubranches.service.open_sessions import OpenSessions
from gpubranches.service.session_files import pack, restore, unpack
from gpubranches.service.session_store import LIMIT, ORDERS, Order, Record, new_session_name, open_store
from gpubranches.service.types import SessionState
from gpubranches.service.uploads import Uploads

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.encoders import Embedder
    from gpubranches.engines import Backend

_log = logging.getLogger(__name__)

NAME_LENGTH = 200
"""The largest number of letters in the name that a user gives a session."""


class SessionDirectory:
    """The sessions over a catalog, by name. A session is made by its first use. Safe to use from several threads.

    seed: of the learners of sessions without a seed. keeps_marks: False if the catalog's folder cannot be written, so
    that marks last as long as this process.
    """

    def __init__(self, catalog: Catalog, backend: Backend, embedder: Embedder | None, seed: int):
        self._catalog = catalog
        self._backend = backend
        self._embedder = embedder
        self._seed = seed
        self.store, self.keeps_marks = open_store(catalog)
        self.uploads = Uploads(self.store.database)
        self.opened = OpenSessions(self._make)
        try:
            self.store.delete_discarded()
        except DataError as error:
            _log.warning("deleted sessions are still in the file: %s", error)

    def __len__(self) -> int:
        """Return how many sessions are in memory."""
        return len(self.opened)

    def close(self) -> None:
        """Drop the sessions that no thread uses, and close the file of the marks."""
        self.opened.close()
        self.store.close()

    def exclusive(self, session: str) -> AbstractContextManager[Session]:
        """Lend a session to this thread; others that want it so wait."""
        return self.opened.exclusive(session)

    def shared(self, session: str) -> AbstractContextManager[Session]:
        """Lend a session, without waiting, for its marks and its last answer."""
        return self.opened.shared(session)

    def state(self, session: str, at: int | None = None) -> SessionState:
        """Return the present state of a session. at: version of the log of marks that its answer should use."""
        with self.shared(session) as held:
            return self.state_of(held, at)

    def state_of(self, held: Session, at: int | None = None) -> SessionState:
        """Return a session that is lent as `state` does."""
        record = self.store.record(held.labels.session)
        positive, negative = len(held.positives), len(held.negatives)
        version = held.labels.version
        return SessionState(
            record,
            held.seed,
            held.labels.current(),
            positive,
            negative,
            held.checked,
            version,
            held.answer_at(version if at is None else at),
        )

    def create(self, name: str = "", seed: int | None = None) -> str:
        """Create a session and return its identifier. name: chosen by the user; seed: of its learners."""
        session = new_session_name()
        self.store.update(session, name=name, **({} if seed is None else {"seed": seed}))
        return session

    def record(self, session: str) -> Record:
        """Return the entry of a session without counts; an empty one for a session that has none."""
        return self.store.record(session)

    def records(self, limit: int = LIMIT, text: str = "", order: Order = ORDERS[0]) -> list[Record]:
        """Return the sessions that have a name or a mark, see `SessionStore.records`."""
        return self.store.records(limit, text, order)

    def exists(self, session: str) -> bool:
        """Return whether a session was created or has a mark, and was not deleted."""
        return self.store.exists(session)

    def deleted(self, session: str) -> bool:
        """Return whether a session was deleted."""
        return self.store.deleted(session)

    def rename(self, session: str, name: str) -> str:
        """Name a session; return the name with single spaces. Raises UsageError for a name that is too long."""
        name = " ".join(name.split())
        if len(name) > NAME_LENGTH:
            refused = UsageError(f"title: expected at most {NAME_LENGTH} letters, got {len(name)}")
            raise refused.because("session-name-long", most=NAME_LENGTH, count=len(name))
        self.store.update(session, name=name)
        return name

    def copy(self, session: str, name: str) -> str:
        """Copy a session and return the identifier of the copy.

        name: of the copy, truncated if it is too long, with a number if another session has it.
        """
        name, taken = name[: NAME_LENGTH - 6], {record.name for record in self.records()}  # the number follows
        names = chain([name], (f"{name} ({number})" for number in count(2)))
        return self._restore({**self.pack(session), "name": next(free for free in names if free not in taken)})

    def hand_over(self, text: str, before: str, session: str) -> None:
        """Copy the uploaded pictures that a query names from the session before to the one that begins with it.

        A query that cannot be read names none; the search reports the reason.
        """
        try:
            terms = parse(text).terms
        except UsageError:
            return
        for term in terms:
            if isinstance(term, Picture):
                sent = self.uploads.get(before, term.name)
                self.uploads.keep(session, sent.embedding, sent.thumbnail, sent.name)

    def discard(self, session: str) -> None:
        """Hide a session; it is deleted for good an hour later, or at the next start or deletion after that."""
        self.store.discard(session)
        self.store.delete_discarded()

    def discarded(self) -> list[Record]:
        """Return the sessions that `bring_back` can restore, without counts, the last discarded first."""
        return self.store.discarded()

    def bring_back(self, session: str) -> None:
        """Show a discarded session again, with its marks and its answer. Raises SessionGoneError after an hour."""
        if not self.store.bring_back(session):
            gone = SessionGoneError("This session was deleted more than an hour ago and cannot be brought back.")
            raise gone.because("session-gone-for-good")

    def delete(self, session: str) -> None:
        """Delete a session with its marks and pictures for good."""
        with self.exclusive(session) as held:
            self.store.delete(session)
            held.forget()

    def pack(self, session: str) -> dict[str, Any]:
        """Return a session as a dict for JSON, which `unpack` reads here or elsewhere."""
        with self.shared(session) as held:
            return pack(self.record(session), held, self.uploads)

    def unpack(self, packed: bytes) -> str:
        """Create a session from the JSON of a packed one; return its identifier. Raises UsageError."""
        return self._restore(unpack(packed))

    def _restore(self, packed: dict[str, Any]) -> str:
        session = new_session_name()
        with self.exclusive(session) as held:
            restore(packed, held, self.store, self.uploads)
        return session

    def _make(self, name: str) -> Session:
        seed = int(self.store.record(name).settings.get("seed", self._seed))

        def picture(sent: str) -> NDArray[np.float32]:
            return self.uploads.get(name, sent).embedding

        return Session(
            self._catalog,
            self._backend,
            embedder=self._embedder,
            labels=Labels(self.store.database, name),
            seed=seed,
            pictures=picture,
        )
