"""Repair of a damaged catalog: rows in undamaged blocks are rewritten, and every loss is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.blocks import SUMS, Blocks
from gpubranches.catalog.codec import Codec
from gpubranches.catalog.fitted_statistics import FittedStatistics
from gpubranches.catalog.listings import listing_problems
from gpubranches.catalog.manifest import file_of, read_manifest, write_manifest
from gpubranches.catalog.segment import ITEM_GROUP, Rows, Segment, StoredTable, add_segment, problems_of
from gpubranches.catalog.segment_rows import Encode
from gpubranches.catalog.snapshot import Snapshot, deleted_bitmap, manifest_segments, read_statistics
from gpubranches.catalog.storage import RESTORE, disk_errors, exclusive, require_content
from gpubranches.catalog.tiles import TILE
from gpubranches.catalog.verify import problems
from gpubranches.core.bitmaps import pack_bitmap, unpack_bitmap
from gpubranches.core.files import BLOCK_BYTES, open_regular, replace_file
from gpubranches.encoders.quantizers import SignQuantizer
from gpubranches.errors import CatalogFormatError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

DAMAGED = "damaged"
_NO_ROW = 0xFFFFFFFF


@dataclass
class Salvage:
    """The undamaged rows of a segment, ascending by id, and its errors; given_up: one line for each loss."""

    rows: Rows
    errors: pa.Table | None = None
    given_up: list[str] = field(default_factory=list)


def repair(path: Path) -> list[str]:
    """Repair a damaged catalog in one commit; return one line for each loss, none if nothing was damaged.

    Damaged segments are moved to the folder `damaged`. Raises CatalogFormatError if the manifest, the constants, or the
    head of a catalog that stores no embeddings is damaged: without these nothing can be read.
    """
    with exclusive(path), disk_errors(path):
        manifest = read_manifest(path)
        if not problems(path, manifest):
            return []
        statistics, given_up = read_statistics(path, manifest), list[str]()
        kept = _without_damaged_listings(path, _without_damaged_head(path, manifest, given_up), given_up)
        segments = list(manifest_segments(path, manifest))
        deleted = _deleted_ids(path, manifest, segments, given_up)
        generation = manifest["generation"] + 1
        after = {**kept, "deleted": None, "generation": generation}
        encode = _encoder(path, after, statistics)
        after["segments"], moved = _rewritten(path, manifest, segments, statistics.signs, encode, given_up)
        flags = _flags(list(manifest_segments(path, after)), deleted)
        if flags.any():
            name = f"deleted-{generation}.bitmap"
            after["deleted"] = {"name": name, **replace_file(path / name, pack_bitmap(flags).tobytes())}
        Snapshot.open(path, after)
        if moved and os.path.lexists(path / DAMAGED) and not (path / DAMAGED).is_dir():
            raise DataError(f"{path / DAMAGED}: expected a folder for damaged segments, got a file; move it away")
        write_manifest(path, after)
        if moved:
            (path / DAMAGED).mkdir(exist_ok=True)
        for folder in moved:
            with suppress(FileNotFoundError):
                folder.replace(path / DAMAGED / folder.name)
        return given_up or ["nothing: the damaged files were rebuilt from undamaged ones"]


def _rewritten(
    path: Path,
    manifest: dict[str, Any],
    segments: list[Segment],
    signs: SignQuantizer | None,
    encode: Encode | None,
    given_up: list[str],
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Rewrite damaged segments from their undamaged rows; return the entries of all, and the damaged folders."""
    entries: list[dict[str, Any]] = []
    moved = []
    for segment, entry in zip(segments, manifest["segments"], strict=True):
        if not segment.problems():
            entries.append(entry)
            continue
        for problem in segment.misnamed():
            raise CatalogFormatError(f"{problem}; {RESTORE}")
        left = salvaged(segment, signs, encode)
        given_up += left.given_up
        moved.append(segment.folder)
        if len(left.rows.ids) or left.errors is not None:
            entries.append(add_segment(path, len(entries), left.rows, left.errors))
    return entries, moved


def _without_damaged_head(path: Path, manifest: dict[str, Any], given_up: list[str]) -> dict[str, Any]:
    """Return the manifest without a damaged head."""
    files: dict[str, Any] = manifest["files"]
    name = file_of(manifest, "head")
    if name is None or not problems_of(path, {name: files[name]}):
        return manifest
    if not manifest.get("keeps_embeddings", True):
        require_content(path / name, files[name])
    given_up.append(
        f"{name}: no items can be appended and no query can be encoded until `encode --head` makes new codes"
    )
    return {**manifest, "files": {other: entry for other, entry in files.items() if other != name}}


def _without_damaged_listings(path: Path, manifest: dict[str, Any], given_up: list[str]) -> dict[str, Any]:
    """Return the manifest without damaged listings of inputs; the records that name them stay."""
    lost = listing_problems(path, manifest)
    if not lost:
        return manifest
    records = manifest["source"].get("inputs", [])
    given_up += [
        f"{record['listing']}: the record of which files the ids from {record['base']} on came from; appending "
        f"{', '.join(record['paths'])} again would add them twice"
        for record in records
        if record["listing"] in lost
    ]
    records = [{**record, "listing": ""} if record["listing"] in lost else record for record in records]
    files = {name: entry for name, entry in manifest["files"].items() if name not in lost}
    return {**manifest, "files": files, "source": {**manifest["source"], "inputs": records}}


def _encoder(path: Path, manifest: dict[str, Any], statistics: FittedStatistics) -> Encode | None:
    """Return the function from embeddings to codes, or None if it is unknown."""
    name = file_of(manifest, "head")
    codec = None if name is None else Codec.load(path / name, statistics.scalar)
    return None if codec is None else codec.encode


def _deleted_ids(
    path: Path, manifest: dict[str, Any], segments: list[Segment], given_up: list[str]
) -> NDArray[np.int64]:
    """Return the ids of deleted rows that are still in the segments."""
    n_positions = sum(segment.tiles for segment in segments) * TILE
    try:
        bitmap = deleted_bitmap(path, manifest["deleted"], n_positions)
    except CatalogFormatError:
        given_up.append(
            f"{manifest['deleted']['name']}: the record of deleted items; those that were not compacted are live again"
        )
        bitmap = None
    if bitmap is None:
        return np.zeros(0, np.int64)
    flags, deleted = unpack_bitmap(bitmap, n_positions), [np.zeros(0, np.int64)]
    for segment in segments:
        ids, known = _ids(segment)
        deleted.append(ids[known & flags[segment.start : segment.start + segment.n]])
    return np.concatenate(deleted)


def _flags(segments: list[Segment], deleted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which positions contain some ids, (n_positions,) bool."""
    flags = np.zeros(sum(segment.tiles for segment in segments) * TILE, np.bool_)
    for segment in segments:
        flags[segment.start : segment.start + segment.n] = np.isin(segment.ids, deleted)
    return flags


def salvaged(segment: Segment, signs: SignQuantizer | None, encode: Encode | None) -> Salvage:
    """Return the undamaged rows of a segment whose files may be damaged, shortened or missing.

    Bounds by zone and the positions of ids are rebuilt from codes and ids, and ids from their positions. Codes (by
    `encode`) and sign bits are rebuilt from undamaged embeddings. An item stays if its id, code, sign bits and stored
    embedding are known, with or without its metadata.
    """
    n, given_up = segment.n, list[str]()
    ids, known = _ids(segment)
    good, codes = known, _codes(segment)
    wrong, embeddings = _damaged(segment, "codes.u8", _rows_of_codes), None
    if "embeddings.f16" in segment.files:
        good = known & ~_damaged(segment, "embeddings.f16", _rows_of(2 * segment.D))
        embeddings = _bytes(segment, "embeddings.f16").view(np.float16).reshape(n, segment.D)
    again = np.flatnonzero(wrong & good)
    if embeddings is None or encode is None:
        good = good & ~wrong
    elif len(again):
        codes[again] = encode(embeddings[again].astype(np.float32))
    bits = scales = None
    if signs is not None:
        wrong = _damaged(segment, "bits.u8", _rows_of(segment.n_bits // 8))
        wrong |= _damaged(segment, "scales.f16", _rows_of(2))
        bits = _bytes(segment, "bits.u8").reshape(n, segment.n_bits // 8).copy()
        scales = _bytes(segment, "scales.f16").view(np.float16).copy()
        again = np.flatnonzero(wrong & good)
        if embeddings is None:
            good &= ~wrong
        elif len(again):
            bits[again], scales[again] = signs.encode(embeddings[again].astype(np.float32))
    at = np.flatnonzero(good)
    at = at[np.argsort(ids[at], kind="stable")]
    if len(at) < n:
        lost = np.sort(ids[known & ~good])
        some = f", such as {lost[:5].tolist()}" if len(lost) else ""
        given_up.append(f"{segment.folder.name}: {n - len(at):,} of {n:,} items{some}")

    def gathered(rows: NDArray[np.int64]) -> NDArray[np.float16]:
        assert embeddings is not None  # nosec B101  # called only where there are embeddings
        return embeddings[at[rows]]

    rows = Rows(
        codes=codes[at],
        ids=ids[at],
        bits=None if bits is None else bits[at],
        scales=None if scales is None else scales[at],
        embeddings=None if embeddings is None else gathered,
        items=_items(segment, ids[at], given_up),
    )
    return Salvage(rows, _errors(segment, given_up), given_up)


# Files of numbers

RowsOf = Callable[[int, int, Segment], NDArray[np.int64]]
"""Function from the first byte of a block, and the first byte after it, to the rows in the block."""


def _rows_of(row_bytes: int) -> RowsOf:
    return lambda start, stop, segment: np.arange(start // row_bytes, min(-(-stop // row_bytes), segment.n))


def _rows_of_codes(start: int, stop: int, segment: Segment) -> NDArray[np.int64]:
    tile_bytes = segment.d * TILE
    first, last = start // tile_bytes, (stop - 1) // tile_bytes
    return np.arange(first * TILE, min((last + 1) * TILE, segment.n))


def _damaged(segment: Segment, name: str, rows_of: RowsOf) -> NDArray[np.bool_]:
    """Return for which rows of a segment a file is damaged, (n,) bool: all where single blocks cannot be checked."""
    wrong = np.zeros(segment.n, np.bool_)
    if not segment.n:
        return wrong
    try:
        blocks = _blocks(segment, name)
    except CatalogFormatError:
        return ~wrong
    size = segment.files[name]["bytes"]
    for block in blocks:
        wrong[rows_of(block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, size), segment)] = True
    return wrong


def _blocks(segment: Segment, name: str) -> list[int]:
    """Return the damaged blocks of a file. Raises CatalogFormatError if single blocks cannot be checked."""
    try:
        sums = segment.sums[name] if SUMS in segment.files else None
    except CatalogFormatError:
        sums = None
    if sums is None:
        require_content(segment.folder / name, segment.files[name])
        return []
    return Blocks(_bytes(segment, name), sums).damaged()


def _bytes(segment: Segment, name: str) -> NDArray[np.uint8]:
    """Map the bytes of a file, damaged or not, with zeros for missing bytes."""
    size = segment.files[name]["bytes"]
    there: NDArray[np.uint8] = np.zeros(0, np.uint8)
    with suppress(OSError), open(open_regular(segment.folder / name), "rb") as file:
        length = min(os.fstat(file.fileno()).st_size, size)
        if length:
            there = np.memmap(file, np.uint8, "r", shape=(length,))
    return there if len(there) == size else np.pad(there, (0, size - len(there)))


def _codes(segment: Segment) -> NDArray[np.uint8]:
    """Return the codes row by row, (n, d)."""
    tiles = _bytes(segment, "codes.u8").reshape(segment.tiles, segment.d, TILE)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1).reshape(-1, segment.d)[: segment.n])


def _ids(segment: Segment) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the id of each row, (n,) int64, and which are known, (n,) bool; from ids.i64, else from rows.u32."""
    known = ~_damaged(segment, "ids.i64", _rows_of(8))
    ids = _bytes(segment, "ids.i64").view(np.int64).copy()
    if known.all():
        return ids, known
    try:
        wrong = _blocks(segment, "rows.u32")
    except CatalogFormatError:
        return ids, known
    places = _bytes(segment, "rows.u32").view(np.uint32)
    sound = np.ones(len(places), np.bool_)
    for block in wrong:
        sound[block * BLOCK_BYTES // 4 : (block + 1) * BLOCK_BYTES // 4] = False
    there = np.flatnonzero(sound & (places != _NO_ROW) & (places < segment.n))
    ids[places[there]] = segment.first_id + there
    known[places[there]] = True
    return ids, known


# Tables


def _table(segment: Segment, name: str) -> Path | StoredTable | None:
    """Return the source to read a table from: its path if it is undamaged, else a reader that checks its blocks."""
    if name not in segment.files:
        return None
    with suppress(CatalogFormatError):
        if not _blocks(segment, name):
            return segment.folder / name
    return segment.table(name)


def _items(segment: Segment, ids: NDArray[np.int64], given_up: list[str]) -> pa.Table | None:
    """Return the metadata of items, one row each, null where damaged; damage drops a whole row group."""
    table = _table(segment, "items.parquet")
    if table is None:
        return None
    import pyarrow as pa

    from gpubranches.catalog.items import opened, schema_of
    from gpubranches.catalog.metadata.tables import cast, unify_schemas

    try:
        schema = unify_schemas([pa.schema([("id", pa.int64())]), schema_of(table)])
        with opened(table) as file:
            groups = file.num_row_groups
    except CatalogFormatError:
        given_up.append(f"{segment.folder.name}: all metadata of {len(ids):,} items")
        return None
    parts, lost = [schema.empty_table()], 0
    for group in range(groups):
        try:
            with opened(table) as file:
                parts.append(cast(file.read_row_group(group), schema))
        except CatalogFormatError:
            lost += 1
    whole = pa.concat_tables(parts)
    whole = whole.filter(np.isin(whole["id"].to_numpy(), ids))
    bare = pa.table({"id": np.setdiff1d(ids, whole["id"].to_numpy())})
    if lost:
        given_up.append(
            f"{segment.folder.name}: the metadata of {len(bare):,} items, {lost} of {groups} groups of {ITEM_GROUP:,}"
        )
    return pa.concat_tables([whole, cast(bare, schema)]).sort_by("id")


def _errors(segment: Segment, given_up: list[str]) -> pa.Table | None:
    from gpubranches.catalog.items import read_errors

    table = _table(segment, "errors.parquet")
    if table is None:
        return None
    try:
        return read_errors([table])
    except CatalogFormatError:
        given_up.append(f"{segment.folder.name}: the list of inputs that could not be read")
        return None
