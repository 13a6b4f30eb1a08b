"""Builds the index: one k-d tree for each subset of the branches' pool, in a staging folder that is then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import Catalog, disk_errors
from gpubranches.catalog.storage import require_space
from gpubranches.core.files import output, replace_file, sync_folder
from gpubranches.engines.host import flat
from gpubranches.engines.kdtree import grow
from gpubranches.engines.kdtree.files import (
    BOUNDS,
    FOLDER,
    FORMAT,
    LEAF,
    MARGINALS,
    VERSION,
    fingerprint,
    padded_leaves,
    tree_name,
)
from gpubranches.errors import UsageError
from gpubranches.learning.branches import feature_subsets

Report = Callable[[str, int, int], None]
_MOST_POSITIONS = 1 << 32


def build_index(catalog: Catalog, *, threads: int | None = None, report: Report | None = None) -> dict[str, Any]:
    """Build the index of a catalog in its folder `kdtree` and replace an older one; return its manifest.

    It holds the catalog's write lock. threads: None takes numba's count; each thread, and one more that waits for the
    disk, needs about 30 bytes of memory per row. report: called with (stage, done, total). Raises DataError if the
    catalog is being written or the disk is too small. A stopped build leaves the older index; the next build deletes
    its files.
    """
    with catalog.writing():
        return build_trees(catalog, catalog.path / FOLDER, threads=threads, report=report)


def build_trees(
    catalog: Catalog, folder: Path, *, threads: int | None = None, report: Report | None = None
) -> dict[str, Any]:
    """Build the trees of a catalog's codes into `folder`; see build_index. The same codes give the same bytes."""
    if catalog.n_positions >= _MOST_POSITIONS:
        raise UsageError(f"the kdtree index holds up to {_MOST_POSITIONS:,} positions, got {catalog.n_positions:,}")
    subsets = feature_subsets(catalog.d)
    n = sum(segment.n for segment in catalog.segments)
    size_bytes = n * sum(len(subset) + 4 + len(subset) / 64 for subset in subsets)
    require_space(folder.parent, size_bytes, "the index")
    staging = folder.with_name(f"{folder.name}.building")
    with disk_errors(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            manifest = _write(catalog, staging, subsets, n, threads or numba.config.NUMBA_NUM_THREADS, report)
            _swap(staging, folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return manifest


def _write(
    catalog: Catalog,
    staging: Path,
    subsets: tuple[tuple[int, ...], ...],
    n: int,
    threads: int,
    report: Report | None,
) -> dict[str, Any]:
    files: dict[str, Any] = {}
    files[MARGINALS] = _store(staging / MARGINALS, _marginals(catalog))
    pool = ThreadPoolExecutor(threads + 1, "gpubranches-index")  # one more, since one mostly waits for the disk
    try:
        work = [
            pool.submit(_write_tree, catalog, n, subset, staging / tree_name(i)) for i, subset in enumerate(subsets)
        ]
        with output(staging / BOUNDS) as file:
            for i, future in enumerate(work):
                bounds, files[tree_name(i)] = future.result()
                file.write(bounds)
                if report is not None:
                    report("building trees", i + 1, len(subsets))
    finally:
        pool.shutdown(cancel_futures=True)
    files[BOUNDS] = file.entry
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "generation": catalog.generation,
        "codes": fingerprint(catalog),
        "n": n,
        "leaf": LEAF,
        "trees": [list(subset) for subset in subsets],
        "files": files,
    }
    replace_file(staging / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")
    return manifest


def _write_tree(
    catalog: Catalog, n: int, subset: tuple[int, ...], path: Path
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Build and write one tree; return its bounds and the entry of its file."""
    kind = np.uint32 if len(subset) <= 4 else np.uint64
    words, positions = np.zeros(n, kind), np.empty(n, np.uint32)
    features, start = np.array(subset, np.int64), 0
    for segment in catalog.segments:
        own = slice(start, start + segment.n)
        grow.pack(flat(segment.codes), catalog.d, segment.n, segment.start, features, words[own], positions[own])
        start += segment.n
    grow.grow(words, positions, np.empty_like(words), np.empty_like(positions), len(subset))
    blocks = np.empty((-(-n // LEAF), (len(subset) + 4) * LEAF), np.uint8)
    bounds = np.zeros((2, len(subset), padded_leaves(n)), np.uint8)
    grow.lay_out(words, positions, len(subset), blocks, blocks.reshape(-1).view(np.uint32), bounds)
    return bounds, _store(path, blocks)


def _store(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    """Write an array to the disk and return the entry of its file."""
    with output(path) as file:
        file.write(array)
    return file.entry


def _marginals(catalog: Catalog) -> NDArray[np.int64]:
    counts = np.zeros((catalog.d, 256), np.int64)
    for segment in catalog.segments:
        grow.count_codes(flat(segment.codes), catalog.d, segment.n, counts)
    return counts


def _swap(staging: Path, folder: Path) -> None:
    """Replace the index by the finished folder. Between the two renames there is no index; no index is ever partial."""
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(staging)
    if folder.exists():
        os.rename(folder, old)
    os.rename(staging, folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
