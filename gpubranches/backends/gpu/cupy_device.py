"""The device of the gpu backend: one CUDA card, through CuPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpubranches.backends.gpu.sources import source
from gpubranches.errors import (
    BackendUnavailableError,
    DeviceError,
    DeviceMemoryError,
    GpuBranchesError,
    KernelCompileError,
)

_STAGE_BYTES = 32 << 20
_COPIERS = 8
_OPTIONS = ("--std=c++17",)
_OUT_OF_MEMORY = 2
"""cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY: what loads modules and pins memory says so, not a pool."""
_INSTALL = "pip install 'gpubranches[gpu-cu13]' (or [gpu-cu12]), or take the cpu backend"


def usable() -> str | None:
    """Return why CuPy cannot use a CUDA device here, or None if it can."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is not installed ({error}): {_INSTALL}"
    if not cupy.cuda.is_available():
        return "CuPy sees no CUDA device: check the driver with nvidia-smi, or take the cpu backend"
    return None


class CupyDevice:
    """One card. To be made and used in one thread; see Device for the methods.

    index: which of the cards CUDA shows. Raises BackendUnavailableError without CuPy or without a card.
    """

    def __init__(self, index: int = 0):
        reason = usable()
        if reason is not None:
            raise BackendUnavailableError(f"the gpu backend needs a CUDA device: {reason}")
        import cupy

        self._cupy = cupy
        with self._errors():
            self._device = cupy.cuda.Device(index)
            self._device.use()
            properties = cupy.cuda.runtime.getDeviceProperties(index)
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._stream.use()
        self.name: str = properties["name"].decode()
        self.multiprocessors: int = properties["multiProcessorCount"]
        self._pool = cupy.cuda.MemoryPool()
        self._modules: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}
        self._functions: dict[tuple[str, str, tuple[tuple[str, int], ...]], Any] = {}
        self._stages: list[tuple[NDArray[np.uint8], Any, Any]] = []
        self._copiers: ThreadPoolExecutor | None = None

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes, after giving back what the pool keeps for reuse."""
        with self._errors():
            self._pool.free_all_blocks()
            free, total = self._device.mem_info
        return free, total

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> Any:
        """Allocate, not initialised."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self._errors(count):
            return self._cupy.ndarray(shape, dtype, self._pool.malloc(count))

    def put(self, array: NDArray[Any]) -> Any:
        """Copy a small array to the device."""
        with self._errors(array.nbytes), self._cupy.cuda.using_allocator(self._pool.malloc):
            return self._cupy.asarray(np.ascontiguousarray(array))

    def upload(self, array: NDArray[Any], out: Any) -> None:
        """Copy through two pinned buffers: while one is sent, threads fill the other."""
        data = array.view(np.ndarray).reshape(-1).view(np.uint8)
        with self._errors():
            stages, copiers = self._staging()
            for i, start in enumerate(range(0, len(data), _STAGE_BYTES)):
                stage, memory, sent = stages[i % 2]
                sent.synchronize()
                part = data[start : start + _STAGE_BYTES]
                _copy(copiers, part, stage)
                self._cupy.cuda.runtime.memcpyAsync(
                    out.data.ptr + start,
                    memory.ptr,
                    len(part),
                    self._cupy.cuda.runtime.memcpyHostToDevice,
                    self._stream.ptr,
                )
                sent.record(self._stream)

    def get(self, array: Any) -> NDArray[Any]:
        """Copy an array to the host."""
        with self._errors():
            host: NDArray[Any] = self._cupy.asnumpy(array, stream=self._stream)
            return host

    def zero(self, array: Any) -> None:
        """Set every byte to zero."""
        if array.nbytes:
            with self._errors():
                array.data.memset_async(0, array.nbytes, self._stream)

    def address(self, array: Any) -> int:
        """Return the address of an array's first byte on the device."""
        return int(array.data.ptr)

    def launch(
        self,
        file: str,
        entry: str,
        constants: Mapping[str, int],
        grid: tuple[int, int],
        threads: int,
        args: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        """Run an entry point of a kernel file."""
        key = file, entry, tuple(sorted(constants.items()))
        with self._errors():
            if key not in self._functions:
                self._functions[key] = self._compiled(file, entry, constants)
            self._functions[key](grid, (threads,), tuple(args), shared_mem=shared_bytes)

    def _compiled(self, file: str, entry: str, constants: Mapping[str, int]) -> Any:
        """Return an entry point of a kernel file, compiled with its constants."""
        key = file, tuple(sorted(constants.items()))
        if key not in self._modules:
            self._modules[key] = self._cupy.RawModule(code=source(file, constants), options=_OPTIONS)
        try:
            return self._modules[key].get_function(entry)
        except self._cupy.cuda.compiler.CompileException as error:
            raise KernelCompileError(f"kernels/{file}.cu with {dict(constants)} does not compile: {error}") from error

    def order(self, keys: Any, ties: Any) -> Any:
        """Return the indices that sort by keys, then by ties: two stable sorts."""
        with self._errors(16 * len(keys)), self._cupy.cuda.using_allocator(self._pool.malloc):
            by_ties = self._cupy.argsort(ties)
            return by_ties[self._cupy.argsort(keys[by_ties])]

    def take(self, array: Any, indices: Any) -> Any:
        """Return array[indices]."""
        with self._errors(array.itemsize * len(indices)), self._cupy.cuda.using_allocator(self._pool.malloc):
            return array[indices]

    def synchronize(self) -> None:
        """Wait until all work is done."""
        with self._errors():
            self._stream.synchronize()

    def close(self) -> None:
        """Free all memory."""
        with suppress(DeviceError):
            self.synchronize()
        self._functions.clear()
        self._modules.clear()
        self._stages.clear()
        if self._copiers is not None:
            self._copiers.shutdown()
            self._copiers = None
        self._cupy.cuda.Stream.null.use()
        self._pool.free_all_blocks()

    def _staging(self) -> tuple[list[tuple[NDArray[np.uint8], Any, Any]], ThreadPoolExecutor]:
        """Return the two pinned buffers, each with its event, and the threads that fill them."""
        if self._copiers is None:
            self._copiers = ThreadPoolExecutor(_COPIERS, "gpubranches-upload")
        while len(self._stages) < 2:
            memory = self._cupy.cuda.alloc_pinned_memory(_STAGE_BYTES)
            stage = np.frombuffer(memory, np.uint8, _STAGE_BYTES)
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record(self._stream)
            self._stages.append((stage, memory, event))
        return self._stages, self._copiers

    @contextmanager
    def _errors(self, asked: int = 0) -> Iterator[None]:
        """Turn what CuPy and CUDA raise into the errors of this package."""
        cuda = self._cupy.cuda
        try:
            yield
        except GpuBranchesError:
            raise
        except cuda.memory.OutOfMemoryError as error:
            raise self._lack(asked, error) from error
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            if getattr(error, "status", None) == _OUT_OF_MEMORY:
                raise self._lack(asked, error) from error
            raise DeviceError(f"the CUDA device failed: {error}; open the catalog again") from error

    def _lack(self, asked: int, error: Exception) -> DeviceMemoryError:
        free, total = self.memory()
        return DeviceMemoryError(
            f"expected {asked:,} bytes of free device memory, got {free:,} of {total:,} free; close what else uses "
            f"the card, ask for fewer results, or take the cpu backend ({error})"
        )


def _copy(copiers: ThreadPoolExecutor, part: NDArray[np.uint8], stage: NDArray[np.uint8]) -> None:
    """Copy part to the front of stage, a share a thread."""
    share = -(-len(part) // _COPIERS)
    work: Callable[[int], None] = lambda at: np.copyto(stage[at : min(at + share, len(part))], part[at : at + share])  # noqa: E731
    list(copiers.map(work, range(0, len(part), share)))
