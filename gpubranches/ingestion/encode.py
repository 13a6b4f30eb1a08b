"""Encoding a catalog again: one commit replaces its codes by those of another head or quantizer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gpubranches.catalog import Catalog
from gpubranches.catalog.codec import FIT_ROWS, Codec
from gpubranches.core.arrays import evenly_spaced
from gpubranches.errors import UsageError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EncodeReport:
    """The result of `encode`.

    n: live items; d: code dims; head, quantizer: their identities; changed: whether new codes were written; seconds:
    wall-clock time.
    """

    n: int
    d: int
    head: str
    quantizer: str
    changed: bool
    seconds: float


def encode(
    directory: str | Path,
    *,
    head: str | None = None,
    quantizer: str | None = None,
    d: int = 32,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode a catalog again; ids, metadata, embeddings, sign bits, deletions and marks do not change.

    head: "rca", "pca", "none" or a file; None: the head of the catalog. quantizer: "uniform" or "quantile"; None: the
    default, see `Codec.choose`. d: code dims of rca and pca. Head and quantizer are fitted to `FIT_ROWS` evenly spaced
    live items, except a head that is read from a file. Other readers see the old codes until the commit, and after it
    until they refresh. A stopped run changes nothing. If head and quantizer equal those of the catalog, nothing is
    written. Peak anonymous memory: as for `build_catalog`. Raises UsageError for a catalog without embeddings or items
    and for a head or quantizer that does not fit; DataError if another process writes the catalog, the disk is too
    small, or the head gives numbers that are not finite.
    """
    began = time.perf_counter()
    catalog = Catalog.open(directory)
    with catalog.writing():
        sample = catalog.ids[evenly_spaced(catalog.n, FIT_ROWS)]
        codec = _chosen(catalog, head, quantizer, d).fit(catalog.embeddings(sample))
        space = replace(catalog.space, head=codec.head.identity, quantizer=codec.scalar.identity)
        changed = (space.head, space.quantizer, codec.head.d) != catalog.coding
        if changed:
            catalog.recode(
                codec.encode,
                d=codec.head.d,
                space=space,
                scalar=codec.scalar,
                head=codec.head.to_bytes(),
                report=None if progress is None else lambda done, total: progress("encoding", done, total),
            )
    return EncodeReport(catalog.n, catalog.d, space.head, space.quantizer, changed, time.perf_counter() - began)


def _chosen(catalog: Catalog, head: str | None, quantizer: str | None, d: int) -> Codec:
    if not catalog.stores_embeddings:
        raise UsageError(
            f"encode: expected a catalog with embeddings, {catalog.path} stores none; ingest embeddings or images"
        )
    if not catalog.n:
        raise UsageError(f"encode: expected a catalog of at least one item, {catalog.path} is empty; append some first")
    if head is None:
        if catalog.head_path is None:
            raise UsageError(f"head: {catalog.path} has no head; choose rca, pca, none or a head's file")
        head = str(catalog.head_path)
    return Codec.choose(head, D=catalog.D, rows=catalog.n, d=d, quantizer=quantizer, embedder=catalog.space.embedder)
