"""A device for the gpu backend whose kernels run on the processor."""

from functools import cache

import numpy as np

from cudasim.module import Module, guarded
from gpubranches.backends.gpu.sources import source
from gpubranches.errors import DeviceMemoryError


@cache
def _module(text, races):
    return Module(text, races=races)


class SimulatedDevice:
    """Runs kernels under one schedule; memory is guarded, filled with a pattern, and counted.

    memory_bytes: what it pretends to have; change(file, text) may return another text to run instead; races: look for
    races in shared memory, too.
    """

    name = "simulated"
    multiprocessors = 1

    def __init__(self, order=0, memory_bytes=1 << 40, change=None, races=False):
        self.order_of_threads = order
        self.memory_bytes = memory_bytes
        self.change = change or (lambda file, text: text)
        self.races = races
        self.closed = False
        self.launches = []

    def memory(self):
        return self.memory_bytes, self.memory_bytes

    def empty(self, shape, dtype):
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if count > self.memory_bytes:
            raise DeviceMemoryError(f"expected {count} bytes of free device memory, got {self.memory_bytes}")
        return guarded(shape, dtype)

    def put(self, array):
        out = self.empty(array.shape, array.dtype)
        out[...] = array
        return out

    def upload(self, array, out):
        out[...] = array

    def get(self, array):
        return np.array(array)

    def zero(self, array):
        array[...] = np.zeros((), array.dtype)

    def address(self, array):
        return array.ctypes.data

    def launch(self, file, entry, constants, grid, threads, args, shared_bytes=0):
        self.launches.append(entry)
        module = _module(self.change(file, source(file, constants)), self.races)
        module.launch(entry, grid, threads, args, self.order_of_threads, shared_bytes)

    def order(self, keys, ties):
        return np.lexsort((ties, keys))

    def take(self, array, indices):
        return array[indices]

    def synchronize(self):
        pass

    def close(self):
        self.closed = True
