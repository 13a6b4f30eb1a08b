"""Nearest neighbours over codes by faiss, for `--nn faiss`. It may order ties differently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.core.results import Neighbors
from gpubranches.errors import BackendUnavailableError, DeviceError, DeviceMemoryError, missing_package

_ROWS_AT_ONCE = 1 << 18
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
    """A flat index on the card: float16 represents codes exactly; sums of squares are exact in float32 to 258 dims."""

    most = 2048

    def __init__(self, catalog: Catalog, free_bytes: int):
        """Build the index in free_bytes. Raises BackendUnavailableError without a GPU build, DeviceMemoryError."""
        faiss = gpu_faiss()
        needed = faiss_bytes(catalog)
        if needed > free_bytes:
            raise DeviceMemoryError(
                f"expected {needed:,} bytes of free device memory for an index of faiss, got {free_bytes:,}; use "
                "--nn kernel"
            )
        self.generation = catalog.generation
        self.source = "faiss-gpu/codes flat float16"
        with faiss_errors():
            self._resources = faiss.StandardGpuResources()
            self._resources.setTempMemory(TEMPORARY_BYTES)
            config = faiss.GpuIndexFlatConfig()
            config.device, config.useFloat16 = 0, True
            self._index = faiss.GpuIndexFlatL2(self._resources, catalog.d, config)
            self._ids = _fill(self._index, catalog, _ROWS_AT_ONCE)

    def search(self, queries: NDArray[np.uint8], k: int) -> Neighbors:
        """Return the k nearest of queries, (q, d) uint8. Raises DeviceMemoryError, DeviceError."""
        with faiss_errors():
            return super().search(queries, k)


def faiss_bytes(catalog: Catalog) -> int:
    """Return the device bytes that filling a flat float16 index of the codes takes.

    faiss keeps a float32 norm beside each row, and copies both to a larger index with each block of rows.
    """
    return 2 * (2 * catalog.d + 4) * catalog.n + TEMPORARY_BYTES


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
