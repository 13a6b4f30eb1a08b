"""Other engines of the benchmark: faiss, scikit-learn, a column scan in NumPy."""

from __future__ import annotations

import importlib.util
import time
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.boxes import Boxes
from gpubranches.errors import BackendUnavailableError, missing_package
from gpubranches.research.speed.engine import Engine, Question
from gpubranches.research.speed.questions import NEAREST, POSITIVES, Questions
from gpubranches.research.speed.synthetic import SyntheticCatalog

_FOREST_ROWS = 20_000_000
_HNSW_ROWS = 1 << 19
_CHUNK = 1 << 20
_SCAN_ROWS = 1 << 16
_ON_CPU = {
    "flat": "flat float32",
    "sq8": "flat 8-bit",
    "ivf": "IVF 8-bit, 64 lists probed",
    "hnsw": "HNSW 32, ef 128",
}
_ON_GPU = {"flat": "flat float16", "ivf": "IVF 8-bit, 64 lists probed"}


def numpy_engine(catalog: SyntheticCatalog, asked: Questions) -> Engine:
    """Store the codes by columns and count votes with NumPy; ids and their order are not computed."""
    columns = np.empty((catalog.d, catalog.n), np.uint8)
    for start in range(0, catalog.n, _CHUNK):
        stop = min(start + _CHUNK, catalog.n)
        columns[:, start:stop] = catalog.codes(np.arange(start, stop)).T
    models = {"single branch": asked.branch, **asked.pooled}

    def scan(boxes: Boxes) -> int:
        return int((column_scan(columns, boxes) > boxes.n_estimators // 2).sum())

    return Engine("numpy", 0.0, [Question(what, partial(scan, boxes)) for what, boxes in models.items()])


def column_scan(columns: NDArray[np.uint8], boxes: Boxes) -> NDArray[np.uint16]:
    """Return votes, (n,) uint16, of columns (d, n): boolean AND over columns, in parts that fit the cache."""
    votes = np.zeros(columns.shape[1], np.uint16)
    for start in range(0, columns.shape[1], _SCAN_ROWS):
        part = columns[:, start : start + _SCAN_ROWS]
        for e in np.unique(boxes.estimator):
            hit = np.zeros(part.shape[1], np.bool_)
            for i in np.flatnonzero(boxes.estimator == e):
                box = boxes[int(i)]
                inside = np.ones(part.shape[1], np.bool_)
                for f, low, high in zip(box.features, box.low, box.high, strict=True):
                    inside &= part[f] >= low
                    inside &= part[f] <= high
                hit |= inside
            votes[start : start + _SCAN_ROWS] += hit
    return votes


def faiss_engine(name: str, catalog: SyntheticCatalog, asked: Questions) -> Engine:
    """Build the indexes of faiss, exact ones and others whose recall is measured."""
    if importlib.util.find_spec("faiss") is None:
        raise missing_package(name, "faiss", "cpu", "gpu-cu13", "gpu-cu12")
    import faiss

    on_gpu = name == "faiss-gpu"
    if on_gpu and (not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus()):
        raise BackendUnavailableError(
            "faiss-gpu needs a GPU build of faiss and a card: pip install 'gpubranches[gpu-cu13]'"
        )
    query = asked.query.astype(np.float32)
    engine = Engine(name, 0.0)
    for kind, label in (_ON_GPU if on_gpu else _ON_CPU).items():
        rows = min(catalog.n, _HNSW_ROWS) if kind == "hnsw" else catalog.n
        exact = set(_exact_nearest(catalog, asked.query, rows))
        start = time.perf_counter()
        built = _faiss_index(faiss, catalog, kind, on_gpu, rows)
        ready = 1e3 * (time.perf_counter() - start)
        engine.ready_ms += ready

        def search(index: Any = built) -> Any:
            return index.search(query, NEAREST)

        def recall(index: Any = built, exact: set[int] = exact) -> float:
            return len(exact & set(index.search(query, NEAREST)[1][0].tolist())) / len(exact)

        told = label if rows == catalog.n else f"{label}, of the first {rows:,} rows only"
        engine.questions.append(
            Question(f"top 100 over codes ({told}, built in {ready / 1e3:.1f} s)", search, 0, recall)
        )
    return engine


def _faiss_index(faiss: Any, catalog: SyntheticCatalog, kind: str, on_gpu: bool, rows: int) -> Any:
    d, n_lists = catalog.d, int(4 * np.sqrt(catalog.n))
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_L2)
        index.hnsw.efSearch = 128
    elif kind == "sq8":
        index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
    elif kind == "flat" and not on_gpu:
        index = faiss.IndexFlatL2(d)
    elif kind == "flat":
        index = faiss.GpuIndexFlatL2(*_gpu(faiss, faiss.GpuIndexFlatConfig, d, useFloat16=True))
    elif on_gpu:
        resources, _, config = _gpu(faiss, faiss.GpuIndexIVFScalarQuantizerConfig, d)
        kind_of_code = faiss.ScalarQuantizer.QT_8bit
        index = faiss.GpuIndexIVFScalarQuantizer(resources, d, n_lists, kind_of_code, faiss.METRIC_L2, True, config)
    else:
        index = faiss.index_factory(d, f"IVF{n_lists},SQ8")
    if kind == "ivf":
        trained = np.linspace(0, catalog.n - 1, min(catalog.n, 64 * n_lists)).astype(np.int64)
        index.train(catalog.codes(trained).astype(np.float32))
        index.nprobe = 64
    for start in range(0, rows, _CHUNK):
        index.add(catalog.codes(np.arange(start, min(start + _CHUNK, rows))).astype(np.float32))
    return index


def _gpu(faiss: Any, config_kind: Any, d: int, **settings: Any) -> tuple[Any, int, Any]:
    config = config_kind()
    config.device = 0
    for name, value in settings.items():
        setattr(config, name, value)
    return faiss.StandardGpuResources(), d, config


def _exact_nearest(catalog: SyntheticCatalog, query: NDArray[np.uint8], among: int) -> list[int]:
    """Return the nearest of the first `among` rows."""
    best: list[tuple[int, int]] = []
    for start in range(0, among, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, among))
        away = catalog.codes(rows).astype(np.int32) - query.astype(np.int32)
        squared = np.einsum("ij,ij->i", away, away)
        near = np.argpartition(squared, min(NEAREST, len(squared) - 1))[:NEAREST]
        best = sorted(best + [(int(squared[i]), int(rows[i])) for i in near])[:NEAREST]
    return [row for _, row in best]


def forest_engine(catalog: SyntheticCatalog, asked: Questions) -> Engine:
    """Train a random forest on the first user's marks."""
    from sklearn.ensemble import RandomForestClassifier

    if catalog.n > _FOREST_ROWS:
        raise BackendUnavailableError(f"sklearn-forest is measured up to {_FOREST_ROWS:,} rows, got {catalog.n:,}")
    marks = asked.marks[0]
    unchecked = catalog.sample_ids(1000, np.random.default_rng(POSITIVES))
    codes = catalog.codes(np.concatenate([marks.positives, marks.negatives, unchecked]))
    forest = RandomForestClassifier(25, random_state=0, n_jobs=-1)
    forest.fit(codes, np.arange(len(codes)) < len(marks.positives))
    chunks = [catalog.codes(np.arange(start, min(start + _CHUNK, catalog.n))) for start in range(0, catalog.n, _CHUNK)]

    def scan() -> int:
        return int(sum((forest.predict_proba(chunk)[:, 1] > 0.5).sum() for chunk in chunks))

    return Engine("sklearn-forest", 0.0, [Question("random forest of 25, full scan", scan)])
