"""Append and delete in parts, and acknowledge every commit on standard output; `benchmarks.changes` runs this.

    python -m benchmarks.changes.writer CATALOG APPENDED DELETED PARTS PAUSE_MS

Appended rows are copies of the catalog's first items. Deleted items are spread over those that the catalog had at the
start, without the first `KEPT`. After each commit it waits PAUSE_MS, so that readers see most generations. An
acknowledgement is one line of JSON: the generation, its number of items, the id after its last, and the ids that were
deleted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from gpubranches import Catalog

KEPT = 1000
"""Items that are never deleted, so that readers can mark them."""


def acknowledge(catalog: Catalog, deleted: list[int]) -> None:
    """Print the state of a commit."""
    state = {"generation": catalog.generation, "n": catalog.n, "next_id": catalog.next_id, "deleted": deleted}
    print(json.dumps(state), flush=True)


def write(path: Path, appended: int, deleted: int, parts: int, pause_ms: int) -> None:
    """Append and delete."""
    catalog = Catalog.open(path)
    first = catalog.next_id
    acknowledge(catalog, [])
    gone = np.unique(np.linspace(KEPT, first - 1, deleted).round().astype(np.int64))
    for rows, ids in zip(
        np.array_split(np.arange(appended), parts),
        np.array_split(np.random.default_rng(0).permutation(gone), parts),
        strict=True,
    ):
        sources = rows % KEPT
        bits, scales = catalog.sign_bits(sources)
        stored = catalog.embeddings(sources).astype(np.float16)
        catalog.append(
            catalog.codes(sources), ids=first + rows, bits=bits, scales=scales, embeddings=stored.__getitem__
        )
        acknowledge(catalog, [])
        time.sleep(pause_ms / 1e3)
        catalog.delete(ids)
        acknowledge(catalog, ids.tolist())
        time.sleep(pause_ms / 1e3)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
