"""Measure the index against scans on a synthetic catalog: building, boxes by selectivity, nearest neighbours.

    python -m benchmarks.kdtree --rows 10000000 --out benchmarks/results/kdtree

Each pair is timed in turns on the same threads; the table gives medians of both and the median of the ratios. Catalogs
are made in --folder (a temporary one by default) and used again if they are there; so are their indexes with --keep.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from benchmarks.harness.synthetic_catalogs import Clusters, write_catalog
from gpubranches import Boxes, Catalog
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.engines.kdtree.backend import KdtreeBackend
from gpubranches.engines.kdtree.build import build_index
from gpubranches.research.speed.other_engines import column_scan
from gpubranches.research.speed.questions import pool_models
from gpubranches.research.speed.timing import in_turns, once

_BEST, _NEAREST = 10_000, 100
_QUERIES, _COLD = 50, 3
_STOPS = (100, 1000, 3000)


def measure_build(table: SpeedTable, catalog: Catalog, goal_s: float | None, repeats: int) -> None:
    """Add the seconds of building, wall-clock and processor, and the bytes per row."""
    walls, used = [], []
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        manifest = build_index(catalog, threads=table.threads)
        walls.append(time.perf_counter() - start)
        used.append(time.process_time() - busy)
    wall = float(np.median(walls))
    trees = len(manifest["trees"])
    name = f"{trees} trees over {catalog.n:,} items, checksums and fsync included; processor seconds beside"
    table.add(Row(name, f"{wall:.1f} s", f"{np.median(used):.1f} s", wall, "s", goal_s, at_least=False))
    size = sum(entry["bytes"] for entry in manifest["files"].values()) / catalog.n
    table.add(Row(f"the index of {catalog.n:,} items, bytes an item", f"{size:.1f} B", "", size, "B", 934, False))


def models(catalog: Catalog, owners: NDArray[np.int16]) -> dict[str, Boxes]:
    """Return models of the pool by name: grown on 8 marks of a middle cluster, and wider versions."""
    rng = np.random.default_rng(3)
    cluster = middle_cluster(owners)
    positives = rng.choice(np.flatnonzero(owners == cluster), 8, replace=False)
    others = catalog.sample_ids(1000, rng)
    ids = np.concatenate([positives, others[owners[others] != cluster]])
    codes, y = catalog.codes(ids), np.arange(len(ids)) < len(positives)
    sample = catalog.codes(catalog.sample_ids(20_000, rng))
    return pool_models(codes, y, sample)


def measure_boxes(table: SpeedTable, catalog: Catalog, asked: dict[str, Boxes]) -> None:
    """Compare the index, answer and order included, with the cpu backend and with a column scan that counts votes."""
    columns = columns_of(catalog)
    with (
        KdtreeBackend(catalog, threads=table.threads) as index,
        KdtreeBackend(catalog, threads=table.threads, index_only=True) as trees,
        CpuBackend(catalog, threads=table.threads) as scan,
    ):
        for name, boxes in asked.items():
            _measure_model(table, name, boxes, columns, (index, trees, scan))


def _measure_model(
    table: SpeedTable,
    name: str,
    boxes: Boxes,
    columns: NDArray[np.uint8],
    backends: tuple[KdtreeBackend, KdtreeBackend, CpuBackend],
) -> None:
    index, trees, _ = backends
    least = boxes.n_estimators // 2 + 1
    works = [partial(own.apply, boxes, min_votes=least, limit=_BEST) for own in backends]
    before = index.info()["boxes"]["by index"]
    answers = [work() for work in works]
    by_index = index.info()["boxes"]["by index"] - before
    if any(one.total != answers[0].total or one.ids.tolist() != answers[0].ids.tolist() for one in answers):
        raise SystemExit(f"{name}: the index and the scan disagree")
    times = in_turns([*works, lambda: column_scan(columns, boxes)], table.repeats)
    chosen, by_trees, by_scan, by_numpy = np.median(times, axis=0).tolist()
    what = f"{name}: {len(boxes)} boxes, {answers[0].total:,} found"
    told = f"kdtree ({by_index} boxes by trees)"
    goal = 6 if name.startswith("branch, narrow") else None
    ratios = times / times[:, :1]
    numpy_ratio, scan_ratio = np.median(ratios[:, 3]), np.median(ratios[:, 2])
    table.add(
        Row(f"{what}; {told} against a NumPy column scan", _ms(chosen), _ms(by_numpy), float(numpy_ratio), "x", goal)
    )
    table.add(Row(f"{what}; {told} against cpu", _ms(chosen), _ms(by_scan), float(scan_ratio), "x", None))
    trees_ratio = float(np.median(times[:, 2] / times[:, 1]))
    table.add(Row(f"{what}; all boxes by trees against cpu", _ms(by_trees), _ms(by_scan), trees_ratio, "x", None))
    cold = []
    for _ in range(_COLD):
        index.evict()
        trees.evict()
        cold.append(once(works[1]))
    middle = float(np.median(cold))
    table.add(
        Row(f"{what}; all boxes by trees, cold, beside warm", _ms(middle), _ms(by_trees), by_trees / middle, "x", None)
    )


def measure_stops(table: SpeedTable, catalog: Catalog) -> None:
    """Add the time and the recall of a search that stops after some leaves, beside the exact search."""
    rng = np.random.default_rng(5)
    near = catalog.codes(catalog.sample_ids(_QUERIES, rng)).astype(np.int16) + rng.integers(
        -6, 7, (_QUERIES, catalog.d)
    )
    queries = np.clip(near, 0, 255).astype(np.uint8)
    with KdtreeBackend(catalog, threads=table.threads) as exact:
        true = [exact.search(query[None], _NEAREST, tier="codes").ids[0].tolist() for query in queries]
        for leaves in _STOPS:
            with KdtreeBackend(catalog, threads=table.threads, stop_leaves=leaves) as quick:
                found = [quick.search(query[None], _NEAREST, tier="codes").ids[0].tolist() for query in queries]
                recall = np.mean([len(set(a) & set(b)) / _NEAREST for a, b in zip(found, true, strict=True)])
                works = [partial(own.search, queries[:1], _NEAREST, tier="codes") for own in (quick, exact)]
                times = in_turns(works, table.repeats)
                a, b = np.median(times, axis=0).tolist()
                what = f"top {_NEAREST} over codes, {leaves:,} leaves: recall {recall:.3f}, against the exact search"
                table.add(Row(what, _ms(a), _ms(b), float(np.median(times[:, 1] / times[:, 0])), "x", None))


def _ms(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"


def _write(rows: int, path: Path) -> NDArray[np.int16]:
    return write_catalog(path, Clusters(), rows)


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kdtree", description=__doc__)
    add_speed_options(parser, repeats=9)
    parser.add_argument(
        "--built-rows", type=whole(1), default=1_000_000, help="items of the catalog whose building is timed"
    )
    parser.add_argument("--keep", action="store_true", help="leave the indexes in --folder")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        table = SpeedTable(folder, options.repeats, options.threads)
        for rows, goal_s, repeats in ((options.built_rows, 15.4, 3), (options.rows, None, 1)):
            catalog, owners = made_catalog(folder / f"codes-{rows}", partial(_write, rows))
            measure_build(table, catalog, goal_s, repeats)
            if rows == options.rows:
                measure_boxes(table, catalog, models(catalog, owners))
                measure_stops(table, catalog)
            if not options.keep:
                shutil.rmtree(catalog.path / "kdtree")
    table.publish("The kdtree backend beside scans", command_line("kdtree"), load_before, options.out)


if __name__ == "__main__":
    main()
