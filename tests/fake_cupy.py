"""The few names of CuPy that CupyDevice uses, over host memory: for its own logic, not for CuPy's."""

import ctypes
import types
import weakref
from contextlib import contextmanager

import numpy as np


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    status = 700


class CompileException(Exception):
    pass


class Pointer:
    def __init__(self, memory):
        self.memory = memory
        self.ptr = memory.ctypes.data

    def memset_async(self, value, size, stream):
        self.memory[:size] = value


class Array(np.ndarray):
    @property
    def data(self):
        raw = self.view(np.ndarray).reshape(-1).view(np.uint8)
        return Pointer(raw)


class Card:
    """Memory of `limit` bytes. A pool keeps what is freed until it is asked to give it back, or finds no more."""

    def __init__(self, limit):
        self.limit = limit
        self.used = self.kept = 0

    def take(self, size):
        if self.used + self.kept + size > self.limit:
            self.kept = 0
        if self.used + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.kept -= min(size, self.kept)
        self.used += size
        memory = np.full(size, 0xA5, np.uint8)
        weakref.finalize(memory, self._freed, size).atexit = False
        return memory

    def _freed(self, size):
        self.used -= size
        self.kept += size


def allow_both(a, b, n, out):
    np.bitwise_and(a[: int(n)], b[: int(n)], out=out[: int(n)])


def make(limit=1 << 30):  # noqa: C901
    """Return a module like cupy whose card has `limit` bytes, counted until they are freed; `log` tells what was done.

    kernels: what its card computes, by entry point; of others the launch is logged alone. failing: what is raised by
    the next calls of the driver; broken: what is raised, by name, when a module is made, a sort begun or memory
    freed.
    """
    card = Card(limit)
    cupy = types.SimpleNamespace(log=[], failing=None, broken={}, card=card, kernels={"allow_both": allow_both})
    cupy.__version__ = "0"
    allocators = []

    class MemoryPool:
        def malloc(self, size):
            return Pointer(card.take(size))

        def free_all_blocks(self):
            if "free" in cupy.broken:
                raise cupy.broken["free"]
            cupy.log.append("freed")
            card.kept = 0

    class Stream:
        ptr = 7

        def __init__(self, non_blocking=False):
            assert non_blocking

        def use(self):
            cupy.log.append("use")

        def synchronize(self):
            if cupy.failing:
                raise cupy.failing

    Stream.null = types.SimpleNamespace(use=lambda: cupy.log.append("null"))

    class Event:
        def __init__(self, disable_timing):
            assert disable_timing

        def record(self, stream):
            cupy.log.append("record")

        def synchronize(self):
            cupy.log.append("wait")

    class RawModule:
        def __init__(self, code, options):
            assert "extern" in code
            if "module" in cupy.broken:
                raise cupy.broken["module"]
            cupy.log.append("module")

        def get_function(self, entry):
            cupy.log.append("function")
            if cupy.failing:
                raise cupy.failing
            if entry == "broken":
                raise CompileException("kernel.cu(7): error: identifier is undefined")
            return lambda grid, block, args, shared_mem: launch(entry, grid, block, args)

    def launch(entry, grid, block, args):
        cupy.log.append((entry, grid, block, len(args)))
        cupy.kernels.get(entry, lambda *args: None)(*args)

    def memcpy_async(target, source, size, kind, stream):
        assert (kind, stream) == (1, 7)
        ctypes.memmove(target, source, size)
        cupy.log.append(("copy", size))

    @contextmanager
    def using_allocator(allocator):
        allocators.append(allocator)
        yield
        allocators.pop()

    def made(array):
        """Return a copy of an array in the card's memory; what makes one names the pool it comes from."""
        memory = allocators[-1](array.nbytes).memory
        memory[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return _array(memory, array.shape, array.dtype)

    def argsort(array):
        if "sort" in cupy.broken:
            raise cupy.broken["sort"]
        return made(np.argsort(array, kind="stable"))

    class Device:
        def __init__(self, index):
            self.index = index

        @property
        def mem_info(self):
            return max(0, card.limit - card.used - card.kept), card.limit

        def use(self):
            pass

    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=Event,
        MemoryPool=MemoryPool,
        using_allocator=using_allocator,
        alloc_pinned_memory=Buffer,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=types.SimpleNamespace(CompileException=CompileException),
        driver=types.SimpleNamespace(CUDADriverError=CUDADriverError),
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda index: {"name": b"A Card", "multiProcessorCount": 3},
            memcpyAsync=memcpy_async,
            memcpyHostToDevice=1,
        ),
    )
    cupy.RawModule = RawModule
    cupy.ndarray = lambda shape, dtype, pointer: _array(pointer.memory, shape, dtype)
    cupy.asarray = lambda array: made(np.asarray(array))
    cupy.asnumpy = lambda array, stream: np.array(array)
    cupy.argsort = argsort
    cupy.sqrt = np.sqrt
    return cupy


class Buffer(bytearray):
    """Pinned memory: a buffer with an address."""

    @property
    def ptr(self):
        return np.frombuffer(self, np.uint8).ctypes.data


def _array(memory, shape, dtype):
    return memory.view(dtype).reshape(shape).view(Array)
