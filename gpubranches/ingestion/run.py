"""One run of an ingest or append: its lock, its staging folder, and its inputs opened as one source."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubranches.catalog import disk_errors, exclusive
from gpubranches.catalog.pictures.image_files import present_path
from gpubranches.catalog.row_source import Kind, RowSource
from gpubranches.core.files import escaped_path, make_folder
from gpubranches.encoders import BATCH_SIZE, Embedder
from gpubranches.errors import UsageError
from gpubranches.ingestion.combined_sources import JoinedSources, SourceRanges
from gpubranches.ingestion.embedding import EmbeddingRates
from gpubranches.ingestion.pieces import PlannedPiece, with_digests
from gpubranches.ingestion.protocol import Input, Progress, SpooledSource
from gpubranches.ingestion.staging import embed_pictures, remove_staged, removed_of, spool_folder, staged_folder


@contextmanager
def exclusive_run(folder: Path) -> Iterator[bool]:
    """Hold the lock that allows one ingest or append of a catalog at a time; yields whether an earlier run was stopped.

    Raises DataError if another process holds it, or the folder cannot be written.
    """
    staging, stopped = folder / "staging", was_stopped(folder)
    with disk_errors(folder):
        make_folder(staging)
    with exclusive(staging), disk_errors(folder):
        shutil.rmtree(removed_of(staging), ignore_errors=True)
        try:
            yield stopped
        finally:
            if staging.is_dir() and [entry.name for entry in staging.iterdir()] == ["lock"]:
                remove_staged(staging, [])


def was_stopped(folder: Path) -> bool:
    """Return whether a catalog has files of an ingest or append that was stopped or is running."""
    staging = folder / "staging"
    return staging.exists() or removed_of(staging).exists()


class IngestRun:
    """One run of an ingest or append. progress: called with (stage, done, total); rates: of the pictures embedded."""

    def __init__(self, staging: Path, embedder: Embedder | None, batch_size: int | None, progress: Progress | None):
        self.progress = progress or (lambda stage, done, total: None)
        self.rates = EmbeddingRates()
        self._staging, self._embedder = staging, embedder
        self._batch_size: int = batch_size if batch_size is not None else getattr(embedder, "batch_size", BATCH_SIZE)

    def shape_of(self, input: Input) -> tuple[Kind, int]:
        """Return the kind and the dims of the rows of an input."""
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
        opened = [self._open(each, planned) for each, planned in plan]
        sources, planned = [source for source, _ in opened], [piece for _, part in opened for piece in part]
        known = {name: present_path(dict(origin), root) for name, root in origin.get("roots", {}).items()}
        return _joined(sources, [each.path for each, _ in plan], known), planned

    def remove_staged(self, inputs: Sequence[Input]) -> None:
        """Remove the staged embeddings, of this or a stopped run, of inputs that are in the catalog now."""
        folders = [spool_folder(self._staging, each.path) for each in inputs if isinstance(each.source, SpooledSource)]
        if self._embedder is not None:
            pictures = [each.path for each in inputs if each.pictures is not None]
            folders += [staged_folder(self._staging, path, self._embedder) for path in pictures]
        remove_staged(self._staging, [folder for folder in folders if folder.exists()])

    def _open(self, input: Input, planned: list[PlannedPiece]) -> tuple[RowSource, list[PlannedPiece]]:
        if input.source is not None:
            planned = with_digests(planned, self.progress)
            if isinstance(input.source, SpooledSource):
                input.source.spool(spool_folder(self._staging, input.path), self.progress)
            ranges = [(piece.first + start, piece.first + piece.rows) for piece, start in planned]
            whole = sum(stop - start for start, stop in ranges) == input.source.n
            return (input.source if whole else SourceRanges(input.source, ranges)), planned
        if self._embedder is None or input.pictures is None:
            raise UsageError(f"{escaped_path(input.path)}: pictures need a model; pass --embedder")
        staged = embed_pictures(
            input.pictures,
            planned,
            staged_folder(self._staging, input.path, self._embedder),
            self._embedder,
            batch_size=self._batch_size,
            progress=self.progress,
            rates=self.rates,
        )
        return staged, staged.pieces


def _joined(sources: Sequence[RowSource], paths: Sequence[str], known: Mapping[str, str]) -> RowSource:
    """Return several sources as one; a single source is returned unchanged unless it adds a folder of pictures.

    known: the folders of pictures of the catalog, by input. If there are two folders or more, the column `input` names
    the folder of each picture.
    """
    own = list(sources[0].roots.values())
    if len(sources) == 1 and (not known or own in ([], [known.get("")])):
        return sources[0]
    folders = [next(iter(source.roots.values()), path) for source, path in zip(sources, paths, strict=True)]
    return JoinedSources(sources, _names(paths, folders, known))


def _names(paths: Sequence[str], folders: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return names of inputs: those of known folders, else the last part of the path; equal names get a number."""
    by_folder, names = {root: name for name, root in known.items()}, list[str]()
    for path, folder in zip(paths, folders, strict=True):
        stem = escaped_path(Path(path).stem)
        name, number = by_folder.get(folder, stem), len(names)
        while name in names or known.get(name, folder) != folder:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names
