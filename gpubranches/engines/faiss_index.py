"""Nearest neighbours over codes by faiss, for `--nn faiss`. It may order ties differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.core.results import Neighbors
from gpubranches.errors import BackendUnavailableError, DeviceError, DeviceMemoryError, missing_package

Exact = Callable[[NDArray[np.uint8], int], NDArray[np.int64]]
"""Called with queries, (q, d) uint8, and k: returns the ids of the exact nearest neighbours, (q, k)."""
_ROWS_AT_ONCE = 1 << 18
_PROBED = 64
_TRAINED_A_LIST = 64
_SAMPLED, _SAMPLED_K = 20, 10
TEMPORARY_BYTES = 256 << 20


class FaissIndex:
    """A flat index in host memory, IndexScalarQuantizer with QT_8bit_direct: d bytes per item, exact distances."""

    most = 1 << 30
    """The largest k it answers."""

    def __init__(self, catalog: Catalog):
        """Copy the codes into faiss, one tile at a time. Raises BackendUnavailableError without faiss."""
        faiss = _faiss()
        self.generation = catalog.generation
        self.source = "faiss/codes QT_8bit_direct"
        self._index: Any = faiss.IndexScalarQuantizer(catalog.d, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
        self._ids = _fill(self._index, catalog, TILE)

    def search(self, queries: NDArray[np.uint8], k: int) -> Neighbors:
        """Return the k nearest of queries, (q, d) uint8."""
        distances, rows = self._index.search(queries.astype(np.float32), k)
        known = np.append(self._ids, -1)
        distances = np.where(rows < 0, np.inf, distances).astype(np.float32)
        return Neighbors(distances=distances, ids=known[rows], source=self.source)


class GpuFaissIndex(FaissIndex):
    """An index on the card: flat float16 if it fits, else IVF with an 8-bit scalar quantizer.

    The recall is measured with some of the catalog's own codes when the index is built, and is a part of `source`.
    float16 represents codes exactly; sums of squares are exact in float32 up to 258 dims.
    """

    most = 2048

    def __init__(self, catalog: Catalog, free_bytes: int, exact: Exact):
        """Build the index in free_bytes. Raises BackendUnavailableError without a GPU build, DeviceMemoryError."""
        faiss = gpu_faiss()
        flat, lists = faiss_bytes(catalog)
        if lists > free_bytes:
            raise DeviceMemoryError(
                f"expected {lists:,} bytes of free device memory for an index of faiss, got {free_bytes:,}; use "
                "--nn kernel"
            )
        self.generation = catalog.generation
        with faiss_errors():
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(TEMPORARY_BYTES)
            self._build(faiss, catalog, flat <= free_bytes, exact)

    def search(self, queries: NDArray[np.uint8], k: int) -> Neighbors:
        """Return the k nearest of queries, (q, d) uint8. Raises DeviceMemoryError, DeviceError."""
        with faiss_errors():
            return super().search(queries, k)

    def _build(self, faiss: Any, catalog: Catalog, flat: bool, exact: Exact) -> None:
        """Fill the flat index, or train and fill the other, and measure the recall."""
        rng = np.random.default_rng(0)
        if flat:
            kind = "flat float16"
            config = faiss.GpuIndexFlatConfig()
            config.device, config.useFloat16 = 0, True
            self._index = faiss.GpuIndexFlatL2(self._resources, catalog.d, config)
        else:
            n_lists = int(4 * sqrt(catalog.n))
            kind = f"IVF{n_lists},SQ8, {_PROBED} lists probed"
            config = faiss.GpuIndexIVFScalarQuantizerConfig()
            config.device = 0
            self._index = faiss.GpuIndexIVFScalarQuantizer(
                self._resources, catalog.d, n_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, True, config
            )
            self._index.train(catalog.codes(catalog.sample_ids(_TRAINED_A_LIST * n_lists, rng)).astype(np.float32))
            self._index.nprobe = _PROBED
        self._ids = _fill(self._index, catalog, _ROWS_AT_ONCE)
        self.source = f"faiss-gpu/codes {kind}"
        queries = catalog.codes(catalog.sample_ids(_SAMPLED, rng))
        k = min(_SAMPLED_K, catalog.n)
        found, true = self.search(queries, k).ids, exact(queries, k)
        recall = np.mean([len(set(a) & set(b)) / k for a, b in zip(found.tolist(), true.tolist(), strict=True)])
        self.source += f", recall@{k} {recall:.2f}"


def faiss_bytes(catalog: Catalog) -> tuple[int, int]:
    """Return the device bytes of a flat float16 index of the codes, and of an IVF index with 8 bits per dim."""
    return 2 * catalog.d * catalog.n + TEMPORARY_BYTES, (catalog.d + 8) * catalog.n + TEMPORARY_BYTES


@contextmanager
def faiss_errors() -> Iterator[None]:
    """Convert the exceptions of faiss on the card, always RuntimeError, into errors of this package."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "cudaMalloc" in str(error):
            raise DeviceMemoryError(f"faiss got too little device memory: {error}; use --nn kernel") from error
        raise DeviceError(f"faiss failed on the device: {error}; open the catalog again, or use --nn kernel") from error


def gpu_faiss() -> Any:
    """Return the module of a GPU build of faiss. Raises BackendUnavailableError if there is none."""
    faiss = _faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        raise BackendUnavailableError(
            "--nn faiss on the gpu backend needs a GPU build of faiss, this one is for CPUs: pip uninstall "
            "faiss-cpu, then pip install 'gpubranches[gpu-cu13]' or [gpu-cu12]; or use --nn kernel"
        )
    return faiss


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise missing_package("--nn faiss", "faiss", "cpu", error=error, instead="use --nn kernel") from error
    return faiss


def _fill(index: Any, catalog: Catalog, rows: int) -> NDArray[np.int64]:
    """Add the codes of all segments, `rows` at a time; return the id of each row of the index."""
    for segment in catalog.segments:
        for start in range(0, segment.n, rows):
            index.add(segment.row_codes(start, min(start + rows, segment.n)).astype(np.float32))
    return np.concatenate([np.zeros(0, np.int64), *(segment.ids for segment in catalog.segments)])
