"""What an input is made of, down to the least that can be taken in alone, and when two of those are the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpubranches.catalog.listings import DIGEST_BYTES
from gpubranches.errors import CatalogNotFoundError, DataError, UsageError
from gpubranches.files import parse_json, spelled
from gpubranches.ingest.array_file import ArrayFile
from gpubranches.ingest.clip_retrieval import ClipRetrieval
from gpubranches.ingest.datasets import Source, is_image_folder, open_dataset
from gpubranches.pictures.folders import find_pictures
from gpubranches.pictures.images import ENDINGS

UNREAD = -1
"""The size of a file that could not be read, which no file has: it is looked at anew whenever it is met."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was seen. place: absolute, links resolved; digest: of its content, b"" until that was read."""

    place: str
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes = b""

    @classmethod
    def at(cls, place: str) -> File:
        """Look at a file. Raises DataError if it is not there."""
        try:
            return cls.seen(place, os.stat(place))
        except OSError as error:
            raise DataError(f"{place}: cannot read: {error.strerror}") from error

    @classmethod
    def seen(cls, place: str, stat: os.stat_result) -> File:
        """Return a file by what the system says of it."""
        return cls(place, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @property
    def state(self) -> tuple[int, int, int]:
        """What changes when the content does, and sometimes when it does not."""
        return self.size, self.mtime_ns, self.ctime_ns

    def read(self) -> File:
        """Return the file with the digest of its content. Raises DataError if it cannot be read."""
        if self.digest:
            return self
        try:
            with open(self.place, "rb") as file:
                stat = os.fstat(file.fileno())
                return replace(self.seen(self.place, stat), digest=content_digest(file))
        except OSError as error:
            raise DataError(f"{self.place}: cannot read: {error.strerror}") from error

    def holds_what(self, before: File) -> bool:
        """Return whether the content is that of a file seen before; it is read only where the looks differ."""
        if self.state == before.state:
            return True
        return self.size == before.size and self.read().digest == before.digest


def content_digest(file: object) -> bytes:
    """Return the digest of an open file's content from where it stands."""
    return hashlib.file_digest(file, "sha256").digest()[:DIGEST_BYTES]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Piece:
    """The least that is taken in alone: a picture, a partition with its metadata, an array.

    name: within its input; files: the first has the rows, what is told of them lies in the others; first: its first
    row in the input; rows: how many it has.
    """

    name: str
    files: tuple[File, ...]
    first: int
    rows: int

    @property
    def place(self) -> str:
        """Where its rows are."""
        return self.files[0].place


@dataclass(frozen=True)
class Input:
    """One input. path: absolute, links resolved; source: its rows, None for pictures, which are still to be embedded.

    notes: what was not taken as it lies there, and what its user should know; one sentence each. moves: (old, new) for
    folders that its metadata name and that are elsewhere now.
    """

    path: str
    pieces: tuple[Piece, ...]
    source: Source | None
    notes: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()

    @property
    def what(self) -> str:
        """What its pieces are called."""
        return "pictures" if self.source is None else "files"


Taking = tuple[Piece, int]
"""A piece, and its first row that is to be taken."""


def scan(paths: Sequence[str | Path], pictures: Path | None = None) -> list[Input]:
    """Look at inputs, without reading what they hold.

    pictures: the folder of the pictures that clip-retrieval folders name. Raises CatalogNotFoundError,
    CatalogFormatError or DataError for one that cannot be used, UsageError for the same one twice.
    """
    found = [_look_at(Path(path), pictures) for path in paths]
    owners: dict[str, Input] = {}
    for each in found:
        for place in {piece.place for piece in each.pieces}:
            if place in owners:
                both = f"{spelled(owners[place].path)} and {spelled(each.path)}"
                raise UsageError(
                    f"inputs: expected each file once, {spelled(place)} is in {both}; leave one of them out"
                )
            owners[place] = each
    return found


def _look_at(path: Path, pictures: Path | None) -> Input:
    if not path.exists():
        raise CatalogNotFoundError(f"{spelled(str(path))}: expected a file or folder to ingest, found none")
    place = os.path.realpath(path)
    if is_image_folder(path):
        return _folder(path, place)
    source = open_dataset(path, pictures)
    pieces = _array(source) if isinstance(source, ArrayFile) else _partitions(source)
    return Input(place, tuple(pieces), source, source.notes, source.moves)


def _folder(path: Path, place: str) -> Input:
    found = find_pictures(path, is_catalog)
    notes = [f"{spelled(str(path))}: left out are {told}" for told in found.left_out()]
    files = [(name, File.at(target or os.path.join(place, name))) for name, target in found.pictures]
    if not files:
        notes.append(f"{spelled(str(path))}: pictures end in {', '.join(ENDINGS)}")
    pieces = tuple(Piece(name, (file,), row, 1) for row, (name, file) in enumerate(files))
    return Input(place, pieces, None, tuple(notes))


def is_catalog(folder: Path) -> bool:
    """Return whether a folder is a catalog: its thumbnails are no pictures to take in."""
    manifest = folder / "manifest.json"
    try:
        told = parse_json(manifest.read_bytes()) if manifest.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and str(told.get("format", "")).startswith("gpubranches-")


def _array(source: ArrayFile) -> Iterable[Piece]:
    yield Piece(source.path.name, (File.at(os.path.realpath(source.path)),), 0, source.n)


def _partitions(source: ClipRetrieval) -> Iterable[Piece]:
    first = 0
    for part, table in source.partitions():
        files = [File.at(os.path.realpath(path)) for path in (part.path, table) if path is not None]
        yield Piece(part.path.name, tuple(files), first, part.n)
        first += part.n


def with_digests(takings: Sequence[Taking], progress: Callable[[str, int, int], None]) -> list[Taking]:
    """Return what is to be taken with the digests of its content, read where they are not known."""
    done: list[Taking] = []
    for piece, start in takings:
        done.append((replace(piece, files=tuple(file.read() for file in piece.files)), start))
        if len(takings) > 1:
            progress("reading", len(done), len(takings))
    return done
