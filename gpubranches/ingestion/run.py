"""The rows of inputs as one source, with pictures embedded, and the staging folder of this work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubranches.catalog import disk_errors, exclusive
from gpubranches.catalog.pictures.images import moved
from gpubranches.catalog.row_source import Kind, RowSource
from gpubranches.core.files import make_folder, spelled
from gpubranches.encoders import Embedder
from gpubranches.errors import UsageError
from gpubranches.ingestion.combined_sources import JoinedSources, SourceRanges
from gpubranches.ingestion.inputs import Input, PlannedPiece, with_digests
from gpubranches.ingestion.staging import embed_pictures, forget, place_of, removed_of

Progress = Callable[[str, int, int], None]


@contextmanager
def exclusive_run(folder: Path) -> Iterator[bool]:
    """Hold the lock of the one ingest or append of a catalog; yields whether an earlier one was stopped.

    Raises DataError if another process holds it, or the folder cannot be written.
    """
    staging = folder / "staging"
    stopped = staging.exists() or removed_of(staging).exists()
    with disk_errors(folder):
        make_folder(staging)
    with exclusive(staging), disk_errors(folder):
        shutil.rmtree(removed_of(staging), ignore_errors=True)
        try:
            yield stopped
        finally:
            if staging.is_dir() and [entry.name for entry in staging.iterdir()] == ["lock"]:
                forget(staging, [])


class IngestRun:
    """One ingest or append: its embedder, the folder of embedded pictures, the callback of progress."""

    def __init__(self, staging: Path, embedder: Embedder | None, batch_size: int, progress: Progress):
        self.progress = progress
        self._staging, self._embedder, self._batch_size = staging, embedder, batch_size

    def shape_of(self, input: Input) -> tuple[Kind, int]:
        """Return kind and dims of the rows of an input."""
        if input.source is not None:
            return input.source.kind, input.source.dim
        return "embeddings", 0 if self._embedder is None else self._embedder.D

    def open(
        self, plan: Sequence[tuple[Input, list[PlannedPiece]]], origin: Mapping[str, Any]
    ) -> tuple[RowSource, list[PlannedPiece]]:
        """Return the plan as one source, and the plan with the digests of all its files.

        origin: the JSON of the catalog on its earlier inputs. Raises UsageError for inputs that cannot be combined.
        """
        shapes = {self.shape_of(each) for each, _ in plan}
        if len(shapes) > 1:
            kinds = " and ".join(sorted(f"{kind} of {dim}" for kind, dim in shapes))
            raise UsageError(f"inputs: expected all embeddings or all codes of equal dims, got {kinds}")
        opened = [self._open(each, takings) for each, takings in plan]
        sources, takings = [source for source, _ in opened], [taking for _, part in opened for taking in part]
        known = {name: moved(dict(origin), root) for name, root in origin.get("roots", {}).items()}
        return _joined(sources, [each.path for each, _ in plan], known), takings

    def forget(self, inputs: Sequence[Input]) -> None:
        """Remove the staged embeddings, of this or of a stopped run, of pictures that are in the catalog now."""
        pictures = [each.path for each in inputs if each.source is None]
        places = [] if self._embedder is None else [place_of(self._staging, path, self._embedder) for path in pictures]
        forget(self._staging, [place for place in places if place.exists()])

    def _open(self, input: Input, takings: list[PlannedPiece]) -> tuple[RowSource, list[PlannedPiece]]:
        if input.source is not None:
            takings = with_digests(takings, self.progress)
            ranges = [(piece.first + start, piece.first + piece.rows) for piece, start in takings]
            whole = sum(stop - start for start, stop in ranges) == input.source.n
            return (input.source if whole else SourceRanges(input.source, ranges)), takings
        if self._embedder is None:
            raise UsageError(f"{spelled(input.path)}: a folder of pictures needs a model; pass --embedder")
        place = place_of(self._staging, input.path, self._embedder)
        pieces = [piece for piece, _ in takings]
        staged = embed_pictures(
            input.path, pieces, place, self._embedder, batch_size=self._batch_size, progress=self.progress
        )
        return staged, [(piece, 0) for piece in staged.pieces]


def _joined(sources: Sequence[RowSource], paths: Sequence[str], known: Mapping[str, str]) -> RowSource:
    """Return several sources as one; a single one unchanged, unless it adds another folder of pictures.

    known: the folders of pictures that the catalog has already, by input. Only the column `input` says from which of
    two folders a picture is.
    """
    own = list(sources[0].roots.values())
    if len(sources) == 1 and (not known or own in ([], [known.get("")])):
        return sources[0]
    folders = [next(iter(source.roots.values()), path) for source, path in zip(sources, paths, strict=True)]
    return JoinedSources(sources, _names(paths, folders, known))


def _names(paths: Sequence[str], folders: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return names of inputs: those of known folders, else the last part of the path; equal ones get a number."""
    by_folder, names = {root: name for name, root in known.items()}, list[str]()
    for path, folder in zip(paths, folders, strict=True):
        stem = spelled(Path(path).stem)
        name, number = by_folder.get(folder, stem), len(names)
        while name in names or known.get(name, folder) != folder:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names
