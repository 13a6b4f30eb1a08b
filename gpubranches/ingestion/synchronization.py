"""Keeping a catalog equal to its inputs: add new files, embed changed files again, delete missing ones."""

from __future__ import annotations

import os
import shlex
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.catalog.pictures.formats import is_picture
from gpubranches.catalog.pictures.image_files import present_path
from gpubranches.core import stores
from gpubranches.core.files import escaped_path
from gpubranches.errors import DataError, UsageError, missing_package
from gpubranches.ingestion.build import append
from gpubranches.ingestion.compatibility import embedder_of, options_of, require_no_shard, require_rows
from gpubranches.ingestion.inputs import scan
from gpubranches.ingestion.moves import with_moves
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.pieces import FileState, Piece
from gpubranches.ingestion.plan import copied
from gpubranches.ingestion.protocol import Input, Progress
from gpubranches.ingestion.records import IngestHistory, RecordedPiece
from gpubranches.ingestion.run import was_stopped

MOST_DELETED = 0.5
"""The largest share of an input's items that a sync deletes without `force`."""
_QUIET_MS, _LONGEST_MS = 1000, 60_000
"""How long watched inputs must stay unchanged before a sync, and the longest wait for that."""
_TRIES = 4
"""How many times a watch repeats a sync, one second apart, before it gives up on unreadable files."""


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync, in items.

    n: live items now; added: items of new files; changed: items of files with new content, which have new ids; moved:
    items of renamed files, which keep their ids; removed: items of missing files, and of changed files that cannot be
    read any more; errors: files that could not be read, of this and earlier runs; seconds: wall-clock time; notes: one
    sentence each.
    """

    n: int
    added: int
    changed: int
    moved: int
    removed: int
    errors: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def did_anything(self) -> bool:
        """Whether the sync changed the catalog."""
        return bool(self.added or self.changed or self.moved or self.removed)


@dataclass
class _Difference:
    """The differences between a catalog and its inputs: recorded pieces, except `added`, a number of new pieces.

    changed: pieces whose files have other content now. spoilt: of these, the paths, with how many of their items more
    than the file has rows now. gone: pieces whose files and content are both missing. moved: pieces with the present
    place of their content. notes: one sentence each.
    """

    added: int = 0
    changed: list[RecordedPiece] = field(default_factory=list)
    spoilt: dict[str, int] = field(default_factory=dict)
    gone: list[RecordedPiece] = field(default_factory=list)
    moved: list[tuple[RecordedPiece, Piece]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sync(
    directory: str | Path,
    inputs: Sequence[str | Path],
    options: IngestOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **named: Any,
) -> SyncReport:
    """Make a catalog equal to the present state of some of its inputs; other inputs of the catalog do not change.

    A file is the same if its path, size and times are the same, or its path and content. A file whose content was at
    another path was moved: its items keep their ids and marks. The items of a changed file are deleted, and its present
    content gets new ids. Items that a user deleted stay deleted. The next sync completes a stopped one.

    force: delete even if more than `MOST_DELETED` of the items of an input are missing or damaged. options, progress,
    named: as for `append`.
    Raises UsageError for an empty input, for an input without a record of its files, and without `force` if too many
    items are missing; nothing is changed then.
    """
    began = time.perf_counter()
    options = IngestOptions.chosen(options, named)
    options.require_of_append()
    catalog = Catalog.open(directory)
    require_no_shard(catalog, "sync")
    scanned = scan(inputs, options_of(catalog, options), progress, catalog.path)
    for each in scanned:
        require_rows([each])
    history = IngestHistory(catalog)
    _require_record(history, scanned)
    found = _compare(history, scanned)
    lost, changed = _ids(catalog, found.gone), _ids(catalog, found.changed)
    moved = len(_ids(catalog, [past for past, _ in found.moved]))
    if not force:
        _require_few(catalog, found, history, scanned)
    adds = found.added + len(found.changed) > 0 or was_stopped(catalog.path)
    embedder = embedder_of(catalog, scanned, options.embedder) if adds else None  # before anything is deleted
    if found.moved or found.gone or found.changed:
        catalog.delete(np.concatenate([lost, changed]), _source_after(history, found))
    notes, added = [note for each in scanned for note in each.notes], 0
    if adds:
        report = append(directory, inputs, replace(options, embedder=embedder), new=True, progress=progress)
        added, notes = report.added, list(report.notes)
        catalog.refresh()
    anew = min(added, len(changed))
    removed, notes = len(lost) + len(changed) - anew, found.notes + notes
    seconds = time.perf_counter() - began
    return SyncReport(catalog.n, added - anew, anew, moved, removed, catalog.n_errors, seconds, tuple(notes))


def watch(
    directory: str | Path,
    inputs: Sequence[str | Path],
    options: IngestOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **named: Any,
) -> Iterator[SyncReport]:
    """Sync now and after every change below the inputs, until the iterator is closed; yield each report.

    The arguments are those of `sync`. If a sync fails because a file cannot be read, it is repeated a few times. Raises
    BackendUnavailableError without watchfiles, and the errors of `sync`.
    """
    try:
        from watchfiles import watch as changes_of
    except ImportError as error:
        raise missing_package("sync --watch", "watchfiles", "watch") from error
    options = IngestOptions.chosen(options, named)
    if far := [str(each) for each in inputs if stores.is_url(each)]:
        raise UsageError(f"sync --watch: expected files and folders, got {far[0]}; a store does not report changes")
    yield sync(directory, inputs, options, force=force, progress=progress)
    changes = changes_of(
        *inputs,
        step=_QUIET_MS,
        debounce=_LONGEST_MS,
        rust_timeout=_QUIET_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    failed = 0
    for number, changed in enumerate(changes):
        if not (changed or failed or number == 0):  # the first sync also finds changes from before the watch began
            continue
        try:
            report = sync(directory, inputs, options, force=force, progress=progress)
        except DataError:  # for example, a file was replaced while it was read
            failed += 1
            if failed == _TRIES:
                raise
            continue
        failed = 0
        yield report


def _compare(history: IngestHistory, scanned: Sequence[Input]) -> _Difference:
    compared = [history.compare(each) for each in scanned]
    found = _Difference()
    missing = _missing(history, scanned, found.notes)
    for each in compared:
        if each.copy_of:
            if each.input.pieces[0].path != each.input.path or os.path.exists(each.copy_of):
                raise UsageError(f"{history.catalog.path}: {copied(history, each)}")
            missing.append(history.pieces[each.copy_of])  # the input is a single file that was moved
    new = [piece for each in compared for piece in each.new]
    others = [piece for each in compared for piece, _ in each.changed]
    pictures = {piece.path for each in scanned if each.noun == "pictures" for piece in each.pieces}
    before = [history.pieces[piece.path] for piece in others]
    found.moved = _moved([past for past in missing if history.is_live(past)] + before, new + others)
    sources, targets = {past.files[0].path for past, _ in found.moved}, {piece.path for _, piece in found.moved}
    found.gone = [past for past in missing if past.files[0].path not in sources]
    planned = sum(len(each.new) + len(each.repaired) + len(each.unfinished) for each in compared)
    found.added = planned - sum(piece.path in targets for piece in new)
    for past, piece in zip(before, others, strict=True):
        stays, anew = past.files[0].path not in sources, piece.path not in targets
        if stays and anew:
            rows = piece.rows if _is_readable(piece, pictures) else 0
            found.spoilt[piece.path] = max(0, len(_ids(history.catalog, [past])) - rows)
            found.changed.append(past)
        elif stays:
            found.gone.append(past)
        elif anew:
            found.added += 1
    return found


def _missing(history: IngestHistory, scanned: Sequence[Input], notes: list[str]) -> list[RecordedPiece]:
    """Return the recorded pieces whose files are missing; add a note about files that exist but are not read now.

    For example, the package for their format is missing, or most bytes of their folder are now of another kind.
    """
    here = {piece.path for each in scanned for piece in each.pieces}
    missing: dict[str, RecordedPiece] = {}
    for each in scanned:
        gone = {past.files[0].path: past for past in history.gone(each) if past.files[0].path not in here}
        unread = dict.fromkeys(place for place in gone if _is_in(each.path, place))
        if unread:
            first, many = escaped_path(os.path.relpath(next(iter(unread)), each.path)), len(unread)
            notes.append(
                f"{escaped_path(each.path)}: {many:,} files of the catalog, such as {first}, are still there, but are "
                f"not read as {each.noun} now; their items stay"
            )
        missing |= {place: past for place, past in gone.items() if place not in unread}
    return list(missing.values())


def _is_in(folder: str, place: str) -> bool:
    """Return whether a file exists in a folder, is not a link and is not hidden."""
    inside = os.path.relpath(place, folder)
    hidden = inside.startswith(".") or f"{os.sep}." in inside
    return not hidden and os.path.isfile(place) and os.path.realpath(place) == place


def _moved(before: Sequence[RecordedPiece], now: Sequence[Piece]) -> list[tuple[RecordedPiece, Piece]]:
    """Return recorded pieces that moved, with their present form; equal pieces are matched by name if possible.

    A piece of several files moved only if all of its files have the same content.
    """
    earlier: defaultdict[tuple[int, ...], defaultdict[tuple[bytes, ...], dict[str, RecordedPiece]]]
    earlier = defaultdict(lambda: defaultdict(dict))
    for past in before:
        if past.taken and all(file.digest for file in past.files):
            earlier[_sizes(past.files)][_digests(past.files)][past.files[0].path] = past
    found = []
    for piece in now:
        of_size = earlier.get(_sizes(piece.files))
        candidates = of_size.get(_digests([file.read() for file in piece.files])) if of_size else None
        if candidates:
            name = os.path.basename(piece.path)
            place = next((place for place in candidates if os.path.basename(place) == name), next(iter(candidates)))
            found.append((candidates.pop(place), piece))
    return found


def _sizes(files: Sequence[FileState]) -> tuple[int, ...]:
    return tuple(file.size for file in files)


def _digests(files: Sequence[FileState]) -> tuple[bytes, ...]:
    return tuple(file.digest for file in files)


def _source_after(history: IngestHistory, found: _Difference) -> dict[str, Any]:
    """Return the source of the catalog with the moves and the removed pieces, whose errors no longer count."""
    source, deleted = dict(history.catalog.source), [*found.gone, *found.changed]
    if found.moved:
        moved = {
            (past.first_id, then.path): now.path
            for past, piece in found.moved
            for then, now in zip(past.files, piece.files, strict=True)
        }
        source["moved"] = with_moves(history, moved)
    if deleted:
        *entries, last = source["inputs"]
        mended = [*last["mended"], *history.unread_ids(deleted)]
        source |= {"removed": history.with_removed(deleted), "inputs": [*entries, {**last, "mended": mended}]}
    return source


def _ids(catalog: Catalog, pieces: Sequence[RecordedPiece]) -> NDArray[np.int64]:
    """Return the ids of the live items of recorded pieces, (m,) int64."""
    ids = np.concatenate([np.zeros(0, np.int64), *(np.arange(past.ids.start, past.ids.stop) for past in pieces)])
    return ids[catalog.alive(ids)]


def _require_record(history: IngestHistory, scanned: Sequence[Input]) -> None:
    """Raise UsageError for a folder of pictures without a record in the catalog, because all would be added again."""
    source = history.catalog.source
    folders = {present_path(source, root) for root in source.get("roots", {}).values()}
    recorded = {path for entry in source.get("inputs", []) if entry["listing"] for path in entry["paths"]}
    for each in scanned:
        if each.path in folders and escaped_path(each.path) not in recorded and not history.of(each):
            raise UsageError(
                f"{history.catalog.path}: has pictures of {escaped_path(each.path)}, but no record of their files, so "
                "new files cannot be recognised; ingest the folder into another catalog"
            )


def _require_few(catalog: Catalog, found: _Difference, history: IngestHistory, scanned: Sequence[Input]) -> None:
    """Raise UsageError if more than `MOST_DELETED` of the items of an input are gone or damaged."""
    for each in scanned:
        own = {past.files[0].path: past for past in history.of(each)}
        whole, gone = len(_ids(catalog, list(own.values()))), [past for past in found.gone if past.files[0].path in own]
        lost = len(_ids(catalog, gone)) + sum(found.spoilt.get(place, 0) for place in own)
        if lost > MOST_DELETED * whole:
            path = shlex.quote(escaped_path(each.path))
            raise UsageError(
                f"{catalog.path}: the files of {lost:,} of the {whole:,} items of {path} are gone or damaged; "
                "if they are not just out of reach, delete their items by --force"
            )


def _is_readable(piece: Piece, pictures: Collection[str]) -> bool:
    """Return whether the file of a piece begins like a picture, if it is among the picture files on this machine."""
    return piece.path not in pictures or stores.is_url(piece.path) or is_picture(piece.path)
