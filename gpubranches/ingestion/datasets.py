"""Files and folders of embeddings or codes, opened by their endings."""

from __future__ import annotations

from pathlib import Path

from gpubranches.errors import CatalogFormatError, CatalogNotFoundError
from gpubranches.ingestion.array_file import ArrayFile
from gpubranches.ingestion.clip_retrieval import ClipRetrieval


def is_image_folder(path: Path) -> bool:
    """Return whether a folder is to be read as pictures: it has no img_emb folder."""
    return path.is_dir() and not (path / "img_emb").is_dir()


def open_dataset(path: Path, pictures: Path | None = None) -> ArrayFile | ClipRetrieval:
    """Open a file or a clip-retrieval folder. Raises CatalogNotFoundError or CatalogFormatError.

    pictures: the folder of the pictures that the metadata name; by default it is searched.
    """
    if path.is_dir():
        return ClipRetrieval(path, pictures)
    if not path.exists():
        raise CatalogNotFoundError(f"{path}: expected a file or folder to ingest, found none")
    if not path.is_file():
        raise CatalogFormatError(f"{path}: expected a folder or a file, got a pipe, a socket or a device")
    if path.suffix not in (".npy", ".u8bin", ".fbin"):
        raise CatalogFormatError(
            f"{path}: expected a folder, .npy, .u8bin or .fbin, got {path.suffix or 'no ending'!r}"
        )
    return ArrayFile.open(path)
