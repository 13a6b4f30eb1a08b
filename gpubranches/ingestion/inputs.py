"""Inputs as pieces, the smallest units that can be ingested alone, and the files of a piece with their state."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpubranches.catalog.listings import DIGEST_BYTES
from gpubranches.catalog.pictures.decoding import ENDINGS
from gpubranches.catalog.pictures.folders import find_pictures
from gpubranches.catalog.row_source import RowSource
from gpubranches.core.files import escaped_path, parse_json
from gpubranches.errors import CatalogNotFoundError, DataError, UsageError
from gpubranches.ingestion.array_file import ArrayFile
from gpubranches.ingestion.clip_retrieval import ClipRetrieval
from gpubranches.ingestion.datasets import is_image_folder, open_dataset

UNREAD = -1
"""Recorded size of a file that could not be read. No file has this size, so the file is checked again each time."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file with its recorded state. path: absolute, links resolved; digest: of its content, b"" until read."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes = b""

    @classmethod
    def at(cls, path: str) -> FileState:
        """Return the state of a file, without its digest. Raises DataError if it is missing."""
        try:
            return cls.of_stat(path, os.stat(path))
        except OSError as error:
            raise DataError(f"{path}: cannot read: {error.strerror}") from error

    @classmethod
    def of_stat(cls, path: str, stat: os.stat_result) -> FileState:
        """Return a file from its path and the result of `os.stat`."""
        return cls(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @property
    def state(self) -> tuple[int, int, int]:
        """Size and times. They change whenever the content changes, and sometimes without."""
        return self.size, self.mtime_ns, self.ctime_ns

    def read(self) -> FileState:
        """Return the file with the digest of its content. Raises DataError if it cannot be read."""
        if self.digest:
            return self
        try:
            with open(self.path, "rb") as file:
                stat = os.fstat(file.fileno())
                return replace(self.of_stat(self.path, stat), digest=content_digest(file))
        except OSError as error:
            raise DataError(f"{self.path}: cannot read: {error.strerror}") from error

    def same_content(self, before: FileState) -> bool:
        """Return whether the content equals that of an earlier record; it is read only where `state` differs."""
        if self.state == before.state:
            return True
        return self.size == before.size and self.read().digest == before.digest


def content_digest(file: object) -> bytes:
    """Return the digest of an open file's content from its present position on."""
    return hashlib.file_digest(file, "sha256").digest()[:DIGEST_BYTES]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Piece:
    """The smallest unit that is ingested alone: a picture, a partition with its metadata, an array.

    name: within its input; files: the first has the rows, the others their metadata; first: the first row of the file
    in the input; rows: number of rows of the file. A shard may have a part of a file: start: the first row of the file
    that belongs to the piece, rows: the one after the last; whole: whether all of them do.
    """

    name: str
    files: tuple[FileState, ...]
    first: int
    rows: int
    start: int = 0
    whole: bool = True

    @property
    def path(self) -> str:
        """The path of the file with its rows."""
        return self.files[0].path


@dataclass(frozen=True)
class Input:
    """One input. path: absolute, links resolved; source: its rows, None for pictures, which are not embedded yet.

    notes: messages on skipped or changed parts, one sentence each. moves: (old, new) for folders that its metadata name
    and that were moved.
    """

    path: str
    pieces: tuple[Piece, ...]
    source: RowSource | None
    notes: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()

    @property
    def noun(self) -> str:
        """The word for its pieces in messages, in the plural."""
        return "pictures" if self.source is None else "files"


PlannedPiece = tuple[Piece, int]
"""A piece, and its first row to ingest."""


def scan(paths: Sequence[str | Path], pictures: Path | None = None) -> list[Input]:
    """Return the inputs of some paths, without reading their content.

    pictures: the folder of the pictures that clip-retrieval folders name. Raises CatalogNotFoundError,
    CatalogFormatError or DataError for one that cannot be used, UsageError for the same one twice.
    """
    found = [_open(Path(path), pictures) for path in paths]
    owners: dict[str, Input] = {}
    for each in found:
        for place in {piece.path for piece in each.pieces}:
            if place in owners:
                both = f"{escaped_path(owners[place].path)} and {escaped_path(each.path)}"
                raise UsageError(
                    f"inputs: expected each file once, {escaped_path(place)} is in {both}; leave one of them out"
                )
            owners[place] = each
    return found


def _open(path: Path, pictures: Path | None) -> Input:
    if not path.exists():
        raise CatalogNotFoundError(f"{escaped_path(str(path))}: expected a file or folder to ingest, found none")
    place = os.path.realpath(path)
    if is_image_folder(path):
        return _folder(path, place)
    source = open_dataset(path, pictures)
    pieces = _array(source) if isinstance(source, ArrayFile) else _partitions(source)
    return Input(place, tuple(pieces), source, source.notes, source.moves)


def _folder(path: Path, place: str) -> Input:
    found = find_pictures(path, is_catalog)
    notes = [f"{escaped_path(str(path))}: left out are {phrase}" for phrase in found.left_out()]
    files = [(name, FileState.at(target or os.path.join(place, name))) for name, target in found.pictures]
    if not files:
        notes.append(f"{escaped_path(str(path))}: pictures end in {', '.join(ENDINGS)}")
    pieces = tuple(Piece(name, (file,), row, 1) for row, (name, file) in enumerate(files))
    return Input(place, pieces, None, tuple(notes))


def is_catalog(folder: Path) -> bool:
    """Return whether a folder is a catalog; its thumbnails are not ingested."""
    manifest = folder / "manifest.json"
    try:
        content = parse_json(manifest.read_bytes()) if manifest.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("format", "")).startswith("gpubranches-")


def _array(source: ArrayFile) -> Iterable[Piece]:
    yield Piece(source.path.name, (FileState.at(os.path.realpath(source.path)),), 0, source.n)


def _partitions(source: ClipRetrieval) -> Iterable[Piece]:
    first = 0
    for part, table in source.partitions():
        files = [FileState.at(os.path.realpath(path)) for path in (part.path, table) if path is not None]
        yield Piece(part.path.name, tuple(files), first, part.n)
        first += part.n


def with_digests(planned: Sequence[PlannedPiece], progress: Callable[[str, int, int], None]) -> list[PlannedPiece]:
    """Return the plan with the digests of all files; files without a digest are read.

    The files of a part of a piece get none: several shards would each read all of them.
    """
    done: list[PlannedPiece] = []
    for piece, start in planned:
        done.append((replace(piece, files=tuple(file.read() for file in piece.files)) if piece.whole else piece, start))
        if len(planned) > 1:
            progress("reading", len(done), len(planned))
    return done
