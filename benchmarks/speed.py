"""Speed and memory of the cpu backend beside NumPy and faiss, in one run on synthetic catalogs.

    python -m benchmarks.speed --rows 10000000 --out benchmarks/results/cpu-speed

Each pair is timed in turns on the same threads; the table gives medians, the ratio, the goal and the load average.
Catalogs are made in --folder (a temporary one by default) and used again if they are there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import Clusters, write_catalog, write_embedded_catalog
from gpubranches import Boxes, Catalog, Session
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.learning.branches import BranchEnsemble
from gpubranches.research.speed.other_engines import column_scan

_SCAN_ROWS = 1 << 16
_QUERIES = 16
_NEAREST = 100


@dataclass(frozen=True)
class Row:
    """One line of the table. goal: of `value`, met if value >= goal (at_least) or <= goal; None where there is none."""

    name: str
    ours: str
    other: str
    value: float
    unit: str
    goal: float | None
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal


class Bench:
    """Threads, repeats and the rows measured so far."""

    def __init__(self, folder: Path, repeats: int, threads: int):
        self.folder = folder
        self.repeats = repeats
        self.threads = threads
        self.rows: list[Row] = []

    def pair(self, ours: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float]:
        """Return the median milliseconds of two functions, run in turns after one warm run each."""
        ours(), other()
        times = [(_milliseconds(ours), _milliseconds(other)) for _ in range(self.repeats)]
        return float(np.median([a for a, _ in times])), float(np.median([b for _, b in times]))

    def ratio(self, name: str, ours: Callable[[], Any], other: Callable[[], Any], goal: float) -> None:
        """Add the row of a pair: how many times faster ours is."""
        a, b = self.pair(ours, other)
        self.add(Row(name, f"{a:.1f} ms", f"{b:.1f} ms", b / a, "x", goal))

    def limit(self, name: str, ours: Callable[[], Any], goal_ms: float) -> None:
        """Add the row of one function that has a time to keep."""
        ours()
        a = float(np.median([_milliseconds(ours) for _ in range(self.repeats)]))
        self.add(Row(name, f"{a:.1f} ms", "", a, "ms", goal_ms, at_least=False))

    def add(self, row: Row) -> None:
        """Add a row and show it."""
        self.rows.append(row)
        print(row_line(row), flush=True)


def _milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


# What is measured


def measure_boxes(bench: Bench, catalog: Catalog, boxes: Boxes, total: int) -> None:
    """Compare evaluating an ensemble, answer and order included, with a column scan that only counts votes."""
    columns = np.empty((catalog.d, catalog.n), np.uint8)
    at = 0
    for segment in catalog.segments:
        for start in range(0, segment.n, _SCAN_ROWS):
            rows = segment.row_codes(start, min(start + _SCAN_ROWS, segment.n))
            columns[:, at : at + len(rows)] = rows.T
            at += len(rows)
    name = f"ensemble of {len(boxes)} boxes, {len(boxes.features) / max(1, len(boxes)):.1f} dims, {total:,} found"
    with CpuBackend(catalog, threads=bench.threads) as backend:
        bench.ratio(
            f"{name}: all of them, against a NumPy column scan",
            lambda: backend.apply(boxes),
            lambda: column_scan(columns, boxes),
            8,
        )


def measure_nearest(bench: Bench, catalog: Catalog, queries: NDArray[np.uint8]) -> None:
    """Compare the exact scan over codes with faiss QT_8bit_direct: one query, and a batch."""
    import faiss

    faiss.omp_set_num_threads(bench.threads)
    with (
        CpuBackend(catalog, threads=bench.threads) as scan,
        CpuBackend(catalog, nn="faiss", threads=bench.threads) as indexed,
    ):
        for count in (1, len(queries)):
            chosen = queries[:count]
            bench.ratio(
                f"exact top {_NEAREST} over codes, {count} {'query' if count == 1 else 'queries'}, against faiss",
                lambda chosen=chosen: scan.search(chosen, _NEAREST, tier="codes"),
                lambda chosen=chosen: indexed.search(chosen, _NEAREST, tier="codes"),
                1,
            )


def measure_bandwidth(bench: Bench, catalog: Catalog, weights: NDArray[np.float32]) -> None:
    """Compare a linear score over the bits with reading as many bytes, both on one core."""
    words = [np.asarray(segment.bits).reshape(-1).view(np.uint64) for segment in catalog.segments]
    size = sum(part.nbytes for part in words)
    with CpuBackend(catalog, threads=1) as backend:
        ours, read = bench.pair(
            lambda: backend.score(weights, tier="bits", limit=_NEAREST),
            lambda: [np.bitwise_or.reduce(part) for part in words],
        )
    name = f"linear score over {size / catalog.n:.0f} bytes of bits, one core, share of the read bandwidth"
    bench.add(Row(name, f"{size / ours / 1e6:.1f} GB/s", f"{size / read / 1e6:.1f} GB/s", read / ours, "", 0.25))


def measure_fast_scan(bench: Bench, catalog: Catalog, weights: NDArray[np.float32]) -> None:
    """Compare a linear score over the bits with faiss IndexRaBitQFastScan, both on one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((catalog.n, catalog.D)).astype(np.float32)
    index = faiss.IndexRaBitQFastScan(catalog.D, faiss.METRIC_L2)
    index.train(vectors[:10_000])
    index.add(vectors)
    with CpuBackend(catalog, threads=1) as backend:
        bench.ratio(
            f"linear score over {catalog.n:,} x {catalog.D} bits, one thread, against faiss IndexRaBitQFastScan",
            lambda: backend.score(weights, tier="bits", limit=_NEAREST),
            lambda: index.search(weights[None], _NEAREST),
            1,
        )


def measure_product(bench: Bench, catalog: Catalog, weights: NDArray[np.float32]) -> None:
    """Compare a linear score over the bits with NumPy's product over as many float32 embeddings."""
    embeddings = np.random.default_rng(2).standard_normal((catalog.n, catalog.D), np.float32)
    with CpuBackend(catalog, threads=bench.threads) as backend:
        bench.ratio(
            f"linear score over the bits of {catalog.n:,} items, against NumPy's product of float32",
            lambda: backend.score(weights, tier="bits", limit=_NEAREST),
            lambda: embeddings @ weights,
            5,
        )


def measure_session(bench: Bench, catalog: Catalog, owners: NDArray[np.int16]) -> None:
    """Time the training of an ensemble on 1,030 marks, and a whole refine, both warm."""
    codes, y, positives = marks(catalog, owners)
    bench.limit(f"training the ensemble on {len(y):,} marks", lambda: BranchEnsemble().fit(codes, y), 60)
    with CpuBackend(catalog, threads=bench.threads) as backend:
        session = Session(catalog, backend)
        session.mark(positives, +1)
        bench.limit(f"Session.refine on {catalog.n:,} items, {len(positives)} marks", session.refine, 500)


def measure_memory(bench: Bench, path: Path, size: int) -> None:
    """Serve in a process of its own and add its peak of anonymous memory."""
    command = [sys.executable, "-m", "benchmarks.speed", "--probe", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout)["peak_bytes"]
    goal = size / 2 + 500e6
    name = f"anonymous memory serving {size / 1e6:.0f} MB of codes"
    bench.add(Row(name, f"{peak / 1e6:.0f} MB", "", peak / 1e6, "MB", goal / 1e6, at_least=False))


def probe(path: Path) -> None:
    """Evaluate, search and score codes, and print the peak of this process' RssAnon."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    catalog = Catalog.open(path)
    ids = catalog.sample_ids(1030, np.random.default_rng(0))
    codes = catalog.codes(ids)
    with CpuBackend(catalog) as backend:
        for _ in range(3):
            backend.apply(BranchEnsemble().fit(codes, np.arange(len(codes)) < 30).boxes_)
            backend.search(codes[:4], _NEAREST, tier="codes")
            backend.score(np.ones(catalog.d, np.float32), tier="codes", limit=_NEAREST)
    stop.set()
    watcher.join()
    print(json.dumps({"peak_bytes": max(peak[0], anonymous_bytes())}))


def anonymous_bytes() -> int:
    """Return RssAnon of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def marks(catalog: Catalog, owners: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[Any]]:
    """Return codes and labels of up to 30 items of a middle cluster and 1,000 others, and the ids of the former."""
    rng = np.random.default_rng(3)
    sizes = np.bincount(owners, minlength=1000)
    cluster = int(np.argsort(sizes)[len(sizes) // 2])
    members = np.flatnonzero(owners == cluster)
    positives = rng.choice(members, min(30, len(members)), replace=False)
    others = catalog.sample_ids(2000, rng)
    others = rng.permutation(others[owners[others] != cluster])[:1000]
    ids = np.concatenate([positives, others])
    return catalog.codes(ids), np.arange(len(ids)) < len(positives), positives


# The run


def run(bench: Bench, rows: int, embedded_rows: int, fast_scan_rows: int) -> None:
    """Make the catalogs and measure everything."""
    clusters = Clusters()
    rng = np.random.default_rng(4)
    weights = rng.standard_normal(512).astype(np.float32)
    large, owners = made_catalog(
        bench.folder / f"codes-{rows}", lambda path: write_catalog(path, clusters, rows, D=512)
    )
    codes, y, _ = marks(large, owners)
    boxes = BranchEnsemble().fit(codes, y).boxes_
    with CpuBackend(large, threads=bench.threads) as backend:
        total = backend.apply(boxes, limit=1).total
    measure_boxes(bench, large, boxes, total)
    gc.collect()
    near = large.codes(large.sample_ids(_QUERIES, rng)).astype(np.int16) + rng.integers(-6, 7, (_QUERIES, large.d))
    measure_nearest(bench, large, np.clip(near, 0, 255).astype(np.uint8))
    gc.collect()
    measure_bandwidth(bench, large, weights)
    measure_memory(bench, large.path, large.n * large.d)
    small, _ = made_catalog(
        bench.folder / f"bits-{fast_scan_rows}",
        lambda path: write_catalog(path, clusters, fast_scan_rows, D=512),
    )
    measure_fast_scan(bench, small, weights)
    middle, owners = made_catalog(
        bench.folder / f"embedded-{embedded_rows}",
        lambda path: write_embedded_catalog(path, Clusters(d=512), embedded_rows),
    )
    measure_product(bench, middle, weights)
    measure_session(bench, middle, owners)


def made_catalog(path: Path, write: Callable[[Path], NDArray[np.int16]]) -> tuple[Catalog, NDArray[np.int16]]:
    """Open a catalog and the cluster of each id; make both first if they are not there."""
    owners = path.with_suffix(".npy")
    if not owners.exists():
        print(f"making {path.name}", file=sys.stderr)
        np.save(owners, write(path))
    return Catalog.open(path), np.load(owners)


def row_line(row: Row) -> str:
    """Return a row of the table."""
    goal = "" if row.goal is None else f"{'at least' if row.at_least else 'at most'} {row.goal:g} {row.unit}".rstrip()
    verdict = "" if row.goal is None else "pass" if row.met else "MISS"
    value = f"{row.value:.2f} {row.unit}".rstrip() if row.value < 100 else f"{row.value:.0f} {row.unit}"
    return f"| {row.name} | {row.ours} | {row.other} | {value} | {goal} | {verdict} |"


HEAD = "| what | ours | other | ratio | goal | |\n|---|---|---|---|---|---|"


def machine_facts(loads: tuple[float, float], repeats: int, threads: int) -> dict[str, Any]:
    """Return what this was measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "repeats": repeats,
        "load_before": round(loads[0], 2),
        "load_after": round(loads[1], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def write_results(out: Path, title: str, command: str, machine: dict[str, Any], rows: list[Row]) -> None:
    """Write PREFIX.md and PREFIX.json."""
    out.parent.mkdir(parents=True, exist_ok=True)
    entries = [{**asdict(row), "met": row.met} for row in rows]
    out.with_suffix(".json").write_text(json.dumps({"command": command, "machine": machine, "rows": entries}, indent=1))
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())
    table = "\n".join([HEAD, *map(row_line, rows)])
    out.with_suffix(".md").write_text(f"# {title}\n\n`{command}`\n\n{facts}\n\n{table}\n")


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """Yield the given folder, or a temporary one."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="gpubranches-speed-") as made:
        yield Path(made)


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="items of the large catalog")
    parser.add_argument("--embedded-rows", type=int, default=1_000_000, help="items of the catalog with embeddings")
    parser.add_argument("--fast-scan-rows", type=int, default=187_369, help="items compared with IndexRaBitQFastScan")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, help="where the catalogs are made and kept")
    parser.add_argument("--out", type=Path, help="write PREFIX.md and PREFIX.json")
    parser.add_argument("--probe", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe is not None:
        probe(options.probe)
        return
    before = os.getloadavg()[0]
    print(HEAD, flush=True)
    with work_folder(options.folder) as folder:
        bench = Bench(folder, options.repeats, options.threads)
        run(bench, options.rows, options.embedded_rows, options.fast_scan_rows)
    machine = machine_facts((before, os.getloadavg()[0]), options.repeats, options.threads)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if options.out is not None:
        command = f"python -m benchmarks.speed --rows {options.rows}"
        write_results(options.out, "Speed of the cpu backend", command, machine, bench.rows)


if __name__ == "__main__":
    main()
