"""The engines that are compared, each with the questions it can answer.

gpu and cpu are this package's backends. faiss-cpu and faiss-gpu are flat indexes over the codes (exact on the CPU,
float16 on the GPU) and IVF with an 8-bit scalar quantizer; sklearn-forest is a random forest of 25 trees trained on the
same marks and applied to every row.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.backends.protocol import Backend
from gpubranches.bench.questions import POSITIVES, Questions
from gpubranches.bench.synthetic import SyntheticCatalog
from gpubranches.bench.timing import once, together
from gpubranches.errors import BackendUnavailableError

ENGINES = ("gpu", "cpu", "faiss-cpu", "faiss-gpu", "sklearn-forest")
NEAREST = 100
BEST = 10_000
RESCORED = 2000
USERS = (1, 8, 64)
_FOREST_ROWS = 20_000_000
_CHUNK = 1 << 20
_UPLOADED = 1 << 30


@dataclass(frozen=True)
class Question:
    """One thing to time: what is asked, how, and the bytes that must be read to answer it, 0 where that means nothing.

    recall: a function that returns the recall of an approximate answer, or None.
    """

    what: str
    work: Callable[[], Any]
    bytes_read: int = 0
    recall: Callable[[], float] | None = None


@dataclass
class Engine:
    """An engine that is ready: how long that took, and its questions."""

    name: str
    ready_ms: float
    questions: list[Question] = field(default_factory=list)
    copy_bytes_s: float = 0.0


@contextmanager
def open_engine(name: str, catalog: SyntheticCatalog, asked: Questions) -> Iterator[Engine]:
    """Open an engine over a catalog. Raises BackendUnavailableError if what it needs is missing here."""
    if name in ("gpu", "cpu"):
        with _backend_engine(name, catalog, asked) as engine:
            yield engine
    elif name in ("faiss-cpu", "faiss-gpu"):
        yield _faiss_engine(name, catalog, asked)
    else:
        yield _forest_engine(catalog, asked)


# This package's backends


@contextmanager
def _backend_engine(name: str, catalog: SyntheticCatalog, asked: Questions) -> Iterator[Engine]:
    opened: list[Any] = []

    def open_it() -> None:
        opened.append(_open_gpu(catalog) if name == "gpu" else _open_cpu(catalog))

    ready_ms = once(open_it)
    with opened[0] as backend:
        yield Engine(name, ready_ms, list(_backend_questions(backend, catalog, asked)), _copy_speed(name))


def _open_gpu(catalog: SyntheticCatalog) -> Any:
    from gpubranches.backends.gpu import GpuBackend
    from gpubranches.backends.gpu.cupy_device import CupyDevice
    from gpubranches.bench.synthetic import SyntheticResidence

    return GpuBackend(catalog, CupyDevice, make_residence=SyntheticResidence)  # type: ignore[arg-type]


def _upload(backend: Any) -> Callable[[], Any]:
    """Return a function that copies bytes in host memory to the card as a catalog's files are."""
    source = np.zeros(_UPLOADED, np.uint8)

    def run() -> None:
        device = backend._device
        device.upload(source, device.empty(_UPLOADED, np.uint8))
        device.synchronize()

    return lambda: backend._owner.call(run)


def _open_cpu(catalog: SyntheticCatalog) -> Any:
    if importlib.util.find_spec("numba") is None:
        raise BackendUnavailableError("cpu needs numba: pip install gpubranches")
    from gpubranches.backends.cpu import CpuBackend

    for segment in catalog.segments:
        segment.make()
    return CpuBackend(catalog)  # type: ignore[arg-type]


def _backend_questions(backend: Backend, catalog: SyntheticCatalog, asked: Questions) -> Iterator[Question]:
    codes, bits = catalog.n * catalog.d, catalog.n * (catalog.D // 8 + 2)
    dims = len(np.unique(asked.branch.features))
    if backend.name == "gpu":
        yield Question(f"upload of {_UPLOADED >> 20} MiB", _upload(backend))
    yield Question("top 100 over codes", lambda: backend.search(asked.query, NEAREST, tier="codes"), codes)
    yield Question("top 100 over bits", lambda: backend.score(asked.direction, tier="bits", limit=NEAREST), bits)
    yield Question("single branch", lambda: backend.evaluate(asked.branch, limit=BEST), catalog.n * dims)
    ensemble = asked.ensembles[0]
    majority = ensemble.n_estimators // 2 + 1
    yield Question("ensemble", lambda: backend.evaluate(ensemble, min_votes=majority, limit=BEST), codes)
    yield Question("linear over codes", lambda: backend.score(asked.weights, tier="codes", limit=BEST), codes)
    yield Question("linear over bits", lambda: backend.score(asked.direction, tier="bits", limit=BEST), bits)
    for users in USERS:
        works = [
            lambda boxes=boxes: backend.evaluate(boxes, min_votes=majority, limit=BEST)
            for boxes in asked.ensembles[:users]
        ]
        if len(works) == users:
            yield Question(f"ensembles of {users} users at once", together(works), codes)
    if catalog.has_embeddings and (backend.name == "gpu" or catalog.has_own_embeddings):
        yield Question("scans of refine: boxes, bits, embeddings", lambda: scans(backend, asked))
        if all(importlib.util.find_spec(package) for package in ("numba", "scipy", "threadpoolctl")):
            yield Question("refine: marks to ranked page", lambda: refine(backend, catalog, asked))


def scans(backend: Backend, asked: Questions) -> int:
    """Ask what refine asks of a backend, without what it fits: bits of all candidates, embeddings of the best."""
    listed = backend.score(asked.direction, tier="bits", boxes=asked.ensembles[0], limit=RESCORED).ids
    return backend.score(asked.direction, tier="embeddings", ids=listed).total


def refine(backend: Backend, catalog: SyntheticCatalog, asked: Questions) -> int:
    """Train on the first user's marks, scan, rank by bits and embeddings; return how many match."""
    from gpubranches.session import Session

    session = Session(catalog, backend)  # type: ignore[arg-type]
    session.mark(asked.marks[0].positives, 1)
    session.mark(asked.marks[0].negatives, -1)
    return session.refine().total


def _copy_speed(name: str) -> float:
    """Return the bytes a second, read and written, of a large copy where the engine's rows live."""
    if name == "gpu":
        import cupy

        size = 1 << 30
        a, b = cupy.zeros(size, cupy.uint8), cupy.empty(size, cupy.uint8)
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        taken = []
        for _ in range(10):
            start.record()
            b.data.copy_from_device_async(a.data, size, cupy.cuda.get_current_stream())
            stop.record()
            stop.synchronize()
            taken.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3)
        return float(2 * size / np.median(taken))
    source = np.zeros(1 << 28, np.uint8)
    target = np.empty_like(source)
    taken = [once(lambda: np.copyto(target, source)) / 1e3 for _ in range(5)]
    return float(2 * source.nbytes / np.median(taken))


# faiss


def _faiss_engine(name: str, catalog: SyntheticCatalog, asked: Questions) -> Engine:
    if importlib.util.find_spec("faiss") is None:
        raise BackendUnavailableError(f"{name} needs faiss: pip install 'gpubranches[cpu]' or [gpu-cu13] or [gpu-cu12]")
    import faiss

    on_gpu = name == "faiss-gpu"
    if on_gpu and (not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus()):
        raise BackendUnavailableError(
            "faiss-gpu needs a GPU build of faiss and a card: pip install 'gpubranches[gpu-cu13]'"
        )
    query = asked.query.astype(np.float32)
    exact = set(_exact_nearest(catalog, asked.query))
    engine = Engine(name, 0.0)
    for kind in ("flat", "ivf"):
        start = time.perf_counter()
        built = _faiss_index(faiss, catalog, kind, on_gpu)
        ready = 1e3 * (time.perf_counter() - start)
        engine.ready_ms += ready

        def search(index: Any = built) -> Any:
            return index.search(query, NEAREST)

        def recall(index: Any = built) -> float:
            return len(exact & set(index.search(query, NEAREST)[1][0].tolist())) / len(exact)

        label = {"flat": "flat float16" if on_gpu else "flat 8-bit", "ivf": "IVF 8-bit, 64 lists probed"}[kind]
        engine.questions.append(
            Question(f"top 100 over codes ({label}, built in {ready / 1e3:.1f} s)", search, 0, recall)
        )
    return engine


def _faiss_index(faiss: Any, catalog: SyntheticCatalog, kind: str, on_gpu: bool) -> Any:
    d, n_lists = catalog.d, int(4 * np.sqrt(catalog.n))
    if kind == "flat" and not on_gpu:
        index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
    elif kind == "flat":
        index = faiss.GpuIndexFlatL2(*_gpu(faiss, faiss.GpuIndexFlatConfig, d, useFloat16=True))
    elif on_gpu:
        resources, _, config = _gpu(faiss, faiss.GpuIndexIVFScalarQuantizerConfig, d)
        kind_of_code = faiss.ScalarQuantizer.QT_8bit
        index = faiss.GpuIndexIVFScalarQuantizer(resources, d, n_lists, kind_of_code, faiss.METRIC_L2, True, config)
    else:
        index = faiss.index_factory(d, f"IVF{n_lists},SQ8")
    if kind == "ivf":
        rows = np.linspace(0, catalog.n - 1, min(catalog.n, 64 * n_lists)).astype(np.int64)
        index.train(catalog.take(rows).astype(np.float32))
        index.nprobe = 64
    for start in range(0, catalog.n, _CHUNK):
        index.add(catalog.take(np.arange(start, min(start + _CHUNK, catalog.n))).astype(np.float32))
    return index


def _gpu(faiss: Any, config_kind: Any, d: int, **settings: Any) -> tuple[Any, int, Any]:
    config = config_kind()
    config.device = 0
    for name, value in settings.items():
        setattr(config, name, value)
    return faiss.StandardGpuResources(), d, config


def _exact_nearest(catalog: SyntheticCatalog, query: NDArray[np.uint8]) -> list[int]:
    best: list[tuple[int, int]] = []
    for start in range(0, catalog.n, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, catalog.n))
        away = catalog.take(rows).astype(np.int32) - query.astype(np.int32)
        squared = np.einsum("ij,ij->i", away, away)
        near = np.argpartition(squared, min(NEAREST, len(squared) - 1))[:NEAREST]
        best = sorted(best + [(int(squared[i]), int(rows[i])) for i in near])[:NEAREST]
    return [row for _, row in best]


# scikit-learn


def _forest_engine(catalog: SyntheticCatalog, asked: Questions) -> Engine:
    from sklearn.ensemble import RandomForestClassifier

    if catalog.n > _FOREST_ROWS:
        raise BackendUnavailableError(f"sklearn-forest is measured up to {_FOREST_ROWS:,} rows, got {catalog.n:,}")
    marks = asked.marks[0]
    unchecked = catalog.sample_ids(1000, np.random.default_rng(POSITIVES))
    codes = catalog.take(np.concatenate([marks.positives, marks.negatives, unchecked]))
    forest = RandomForestClassifier(25, random_state=0, n_jobs=-1)
    forest.fit(codes, np.arange(len(codes)) < len(marks.positives))
    chunks = [catalog.take(np.arange(start, min(start + _CHUNK, catalog.n))) for start in range(0, catalog.n, _CHUNK)]

    def scan() -> int:
        return int(sum((forest.predict_proba(chunk)[:, 1] > 0.5).sum() for chunk in chunks))

    return Engine("sklearn-forest", 0.0, [Question("random forest of 25, full scan", scan)])
