"""Compare the kernels, faiss and CAGRA over the same embeddings on the card, and write the table for `--nn auto`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nearest import BATCHES, KS, measure
from benchmarks.verify.correctness import ClusteredCatalog
from benchmarks.verify.record import path_of, read
from gpubranches.catalog import TILE
from gpubranches.engines.gpu.measured_times import Line, Measured
from gpubranches.errors import GpuBranchesError
from gpubranches.research.speed.timing import timed

Finding = dict[str, Any]
Search = Callable[[Any, int], Any]
"""Function from queries, (q, D) float32, to ids, (q, k) int64."""


def nearest(options: argparse.Namespace) -> Iterator[Finding]:
    """Time exact nearest neighbours over resident float16 embeddings by each engine; record which is faster."""
    from gpubranches import open_backend

    sizes = (1000,) if options.quick else (100_000, 1_000_000)
    lines: list[Line] = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            made = ClusteredCatalog(Path(folder) / "catalog", 64 if options.quick else 512)
            for _ in range(-(-rows // 500_000)):
                made.append(min(rows, 500_000))
            catalog = made.catalog
            with open_backend("gpu", catalog, nn="kernel") as backend:
                yield from _compared(backend, catalog, options)
            try:
                measured = both_ways(catalog, options)
            except GpuBranchesError as error:
                yield {"skipped": f"faiss, proven: {error}"}
                continue
            lines += measured
            for line in measured:
                if line.faiss_ms is not None:
                    about = {"rows": line.rows, "D": catalog.D, "k": line.k, "batch": line.batch, "filter": "none"}
                    yield {"engine": "faiss, proven", **about, "p50_ms": line.faiss_ms, "recall": 1.0}
    yield record_times(options, lines)


def both_ways(catalog: Any, options: argparse.Namespace) -> list[Line]:
    """Return the times of the kernels and of the backend's faiss, with the same answers, over a catalog on the card.

    Raises BackendUnavailableError without faiss, UsageError if it does not answer.
    """
    from gpubranches.engines.gpu import GpuBackend
    from gpubranches.engines.gpu.cupy_device import CupyDevice

    with GpuBackend(catalog, CupyDevice, nn="faiss") as backend:
        return measure(backend, KS[:1], BATCHES[:1], 2) if options.quick else measure(backend)


def record_times(options: argparse.Namespace, lines: Sequence[Line]) -> Finding:
    """Write the times of faiss and of the kernels to options.measured, if there are any; return a finding on it."""
    if not lines:
        return {"skipped": f"{options.measured.name}: faiss was not measured, so no table is written"}
    told = [line for line in read(path_of(options.out, options.call)) if line["step"] in ("run", "card")]
    facts = {name: line[name] for line in told for name in ("card", "commit", "date") if name in line}
    Measured(**facts, lines=tuple(lines)).write(options.measured)
    return {"wrote": options.measured.name, "lines": len(lines)}


def _compared(backend: Any, catalog: Any, options: argparse.Namespace) -> Iterator[Finding]:
    pages = backend._residence.pages.values()
    vectors = [page.arrays["embeddings"] for page in pages if "embeddings" in page.arrays]
    where = np.zeros(sum(segment.tiles for segment in catalog.segments) * TILE // 8, np.uint8)
    where[::10] = 255
    rng, budget_s = np.random.default_rng(0), 0.0 if options.quick else 0.3
    engines: dict[str, Search] = {}
    with ExitStack() as stack:
        for name, make in ENGINES.items():
            try:
                engines[name] = make(catalog, vectors, stack)
                engines[name](rng.standard_normal((1, catalog.D), np.float32), 10)
            except (ImportError, GpuBranchesError, RuntimeError, AttributeError) as error:
                engines.pop(name, None)
                yield {"skipped": f"{name}: {type(error).__name__}: {error}"}
        for batch in (1, 2) if options.quick else BATCHES:
            queries = catalog.embeddings(rng.choice(catalog.n, batch, replace=False)).astype(np.float32)
            for k in KS[:1] if options.quick else KS:
                about = {"rows": catalog.n, "D": catalog.D, "k": k, "batch": batch}
                for share, own in (("none", None), ("a tenth", where)):
                    scan = partial(backend.search, queries, k, tier="embeddings", where=own)
                    yield _engine("kernels", {**about, "filter": share}, scan, budget_s, 1.0)
                exact = backend.search(queries, k, tier="embeddings").ids
                for name, search in engines.items():
                    pairs = zip(search(queries, k), exact, strict=True)
                    recall = float(np.mean([len(set(a.tolist()) & set(b.tolist())) / k for a, b in pairs]))
                    yield _engine(name, {**about, "filter": "none"}, partial(search, queries, k), budget_s, recall)


def _engine(name: str, about: Finding, work: Callable[[], Any], budget_s: float, recall: float) -> Finding:
    times = timed(work, budget_s=budget_s)
    return {"engine": name, **about, "p50_ms": times.p50_ms, "p95_ms": times.p95_ms, "recall": recall}


def faiss_flat(catalog: Any, vectors: list[Any], stack: ExitStack) -> Search:
    """Return a search of faiss over the vectors on the card, page by page and in place, by inner product."""
    import cupy
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("faiss is built for the cpu alone")
    resources = faiss.StandardGpuResources()

    def search(queries: Any, k: int) -> Any:
        asked = cupy.asarray(queries.astype(np.float16))
        scores, ids, first = [], [], 0
        for page in vectors:
            best, places = cupy.empty((len(queries), k), np.float32), cupy.empty((len(queries), k), np.int64)
            _flat(faiss, resources, page, asked, best, places)
            scores.append(cupy.asnumpy(best))
            ids.append(cupy.asnumpy(places) + first)
            first += len(page)
        order = np.argsort(-np.concatenate(scores, axis=1), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(np.concatenate(ids, axis=1), order, axis=1)

    return search


def _flat(faiss: Any, resources: Any, page: Any, asked: Any, best: Any, places: Any) -> None:
    """Make faiss write scores (q, k) float32 and rows (q, k) int64 of the nearest of a page, (n, D) float16."""
    pointer = faiss.cast_integer_to_void_ptr
    params = faiss.GpuDistanceParams()
    params.metric, params.k, params.dims, params.device = faiss.METRIC_INNER_PRODUCT, best.shape[1], page.shape[1], 0
    params.vectors, params.numVectors, params.vectorType = pointer(page.data.ptr), len(page), faiss.DistanceDataType_F16
    params.queries, params.numQueries, params.queryType = (
        pointer(asked.data.ptr),
        len(asked),
        faiss.DistanceDataType_F16,
    )
    params.outDistances = faiss.cast_integer_to_float_ptr(best.data.ptr)
    params.outIndices, params.outIndicesType = pointer(places.data.ptr), faiss.IndicesDataType_I64
    faiss.bfKnn(resources, params)


def cagra(catalog: Any, vectors: list[Any], stack: ExitStack) -> Search:
    """Return a search of CAGRA's graph over the same vectors."""
    import cupy
    from cuvs.neighbors import cagra as graph

    index = graph.build(graph.IndexParams(metric="inner_product"), cupy.concatenate(vectors))

    def search(queries: Any, k: int) -> Any:
        asked = cupy.asarray(queries.astype(np.float16))
        _, ids = graph.search(graph.SearchParams(itopk_size=max(64, 2 * k)), index, asked, k)
        return cupy.asnumpy(cupy.asarray(ids))

    return search


ENGINES = {"faiss flat float16": faiss_flat, "CAGRA": cagra}
"""The engines to compare with the kernels; each may be missing."""
