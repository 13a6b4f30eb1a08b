"""Files and folders of embeddings or codes, opened by their endings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gpubranches.catalog.pictures.formats import ending_of
from gpubranches.core import stores
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError
from gpubranches.ingestion.array_file import ArrayFile
from gpubranches.ingestion.clip_retrieval import ClipRetrieval
from gpubranches.ingestion.pieces import FileState, Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind

ARRAYS = (".npy", ".u8bin", ".fbin")


def is_clip_retrieval(path: Path) -> bool:
    """Return whether a folder has the clip-retrieval layout: it contains a folder img_emb."""
    return (path / "img_emb").is_dir()


def open_dataset(path: Path, pictures: str | Path | None = None) -> ArrayFile | ClipRetrieval:
    """Open a file or a clip-retrieval folder. Raises CatalogNotFoundError or CatalogFormatError.

    pictures: the folder of the pictures that the metadata name; by default the program looks for it.
    """
    if path.is_dir():
        return ClipRetrieval(path, pictures)
    if not path.exists():
        raise CatalogNotFoundError(f"{path}: expected a file or folder to ingest, found none")
    if not path.is_file():
        raise CatalogFormatError(f"{path}: expected a folder or a file, got a pipe, a socket or a device")
    if ending_of(path.name) not in ARRAYS:
        raise CatalogFormatError(
            f"{path}: expected a folder, .npy, .u8bin or .fbin, got {path.suffix or 'no ending'!r}"
        )
    return ArrayFile.open(path)


def _array(given: InputFiles) -> Input:
    [(name, path)] = given.files
    if stores.is_url(path):
        with stores.on_disk(path) as copied:  # the memory map keeps the copy until the source is dropped
            source = ArrayFile.open(copied)
            notes = tuple(note.replace(str(copied), path) for note in source.notes)
    else:
        source = ArrayFile.open(Path(given.path))
        notes = source.notes
    return Input(path, (Piece(name, (given.state(path),), 0, source.n),), source, notes=notes)


def _clip_retrieval(given: InputFiles) -> Input:
    source = ClipRetrieval(Path(given.path), given.options.pictures)
    return Input(given.place, tuple(_partitions(source)), source, notes=source.notes, moves=source.moves)


def _partitions(source: ClipRetrieval) -> Iterable[Piece]:
    first = 0
    for part, table in source.partitions():
        files = [FileState.at(os.path.realpath(path)) for path in (part.path, table) if path is not None]
        if part.n:
            yield Piece(part.path.name, tuple(files), first, part.n)
        first += part.n


CLIP_RETRIEVAL = Kind(
    "a folder of clip-retrieval",
    "a folder with img_emb/img_emb_0.npy and metadata/metadata_0.parquet",
    (),
    _clip_retrieval,
)
ARRAY = Kind(
    "arrays",
    "a .npy or .fbin of embeddings (float16, bfloat16, float32, float64), a .npy or .u8bin of codes",
    ARRAYS,
    _array,
)
