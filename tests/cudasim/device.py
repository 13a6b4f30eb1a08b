"""A device for the gpu backend whose kernels run on the processor."""

from functools import cache, partial
from itertools import count

import numpy as np

from cudasim.module import Module, guarded
from gpubranches.engines.gpu.sources import source
from gpubranches.errors import DeviceMemoryError


@cache
def _module(text, races):
    return Module(text, races=races)


class SimulatedDevice:
    """Runs kernels under one schedule; memory is guarded, filled with a pattern, and counted until it is freed.

    memory_bytes: what it pretends to have; change(file, text) may return another text to run instead; races: look for
    races in shared memory, too. `launches` names what a card would run, kernels, fills and sorts; `waits` counts how
    often the host waits for it; `used` is how many bytes are in use, `peak` the most that were.
    """

    name = "simulated"
    multiprocessors = 1
    stream = (0, 0)

    def __init__(self, order=0, memory_bytes=1 << 40, change=None, races=False):
        self.order_of_threads = order
        self.memory_bytes = memory_bytes
        self.change = change or (lambda file, text: text)
        self.races = races
        self.closed = False
        self.launches = []
        self.waits = self.trimmed = self.peak = 0
        self._held, self._numbers = {}, count()

    @property
    def used(self):
        return sum(list(self._held.values()))

    def memory(self):
        return max(0, self.memory_bytes - self.used), self.memory_bytes

    def trim(self):
        self.trimmed += 1

    def empty(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free, _ = self.memory()
        if size > free:
            raise DeviceMemoryError(f"expected {size:,} bytes of free device memory, got {free:,}")
        number = next(self._numbers)
        self._held[number] = size
        self.peak = max(self.peak, self.used)
        return guarded(shape, dtype, freed=partial(self._held.pop, number))

    def put(self, array):
        out = self.empty(array.shape, array.dtype)
        out[...] = array
        return out

    def put_all(self, arrays):
        return [self.put(array) for array in arrays]

    def upload(self, array, out):
        out[...] = array

    def get(self, array):
        self.waits += 1
        return np.array(array)

    def zero(self, array):
        if array.nbytes:
            self.launches.append("zero")
        array[...] = np.zeros((), array.dtype)

    def address(self, array):
        return array.ctypes.data

    def launch(self, file, entry, constants, grid, threads, args, shared_bytes=0):
        self.launches.append(entry)
        module = _module(self.change(file, source(file, constants)), self.races)
        module.launch(entry, grid, threads, args, self.order_of_threads, shared_bytes)

    def order(self, keys, ties):
        self.launches.append("order")
        return self.put(np.lexsort((ties, keys)))

    def row_norms(self, rows, mean):
        norms = np.linalg.norm(rows.astype(np.float32) - mean, axis=1).astype(np.float32)
        return self.put(norms), float(norms.min()), float(norms.max())

    def synchronize(self):
        self.waits += 1

    def close(self):
        self.closed = True
