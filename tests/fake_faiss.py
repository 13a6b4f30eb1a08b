"""The names of a build of faiss for GPUs that brute force takes, over memory that the host can read."""

import ctypes
from types import SimpleNamespace

import numpy as np


def read(address, shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class BruteForce:
    """bfKnn in NumPy or, given the module, by faiss's own search on the processor.

    ignores_norms: takes |x|^2 whatever the caller gives. loses: leaves the last row of large answers out, -1, as where
    numbers are none. failing: what is raised instead of an answer.
    """

    METRIC_L2, DistanceDataType_F16, IndicesDataType_I64 = 1, 2, 3
    GpuDistanceParams = SimpleNamespace

    def __init__(self, faiss=None):
        self.faiss = faiss
        self.ignores_norms = self.loses = False
        self.failing = None
        self.calls = []

    class StandardGpuResources:
        def setTempMemory(self, size):
            assert size > 0

        def setDefaultStream(self, index, stream):
            assert (index, stream) == (0, 0)

    cast_integer_to_void_ptr = cast_integer_to_float_ptr = cast_integer_to_cudastream_t = staticmethod(int)

    def bfKnn(self, resources, args):
        if self.failing:
            raise RuntimeError(self.failing)
        assert (args.metric, args.device) == (self.METRIC_L2, -1)
        assert args.vectorType == args.queryType == self.DistanceDataType_F16
        assert args.outIndicesType == self.IndicesDataType_I64
        assert args.vectorsRowMajor
        assert args.queriesRowMajor
        assert args.k <= min(2048, args.numVectors)
        vectors = read(args.vectors, (args.numVectors, args.dims), np.float16).astype(np.float32)
        queries = read(args.queries, (args.numQueries, args.dims), np.float16).astype(np.float32)
        norms = read(args.vectorNorms, (args.numVectors,), np.float32)
        if self.ignores_norms:
            norms = (vectors**2).sum(axis=1)
        self.calls.append((args.numVectors, args.numQueries, args.k))
        keys, rows = (self._by_numpy if self.faiss is None else self._by_faiss)(vectors, norms, queries, args.k)
        if self.loses and args.k > 7:
            rows[:, -1] = -1
        distances = np.maximum(keys + (queries**2).sum(axis=1)[:, None], 0)
        ctypes.memmove(args.outDistances, distances.astype(np.float32).tobytes(), 4 * distances.size)
        ctypes.memmove(args.outIndices, rows.astype(np.int64).tobytes(), 8 * rows.size)

    def _by_numpy(self, vectors, norms, queries, k):
        keys = norms - 2 * queries @ vectors.T
        rows = np.argsort(keys, axis=1)[:, :k]
        return np.take_along_axis(keys, rows, axis=1), rows

    def _by_faiss(self, vectors, norms, queries, k):
        """Inner products of (2 y, -1) and (x, u)."""
        wide = np.concatenate([2 * queries, np.full((len(queries), 1), -1, np.float32)], axis=1)
        rows = np.concatenate([vectors, norms[:, None]], axis=1)
        products, found = self.faiss.knn(wide, rows, k, metric=self.faiss.METRIC_INNER_PRODUCT)
        return -products, found
