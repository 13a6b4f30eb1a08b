"""The rows of a new segment: encoded from a source, gathered from live items, or with new codes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.codec import Codec, unit_rows
from gpubranches.catalog.row_source import RowSource
from gpubranches.catalog.segment import MOST_IDS, SEGMENT_ROWS, Rows, Segment, StoredTable
from gpubranches.catalog.snapshot import Snapshot
from gpubranches.core.threads import cores, map_ahead, one_thread
from gpubranches.encoders.quantizers import SignQuantizer

if TYPE_CHECKING:
    import pyarrow as pa

ENCODED_ROWS = 16_384
"""Rows that are encoded at a time: the last bit of a vector may depend on it."""
_ENCODING_BYTES = 1 << 31
"""The most memory for blocks that are encoded at the same time."""
Encode = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""Function of embeddings, (m, D) float32, to codes, (m, d) uint8."""


class OneAtATime:
    """A source for several threads. Only one thread reads at a time, because some files must be read in order."""

    def __init__(self, source: RowSource):
        self._source = source
        self._lock = threading.Lock()
        self.kind, self.n, self.dim, self.roots = source.kind, source.n, source.dim, source.roots

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        with self._lock:
            return self._source.take(rows)

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return the metadata of rows start..stop-1, or None."""
        with self._lock:
            return self._source.items(start, stop)

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return why rows start..stop-1 could not be read, or None if all could be read."""
        with self._lock:
            return self._source.reasons(start, stop)


def encoded_rows(
    source: RowSource,
    start: int,
    stop: int,
    *,
    first_id: int,
    codec: Codec | None,
    signs: SignQuantizer | None,
    report: Callable[[int], None],
) -> tuple[Rows, pa.Table]:
    """Return rows start..stop-1 of a source in the form of a segment, and the errors of rows that are left out.

    first_id: id of row `start`; codec, signs: those of the catalog, None if the source holds codes; report: called with
    the first row of the source that is not encoded yet. Errors have the columns id, path, reason.
    """
    good = np.ones(stop - start, np.bool_)
    codes = np.zeros((stop - start, source.dim if codec is None else codec.head.d), np.uint8)
    bits = np.zeros((stop - start, 0 if signs is None else signs.n_bits // 8), np.uint8)
    scales = np.zeros(stop - start, np.float16)

    def encode(first: int) -> int:
        rows = np.arange(first, min(first + ENCODED_ROWS, stop))
        at = slice(first - start, rows[-1] + 1 - start)
        if codec is None or signs is None:
            codes[at] = source.take(rows)
        else:
            unit, bad = unit_rows(source.take(rows))
            good[at] = ~bad
            wide = unit.astype(np.float32)
            codes[at] = codec.encode(wide)
            bits[at], scales[at] = signs.encode(wide)
        return int(rows[-1]) + 1

    firsts = range(start, stop, ENCODED_ROWS)
    with nullcontext() if codec is None else one_thread():
        for done in map_ahead(encode, firsts, 1 if codec is None else _encoding_threads(source.dim)):
            report(done)
    kept, items = np.flatnonzero(good), source.items(start, stop)
    errors = _errors(items, source.reasons(start, stop), np.flatnonzero(~good), first_id)
    items = None if items is None else items.take(kept)
    return Rows(
        codes=codes[kept],
        ids=first_id + kept.astype(np.int64),
        bits=None if signs is None else bits[kept],
        scales=None if signs is None else scales[kept],
        embeddings=None if signs is None else lambda rows: unit_rows(source.take(start + kept[rows]))[0],
        items=items if items is not None and items.num_columns else None,
    ), errors


def _encoding_threads(dim: int) -> int:
    """Return the number of threads that encode: all cores, or as many as have memory for a block each."""
    block_bytes = 20 * ENCODED_ROWS * dim  # the rows in float16, and four copies of them in float32 at the same time
    return max(1, min(cores(), _ENCODING_BYTES // block_bytes))


def _errors(
    items: pa.Table | None, reasons: Sequence[str | None] | None, rows: NDArray[np.intp], first_id: int
) -> pa.Table:
    import pyarrow as pa

    from gpubranches.catalog.metadata.columns import IMAGE_PATH
    from gpubranches.catalog.metadata.tables import json_values

    names = (
        json_values(items[IMAGE_PATH].take(rows)) if items is not None and IMAGE_PATH in items.column_names else None
    )
    paths = [None if names is None or name is None else str(name) for name in names or [None] * len(rows)]
    known = [None if reasons is None else reasons[row] for row in rows.tolist()]
    return pa.table(
        {
            "id": pa.array(first_id + rows, pa.int64()),
            "path": pa.array(paths, pa.string()),
            "reason": pa.array([each or "the embedding is zero, NaN or infinite" for each in known], pa.string()),
        }
    )


def segment_parts(ids: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield ids, (n,) int64 ascending, in parts that a segment can hold; one part without ids if there are none."""
    start = 0
    while start < max(len(ids), 1):
        part = ids[start : start + SEGMENT_ROWS]
        part = part[: np.searchsorted(part - part[:1], MOST_IDS)]
        yield part
        start += max(len(part), 1)


def gathered_rows(snapshot: Snapshot, ids: NDArray[np.int64], *, keep_embeddings: bool = True) -> Rows:
    """Return the rows of live items, (n,) int64 ascending, in the form of one new segment.

    keep_embeddings: whether to include the stored embeddings.
    """
    bits = scales = None
    if snapshot.manifest["D"]:
        bits, scales = snapshot.sign_bits(ids)

    def embeddings(rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return snapshot.embeddings(ids[rows]).astype(np.float16)

    return Rows(
        codes=snapshot.codes(ids),
        ids=ids,
        bits=bits,
        scales=scales,
        embeddings=embeddings if keep_embeddings and snapshot.stores_embeddings else None,
        items=_items(snapshot.item_tables, ids),
    )


def recoded_rows(segment: Segment, encode: Encode, d: int, report: Callable[[int], None]) -> Rows:
    """Return the rows of a segment with codes made from their embeddings, deleted ones too, without metadata.

    The rows are encoded in order of ids, `ENCODED_ROWS` at a time, so that the codes do not depend on the layout of the
    segment. report: called with the number of rows of the segment that are encoded.
    """
    ids = np.sort(segment.ids)
    codes = np.zeros((len(ids), d), np.uint8)
    bits, scales, stored = segment.bits, segment.scales, segment.embeddings
    if stored is None or bits is None or scales is None:
        return Rows(codes, ids, bits, scales)
    rows = segment.rows[ids - segment.first_id].astype(np.int64)

    def embeddings(at: NDArray[np.int64]) -> NDArray[np.float16]:
        return np.asarray(stored[rows[at]])

    for start in range(0, len(ids), ENCODED_ROWS):
        at = np.arange(start, min(start + ENCODED_ROWS, len(ids)))
        codes[at] = encode(embeddings(at).astype(np.float32))
        report(int(at[-1]) + 1)
    return Rows(codes, ids, bits[rows], scales[rows], embeddings)


def _items(sources: list[StoredTable], ids: NDArray[np.int64]) -> pa.Table | None:
    """Return the metadata of ids, one row per id, or None if there are no files of metadata."""
    if not sources:
        return None
    import pyarrow as pa

    from gpubranches.catalog.items import read_all, unified_schema
    from gpubranches.catalog.metadata.tables import cast

    schema = unified_schema(sources)
    joined = read_all(sources, schema, ids)
    bare = pa.table({"id": np.setdiff1d(ids, joined["id"].to_numpy())})
    return pa.concat_tables([joined, cast(bare, schema)]).sort_by("id")
