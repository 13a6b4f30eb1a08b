"""The staging folder: embedded pictures that are not in the catalog yet, so that a stopped run can be resumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpubranches.catalog.listings import DIGEST_BYTES
from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_TARGET
from gpubranches.catalog.metadata.tables import read_parquet
from gpubranches.catalog.pictures.decoding import decoded_file
from gpubranches.catalog.row_source import Kind
from gpubranches.core.arrays import open_npy
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import atomic_file, escaped_path, unescaped_path, write_npy
from gpubranches.encoders import Embedder
from gpubranches.errors import CatalogFormatError, DataError
from gpubranches.ingestion.embedding import EmbeddingRates, embed_in_order
from gpubranches.ingestion.inputs import UNREAD, FileState, Piece, content_digest

PARTITION = 2048
"""Pictures of a partition, which is written at once; a killed run loses one partition at most."""
_SCHEMA = pa.schema(
    [
        ("place", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("ctime_ns", pa.int64()),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("error", pa.string()),
    ]
)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A picture that was read. prepared: input of the embedder; error: the reason if it could not be read."""

    file: FileState
    prepared: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    """The place of the embedding of a picture, and the state of the file that was read."""

    file: FileState
    part: int
    row: int
    error: str | None


class StagedPictures:
    """Embedded pictures as a source, in the order of their pieces.

    pieces: in the state in which they were read, with digests. Items have the columns `image_path` and, where a link
    led out of the folder, `image_target`. A picture that could not be read has a row of zeros and a reason.
    """

    kind: Kind = "embeddings"

    def __init__(self, folder: str, pieces: Sequence[Piece], rows: Sequence[_Row], parts: Sequence[Path], dim: int):
        self.roots = {"": folder}
        self.n, self.dim = len(pieces), dim
        self.pieces = tuple(replace(piece, files=(row.file,)) for piece, row in zip(pieces, rows, strict=True))
        self._arrays = [open_npy(path) for path in parts]
        self._part = np.array([row.part for row in rows], np.int64)
        self._row = np.array([row.row for row in rows], np.int64)
        self._errors = [row.error for row in rows]
        self._links = any(self._target(piece) for piece in self.pieces)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim) float16."""
        out = np.zeros((len(rows), self.dim), np.float16)
        for part in np.unique(self._part[rows]):
            at = self._part[rows] == part
            out[at] = self._arrays[part][self._row[rows[at]]]
        return out

    def items(self, start: int, stop: int) -> pa.Table:
        """Return the metadata of rows start..stop-1."""
        pieces = self.pieces[start:stop]
        columns = {IMAGE_PATH: pa.array([escaped_path(piece.name) for piece in pieces], pa.string())}
        if self._links:
            columns[IMAGE_TARGET] = pa.array([self._target(piece) for piece in pieces], pa.string())
        return pa.table(columns)

    def reasons(self, start: int, stop: int) -> Sequence[str | None]:
        """Return why rows start..stop-1 could not be read."""
        return self._errors[start:stop]

    def _target(self, piece: Piece) -> str | None:
        inside = piece.path.startswith(f"{self.roots[''].rstrip('/')}/")
        return None if inside else escaped_path(piece.path)


def staged_folder(staging: Path, folder: str, embedder: Embedder) -> Path:
    """Return the folder in `staging` for the embedded pictures of a folder."""
    return staging / digest(embedder.identity, os.fsencode(folder))


def embed_pictures(
    folder: str,
    pieces: Sequence[Piece],
    out: Path,
    embedder: Embedder,
    *,
    batch_size: int,
    progress: Progress,
    rates: EmbeddingRates | None = None,
) -> StagedPictures:
    """Embed the pictures under `folder` that are not in `out` in their present state; return all of them.

    They are embedded `batch_size` at a time, see `embed_in_order`, and written about `PARTITION` at a time. rates: is
    updated. Raises DataError if writing fails.
    """
    parts = _held(out, embedder.D)
    found = {(row.file.path, row.file.state): row for number, path in enumerate(parts) for row in _rows(path, number)}
    missing = [piece for piece in pieces if (piece.path, piece.files[0].state) not in found]
    rates = rates or EmbeddingRates()
    tell = _Counter(len(pieces) - len(missing), len(pieces), progress)
    rest = iter(missing)
    decode, together = partial(_decode, embedder=embedder), min(batch_size, PARTITION)
    with closing(embed_in_order(missing, decode, embedder, together, rates)) as batches:
        for decoded, embeddings in _partitions(batches, tell):
            rows = [_Row(each.file, len(parts), number, each.error) for number, each in enumerate(decoded)]
            parts.append(_write(out, embeddings, rows))
            found |= {(piece.path, piece.files[0].state): row for row, piece in zip(rows, rest, strict=False)}
    return StagedPictures(
        folder, pieces, [found[piece.path, piece.files[0].state] for piece in pieces], parts, embedder.D
    )


class _Counter:
    """Reports pictures that are done. done, total: at first, and in the end."""

    def __init__(self, done: int, total: int, progress: Progress):
        self._done, self._total, self._progress = done, total, progress
        self(0)

    def __call__(self, more: int) -> None:
        self._done += more
        self._progress("embedding", self._done, self._total)


def _partitions(
    batches: Iterable[tuple[list[_Decoded], NDArray[np.float32]]], tell: Callable[[int], None]
) -> Iterator[tuple[list[_Decoded], NDArray[np.float16]]]:
    """Yield pictures and embeddings of `PARTITION` pictures or a little more; the last ones may be fewer."""
    decoded: list[_Decoded] = []
    rows: list[NDArray[np.float16]] = []
    for batch, embeddings in batches:
        decoded += batch
        rows.append(embeddings.astype(np.float16))
        tell(len(batch))
        if len(decoded) >= PARTITION:
            yield decoded, np.concatenate(rows)
            decoded, rows = [], []
    if decoded:
        yield decoded, np.concatenate(rows)


def removed_of(staging: Path) -> Path:
    """Return the name of a folder of embedded pictures while it is being removed."""
    return staging.with_name(f"{staging.name}.removed")


def remove_staged(staging: Path, places: Sequence[Path]) -> None:
    """Remove embedded pictures that are in the catalog, and the folder if nothing else is in it.

    A folder is renamed before it is removed, so that a partly removed folder is never read.
    """
    gone = removed_of(staging)
    shutil.rmtree(gone, ignore_errors=True)
    rest = {entry.name for entry in staging.iterdir()} - {"lock", *(place.name for place in places)}
    with suppress(OSError):
        if rest:
            gone.mkdir()
            for place in places:
                place.rename(gone / place.name)
        else:
            staging.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _held(out: Path, dim: int) -> list[Path]:
    """Return the complete partitions; remove the files of incomplete ones."""
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for path in sorted(out.iterdir()):
        table = path.with_suffix(".parquet")
        try:
            whole = path.suffix == ".npy" and open_npy(path).shape == (len(read_parquet(table).cast(_SCHEMA)), dim)
        except (CatalogFormatError, OSError, pa.ArrowException, ValueError):
            whole = False
        if whole:
            parts.append(path)
        elif path.suffix == ".npy" or not path.with_suffix(".npy").exists():
            path.unlink()
    return parts


def _rows(path: Path, part: int) -> Iterator[_Row]:
    table = read_parquet(path.with_suffix(".parquet")).cast(_SCHEMA)
    for number, row in enumerate(table.to_pylist()):
        place, error = unescaped_path(row.pop("place")), row.pop("error")
        yield _Row(FileState(place, **{**row, "digest": row["digest"] or b""}), part, number, error)


def _write(out: Path, embeddings: NDArray[np.float16], rows: Sequence[_Row]) -> Path:
    """Write metadata, then embeddings; the partition is complete when the .npy has its final name."""
    number = 1 + max((int(path.stem) for path in out.glob("*.npy")), default=-1)
    path = out / f"{number:06d}.npy"
    columns = {
        "place": [escaped_path(row.file.path) for row in rows],
        "size": [row.file.size for row in rows],
        "mtime_ns": [row.file.mtime_ns for row in rows],
        "ctime_ns": [row.file.ctime_ns for row in rows],
        "digest": [row.file.digest or None for row in rows],
        "error": [row.error for row in rows],
    }
    with atomic_file(path.with_suffix(".parquet")) as file:
        pq.write_table(pa.table(columns, schema=_SCHEMA), file)
    with atomic_file(path) as file:
        write_npy(file, embeddings)
    return path


def _decode(piece: Piece, embedder: Embedder) -> _Decoded:
    """Read a picture once, for its embedding and for the digest of the same bytes."""
    place = piece.path
    seen = FileState(place, UNREAD, 0, 0)
    try:
        with open(place, "rb") as file:
            stat = os.fstat(file.fileno())
            whole = content_digest(file)
            file.seek(0)
            with decoded_file(file, place) as image:
                seen = replace(FileState.of_stat(place, stat), digest=whole)
                return _Decoded(seen, embedder.preprocess(image), None)
    except OSError as error:
        return _Decoded(seen, None, f"cannot read: {error.strerror}")
    except DataError as error:
        seen = replace(FileState.of_stat(place, stat), digest=whole)
        return _Decoded(seen, None, escaped_path(str(error.args[0]).removeprefix(f"{place}: ")))
