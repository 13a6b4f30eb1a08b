"""Gathering rows anew: the live items of a catalog that is compacted, or a segment with other codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.segment import MOST_IDS, SEGMENT_ROWS, Rows, Segment, StoredTable

if TYPE_CHECKING:
    import pyarrow as pa

    from gpubranches.catalog.catalog import Catalog

ENCODED_ROWS = 16_384
"""Rows that are encoded at a time: the last bit of a vector may depend on it."""
Encode = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""Function of embeddings, (m, D) float32, to codes, (m, d) uint8."""
Report = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


def parts_of(ids: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield ids, (n,) int64 ascending, in parts that a segment can hold; one without ids where there are none."""
    start = 0
    while start < max(len(ids), 1):
        part = ids[start : start + SEGMENT_ROWS]
        part = part[: np.searchsorted(part - part[:1], MOST_IDS)]
        yield part
        start += max(len(part), 1)


def gather_rows(catalog: Catalog, ids: NDArray[np.int64], *, keep_embeddings: bool = True) -> Rows:
    """Return the rows of live items, (n,) int64 ascending, as one new segment would hold them.

    keep_embeddings: whether with their embeddings, if those are stored.
    """
    bits = scales = None
    if catalog.has_bits:
        bits = np.zeros((len(ids), catalog.n_bits // 8), np.uint8)
        scales = np.zeros(len(ids), np.float16)
        for segment, rows, at in catalog.by_segment(ids):
            if segment.bits is not None and segment.scales is not None:
                bits[at], scales[at] = segment.bits[rows], segment.scales[rows]

    def embeddings(rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return catalog.embeddings(ids[rows]).astype(np.float16)

    return Rows(
        codes=catalog.take(ids),
        ids=ids,
        bits=bits,
        scales=scales,
        embeddings=embeddings if keep_embeddings and catalog.stores_embeddings else None,
        items=_items(catalog.item_tables, ids),
    )


def recoded(segment: Segment, encode: Encode, d: int, report: Callable[[int], None]) -> Rows:
    """Return the rows of a segment with codes made from their embeddings, deleted ones too, but no metadata.

    The rows are encoded in order of ids, `ENCODED_ROWS` at a time, so that the codes do not depend on where they lay.
    report: told how many rows of the segment are encoded.
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
    """Return the metadata of ids, one row an id, or None if there are no files of metadata."""
    if not sources:
        return None
    import pyarrow as pa

    from gpubranches.catalog.items import read_all, unified_schema
    from gpubranches.catalog.metadata.tables import cast

    schema = unified_schema(sources)
    joined = read_all(sources, schema, ids)
    bare = pa.table({"id": np.setdiff1d(ids, joined["id"].to_numpy())})
    return pa.concat_tables([joined, cast(bare, schema)]).sort_by("id")
