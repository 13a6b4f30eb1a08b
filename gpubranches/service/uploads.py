"""Pictures uploaded to search by: an embedding and a thumbnail of each, in the SQLite file of the marks."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError
from gpubranches.service.database import Tables

SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    session TEXT NOT NULL,
    name TEXT NOT NULL,
    embedding BLOB NOT NULL,
    thumbnail BLOB NOT NULL,
    sent_s REAL NOT NULL,
    PRIMARY KEY (session, name)
);
"""
MOST_BYTES = 20 << 20
"""The largest file that can be uploaded."""
MEDIA_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/octet-stream")
"""The media types that an upload may state; its content decides."""
MOST_A_SESSION = 50
MOST = 20_000
"""Pictures of all sessions, about 200 MB."""

SENT_SIZE = 160
"""Longer side of the thumbnails, in pixels."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
# Row numbers only grow, while a clock may be set back.
_LATEST = "SELECT rowid FROM pictures {} ORDER BY rowid DESC LIMIT -1 OFFSET {}"


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded picture. embedding: (D,) float32, of unit length; thumbnail: a JPEG."""

    name: str
    embedding: NDArray[np.float32]
    thumbnail: bytes


class Uploads(Tables):
    """The last 50 pictures uploaded to each session, and the last 20,000 of all sessions."""

    what = "pictures"
    schema = SCHEMA

    def keep(self, session: str, embedding: NDArray[np.float32], thumbnail: bytes, name: str = "") -> str:
        """Store a picture of a session; return its name, `name` or a new one of the form `queries.PICTURE_NAME`.

        Beyond the limits the oldest are removed.
        """
        name = name or "".join(secrets.choice(_ALPHABET) for _ in range(10))
        row = (session, name, embedding.astype("<f4").tobytes(), thumbnail, time.time())
        with self.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?)", row)
            own, rest = _LATEST.format("WHERE session = ?", MOST_A_SESSION), _LATEST.format("", MOST)
            # The texts are constants; values are bound.
            connection.execute(f"DELETE FROM pictures WHERE rowid IN ({own})", (session,))  # nosec B608
            connection.execute(f"DELETE FROM pictures WHERE rowid IN ({rest})")  # nosec B608
        return name

    def get(self, session: str, name: str) -> Upload:
        """Return a picture of a session. Raises UsageError for an unknown or removed one."""
        query = "SELECT name, embedding, thumbnail FROM pictures WHERE session = ? AND name = ?"
        with self.database.reading() as connection:
            row = connection.execute(query, (session, name)).fetchone()
        if row is None:
            refused = UsageError(
                f"picture:{name} is not among the last {MOST_A_SESSION} of this session; send it again"
            )
            raise refused.because("query-picture")
        return _upload(row)

    def all(self, session: str) -> list[Upload]:
        """Return the pictures of a session, the oldest first."""
        query = "SELECT name, embedding, thumbnail FROM pictures WHERE session = ? ORDER BY rowid"
        with self.database.reading() as connection:
            return [_upload(row) for row in connection.execute(query, (session,))]


def _upload(row: tuple[str, bytes, bytes]) -> Upload:
    name, embedding, thumbnail = row
    return Upload(name, np.frombuffer(embedding, "<f4").astype(np.float32), thumbnail)
