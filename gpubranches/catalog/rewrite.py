"""Gathering live items anew, for a catalog that is compacted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpubranches.catalog.segment import Rows

if TYPE_CHECKING:
    from gpubranches.catalog.catalog import Catalog


def gather_rows(catalog: Catalog, ids: NDArray[np.int64]) -> Rows:
    """Return the rows of live items, (n,) int64 ascending, as one new segment would hold them."""
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
        embeddings=embeddings if catalog.has_embeddings else None,
        items=_items(catalog.item_paths, ids),
    )


def _items(paths: list[Path], ids: NDArray[np.int64]) -> pa.Table | None:
    """Return the metadata of ids, one row an id, or None if there are no files of metadata."""
    if not paths:
        return None
    tables = [pq.read_table(path) for path in paths]
    known = [table.filter(np.isin(table["id"].to_numpy(), ids)) for table in tables]
    joined = pa.concat_tables(known, promote_options="permissive")
    bare = pa.table({"id": np.setdiff1d(ids, joined["id"].to_numpy())})
    return pa.concat_tables([joined, bare], promote_options="permissive").sort_by("id")
