"""The backends of this package as engines of the benchmark."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.engines.protocol import Backend
from gpubranches.errors import missing_package
from gpubranches.research.speed.engine import Engine, Question
from gpubranches.research.speed.questions import BEST, NEAREST, Questions
from gpubranches.research.speed.synthetic import SyntheticCatalog
from gpubranches.research.speed.timing import once, together

USERS = (1, 8, 64)
STOPS = (100, 1000, 3000)
RESCORED = 2000
_UPLOADED = 1 << 30
_COPIED = 1 << 30


@contextmanager
def backend_engine(name: str, catalog: SyntheticCatalog, asked: Questions, folder: Path) -> Iterator[Engine]:
    """Open a backend of this package by its name; see open_engine."""
    if name != "gpu" and importlib.util.find_spec("numba") is None:
        raise missing_package(name, "numba")
    opened: list[Any] = []

    def open_it() -> None:
        if name == "gpu":
            opened.append(_open_gpu(catalog))
        elif name == "cpu":
            opened.append(_open_cpu(catalog))
        else:
            opened.append(_open_kdtree(catalog, folder / "kdtree"))

    if name != "gpu":
        for segment in catalog.segments:
            segment.make()
    ready_ms = once(open_it)
    with ExitStack() as stack:
        backend = stack.enter_context(opened[0])
        engine = Engine(name, ready_ms, list(_backend_questions(backend, catalog, asked, stack)), _copy_speed(name))
        if name == "kdtree":
            engine.built_bytes = backend.info()["index_bytes"]
        yield engine
    shutil.rmtree(folder / "kdtree", ignore_errors=True)


def _open_gpu(catalog: SyntheticCatalog) -> Any:
    from gpubranches.engines.gpu import GpuBackend
    from gpubranches.engines.gpu.cupy_device import CupyDevice
    from gpubranches.research.speed.synthetic import SyntheticResidence

    return GpuBackend(catalog, CupyDevice, make_residence=SyntheticResidence)  # type: ignore[arg-type]


def _upload(backend: Any) -> Callable[[], Any]:
    """Return a function that copies bytes from host memory to the card in the same way as a catalog's files."""
    source = np.zeros(_UPLOADED, np.uint8)

    def run() -> None:
        device = backend._device
        device.upload(source, device.empty(_UPLOADED, np.uint8))
        device.synchronize()

    return lambda: backend._worker.call(run)


def _open_cpu(catalog: SyntheticCatalog) -> Any:
    from gpubranches.engines.cpu.backend import CpuBackend

    return CpuBackend(catalog)  # type: ignore[arg-type]


def _open_kdtree(catalog: SyntheticCatalog, folder: Path) -> Any:
    from gpubranches.engines.kdtree.backend import KdtreeBackend
    from gpubranches.engines.kdtree.build import build_trees

    build_trees(catalog, folder)  # type: ignore[arg-type]
    return KdtreeBackend(catalog, folder=folder)  # type: ignore[arg-type]


def _backend_questions(
    backend: Backend, catalog: SyntheticCatalog, asked: Questions, stack: ExitStack
) -> Iterator[Question]:
    codes, bits = catalog.n * catalog.d, catalog.n * (catalog.D // 8 + 2)
    dims = len(np.unique(asked.branch.features))
    if backend.name == "gpu":
        yield Question(f"upload of {_UPLOADED >> 20} MiB", _upload(backend))
    yield Question("top 100 over codes", lambda: backend.search(asked.query, NEAREST, tier="codes"), codes)
    yield Question("top 100 over bits", lambda: backend.score(asked.direction, tier="bits", limit=NEAREST), bits)
    yield Question("single branch", lambda: backend.apply(asked.branch, limit=BEST), catalog.n * dims)
    ensemble = asked.ensembles[0]
    majority = ensemble.n_estimators // 2 + 1
    yield Question("ensemble", lambda: backend.apply(ensemble, min_votes=majority, limit=BEST), codes)
    yield Question("linear over codes", lambda: backend.score(asked.weights, tier="codes", limit=BEST), codes)
    yield Question("linear over bits", lambda: backend.score(asked.direction, tier="bits", limit=BEST), bits)
    for label, boxes in asked.pooled.items():
        least = boxes.n_estimators // 2 + 1
        yield Question(
            label,
            partial(backend.apply, boxes, min_votes=least, limit=BEST),
            before=getattr(backend, "evict", None),
        )
    if backend.name == "kdtree":
        yield from _stopped_questions(backend, asked, stack)
        return
    for users in USERS:
        works = [
            lambda boxes=boxes: backend.apply(boxes, min_votes=majority, limit=BEST)
            for boxes in asked.ensembles[:users]
        ]
        if len(works) == users:
            yield Question(f"ensembles of {users} users at once", together(works), codes)
    if catalog.has_embeddings and (backend.name == "gpu" or catalog.has_own_embeddings):
        yield Question("scans of refine: boxes, bits, embeddings", lambda: scans(backend, asked))
        if all(importlib.util.find_spec(package) for package in ("numba", "scipy", "threadpoolctl")):
            yield Question("refine: marks to ranked page", lambda: refine(backend, catalog, asked))


def _stopped_questions(backend: Any, asked: Questions, stack: ExitStack) -> Iterator[Question]:
    """Yield searches of a limited number of leaves, with their recall."""
    from gpubranches.engines.kdtree.backend import KdtreeBackend

    exact = set(backend.search(asked.query, NEAREST, tier="codes").ids[0].tolist())
    for leaves in STOPS:
        quick = stack.enter_context(KdtreeBackend(backend.catalog, folder=backend.folder, stop_leaves=leaves))

        def search(quick: Any = quick) -> Any:
            return quick.search(asked.query, NEAREST, tier="codes")

        def recall(search: Any = search) -> float:
            return len(exact & set(search().ids[0].tolist())) / len(exact)

        yield Question(f"top 100 over codes ({leaves:,} leaves)", search, 0, recall)


def scans(backend: Backend, asked: Questions) -> int:
    """Run the scans of a refine without its training: bits of all candidates, embeddings of the best."""
    listed = backend.score(asked.direction, tier="bits", boxes=asked.ensembles[0], limit=RESCORED).ids
    return backend.score(asked.direction, tier="embeddings", ids=listed).total


def refine(backend: Backend, catalog: SyntheticCatalog, asked: Questions) -> int:
    """Train on the first user's marks, scan, rank by bits and embeddings; return how many match."""
    from gpubranches.service import Session

    session = Session(catalog, backend)  # type: ignore[arg-type]
    session.mark(asked.marks[0].positives, 1)
    session.mark(asked.marks[0].negatives, -1)
    return session.refine().total


def _copy_speed(name: str) -> float:
    """Return the bytes per second, read and written, of a large copy in the memory of the engine's rows."""
    if name == "gpu":
        import cupy

        size = _COPIED
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
