"""Measure on this machine's card whether faiss or the kernels find the nearest embeddings faster.

    python -m benchmarks.nearest CATALOG [--quick]

CATALOG stores embeddings that fit on the card, and has no deleted rows. Prints the table and writes it to
kernels/nearest.json, from which `--nn auto` decides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.options import in_one_sentence
from gpubranches.catalog import Catalog
from gpubranches.core.bitmaps import pack_bitmap
from gpubranches.core.results import Neighbors
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.gpu.measured_times import Line, Measured, place
from gpubranches.engines.gpu.nearest import MOST_NEAREST
from gpubranches.errors import UsageError
from gpubranches.service.doctor import revision

KS = (10, 100, MOST_NEAREST)
BATCHES = (1, 8, 64)


def measure(
    backend: GpuBackend, ks: Sequence[int] = KS, batches: Sequence[int] = BATCHES, repeats: int = 9
) -> list[Line]:
    """Time the nearest of some embeddings of the catalog, by both engines in turn; a filter keeps half of the rows.

    backend: opened with nn="faiss". Raises UsageError if faiss does not answer, or answers differently.
    """
    catalog, rng = backend.catalog, np.random.default_rng(0)
    where = pack_bitmap(rng.random(catalog.n_positions) < 0.5)
    lines = []
    for k, batch in product([min(k, catalog.n) for k in ks], batches):
        queries = catalog.embeddings(catalog.sample_ids(batch, rng)).astype(np.float32)
        faiss_ms, kernel_ms = [], []
        for i in range(repeats + 1):  # the first compiles and allocates
            found, seconds = _timed(backend, "faiss", queries, k)
            right, own_seconds = _timed(backend, "kernel", queries, k)
            sources = (found.source, right.source)
            if sources != ("faiss-gpu/embeddings", "gpu/embeddings") or found.ids.tolist() != right.ids.tolist():
                raise UsageError(
                    f"expected of faiss the {k} nearest that the kernels find, got answers of {found.source} and "
                    f"{right.source}; leave --nn at kernel for this catalog"
                )
            if i:
                faiss_ms.append(1e3 * seconds)
                kernel_ms.append(1e3 * own_seconds)
        medians = [round(float(np.median(taken)), 4) for taken in (kernel_ms, faiss_ms)]
        lines.append(Line(catalog.n, k, batch, False, *medians))
        filtered = [_timed(backend, "kernel", queries, k, where)[1] for _ in range(repeats)]
        lines.append(Line(catalog.n, k, batch, True, round(1e3 * float(np.median(filtered)), 4), None))
    return lines


def _timed(backend: GpuBackend, nn: str, queries: Any, k: int, where: Any = None) -> tuple[Neighbors, float]:
    backend._first.requested = nn
    start = time.perf_counter()
    found = backend.search(queries, k, tier="embeddings", where=where)
    return found, time.perf_counter() - start


def main() -> None:
    """Measure, write the table and print it."""
    from gpubranches.engines.gpu.cupy_device import CupyDevice

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--quick", action="store_true", help="one k and one batch")
    options = parser.parse_args()
    with in_one_sentence(), GpuBackend(Catalog.open(options.catalog), CupyDevice, nn="faiss") as backend:
        lines = measure(backend, KS[1:2], BATCHES[:1]) if options.quick else measure(backend)
        measured = Measured(backend.info()["device"], revision(), time.strftime("%Y-%m-%d"), tuple(lines))
    measured.write()
    print(place().read_text())


if __name__ == "__main__":
    main()
