"""The staging folder holds embedded pictures that are not in the catalog yet, so that a stopped run can be resumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from gpubranches.catalog.metadata.tables import read_parquet
from gpubranches.catalog.pictures.decoding import decoded_file
from gpubranches.catalog.row_source import Kind
from gpubranches.core import stores
from gpubranches.core.arrays import open_npy
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import atomic_file, escaped_path, unescaped_path, write_npy
from gpubranches.encoders import Embedder
from gpubranches.errors import CatalogFormatError, DataError
from gpubranches.ingestion.embedding import EmbeddingRates, decoding_threads, embed_in_order
from gpubranches.ingestion.pieces import UNREAD, FileState, PlannedPiece, content_digest
from gpubranches.ingestion.protocol import Opener, Pictures, Progress

PARTITION = 2048
"""Pictures per partition. A partition is written at once, so a killed run loses at most one."""
_SCHEMA = pa.schema(
    [
        ("place", pa.string()),
        ("row", pa.int64()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("ctime_ns", pa.int64()),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("error", pa.string()),
    ]
)

_Key = tuple[str, tuple[int, int, int], int]
"""The path and state of a file, and the row of a picture in it."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A picture to read. read: returns the file with many pictures, with its digest; None for a picture file."""

    key: _Key
    opener: Opener
    read: Future[FileState] | None


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A picture that was read. prepared: the input of the embedder; error: the reason if it could not be read."""

    key: _Key
    file: FileState
    prepared: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    """The position of an embedding: row `at` of a partition. file, row: the picture, in the state that was read."""

    file: FileState
    row: int
    part: int
    at: int
    error: str | None

    @property
    def key(self) -> _Key:
        """The key that identifies the picture."""
        return self.file.path, self.file.state, self.row


class StagedPictures:
    """Embedded pictures as a source, in the order of their pieces.

    pieces: in the state in which they were read, with digests. Items are those of the input. A picture that could not
    be read has a row of zeros and a reason.
    """

    kind: Kind = "embeddings"

    def __init__(
        self,
        pictures: Pictures,
        planned: Sequence[PlannedPiece],
        rows: Sequence[_Row],
        parts: Sequence[Path],
        dim: int,
    ):
        self.roots = {"": pictures.root}
        self.n, self.dim = len(rows), dim
        self._pictures = pictures
        self._starts = np.cumsum([0, *(piece.rows - start for piece, start in planned)])
        read = [rows[first].file for first in self._starts[:-1].tolist()]
        self.pieces = [(replace(piece, files=(file,)), at) for (piece, at), file in zip(planned, read, strict=True)]
        self._arrays = [open_npy(path) for path in parts]
        self._part = np.array([row.part for row in rows], np.int64)
        self._row = np.array([row.at for row in rows], np.int64)
        self._errors = [row.error for row in rows]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim) float16."""
        out = np.zeros((len(rows), self.dim), np.float16)
        for part in np.unique(self._part[rows]):
            at = self._part[rows] == part
            out[at] = self._arrays[part][self._row[rows[at]]]
        return out

    def items(self, start: int, stop: int) -> pa.Table:
        """Return the metadata of rows start..stop-1."""
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        last = int(np.searchsorted(self._starts, stop, "left"))
        parts = []
        for (piece, begin), offset in zip(self.pieces[first:last], self._starts[first:last].tolist(), strict=True):
            low, high = max(start - offset, 0) + begin, min(stop - offset + begin, piece.rows)
            parts.append((piece, low, high))
        return self._pictures.items(parts)

    def reasons(self, start: int, stop: int) -> Sequence[str | None]:
        """Return why rows start..stop-1 could not be read."""
        return self._errors[start:stop]


def staged_folder(staging: Path, folder: str, embedder: Embedder) -> Path:
    """Return the folder in `staging` for the embedded pictures of a folder."""
    return staging / digest(embedder.identity, os.fsencode(folder))


def spool_folder(staging: Path, path: str) -> Path:
    """Return the folder in `staging` for the copied embeddings of an input."""
    return staging / digest("spool", os.fsencode(path))


def embed_pictures(
    pictures: Pictures,
    planned: Sequence[PlannedPiece],
    out: Path,
    embedder: Embedder,
    *,
    batch_size: int,
    progress: Progress,
    rates: EmbeddingRates | None = None,
) -> StagedPictures:
    """Embed the pictures of the planned pieces that `out` does not have in their present state; return all of them.

    `batch_size` pictures are embedded at a time, see `embed_in_order`, and about `PARTITION` are written at a time.
    rates: updated by this function. Raises DataError if writing fails, or if a file with many pictures changes
    meanwhile.
    """
    parts = _held(out, embedder.D)
    found = {row.key: row for number, path in enumerate(parts) for row in _rows(path, number)}
    wanted = [(piece.path, piece.files[0].state, row) for piece, at in planned for row in range(at, piece.rows)]
    tell = _Counter(sum(key in found for key in wanted), len(wanted), progress)
    decode, together = partial(_decode, embedder=embedder), min(batch_size, PARTITION)
    rates = rates or EmbeddingRates()
    rates.decoders = stores.AT_ONCE if stores.is_url(pictures.root) else rates.decoders
    with decoding_threads(rates.decoders) as workers:
        missing = _missing(pictures, planned, found, workers)
        batches = embed_in_order(missing, decode, embedder, together, workers, rates)
        with closing(batches):
            for decoded, embeddings in _partitions(batches, tell):
                rows = [_Row(each.file, each.key[2], len(parts), at, each.error) for at, each in enumerate(decoded)]
                parts.append(_write(out, embeddings, rows))
                found |= {each.key: row for each, row in zip(decoded, rows, strict=True)}
    return StagedPictures(pictures, planned, [found[key] for key in wanted], parts, embedder.D)


class _Counter:
    """Reports the number of pictures that are done. done: the count at the start; total: the count at the end."""

    def __init__(self, done: int, total: int, progress: Progress):
        self._done, self._total, self._progress = done, total, progress
        self(0)

    def __call__(self, more: int) -> None:
        self._done += more
        self._progress("embedding", self._done, self._total)


def _partitions(
    batches: Iterable[tuple[list[_Decoded], NDArray[np.float32]]], tell: Callable[[int], None]
) -> Iterator[tuple[list[_Decoded], NDArray[np.float16]]]:
    """Yield the pictures and embeddings of partitions of about `PARTITION` pictures; the last may be smaller."""
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


def _missing(
    pictures: Pictures, planned: Sequence[PlannedPiece], found: Container[_Key], workers: ThreadPoolExecutor
) -> Iterator[_Wanted]:
    """Yield the pictures that are not embedded, in order; workers compute the digests of files with many pictures."""
    for piece, start in planned:
        file = piece.files[0]
        rows = [row for row in range(start, piece.rows) if (file.path, file.state, row) not in found]
        if rows:
            read = None if pictures.whole_files else workers.submit(_unchanged, file)
            for row, opener in zip(rows, pictures.openers(piece, rows), strict=True):
                yield _Wanted((file.path, file.state, row), opener, read)


def _unchanged(file: FileState) -> FileState:
    """Return a file with its digest, one of a store without. Raises DataError if it has changed since the scan."""
    read = FileState.at(file.path) if file.is_stored else file.read()
    if read.state != file.state:
        raise DataError(f"{escaped_path(file.path)}: the file changed while it was read; run the same command again")
    return read


def removed_of(staging: Path) -> Path:
    """Return the name of a folder of embedded pictures during its removal."""
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
    """Return the complete partitions, and remove the files of incomplete ones."""
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
    for number, values in enumerate(table.to_pylist()):
        place, row, error = unescaped_path(values.pop("place")), values.pop("row"), values.pop("error")
        yield _Row(FileState(place, **{**values, "digest": values["digest"] or b""}), row, part, number, error)


def _write(out: Path, embeddings: NDArray[np.float16], rows: Sequence[_Row]) -> Path:
    """Write metadata, then embeddings; the partition is complete when the .npy has its final name."""
    number = 1 + max((int(path.stem) for path in out.glob("*.npy")), default=-1)
    path = out / f"{number:06d}.npy"
    columns = {
        "place": [escaped_path(row.file.path) for row in rows],
        "row": [row.row for row in rows],
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


def _decode(wanted: _Wanted, embedder: Embedder) -> _Decoded:
    """Read a picture. A picture file is read once, and the same bytes give its embedding and its digest."""
    return (
        _decode_file(wanted, embedder) if wanted.read is None else _decode_part(wanted, wanted.read.result(), embedder)
    )


def _decode_file(wanted: _Wanted, embedder: Embedder) -> _Decoded:
    place, state, _ = wanted.key
    seen = FileState(place, UNREAD, 0, 0)
    try:
        file, now = FileState(place, *state).open()
        with file:
            seen = replace(now, digest=content_digest(file))
            file.seek(0)
            with decoded_file(file, place) as image:
                return _Decoded(wanted.key, seen, embedder.preprocess(image), None)
    except OSError as error:
        return _Decoded(wanted.key, seen, None, f"cannot read: {error.strerror}")
    except DataError as error:
        return _Decoded(wanted.key, seen, None, escaped_path(str(error.args[0]).removeprefix(f"{place}: ")))


def _decode_part(wanted: _Wanted, file: FileState, embedder: Embedder) -> _Decoded:
    """Read a picture inside a larger file, whose state and digest are known."""
    try:
        with wanted.opener.open() as opened, decoded_file(opened, wanted.opener.name) as image:
            return _Decoded(wanted.key, file, embedder.preprocess(image), None)
    except OSError as error:
        return _Decoded(wanted.key, file, None, escaped_path(f"{wanted.opener.name}: cannot read: {error.strerror}"))
    except DataError as error:
        return _Decoded(wanted.key, file, None, escaped_path(str(error.args[0])))
