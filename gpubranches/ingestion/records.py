"""The record of ingested files: every ingest and append writes it, and compares its inputs with it."""

from __future__ import annotations

import itertools
import os
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from gpubranches.catalog import Catalog
from gpubranches.catalog.listings import listing_schema, write_listing
from gpubranches.catalog.pictures.image_files import present_path
from gpubranches.catalog.row_source import RowSource
from gpubranches.core.files import escaped_path, unescaped_path
from gpubranches.errors import CatalogFormatError
from gpubranches.ingestion.pieces import UNREAD, FileState, Piece, PlannedPiece
from gpubranches.ingestion.protocol import Input


def listing(planned: Iterable[PlannedPiece]) -> bytes:
    """Return the ingested files as Parquet, one row per file: `inputs-G.parquet`, see docs/format.md."""
    schema = listing_schema()
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    first = 0
    for piece, start in planned:
        for number, file in enumerate(piece.files):
            values = (escaped_path(file.path), number > 0, *file.state, file.digest or None, first, start)
            for name, value in zip(schema.names, (*values, piece.rows - start), strict=True):
                columns[name].append(value)
        first += piece.rows - start
    return write_listing(pa.table(columns, schema=schema))


def input_record(scanned: Sequence[Input], generation: int, base: int, n: int, mended: list[int]) -> dict[str, Any]:
    """Return the JSON of one ingest or append. base: its first id; n: planned rows; mended: ids of repaired files."""
    paths = [escaped_path(each.path) for each in scanned]
    return {"paths": paths, "listing": f"inputs-{generation}.parquet", "base": base, "n": n, "mended": mended}


def places_of_pictures(scanned: Sequence[Input], source: RowSource, before: dict[str, Any]) -> dict[str, Any]:
    """Return all folders of pictures, including earlier ones: `roots`, and `moved` if any were moved.

    A folder that moved stays recorded at its first place, because earlier moves of its files start there.
    """
    moves = list(before.get("moved", []))
    moves += [list(move) for each in scanned for move in each.moves if list(move) not in moves]
    roots = {"roots": {**source.roots, **before.get("roots", {})}}
    return {**roots, "moved": moves} if moves else roots


@dataclass(frozen=True, slots=True)
class RecordedPiece:
    """A piece in the plan of an earlier run.

    files: their state at that time, with their present paths; places: their paths at that time; first_id: the id of its
    first row; start: the first planned row; taken: the number of rows from `start` on that are in the catalog.
    """

    files: tuple[FileState, ...]
    places: tuple[str, ...]
    first_id: int
    start: int
    taken: int

    @property
    def end(self) -> int:
        """The first row of the piece that is not in the catalog yet."""
        return self.start + self.taken

    @property
    def ids(self) -> range:
        """The ids of its rows in the catalog, with those of deleted items and of rows that could not be read."""
        return range(self.first_id, self.first_id + self.taken)

    @property
    def unread(self) -> bool:
        """Whether the file could not be opened at that time."""
        return self.files[0].size == UNREAD

    def change(self, piece: Piece) -> str:
        """Return the file of a piece that has changed, or was added or removed; "" if the piece is the same."""
        for now, then in itertools.zip_longest(piece.files, self.files):
            if now is None or then is None or now.path != then.path:
                return os.path.basename((now or then).path)
            if not now.same_content(then):
                return piece.name if now is piece.files[0] else os.path.basename(now.path)
        return ""


@dataclass
class InputComparison:
    """The pieces of one input, compared with the record of a catalog.

    unchanged: ingested, in the same state; new: not ingested; unfinished: ingested only in part by a stopped run;
    repaired: changed, and without items in the catalog, because they could not be read or were deleted; changed: all
    other changed pieces, with the name of the changed file; copy_of: path of an ingested input with the same content,
    or "".
    """

    input: Input
    unchanged: list[Piece] = field(default_factory=list)
    new: list[Piece] = field(default_factory=list)
    unfinished: list[PlannedPiece] = field(default_factory=list)
    repaired: list[Piece] = field(default_factory=list)
    changed: list[tuple[Piece, str]] = field(default_factory=list)
    copy_of: str = ""

    def planned(self) -> list[PlannedPiece]:
        """Return the pieces that are to be ingested, in the order of the input."""
        if self.copy_of:
            return []
        whole = [(piece, 0) for piece in (*self.new, *self.repaired)]
        return sorted([*whole, *self.unfinished], key=lambda planned: planned[0].first)


@dataclass(frozen=True)
class IngestRecord:
    """One ingest or append. base: its first id; n: number of planned rows; pieces: in order, ingested or not."""

    base: int
    n: int
    pieces: tuple[RecordedPiece, ...]


class IngestHistory:
    """The ingested files of a catalog, by their paths."""

    def __init__(self, catalog: Catalog):
        """Read the records of a catalog. Raises CatalogFormatError for a damaged record."""
        self.catalog = catalog
        self.records = list(_records(catalog))
        self._removed: list[list[int]] = sorted(catalog.source.get("removed", []))
        self.pieces: dict[str, RecordedPiece] = {}
        for past in (past for record in self.records for past in record.pieces):
            if past.taken and not self.is_removed(past) and not self._is_replaced(past):
                self.pieces[past.files[0].path] = past

    @property
    def unfinished(self) -> bool:
        """Whether the last ingest or append was stopped."""
        last = self.records[-1] if self.records else None
        return last is not None and last.base + last.n > self.catalog.next_id

    def compare(self, input: Input) -> InputComparison:
        """Compare an input with the record; contents are read only if name, size and times do not decide."""
        comparison = InputComparison(input)
        for piece in input.pieces:
            past = self.pieces.get(piece.path)
            if past is None:
                comparison.new.append(piece)
            elif name := past.change(piece):
                if self.is_live(past):
                    comparison.changed.append((piece, name))
                else:
                    comparison.repaired.append(piece)
            elif past.end < piece.rows:
                comparison.unfinished.append((piece, past.end))
            else:
                comparison.unchanged.append(piece)
        if input.pieces and len(comparison.new) == len(input.pieces):
            comparison.copy_of = self._original(input)
        return comparison

    def holds_any(self, input: Input) -> bool:
        """Return whether any part of an input is in the catalog: an item, or the record of an unreadable file."""
        pasts = self.present(input.pieces)
        return bool(self.unread_ids(pasts)) or any(map(self.is_live, pasts))

    def is_last(self, inputs: Sequence[Input]) -> bool:
        """Return whether inputs equal those of the last ingest or append, piece by piece and unchanged."""
        if not self.records:
            return False
        pieces, past = [piece for each in inputs for piece in each.pieces], self.records[-1].pieces
        return len(pieces) == len(past) and all(
            not then.change(now) or (then.unread and now.path == then.files[0].path)
            for now, then in zip(pieces, past, strict=True)
        )

    def of(self, input: Input) -> list[RecordedPiece]:
        """Return the recorded pieces of an input: those inside it, and link targets that are in no other input."""
        source, own = self.catalog.source, escaped_path(input.path)
        entries = source.get("inputs", [])
        named = {path for entry in entries for path in entry["paths"]} - {own}
        elsewhere = tuple(f"{present_path(source, unescaped_path(path)).rstrip('/')}/" for path in named)
        alone = {
            place
            for record, entry in zip(self.records, entries, strict=True)
            if entry["paths"] == [own]
            for past in record.pieces
            if not (place := past.files[0].path).startswith(elsewhere)
        }
        inside = f"{input.path.rstrip('/')}/"
        return [
            past
            for place, past in self.pieces.items()
            if place == input.path or place.startswith(inside) or place in alone
        ]

    def gone(self, input: Input) -> list[RecordedPiece]:
        """Return the recorded pieces, with items or with a reason why they have none, that the input lacks now."""
        here = {piece.path for piece in input.pieces}
        pasts = [past for past in self.of(input) if past.files[0].path not in here]
        unread = set(self.unread_ids(pasts))
        return [past for past in pasts if self.is_live(past) or not unread.isdisjoint(past.ids)]

    def is_removed(self, past: RecordedPiece) -> bool:
        """Return whether a sync deleted the items of a piece. A file of this kind is new if it comes back."""
        at = bisect_right(self._removed, [past.first_id, sys.maxsize]) - 1
        return at >= 0 and past.first_id < self._removed[at][1]

    def with_removed(self, pieces: Sequence[RecordedPiece]) -> list[list[int]]:
        """Return `source["removed"]`, disjoint ascending spans [first, stop) of ids, with the ids of further pieces."""
        spans: list[list[int]] = []
        for first, stop in sorted([*self._removed, *([past.ids.start, past.ids.stop] for past in pieces)]):
            if spans and first <= spans[-1][1]:
                spans[-1][1] = max(stop, spans[-1][1])
            else:
                spans.append([first, stop])
        return spans

    def missing_files(self, inputs: Sequence[Input]) -> list[str]:
        """Return the paths of files of the first ingest that have items but are missing from the inputs."""
        here = {piece.path for each in inputs for piece in each.pieces}
        return [
            place
            for past in (self.records[0].pieces if self.records else ())
            if (place := past.files[0].path) not in here and past.taken and self.is_live(past)
        ]

    def present(self, pieces: Iterable[Piece]) -> list[RecordedPiece]:
        """Return the recorded pieces at the paths of some pieces."""
        return [past for piece in pieces if (past := self.pieces.get(piece.path)) is not None]

    def unread_ids(self, pasts: Sequence[RecordedPiece]) -> list[int]:
        """Return the ids under which the catalog records that rows of pieces could not be read."""
        unread = sorted(int(error["id"]) for error in self.catalog.errors()) if pasts else []
        spans = ((bisect_left(unread, past.ids.start), bisect_left(unread, past.ids.stop)) for past in pasts)
        return [id for start, stop in spans for id in unread[start:stop]]

    def _is_replaced(self, past: RecordedPiece) -> bool:
        """Return whether a piece with items has moved to the path of a piece without items."""
        other = self.pieces.get(past.files[0].path)
        return other is not None and self.is_live(other) and not self.is_live(past)

    def is_live(self, past: RecordedPiece) -> bool:
        """Return whether any item of a piece is in the catalog."""
        return bool(self.catalog.alive(np.arange(past.ids.start, past.ids.stop)).any())

    def _original(self, input: Input) -> str:
        """Return the path of an ingested input with the same content under other names, or ""."""
        first = input.pieces[0]
        name = os.path.relpath(first.path, input.path)
        end = "" if name == "." else f"/{name}"
        roots = [
            place.removesuffix(end)
            for place, past in self.pieces.items()
            if past.files[0].size == first.files[0].size and place.endswith(end)
        ]
        return next((root for root in roots if self._is_copy(input, root)), "")

    def _is_copy(self, input: Input, root: str) -> bool:
        thens = [self.pieces.get(root + piece.path.removeprefix(input.path)) for piece in input.pieces]
        pairs = [
            pair
            for piece, then in zip(input.pieces, thens, strict=True)
            for pair in itertools.zip_longest(piece.files, then.files if then is not None else ())
        ]
        if any(now is None or then is None or now.size != then.size for now, then in pairs):
            return False
        live = any(self.is_live(then) for then in thens if then is not None)
        return live and all(now.read().digest == then.digest for now, then in pairs)


def _records(catalog: Catalog) -> Iterator[IngestRecord]:
    entries: list[dict[str, Any]] = catalog.source.get("inputs", [])
    bases = [*(int(entry["base"]) for entry in entries), catalog.next_id]
    for entry, (base, end) in zip(entries, itertools.pairwise(bases), strict=True):
        n = int(entry["n"])
        yield IngestRecord(base, n, tuple(_pieces(catalog, str(entry["listing"]), base, min(n, end - base))))


def _columns(catalog: Catalog, name: str) -> dict[str, list[Any]]:
    """Return the columns of a listing; a listing that `--repair` dropped has no name and gives no rows."""
    try:
        table = catalog.listing(name) if name else listing_schema().empty_table()
    except CatalogFormatError as error:
        raise CatalogFormatError(
            f"{catalog.path / name}: the record of ingested files is damaged; restore it from a copy, or drop "
            f"it by `gpubranches verify {escaped_path(str(catalog.path))} --repair`"
        ) from error
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def _pieces(catalog: Catalog, name: str, base: int, taken: int) -> Iterator[RecordedPiece]:
    columns = _columns(catalog, name)
    mains = np.flatnonzero(~np.array(columns["beside"], np.bool_)).tolist()
    for at, stop in itertools.pairwise([*mains, len(columns["beside"])]):
        first, start, rows = (columns[name][at] for name in ("first", "start", "rows"))
        id = base + first
        places = tuple(map(unescaped_path, columns["place"][at:stop]))
        files = tuple(
            FileState(present_path(catalog.source, place, id), size, mtime_ns, ctime_ns, digest or b"")
            for place, size, mtime_ns, ctime_ns, digest in zip(
                places, *(columns[name][at:stop] for name in ("size", "mtime_ns", "ctime_ns", "digest")), strict=True
            )
        )
        yield RecordedPiece(files, places, id, start, min(rows, max(0, taken - first)))
