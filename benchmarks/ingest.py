"""Measure ingest on all cores beside ingest on one, in one run over the same input, and compare what they write.

    python -m benchmarks.ingest --rows 10000000 --out benchmarks/results/ingest

On one core the work is done as before ingest used several cores: one thread reads, encodes, orders and writes a segment
before it begins the next, and scales all rows of a block at a time. There BLAS uses all cores. In an ingest on all
cores, each thread that encodes uses BLAS on one core. The table gives medians of rounds in turns. The run fails unless
all files of both catalogs but the manifests are equal. Memory is the largest increase of the anonymous memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from benchmarks.harness.machine import PeakMemory
from benchmarks.harness.options import whole
from benchmarks.harness.publishing import command_line
from benchmarks.harness.speed_table import Row, SpeedTable, add_speed_options, work_folder
from benchmarks.harness.synthetic_catalogs import Clusters
from gpubranches import Catalog
from gpubranches.catalog import catalog as catalog_module
from gpubranches.catalog import segment, segment_rows
from gpubranches.core import files
from gpubranches.ingestion import build_catalog

_GOAL = 1.7
_BLOCK = 1 << 17
_MIB = 1 << 20


def one_core() -> ExitStack:
    """Return a block in which ingest works as it did before it used several cores."""

    def in_turn(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(work, items)

    stack = ExitStack()
    stack.enter_context(patch.object(segment, "cores", lambda: 1))
    stack.enter_context(patch.object(segment_rows, "cores", lambda: 1))
    stack.enter_context(patch.object(segment_rows, "one_thread", nullcontext))
    stack.enter_context(patch.object(segment_rows, "unit_rows", plain_unit_rows))
    stack.enter_context(patch.object(catalog_module, "one_ahead", in_turn))
    stack.enter_context(patch.object(files, "_LARGE_BYTES", sys.maxsize))
    return stack


def plain_unit_rows(rows: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return what `gpubranches.catalog.codec.unit_rows` returns, by operations on all rows at a time."""
    wide = rows.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    bad = ~np.isfinite(lengths) | (lengths == 0)
    wide[bad] = 0
    lengths[bad] = 1
    return (wide / lengths[:, None]).astype(np.float16), bad


def write_input(path: Path, kind: str, n: int, dims: int) -> None:
    """Write clustered rows of a kind, codes or embeddings, as .npy."""
    clusters = Clusters(d=dims)
    array = open_memmap(path, "w+", np.uint8 if kind == "codes" else np.float16, (n, dims))
    for number, start in enumerate(range(0, n, _BLOCK)):
        vectors = clusters.vectors(number)[0][: n - start]
        array[start : start + _BLOCK] = clusters.quantizer.encode(vectors) if kind == "codes" else vectors
    array.flush()


def measure(table: SpeedTable, kind: str, n: int, dims: int) -> None:
    """Add the rows of one kind of input: time, and memory."""
    source = table.folder / f"{kind}-{n}-{dims}.npy"
    if not source.exists():
        write_input(source, kind, n, dims)
    peaks = {}

    def ingest(name: str) -> Path:
        out = table.folder / name
        shutil.rmtree(out, ignore_errors=True)
        with PeakMemory(0.05) as memory:
            build_catalog([source], out)
        peaks[name] = memory.peak_bytes - memory.before_bytes
        return out

    def ingest_alone() -> Path:
        with one_core():
            return ingest("one")

    name = f"ingest of {n:,} {kind} of {dims} dims"
    table.ratio(f"{name}, all cores against one", lambda: ingest("all"), ingest_alone, _GOAL)
    _require_equal(table.folder / "all", table.folder / "one")
    ours, other = (f"{peaks[key] / _MIB:.0f} MiB" for key in ("all", "one"))
    table.add(Row(f"{name}: memory", ours, other, peaks["all"] / _MIB, "MiB", None))


def _require_equal(one: Path, other: Path) -> None:
    entries = [[segment.files for segment in Catalog.open(path).segments] for path in (one, other)]
    if entries[0] != entries[1]:
        raise SystemExit(f"{one} and {other}: expected segments of the same bytes, they differ")


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    add_speed_options(parser, repeats=3)
    parser.add_argument("--dims", type=whole(4), default=64, help="dims of the codes")
    parser.add_argument("--embedded-rows", type=whole(1), default=2_000_000, help="rows of the embeddings")
    parser.add_argument("--embedding-dims", type=whole(4), default=512)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        table = SpeedTable(folder, options.repeats, options.threads)
        measure(table, "codes", options.rows, options.dims)
        measure(table, "embeddings", options.embedded_rows, options.embedding_dims)
    table.publish("Ingest on all cores", command_line("ingest"), load_before, options.out)


if __name__ == "__main__":
    main()
