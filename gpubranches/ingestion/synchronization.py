"""Keeping a catalog equal to its inputs: add new files, embed changed files again, delete missing ones."""

from __future__ import annotations

import os
import shlex
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog
from gpubranches.core.files import escaped_path
from gpubranches.errors import UsageError, missing_package
from gpubranches.ingestion.build import append, embedder_of, options_of, require_rows
from gpubranches.ingestion.inputs import scan
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.plan import copied
from gpubranches.ingestion.protocol import Input, Progress
from gpubranches.ingestion.records import IngestHistory, RecordedPiece
from gpubranches.ingestion.run import was_stopped

MOST_DELETED = 0.5
"""The largest share of an input's items that a sync deletes without `force`."""
_QUIET_MS, _LONGEST_MS = 1000, 60_000
"""How long watched inputs must stay unchanged before a sync, and the longest wait for that."""


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync, in items.

    n: live items now; added: items of new files; changed: items of files with new content, which have new ids; moved:
    items of renamed files, which keep their ids; removed: items of missing files; errors: files that could not be read,
    of this and earlier runs; seconds: wall-clock time; notes: one sentence each.
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

    changed: pieces whose files have other content now. gone: pieces whose files and content are both missing. moved:
    pieces with the present path of their content.
    """

    added: int = 0
    changed: list[RecordedPiece] = field(default_factory=list)
    gone: list[RecordedPiece] = field(default_factory=list)
    moved: list[tuple[RecordedPiece, str]] = field(default_factory=list)


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

    force: delete even if more than `MOST_DELETED` of the items are missing. options, progress, named: as for `append`.
    Raises UsageError for an empty input, and without `force` if too many items are missing; nothing is changed then.
    """
    began = time.perf_counter()
    options = IngestOptions.chosen(options, named)
    options.require_of_append()
    catalog = Catalog.open(directory)
    scanned = scan(inputs, options_of(catalog, options), progress)
    require_rows(scanned)
    history = IngestHistory(catalog)
    found = _compare(history, scanned)
    lost, changed = _ids(catalog, found.gone), _ids(catalog, found.changed)
    moved = len(_ids(catalog, [past for past, _ in found.moved]))
    if not force:
        _require_few(catalog, lost, history, scanned)
    adds = found.added + len(found.changed) > 0 or was_stopped(catalog.path)
    embedder = embedder_of(catalog, scanned, options.embedder) if adds else None  # before anything is deleted
    if found.moved:
        catalog.set_source(_with_moves(history, {past.files[0].path: place for past, place in found.moved}))
    if len(lost) + len(changed):
        catalog.delete(np.concatenate([lost, changed]))
    notes: tuple[str, ...] = ()
    added = 0
    if adds:
        report = append(directory, inputs, replace(options, embedder=embedder), new=True, progress=progress)
        added, notes = report.added, report.notes
        catalog.refresh()
    anew = min(added, len(changed))
    seconds = time.perf_counter() - began
    return SyncReport(catalog.n, added - anew, anew, moved, len(lost), catalog.n_errors, seconds, notes)


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

    The arguments are those of `sync`. Raises BackendUnavailableError without watchfiles.
    """
    try:
        from watchfiles import watch as changes_of
    except ImportError as error:
        raise missing_package("sync --watch", "watchfiles", "watch") from error
    options = IngestOptions.chosen(options, named)
    yield sync(directory, inputs, options, force=force, progress=progress)
    changes = changes_of(
        *inputs,
        step=_QUIET_MS,
        debounce=_LONGEST_MS,
        rust_timeout=_QUIET_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for number, changed in enumerate(changes):
        if changed or number == 0:  # the first time it also finds what changed before the watch began
            yield sync(directory, inputs, options, force=force, progress=progress)


def _compare(history: IngestHistory, scanned: Sequence[Input]) -> _Difference:
    found = _Difference()
    for each in scanned:
        compared = history.compare(each)
        if compared.copy_of:
            raise UsageError(f"{history.catalog.path}: {copied(history, compared)}")
        others = [piece for piece, _ in compared.changed]
        before, missing = [history.pieces[piece.path] for piece in others], history.gone(each)
        moved = _moved(missing + before, compared.new + others)
        sources, targets = {past.files[0].path for past, _ in moved}, {place for _, place in moved}
        kept = [past.files[0].path not in sources for past in before]
        other = [piece.path not in targets for piece in others]
        found.moved += moved
        found.changed += [past for past, stays, new in zip(before, kept, other, strict=True) if stays and new]
        found.gone += [past for past in missing if past.files[0].path not in sources]
        found.gone += [past for past, stays, new in zip(before, kept, other, strict=True) if stays and not new]
        found.added += len(compared.planned()) - sum(piece.path in targets for piece in compared.new)
        found.added += sum(new and not stays for stays, new in zip(kept, other, strict=True))
    return found


def _moved(before: Sequence[RecordedPiece], now: Sequence[Piece]) -> list[tuple[RecordedPiece, str]]:
    """Return recorded pieces with their new paths, if they moved; of equal files, one of the same name comes first."""
    by_size: defaultdict[int, list[RecordedPiece]] = defaultdict(list)
    for past in before:
        if len(past.files) == 1:
            by_size[past.files[0].size].append(past)
    found = []
    for piece in now:
        candidates = by_size.get(piece.files[0].size, []) if len(piece.files) == 1 else []
        same = [past for past in candidates if past.files[0].digest == piece.files[0].read().digest]
        if same:
            past = min(same, key=lambda past: os.path.basename(past.files[0].path) != os.path.basename(piece.path))
            candidates.remove(past)
            found.append((past, piece.path))
    return found


def _with_moves(history: IngestHistory, moved: Mapping[str, str]) -> dict[str, Any]:
    """Return the source of the catalog with the moves of files, or of a whole folder if all its files moved."""
    folders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for before, after in moved.items():
        if os.path.basename(before) == os.path.basename(after):
            folders[os.path.dirname(before), os.path.dirname(after)].add(before)
    recorded: defaultdict[str, set[str]] = defaultdict(set)
    for place in history.pieces:
        recorded[os.path.dirname(place)].add(place)
    whole = {old: (new, places) for (old, new), places in folders.items() if places == recorded[old]}
    covered = {place for _, places in whole.values() for place in places}
    paths = {old: new for old, (new, _) in whole.items()}
    paths |= {before: after for before, after in moved.items() if before not in covered}
    source = history.catalog.source
    return {**source, "moved": [*source.get("moved", []), {"below": history.catalog.next_id, "paths": paths}]}


def _ids(catalog: Catalog, pieces: Sequence[RecordedPiece]) -> NDArray[np.int64]:
    """Return the ids of the live items of recorded pieces, (m,) int64."""
    ids = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(past.first_id, past.first_id + past.taken) for past in pieces)]
    )
    return ids[catalog.alive(ids)]


def _require_few(catalog: Catalog, lost: NDArray[np.int64], history: IngestHistory, scanned: Sequence[Input]) -> None:
    """Raise UsageError if more than `MOST_DELETED` of the items of the inputs are gone."""
    whole = len(_ids(catalog, [past for each in scanned for past in history.of(each)]))
    if len(lost) > MOST_DELETED * whole:
        paths = " ".join(shlex.quote(escaped_path(each.path)) for each in scanned)
        raise UsageError(
            f"{catalog.path}: the files of {len(lost):,} of the {whole:,} items of {paths} are gone; if they are not "
            "just out of reach, delete their items by --force"
        )
