"""Measure other engines on the same work: 100 nearest codes with a filter, and all items that match 40 boxes.

    python -m benchmarks.peers --rows 1000000 --out benchmarks/results/peers.md

Each engine runs in a separate process, on all cores. It loads the codes, (n, 32) as numbers, and a column `part` of
whole numbers from 0 to 99. The queries for nearest codes use `part < 1`, `part < 10` and all items. Faiss cannot test a
condition, so its filters are bitmaps made in advance; gpubranches keeps the bitmap of a condition after the warm-up
round. Peak memory includes the imports of the program. Shares found count the rows that are as near as the true 100.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.machine import machine_facts, peak_resident_bytes
from benchmarks.harness.options import out_file, out_folder, whole
from benchmarks.harness.publishing import command_line, document, publish
from benchmarks.harness.speed_table import made_catalog, work_folder
from benchmarks.harness.synthetic_catalogs import Clusters, write_catalog
from benchmarks.speed import marks
from gpubranches import Boxes, Catalog
from gpubranches.core.box_sql import box_condition
from gpubranches.core.boxes import Box
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.learning.branches import BranchEnsemble
from gpubranches.research.tables import markdown_table

_NEAREST, _QUERIES, _BOXES = 100, 8, 40
_PARTS = 1, 10, 100
_CHUNK = 1 << 20
_HEADER = ("engine", "load", "peak memory", *(f"top {_NEAREST}, {p}% of the items" for p in _PARTS), f"{_BOXES} boxes")

Search = Callable[[NDArray[np.uint8], int], NDArray[np.int64]]
"""Called with (query, parts): returns ids of the 100 nearest items with part < parts."""
Match = Callable[[], int]
"""Returns how many items lie in one of the boxes, after making their ids."""
Engine = tuple[Search, Match | None]


class Work:
    """The data that all engines load: codes (n, 32) uint8, parts (n,) uint8, queries (8, 32) uint8, and the boxes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.codes = np.load(folder / "codes.npy", mmap_mode="r")
        self.parts = np.load(folder / "parts.npy")
        self.queries = np.load(folder / "queries.npy")
        box = np.load(folder / "boxes.npz")
        cuts = box["offsets"][1:-1]
        self.boxes = [np.split(box[name], cuts) for name in ("features", "low", "high")]

    def chunks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the first id and the codes of some rows at a time."""
        for start in range(0, len(self.codes), _CHUNK):
            yield start, np.asarray(self.codes[start : start + _CHUNK])

    def table(self, start: int, codes: NDArray[np.uint8]) -> Any:
        """Return rows as an Arrow table: id, part, v (32 float32), c0 to c31 (uint8)."""
        import pyarrow as pa

        d = codes.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(codes.astype(np.float32).reshape(-1)), d)
        columns = {f"c{f}": np.ascontiguousarray(codes[:, f]) for f in range(d)}
        ids = np.arange(start, start + len(codes))
        return pa.table({"id": ids, "part": self.parts[start : start + len(codes)], "v": vectors, **columns})

    def condition(self) -> str:
        """Return the boxes as SQL."""
        return " OR ".join(f"({box_condition(*box)})" for box in zip(*self.boxes, strict=True))


def ours(work: Work) -> Engine:
    """Write and open a catalog; conditions are evaluated by DuckDB over its metadata."""
    import pyarrow as pa

    catalog = Catalog.create(
        work.folder / "ours", space=EmbeddingSpace(), d=work.codes.shape[1], scalar=Clusters().quantizer
    )
    for start, codes in work.chunks():
        own = pa.table({"part": work.parts[start : start + len(codes)]})
        catalog.append(codes, ids=np.arange(start, start + len(codes)), items=own)
    backend = CpuBackend(catalog)
    boxes = Boxes(Box(*box) for box in zip(*work.boxes, strict=True))

    def search(query: NDArray[np.uint8], parts: int) -> NDArray[np.int64]:
        where = None if parts == 100 else catalog.where(f"part < {parts}")
        ids: NDArray[np.int64] = backend.search(query[None], _NEAREST, tier="codes", where=where).ids[0]
        return ids

    return search, lambda: len(backend.apply(boxes).ids)


def faiss_index(work: Work, kind: str) -> Engine:
    """Build an index of faiss over float32."""
    faiss: Any = importlib.import_module("faiss")  # its stubs lack the parameters of a search
    n, d = work.codes.shape
    index = faiss.index_factory(d, {"flat": "Flat", "ivf": f"IVF{int(4 * np.sqrt(n))},Flat", "hnsw": "HNSW32"}[kind])
    if kind == "ivf":
        index.train(work.codes[:: max(1, n // 200_000)].astype(np.float32))
    for _, codes in work.chunks():
        index.add(codes.astype(np.float32))
    bitmaps = {p: np.packbits(work.parts < p, bitorder="little") for p in _PARTS}
    settings: dict[str, Any] = {
        "flat": faiss.SearchParameters,
        "ivf": partial(faiss.SearchParametersIVF, nprobe=64),
        "hnsw": partial(faiss.SearchParametersHNSW, efSearch=256),
    }

    def search(query: NDArray[np.uint8], parts: int) -> NDArray[np.int64]:
        limits = {} if parts == 100 else {"sel": faiss.IDSelectorBitmap(bitmaps[parts])}
        found = index.search(query[None].astype(np.float32), _NEAREST, params=settings[kind](**limits))
        ids: NDArray[np.int64] = found[1][0]
        return ids[ids >= 0]

    return search, None


def duckdb_table(work: Work) -> Engine:
    """Load a DuckDB file and scan it. Its extension for vectors is not in the package and is not used."""
    import duckdb

    base = duckdb.connect(str(work.folder / "peer.duckdb"))
    for start, codes in work.chunks():
        own = work.table(start, codes)
        base.register("own", own)
        # The texts of SQL here hold numbers and names of this program alone.
        made = "INSERT INTO items" if start else "CREATE TABLE items AS"
        base.execute(f"{made} SELECT * REPLACE (v::FLOAT[{codes.shape[1]}] AS v) FROM own")  # nosec B608
    base.execute("CHECKPOINT")
    matching = f"SELECT id FROM items WHERE {work.condition()}"  # nosec B608

    def search(query: NDArray[np.uint8], parts: int) -> NDArray[np.int64]:
        near = f"array_distance(v, ?::FLOAT[{len(query)}])"
        text = f"SELECT id FROM items WHERE part < {parts} ORDER BY {near} LIMIT {_NEAREST}"  # nosec B608
        ids: NDArray[np.int64] = base.execute(text, [query.tolist()]).fetchnumpy()["id"]
        return ids

    return search, lambda: len(base.execute(matching).fetchnumpy()["id"])


def lance_table(work: Work) -> Engine:
    """Write a table of LanceDB and scan it without an index."""
    import lancedb

    first, *others = [work.table(start, codes) for start, codes in work.chunks()]
    table = lancedb.connect(str(work.folder / "lance")).create_table("items", first)
    for more in others:
        table.add(more)

    def search(query: NDArray[np.uint8], parts: int) -> NDArray[np.int64]:
        asked = table.search(query.astype(np.float32), vector_column_name="v").limit(_NEAREST)
        asked = asked.select(["id", "_distance"])
        asked = asked if parts == 100 else asked.where(f"part < {parts}", prefilter=True)
        return np.asarray(asked.to_arrow()["id"])

    def match() -> int:
        return len(table.search().where(work.condition()).select(["id"]).limit(len(work.codes)).to_arrow())

    return search, match


ENGINES: dict[str, tuple[str | None, Callable[[Work], Engine]]] = {
    "gpubranches cpu": (None, ours),
    "faiss Flat": ("faiss", partial(faiss_index, kind="flat")),
    "faiss IVF, 64 lists probed": ("faiss", partial(faiss_index, kind="ivf")),
    "faiss HNSW32, efSearch 256": ("faiss", partial(faiss_index, kind="hnsw")),
    "LanceDB, no index": ("lancedb", lance_table),
    "DuckDB, array_distance": (None, duckdb_table),
}
"""Each engine with the package that it needs, if the project does not always need it, and the function that loads."""


def probe(name: str, folder: Path, repeats: int) -> None:
    """Load one engine, run all queries, and print a line for each round and a line of JSON with its times."""
    work = Work(folder)
    furthest = np.load(folder / "furthest.npy")
    start = time.perf_counter()
    search, match = ENGINES[name][1](work)
    result: dict[str, Any] = {"load_s": time.perf_counter() - start, "ms": {}, "found": {}, "matches": None}
    for number in range(repeats + 1):
        for p, parts in enumerate(_PARTS):
            for q, query in enumerate(work.queries):
                start = time.perf_counter()
                ids = search(query, parts)
                if number:
                    result["ms"].setdefault(str(parts), []).append(1e3 * (time.perf_counter() - start))
                away = work.codes[np.sort(ids)].astype(np.int64) - query
                near = (np.einsum("ij,ij->i", away, away) <= furthest[p, q]) & (work.parts[np.sort(ids)] < parts)
                result["found"].setdefault(str(parts), []).append(float(near.sum()) / _NEAREST)
        if match is not None:
            start = time.perf_counter()
            result["matches"] = match()
            if number:
                result["ms"].setdefault("boxes", []).append(1e3 * (time.perf_counter() - start))
        medians = {what: round(float(np.median(times)), 2) for what, times in result["ms"].items()}
        print(f"{name}: round {number} of {repeats}, medians in ms so far {medians}", file=sys.stderr, flush=True)
    result["peak_mb"] = peak_resident_bytes() / 1e6
    print(json.dumps(result))


def prepare(folder: Path, rows: int) -> None:
    """Write the codes in the order of ids, parts, queries, boxes, and the squared distances of the 100th nearest."""
    catalog, owners = made_catalog(folder / f"codes-{rows}", lambda path: write_catalog(path, Clusters(), rows))
    codes = catalog.codes(np.arange(rows))
    rng = np.random.default_rng(7)
    parts = rng.integers(0, 100, rows).astype(np.uint8)
    queries = np.clip(codes[rng.integers(0, rows, _QUERIES)] + rng.integers(-6, 7, (_QUERIES, codes.shape[1])), 0, 255)
    taught, y, _ = marks(catalog, owners)
    model = BranchEnsemble().fit(taught, y).boxes_
    boxes = Boxes(list(model)[:_BOXES])
    furthest = np.empty((len(_PARTS), _QUERIES), np.int64)
    for q, query in enumerate(queries):
        away = np.concatenate(
            [((codes[i : i + _CHUNK].astype(np.int32) - query) ** 2).sum(axis=1) for i in range(0, rows, _CHUNK)]
        )
        for p, most in enumerate(_PARTS):
            own = away[parts < most]
            furthest[p, q] = np.partition(own, _NEAREST - 1)[_NEAREST - 1]
    for name, array in (("codes", codes), ("parts", parts), ("queries", queries.astype(np.uint8))):
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "furthest.npy", furthest)
    np.savez(folder / "boxes.npz", offsets=boxes.offsets, features=boxes.features, low=boxes.low, high=boxes.high)


def line(name: str, folder: Path, repeats: int) -> tuple[str, ...]:
    """Run one engine in a separate process and return its line of the table."""
    package = ENGINES[name][0]
    if package is not None and importlib.util.find_spec(package) is None:
        return (name, f"skipped: {package} is not installed", *[""] * (len(_HEADER) - 2))
    command = [sys.executable, "-m", "benchmarks.peers", "--probe", name, "--folder", str(folder)]
    done = subprocess.run([*command, "--repeats", str(repeats)], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    cells = []
    for parts in _PARTS:
        found = float(np.mean(result["found"][str(parts)]))
        share = "" if found == 1 else f", finds {found:.3f}"
        cells.append(f"{np.median(result['ms'][str(parts)]):.1f} ms{share}")
    boxes = "cannot" if result["matches"] is None else f"{np.median(result['ms']['boxes']):.1f} ms"
    if result["matches"] is not None:
        boxes += f", {result['matches']:,} found"
    return (name, f"{result['load_s']:.1f} s", f"{result['peak_mb']:,.0f} MB", *cells, boxes)


def main() -> None:
    """Read the options, run all engines, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rows", type=whole(20_000), default=1_000_000, help="items")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="measure only this one; may be repeated")
    parser.add_argument("--repeats", type=whole(1), default=5, help="rounds after a warm-up round")
    parser.add_argument("--folder", type=out_folder, help="an empty folder for the data of the run")
    parser.add_argument("--out", type=out_file, help="write the table to this file")
    parser.add_argument("--probe", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe is not None:
        probe(options.probe, options.folder, options.repeats)
        return
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        prepare(folder, options.rows)
        table = [line(name, folder, options.repeats) for name in options.engine or ENGINES]
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine_facts(load_before).items())
    text = f"{options.rows:,} items of 32 codes, {_QUERIES} queries, {facts}. Peak memory counts mapped files."
    publish(
        document("Other engines on the same work", command_line("peers"), text, markdown_table(_HEADER, table)),
        options.out,
    )


if __name__ == "__main__":
    main()
