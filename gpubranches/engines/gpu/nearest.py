"""Nearest neighbours by cosine through faiss: brute force over the resident embeddings, used only if proven exact.

faiss ranks by |x|^2 - 2 <x, y>, and lets the caller replace the numbers |x|^2. With u = |x - mean| in their place and y
= q / (2 c) for a direction q of length 1, it ranks by u - <x, q> / c. This is the order of <x, q> - c u, which exceeds
<mean, q> for exactly the rows whose cosine exceeds c. faiss returns a few more than k rows, and the project's kernel
scores them, so that scores and ties equal those of every scan. A row that was not returned has a cosine of at most c +
t / u (`_Attempt.ceiling`). If that is below the k-th score, the answer is proven. With c near this score the proof
nearly always succeeds. A first attempt uses the c of earlier queries, a second one the score that the first one found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.results import Candidates
from gpubranches.engines.faiss_index import TEMPORARY_BYTES, faiss_errors, gpu_faiss
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.memory import WORKING_BYTES
from gpubranches.engines.gpu.resident_copy import Page, Residence
from gpubranches.errors import DeviceError, DeviceMemoryError

MOST_NEAREST = 960
"""The largest k: 2 k + 128 rows are requested, and faiss returns at most 2,048."""
_FIRST_SLOPE, _LEAST_SLOPE = 0.3, 0.03
_MARGIN = 1e-3
"""Distance of the second slope below the k-th score; it is larger than the errors of keys."""
_SCORE_ERROR = 1e-5
"""Largest error of the kernel's float32 scores against the true cosine."""

Rescore = Callable[[NDArray[np.uint32], NDArray[np.float32], int], Candidates]
"""Return the k best of rows at positions, (m,) uint32, by their cosine with a direction, (D,) float32."""


@dataclass(frozen=True)
class _Norms:
    """|x - mean| of a page's rows on the device, (n,) float32, with their minimum and maximum."""

    page: Page
    values: DeviceArray
    least: float
    most: float


@dataclass(frozen=True)
class _Attempt:
    """The answer of faiss for one direction of length 1 and slope c.

    positions: (m,) uint32; beyond: a lower bound on the keys u - 2 <x, y> of all other rows, inf if there are none. The
    error of a key is at most relative * u + absolute.
    """

    positions: NDArray[np.uint32]
    beyond: float
    slope: float
    relative: float
    absolute: float

    def ceiling(self, mean_part: float, least: float, most: float) -> float:
        """Return an upper bound on the cosine of all other rows; mean_part: <mean, q>; least, most: of |x - mean|.

        u - 2 <x, y> >= beyond - relative u - absolute gives <x - mean, q> <= c (1 + relative) u + t with t = c
        (absolute - beyond) - <mean, q>.
        """
        if self.beyond == np.inf:
            return -np.inf
        t = self.slope * (self.absolute - self.beyond) - mean_part
        return self.slope * (1 + self.relative) + t / (least if t > 0 else most)


class FaissNearest:
    """Answers over resident embeddings without deleted or filtered rows. For use in the device's thread."""

    def __init__(self, residence: Residence):
        """Open faiss and check a search of a few rows.

        Raises BackendUnavailableError without a GPU build of faiss, DeviceError if its answer is wrong.
        """
        assert residence.catalog.signs is not None  # nosec B101  # `takes` requires a mean
        device = self._device = residence.device
        self._residence = residence
        self._mean = residence.catalog.signs.mean_.astype(np.float32)
        self._mean_on_device = device.put(self._mean)
        self._norms: dict[str, _Norms] = {}
        self._slope = _FIRST_SLOPE
        self._faiss = gpu_faiss()
        needed = TEMPORARY_BYTES + WORKING_BYTES
        if (free := device.memory()[0]) < needed:
            raise _too_little(needed, free)
        index, stream = device.stream
        with faiss_errors():
            self._resources = self._faiss.StandardGpuResources()
            self._resources.setTempMemory(TEMPORARY_BYTES)
            self._resources.setDefaultStream(index, self._faiss.cast_integer_to_cudastream_t(stream))
        self._try()

    def _follow(self) -> None:
        """Compute the norms of new pages and drop those of removed ones. Raises DeviceMemoryError."""
        pages = self._residence.pages
        self._norms = {name: one for name, one in self._norms.items() if pages.get(name) is one.page}
        new = {name: page for name, page in pages.items() if name not in self._norms}
        needed = 4 * sum(page.rows for page in new.values()) + TEMPORARY_BYTES + WORKING_BYTES
        if new and (free := self._device.memory()[0]) < needed:
            raise _too_little(needed, free)
        for name, page in new.items():
            self._norms[name] = _Norms(page, *self._device.row_norms(page.arrays["embeddings"], self._mean_on_device))

    def search(self, queries: NDArray[np.float32], k: int, rescore: Rescore) -> list[Candidates | None]:
        """Return the k nearest of queries, (q, D) float32, by the cosine with x - mean; None for those not proven."""
        self._follow()
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
        units = queries / np.maximum(lengths, 1e-12)[:, None]
        found: list[Candidates | None] = [None] * len(queries)
        slopes = np.full(len(queries), self._slope)
        left = np.flatnonzero(lengths > 0)
        for _ in range(2):
            for i, attempt in zip(left.tolist(), self._attempts(units[left], slopes[left], k), strict=True):
                scored = rescore(attempt.positions, queries[i], k)
                scores = np.zeros(0, np.float32) if scored.scores is None else scored.scores
                ceiling = attempt.ceiling(float(self._mean @ units[i]), *self._range())
                if ceiling == -np.inf or (len(scores) == k and ceiling < scores[-1] - _SCORE_ERROR):
                    found[i] = scored
                slopes[i] = scores[-1] - _MARGIN if len(scores) == k else 0
            left = np.array([i for i in left.tolist() if found[i] is None and slopes[i] >= _LEAST_SLOPE], np.int64)
            if not len(left):
                break
        useful = slopes[slopes >= _LEAST_SLOPE]
        self._slope = float(np.median(useful)) if len(useful) else self._slope
        return found

    def _attempts(self, units: NDArray[Any], slopes: NDArray[Any], k: int) -> list[_Attempt]:
        """Search by faiss page by page for a few more than k rows; keep the best of all pages for each query."""
        exact = units / (2 * slopes)[:, None]
        given = exact.astype(np.float16)
        squares = (given.astype(np.float64) ** 2).sum(axis=1)
        width = 2 * k + 128
        keys, places, beyond = [], [], np.full(len(units), np.inf)
        for name, page, first in self._residence.in_order():
            own = min(width, page.rows)
            distances, rows = self._page_nearest(page.arrays["embeddings"], self._norms[name].values, given, own)
            # faiss cuts distances at zero, so a row may be better than its distance shows; row -1 means none.
            real = (rows >= 0) & (rows < page.rows)
            key = np.where((distances > 0) & real, distances - squares[:, None], -np.inf)
            rows = np.where(real, rows, 0)
            keys.append(key)
            places.append(rows + first)
            if own < page.rows:
                beyond = np.minimum(beyond, key[:, -1])
            beyond = np.where(real.all(axis=1), beyond, -np.inf)
        all_keys, all_places = np.concatenate(keys, axis=1), np.concatenate(places, axis=1)
        order = np.argsort(all_keys, axis=1, kind="stable")
        found = []
        for i, own_order in enumerate(order):
            kept = own_order[:width]
            if len(own_order) > width:
                beyond[i] = min(beyond[i], all_keys[i, own_order[width]])
            positions = np.unique(all_places[i, kept]).astype(np.uint32)
            errors = self._errors(exact[i], given[i], float(squares[i]))
            found.append(_Attempt(positions, float(beyond[i]), float(slopes[i]), *errors))
        return found

    def _range(self) -> tuple[float, float]:
        """Return the minimum and the maximum of |x - mean|, the minimum above zero."""
        least = min((one.least for one in self._norms.values()), default=1.0)
        return max(least, 1e-6), max((one.most for one in self._norms.values()), default=1.0)

    def _errors(self, exact: NDArray[Any], given: NDArray[np.float16], square: float) -> tuple[float, float]:
        """Return the relative (per |x - mean|) and absolute error of a key: y is float16, and sums are float32.

        |x| is at most |x - mean| + |mean|.
        """
        rounded = 2 * float(np.linalg.norm(exact - given.astype(np.float64)))
        summed = (len(exact) + 8) * 2.0**-23
        of_x = rounded + summed * np.sqrt(square)
        return of_x + summed, of_x * float(np.linalg.norm(self._mean)) + summed * square

    def _page_nearest(
        self, embeddings: DeviceArray, norms: DeviceArray, queries: NDArray[np.float16], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return keys + |y|^2, cut at zero, and rows, (q, k) each, of the k rows with the least u - 2 <x, y>."""
        faiss, device = self._faiss, self._device
        n, width = embeddings.shape
        queries = np.ascontiguousarray(queries)
        distances, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        args = faiss.GpuDistanceParams()
        args.metric, args.k, args.dims, args.device = faiss.METRIC_L2, k, width, -1
        args.use_cuvs = False  # cuVS computes its own norms
        args.vectors, args.vectorType = (
            faiss.cast_integer_to_void_ptr(device.address(embeddings)),
            faiss.DistanceDataType_F16,
        )
        args.vectorType, args.vectorsRowMajor, args.numVectors = faiss.DistanceDataType_F16, True, n
        args.vectorNorms = faiss.cast_integer_to_float_ptr(device.address(norms))
        args.queries = faiss.cast_integer_to_void_ptr(queries.ctypes.data)
        args.queryType, args.queriesRowMajor, args.numQueries = faiss.DistanceDataType_F16, True, len(queries)
        args.outDistances = faiss.cast_integer_to_float_ptr(distances.ctypes.data)
        args.outIndices = faiss.cast_integer_to_void_ptr(rows.ctypes.data)
        args.outIndicesType = faiss.IndicesDataType_I64
        with faiss_errors():
            faiss.bfKnn(self._resources, args)
        return distances, rows

    def _try(self) -> None:
        """Compare an answer of faiss with NumPy; the proof needs faiss to accept other numbers in place of |x|^2."""
        rows = (np.arange(64 * 8).reshape(64, 8) * 37 % 29 / 16).astype(np.float16)
        norms = (np.arange(64) * 11 % 23 + 5).astype(np.float32)
        queries = (np.arange(16).reshape(2, 8) % 5 / 4).astype(np.float16)
        wide = queries.astype(np.float32)
        right = norms - 2 * wide @ rows.astype(np.float32).T + (wide**2).sum(axis=1)[:, None]
        distances, found = self._page_nearest(self._device.put(rows), self._device.put(norms), queries, 7)
        least = np.maximum(np.sort(right, axis=1)[:, :7], 0)
        taken = np.maximum(np.take_along_axis(right, np.clip(found, 0, 63), axis=1), 0)
        if not (np.allclose(distances, least, atol=1e-3) and np.allclose(taken, least, atol=1e-3)):
            raise DeviceError(
                f"faiss on {self._device.name}: expected the distances {least[0].tolist()} in a test, got "
                f"{distances[0].tolist()}; use --nn kernel"
            )


def _too_little(needed: int, free: int) -> DeviceMemoryError:
    return DeviceMemoryError(
        f"expected {needed:,} bytes of free device memory for faiss, got {free:,}; use --nn kernel"
    )
