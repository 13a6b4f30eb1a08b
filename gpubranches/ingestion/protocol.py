"""What each kind of input provides: its pieces, and either rows (embeddings or codes) or pictures to embed.

To add a kind, write one module with a `Kind`, and add it to `KINDS` of `inputs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, Self, runtime_checkable

from gpubranches.catalog.row_source import RowSource
from gpubranches.errors import DataError
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.pieces import FileState, Piece

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]
"""Function that is called with (stage, done, total)."""
Part = tuple[Piece, int, int]
"""A piece, and its rows start..stop-1."""


@dataclass(frozen=True)
class Opener:
    """A picture to read. name: for messages; open: opens its bytes, in any thread, and raises OSError or DataError."""

    name: str
    open: Callable[[], IO[bytes]]

    @classmethod
    def broken(cls, name: str, reason: str) -> Self:
        """Return the opener of a picture that cannot be read: it raises DataError with the reason."""

        def refuse() -> IO[bytes]:
            raise DataError(reason)

        return cls(name, refuse)


class Pictures(Protocol):
    """Pictures that are not embedded yet, with their metadata.

    root: the folder that the column `image_path` is relative to. whole_files: whether each piece is one picture; its
    digest is then computed from the bytes that are decoded.
    """

    root: str
    whole_files: bool

    def openers(self, piece: Piece, rows: Sequence[int]) -> Iterator[Opener]:
        """Yield an opener for each of these rows of a piece, in ascending order. Callers hold few of them at a time."""
        ...

    def items(self, parts: Sequence[Part]) -> pa.Table:
        """Return the metadata of parts: `image_path`, the position of the picture in its file, and the rest."""
        ...


@runtime_checkable
class SpooledSource(Protocol):
    """A `RowSource` that must be copied to the disk before its rows can be read in any order."""

    def spool(self, folder: Path, progress: Progress) -> None:
        """Copy the rows into a folder; complete copies of unchanged files from an earlier call are used again."""
        ...


@dataclass(frozen=True)
class Input:
    """An input. path: absolute, links resolved; source: its rows, or None; pictures: to be embedded, or None.

    notes: messages about skipped or changed parts, one sentence each. moves: (old, new) for moved folders that its
    metadata name.
    """

    path: str
    pieces: tuple[Piece, ...]
    source: RowSource | None = None
    pictures: Pictures | None = None
    notes: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()

    @property
    def noun(self) -> str:
        """The word for its pieces in messages, in the plural."""
        return "pictures" if self.pictures is not None and self.pictures.whole_files else "files"


@dataclass(frozen=True)
class InputFiles:
    """The files that a kind may read. path: of the input, as given; place: its folder, absolute, links resolved.

    files: pairs (name in the folder, absolute path with links resolved), ascending. options: of the ingest. In a store,
    path and place are addresses, and `stored` has the states of the files by their addresses. kept: a folder in which a
    scan stores results for the next scan, or None.
    """

    path: Path | str
    place: str
    files: tuple[tuple[str, str], ...]
    options: IngestOptions
    progress: Progress
    stored: Mapping[str, FileState] = field(default_factory=dict)
    kept: Path | None = None

    def state(self, path: str) -> FileState:
        """Return the state of one of the files, without its digest. Raises DataError if it is missing."""
        return self.stored.get(path) or FileState.at(path)


@dataclass(frozen=True)
class Kind:
    """A kind of input. title, given: its name, and the form of its input, in words; endings: of its files.

    open: returns the input, or None if the files are of another kind; raises CatalogFormatError or DataError for files
    that cannot be used.
    """

    title: str
    given: str
    endings: tuple[str, ...]
    open: Callable[[InputFiles], Input | None]
