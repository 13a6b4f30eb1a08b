"""The few names of CuPy that CupyDevice uses, over host memory: for its own logic, not for CuPy's."""

import types

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


def make(limit=1 << 30):  # noqa: C901
    """Return a module like cupy whose card has `limit` bytes; `log` tells what was done."""
    cupy = types.SimpleNamespace(log=[], failing=None, __version__="0")

    class MemoryPool:
        def __init__(self):
            self.used = 0

        def malloc(self, size):
            if self.used + size > limit:
                raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
            self.used += size
            return Pointer(np.full(size, 0xA5, np.uint8))

        def free_all_blocks(self):
            cupy.log.append("freed")

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
            cupy.log.append("module")

        def get_function(self, entry):
            cupy.log.append("function")
            if cupy.failing:
                raise cupy.failing
            if entry == "broken":
                raise CompileException("kernel.cu(7): error: identifier is undefined")
            return lambda grid, block, args, shared_mem: cupy.log.append((entry, grid, block, len(args)))

    def memcpy_async(target, source, size, kind, stream):
        assert (kind, stream) == (1, 7)
        import ctypes

        ctypes.memmove(target, source, size)
        cupy.log.append(("copy", size))

    class Nothing:
        def __init__(self, *args):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return False

    class Device:
        mem_info = (limit, limit)

        def __init__(self, index):
            self.index = index

        def use(self):
            pass

    cupy.cuda = types.SimpleNamespace(
        is_available=lambda: True,
        Device=Device,
        Stream=Stream,
        Event=Event,
        MemoryPool=MemoryPool,
        using_allocator=Nothing,
        alloc_pinned_memory=Buffer,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=types.SimpleNamespace(CompileException=CompileException),
        driver=types.SimpleNamespace(CUDADriverError=CUDADriverError),
        runtime=types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceProperties=lambda index: {"name": b"A Card", "multiProcessorCount": 3},
            memcpyAsync=memcpy_async,
            memcpyHostToDevice=1,
        ),
    )
    cupy.RawModule = RawModule
    cupy.ndarray = lambda shape, dtype, pointer: _array(pointer.memory, shape, dtype)
    cupy.asarray = lambda array: _array(np.array(array).reshape(-1).view(np.uint8), array.shape, array.dtype)
    cupy.asnumpy = lambda array, stream: np.array(array)
    cupy.argsort = lambda array: np.argsort(array, kind="stable")
    return cupy


class Buffer(bytearray):
    """Pinned memory: a buffer with an address."""

    @property
    def ptr(self):
        return np.frombuffer(self, np.uint8).ctypes.data


def _array(memory, shape, dtype):
    return memory.view(dtype).reshape(shape).view(Array)
