"""Compare the kernels with faiss, CAGRA and a compressed index over the same embeddings on the card.

Write the table for `--nn auto`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import sqrt
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
_ADDED_AT_ONCE = 1 << 16
Search = Callable[[Any, int], Any]
"""Function from queries, (q, D) float32, to ids, (q, k) int64."""


def nearest(options: argparse.Namespace) -> Iterator[Finding]:
    """Time exact nearest neighbours over resident float16 embeddings by each engine; record which is faster."""
    from gpubranches import open_backend

    sizes = (1000,) if options.quick else (100_000, 400_000)
    lines: list[Line] = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            made = ClusteredCatalog(Path(folder) / "catalog", 64 if options.quick else 512)
            for _ in range(-(-rows // 500_000)):
                made.append(min(rows, 500_000))
            catalog = made.catalog
            try:
                measured = both_ways(catalog, options)
            except GpuBranchesError as error:
                measured = []
                yield {"skipped": f"faiss, proven: {error}"}
            lines += measured
            for line in measured:
                if line.faiss_ms is not None:
                    about = {"rows": line.rows, "D": catalog.D, "k": line.k, "batch": line.batch, "filter": "none"}
                    yield {"engine": "faiss, proven", **about, "p50_ms": line.faiss_ms, "recall": 1.0}
            yield record_times(options, lines)
            with open_backend("gpu", catalog, nn="kernel") as backend:
                yield from _compared(backend, catalog, options)


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
    backend._worker.call(backend._device.synchronize)  # the others read its embeddings in streams of their own
    pages = backend._residence.pages.values()
    vectors = [page.arrays["embeddings"] for page in pages if "embeddings" in page.arrays]
    where = np.zeros(sum(segment.tiles for segment in catalog.segments) * TILE // 8, np.uint8)
    where[::10] = 255
    rng, budget_s = np.random.default_rng(0), 0.0 if options.quick else 0.15
    engines: dict[str, Search] = {}
    for name, make in ENGINES.items():
        try:
            engines[name] = make(catalog, vectors)
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
            by_bits = partial(backend.search, queries, k, tier="bits")
            recall = _recall(by_bits().ids, exact)
            yield _engine("kernels, sign bits first", {**about, "filter": "none"}, by_bits, budget_s, recall)
            for name, search in engines.items():
                try:
                    recall = _recall(search(queries, k), exact)
                    yield _engine(name, {**about, "filter": "none"}, partial(search, queries, k), budget_s, recall)
                except RuntimeError as error:  # such as an answer that is too long for the engine
                    yield {"skipped": f"{name}, k {k}, {batch} queries: {error}"}


def _recall(found: Any, exact: Any) -> float:
    """Return the mean share of the exact ids, (q, k), that are found, (q, any)."""
    return float(np.mean([np.isin(own, one).mean() for one, own in zip(found, exact, strict=True)]))


def _engine(name: str, about: Finding, work: Callable[[], Any], budget_s: float, recall: float) -> Finding:
    times = timed(work, budget_s=budget_s)
    return {"engine": name, **about, "p50_ms": times.p50_ms, "p95_ms": times.p95_ms, "recall": recall}


def faiss_flat(catalog: Any, vectors: list[Any]) -> Search:
    """Return a search of faiss over the vectors on the card, page by page and in place, by inner product."""
    import cupy

    faiss, resources = _faiss_on_card()
    of_rows = _ids(catalog)

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
        return of_rows[np.take_along_axis(np.concatenate(ids, axis=1), order, axis=1)]

    return search


def _ids(catalog: Any) -> Any:
    """Return the id of each row of the vectors; the rows of a segment are not in the order of ids."""
    return np.concatenate([segment.ids for segment in catalog.segments])


def _faiss_on_card() -> tuple[Any, Any]:
    """Return faiss and its resources, which work in CuPy's stream, so that each waits for the other."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("faiss is built for the cpu alone")
    resources = faiss.StandardGpuResources()
    resources.setDefaultNullStreamAllDevices()
    return faiss, resources


def _directions(catalog: Any, ids: Any) -> Any:
    """Return x - mean of rows, of length 1, (n, D) float32: their inner products rank as the searches do."""
    away = catalog.embeddings(ids).astype(np.float32) - catalog.signs.mean_
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)


def faiss_compressed(catalog: Any, vectors: list[Any]) -> Search:
    """Return shortlists of faiss's IVF-SQ8 over the directions of the vectors: 10 k rows, at least 1,000, unsorted.

    Their recall is that after the embeddings have sorted them; the time leaves that out.
    """
    faiss, resources = _faiss_on_card()
    lists = int(4 * sqrt(catalog.n))
    config = faiss.GpuIndexIVFScalarQuantizerConfig()
    config.device = 0
    kind, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    index = faiss.GpuIndexIVFScalarQuantizer(resources, catalog.D, lists, kind, metric, True, config)
    index.train(_directions(catalog, catalog.sample_ids(min(catalog.n, 64 * lists), np.random.default_rng(0))))
    for start in range(0, catalog.n, _ADDED_AT_ONCE):
        index.add(_directions(catalog, np.arange(start, min(start + _ADDED_AT_ONCE, catalog.n))))
    index.nprobe = 64

    def search(queries: Any, k: int) -> Any:
        return index.search(queries, min(catalog.n, max(1000, 10 * k), 2048))[1]

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


def cagra(catalog: Any, vectors: list[Any]) -> Search:
    """Return a search of CAGRA's graph, as faiss has it, over the directions of the vectors."""
    faiss, resources = _faiss_on_card()
    if not hasattr(faiss, "GpuIndexCagra"):
        raise ImportError("faiss is built without cuVS")
    config = faiss.GpuIndexCagraConfig()
    config.device = 0
    index = faiss.GpuIndexCagra(resources, catalog.D, faiss.METRIC_INNER_PRODUCT, config)
    index.train(_directions(catalog, np.arange(catalog.n)))
    wanted = faiss.SearchParametersCagra()

    def search(queries: Any, k: int) -> Any:
        wanted.itopk_size = max(64, 2 * k)
        return index.search(queries, k, params=wanted)[1]

    return search


ENGINES = {"faiss flat float16": faiss_flat, "CAGRA": cagra, "faiss IVF-SQ8, shortlist": faiss_compressed}
"""The engines to compare with the kernels; each may be missing."""
