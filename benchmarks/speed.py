"""Measure speed and memory of the cpu backend against NumPy and faiss, in one run on synthetic catalogs.

    python -m benchmarks.speed --rows 10000000 --out benchmarks/results/cpu-speed

Each pair is timed in turns on the same threads; the table gives medians, the ratio, the goal and the load average.
Catalogs are made in --folder (a temporary one by default) and used again if they are there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.machine import PeakMemory
from benchmarks.harness.options import whole
from benchmarks.harness.publishing import command_line
from benchmarks.harness.speed_table import (
    Row,
    SpeedTable,
    add_speed_options,
    columns_of,
    made_catalog,
    middle_cluster,
    work_folder,
)
from benchmarks.harness.synthetic_catalogs import Clusters, write_catalog, write_embedded_catalog
from gpubranches import Boxes, Catalog, Session
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.learning.branches import BranchEnsemble
from gpubranches.research.speed.other_engines import column_scan

_QUERIES = 16
_NEAREST = 100
_LISTED = 10_000


def measure_boxes(table: SpeedTable, catalog: Catalog, boxes: Boxes, total: int) -> None:
    """Compare finding the rows of an ensemble, all in order or the best, with a column scan that only counts votes."""
    columns = columns_of(catalog)
    name = f"ensemble of {len(boxes)} boxes, {len(boxes.features) / max(1, len(boxes)):.1f} dims, {total:,} found"
    with CpuBackend(catalog, threads=table.threads) as backend:
        table.ratio(
            f"{name}: all of them, against a NumPy column scan",
            lambda: backend.apply(boxes),
            lambda: column_scan(columns, boxes),
            20,
        )
        table.ratio(
            f"{name}: the best {_LISTED:,}, against a NumPy column scan",
            lambda: backend.apply(boxes, limit=_LISTED),
            lambda: column_scan(columns, boxes),
            20,
        )


def measure_nearest(table: SpeedTable, catalog: Catalog, queries: NDArray[np.uint8]) -> None:
    """Compare the exact scan over codes with faiss QT_8bit_direct: one query, and a batch."""
    import faiss

    faiss.omp_set_num_threads(table.threads)
    with (
        CpuBackend(catalog, threads=table.threads) as scan,
        CpuBackend(catalog, nn="faiss", threads=table.threads) as indexed,
    ):
        for count in (1, len(queries)):
            chosen = queries[:count]
            table.ratio(
                f"exact top {_NEAREST} over codes, {count} {'query' if count == 1 else 'queries'}, against faiss",
                partial(scan.search, chosen, _NEAREST, tier="codes"),
                partial(indexed.search, chosen, _NEAREST, tier="codes"),
                1 if count == 1 else 2,
            )


def measure_bandwidth(table: SpeedTable, catalog: Catalog, weights: NDArray[np.float32]) -> None:
    """Compare a linear score over the bits with reading as many bytes, both on one core."""
    words = [np.asarray(segment.bits).reshape(-1).view(np.uint64) for segment in catalog.segments]
    size = sum(part.nbytes for part in words)
    with CpuBackend(catalog, threads=1) as backend:
        ours, read = table.medians(
            lambda: backend.score(weights, tier="bits", limit=_NEAREST),
            lambda: [np.bitwise_or.reduce(part) for part in words],
        )
    name = f"linear score over {size / catalog.n:.0f} bytes of bits, one core, share of the read bandwidth"
    table.add(Row(name, f"{size / ours / 1e6:.1f} GB/s", f"{size / read / 1e6:.1f} GB/s", read / ours, "", 0.25))


def measure_fast_scan(table: SpeedTable, catalog: Catalog, weights: NDArray[np.float32]) -> None:
    """Compare a linear score over the bits with faiss IndexRaBitQFastScan, both on one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((catalog.n, catalog.D)).astype(np.float32)
    index = faiss.IndexRaBitQFastScan(catalog.D, faiss.METRIC_L2)
    index.train(vectors[:10_000])
    index.add(vectors)
    with CpuBackend(catalog, threads=1) as backend:
        table.ratio(
            f"linear score over {catalog.n:,} x {catalog.D} bits, one thread, against faiss IndexRaBitQFastScan",
            lambda: backend.score(weights, tier="bits", limit=_NEAREST),
            lambda: index.search(weights[None], _NEAREST),
            1.5,
        )


def measure_product(table: SpeedTable, catalog: Catalog, weights: NDArray[np.float32]) -> None:
    """Compare a linear score over the bits with NumPy's product over as many float32 embeddings."""
    embeddings = np.random.default_rng(2).standard_normal((catalog.n, catalog.D), np.float32)
    with CpuBackend(catalog, threads=table.threads) as backend:
        table.ratio(
            f"linear score over the bits of {catalog.n:,} items, against NumPy's product of float32",
            lambda: backend.score(weights, tier="bits", limit=_NEAREST),
            lambda: embeddings @ weights,
            5,
        )


def measure_session(table: SpeedTable, catalog: Catalog, owners: NDArray[np.int16]) -> None:
    """Time the training of an ensemble on 1,030 marks, and a whole refine, both warm."""
    codes, y, positives = marks(catalog, owners)
    table.limit(f"training the ensemble on {len(y):,} marks", lambda: BranchEnsemble().fit(codes, y), 60)
    with CpuBackend(catalog, threads=table.threads) as backend:
        session = Session(catalog, backend)
        session.mark(positives, +1)
        table.limit(f"Session.refine on {catalog.n:,} items, {len(positives)} marks", session.refine, 500)


def measure_memory(table: SpeedTable, path: Path, size: int) -> None:
    """Serve in a separate process and add its peak of anonymous memory."""
    command = [sys.executable, "-m", "benchmarks.speed", "--probe", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout)["peak_bytes"]
    goal = size / 2 + 500e6
    name = f"anonymous memory serving {size / 1e6:.0f} MB of codes"
    table.add(Row(name, f"{peak / 1e6:.0f} MB", "", peak / 1e6, "MB", goal / 1e6, at_least=False))


def probe(path: Path) -> None:
    """Evaluate, search and score codes, and print the peak of this process' anonymous memory."""
    with PeakMemory() as memory:
        catalog = Catalog.open(path)
        ids = catalog.sample_ids(1030, np.random.default_rng(0))
        codes = catalog.codes(ids)
        with CpuBackend(catalog) as backend:
            for _ in range(3):
                backend.apply(BranchEnsemble().fit(codes, np.arange(len(codes)) < 30).boxes_)
                backend.search(codes[:4], _NEAREST, tier="codes")
                backend.score(np.ones(catalog.d, np.float32), tier="codes", limit=_NEAREST)
    print(json.dumps({"peak_bytes": memory.peak_bytes}))


def marks(catalog: Catalog, owners: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[Any]]:
    """Return codes and labels of up to 30 items of a middle cluster and 1,000 others, and the ids of the former."""
    rng = np.random.default_rng(3)
    cluster = middle_cluster(owners)
    members = np.flatnonzero(owners == cluster)
    positives = rng.choice(members, min(30, len(members)), replace=False)
    others = catalog.sample_ids(2000, rng)
    others = rng.permutation(others[owners[others] != cluster])[:1000]
    ids = np.concatenate([positives, others])
    return catalog.codes(ids), np.arange(len(ids)) < len(positives), positives


def run(table: SpeedTable, rows: int, embedded_rows: int, fast_scan_rows: int) -> None:
    """Make the catalogs and measure everything."""
    clusters = Clusters()
    rng = np.random.default_rng(4)
    weights = rng.standard_normal(512).astype(np.float32)
    large, owners = made_catalog(
        table.folder / f"codes-{rows}", lambda path: write_catalog(path, clusters, rows, D=512)
    )
    codes, y, _ = marks(large, owners)
    boxes = BranchEnsemble().fit(codes, y).boxes_
    with CpuBackend(large, threads=table.threads) as backend:
        total = backend.apply(boxes, limit=1).total
    measure_boxes(table, large, boxes, total)
    gc.collect()
    near = large.codes(large.sample_ids(_QUERIES, rng)).astype(np.int16) + rng.integers(-6, 7, (_QUERIES, large.d))
    measure_nearest(table, large, np.clip(near, 0, 255).astype(np.uint8))
    gc.collect()
    measure_bandwidth(table, large, weights)
    measure_memory(table, large.path, large.n * large.d)
    small, _ = made_catalog(
        table.folder / f"bits-{fast_scan_rows}",
        lambda path: write_catalog(path, clusters, fast_scan_rows, D=512),
    )
    measure_fast_scan(table, small, weights)
    middle, owners = made_catalog(
        table.folder / f"embedded-{embedded_rows}",
        lambda path: write_embedded_catalog(path, Clusters(d=512), embedded_rows),
    )
    measure_product(table, middle, weights)
    measure_session(table, middle, owners)


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    add_speed_options(parser, repeats=11)
    parser.add_argument(
        "--embedded-rows", type=whole(1), default=1_000_000, help="items of the catalog with embeddings"
    )
    parser.add_argument(
        "--fast-scan-rows", type=whole(1), default=187_369, help="items compared with IndexRaBitQFastScan"
    )
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe is not None:
        probe(options.probe)
        return
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        table = SpeedTable(folder, options.repeats, options.threads)
        run(table, options.rows, options.embedded_rows, options.fast_scan_rows)
    table.publish("Speed of the cpu backend", command_line("speed"), load_before, options.out)


if __name__ == "__main__":
    main()
