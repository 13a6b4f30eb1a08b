"""Pieces: the smallest units of an input that can be ingested alone. Each has files with a recorded state."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import IO

from gpubranches.catalog.listings import DIGEST_BYTES
from gpubranches.core import stores
from gpubranches.errors import DataError

UNREAD = -1
"""Recorded size of a file that could not be read. No file has this size, so the file is checked again each time."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file with its recorded state. path: absolute, links resolved; digest: of its content, b"" until read.

    The path of a file in a store is its address, and its `ctime_ns` is a number made of its ETag.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes = b""

    @classmethod
    def at(cls, path: str) -> FileState:
        """Return the state of a file, without its digest. Raises DataError if it is missing."""
        if stores.is_url(path):
            return cls.of_stored(stores.stat(path))
        try:
            return cls.of_stat(path, os.stat(path))
        except OSError as error:
            raise DataError(f"{path}: cannot read: {error.strerror}") from error

    @classmethod
    def of_stat(cls, path: str, stat: os.stat_result) -> FileState:
        """Return a file from its path and the result of `os.stat`."""
        return cls(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @classmethod
    def of_stored(cls, file: stores.StoredFile) -> FileState:
        """Return a file of a store."""
        return cls(file.url, file.size, file.mtime_ns, file.tag)

    @property
    def is_stored(self) -> bool:
        """Whether the file is in a store."""
        return stores.is_url(self.path)

    @property
    def state(self) -> tuple[int, int, int]:
        """Size and times.

        They change whenever the content changes, and sometimes without such a change.
        """
        return self.size, self.mtime_ns, self.ctime_ns

    def open(self) -> tuple[IO[bytes], FileState]:
        """Open the file, and return it with its present state. Raises OSError; of a store DataError or StoreError.

        A file of a store is copied as a whole, in its recorded state.
        """
        if self.is_stored:
            return stores.copy(stores.StoredFile(self.path, *self.state)), replace(self, digest=b"")
        file = open(self.path, "rb")  # noqa: SIM115 - the caller closes it
        return file, self.of_stat(self.path, os.fstat(file.fileno()))

    def read(self) -> FileState:
        """Return the file with the digest of its content. Raises DataError if it cannot be read."""
        if self.digest:
            return self
        try:
            file, now = self.open()
            with file:
                return replace(now, digest=content_digest(file))
        except OSError as error:
            raise DataError(f"{self.path}: cannot read: {error.strerror}") from error

    def same_content(self, before: FileState) -> bool:
        """Return whether the content equals that of an earlier record; the content is read only if `state` differs."""
        if self.state == before.state:
            return True
        return self.size == before.size and before.digest != b"" and self.read().digest == before.digest


def content_digest(file: object) -> bytes:
    """Return the digest of an open file's content, from its present position to the end."""
    return hashlib.file_digest(file, "sha256").digest()[:DIGEST_BYTES]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Piece:
    """The smallest unit that is ingested alone: a picture, a file of many, a partition with its metadata, an array.

    name: unique within its input; files: the first contains the rows, the others their metadata; first: the first row
    of the file in the input; rows: number of rows of the file. A shard may have a part of a file: start: the first row
    of the file that belongs to the piece, rows: the row after the last; whole: whether all rows belong to it.
    """

    name: str
    files: tuple[FileState, ...]
    first: int
    rows: int
    start: int = 0
    whole: bool = True

    @property
    def path(self) -> str:
        """The path of the file that contains the rows."""
        return self.files[0].path


PlannedPiece = tuple[Piece, int]
"""A piece, and its first row to ingest."""


def with_digests(planned: Sequence[PlannedPiece], progress: Callable[[str, int, int], None]) -> list[PlannedPiece]:
    """Return the plan with the digests of all files; files without a digest are read.

    Files of a part of a piece get no digest, because several shards would each read all of them. Those in a store get
    none, because they would be downloaded once more.
    """
    done: list[PlannedPiece] = []
    for piece, start in planned:
        files = [file.read() if piece.whole and not file.is_stored else file for file in piece.files]
        done.append((replace(piece, files=tuple(files)), start))
        if len(planned) > 1:
            progress("reading", len(done), len(planned))
    return done
