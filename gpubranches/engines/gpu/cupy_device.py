"""The device of the gpu backend: one CUDA card, through CuPy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpubranches.engines.gpu.sources import source
from gpubranches.errors import (
    BackendUnavailableError,
    DeviceError,
    DeviceMemoryError,
    GpuBranchesError,
    KernelCompileError,
    missing_package,
)

_STAGE_BYTES = 32 << 20
_COPIERS = 8
_ALIGNED = 256
"""Alignment in bytes of the arrays of one transfer; kernels load 16 bytes at a time."""
_NORM_ROWS = 1 << 15
"""Rows whose norms are computed at a time, with 8 bytes per dim on top of the working memory."""
_OPTIONS = ("--std=c++17",)
_OUT_OF_MEMORY = 2
"""The status of cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY, raised by loading modules and pinning
memory."""
_INSTALL = "pip install 'gpubranches[gpu-cu13]' (or [gpu-cu12]), or use the cpu backend"
_SHOWN = 300
"""The largest number of characters of a message of CuPy or the compiler that is quoted."""


@dataclass(frozen=True)
class Stage:
    """One stage of opening a card: its name, its seconds, and the problem with its remedy, empty if there is none."""

    name: str
    seconds: float
    problem: str = ""


def check() -> list[Stage]:
    """Open a card, run a kernel and a sort on it, and close it; return the stages up to the first problem."""
    stages: list[Stage] = []
    with suppress(DeviceError):
        CupyDevice(passed=stages.append).close()
    return stages


def usable() -> str | None:
    """Return why the gpu backend cannot be used here, in one line, or None if it can; see `check`."""
    return check()[-1].problem or None


class CupyDevice:
    """One card. It must be made and used in one thread; see Device for the methods.

    index: the number of the card in CUDA's order. passed: called with each stage of opening it. A kernel and a sort are
    run, so that a missing part raises here rather than at the first query: BackendUnavailableError without CuPy or a
    card, KernelCompileError without NVRTC or CUDA's headers, DeviceMemoryError on a full card, else DeviceError.
    """

    def __init__(self, index: int = 0, *, passed: Callable[[Stage], None] = lambda stage: None):
        self._cupy: Any = None
        self._pool: Any = None
        self._modules: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}
        self._functions: dict[tuple[str, str, tuple[tuple[str, int], ...]], Any] = {}
        self._stages: list[tuple[NDArray[np.uint8], Any, Any]] = []
        self._copiers: ThreadPoolExecutor | None = None
        works: dict[str, Callable[[], None]] = {"CuPy": self._import, "card": partial(self._take, index)}
        works |= {"kernel": self._try_kernel, "sort": self._try_sort}
        for name, work in works.items():
            start = time.perf_counter()
            try:
                work()
            except Exception as error:
                found = error if isinstance(error, DeviceError) else _failed(name, error)
                passed(Stage(name, time.perf_counter() - start, " ".join(str(found).split())))
                self.close()
                raise found from error
            passed(Stage(name, time.perf_counter() - start))

    def _import(self) -> None:
        try:
            import cupy
        except Exception as error:  # if a wheel lacks its libraries, it raises errors other than ImportError
            raise missing_package(
                "the gpu backend", "CuPy", "gpu-cu13", "gpu-cu12", error=_line(error), instead="use the cpu backend"
            ) from error
        self._cupy = cupy

    def _take(self, index: int) -> None:
        cuda = self._cupy.cuda
        try:
            count = cuda.runtime.getDeviceCount()
        except Exception as error:
            count, reason = 0, f" ({_line(error)})"
        else:
            reason = ""
        if count <= index:
            raise BackendUnavailableError(
                f"the gpu backend needs a CUDA device, CuPy sees {count or 'none'}{reason}: check the driver with "
                "nvidia-smi, or use the cpu backend"
            )
        with self._errors():
            self._device = cuda.Device(index)
            self._device.use()
            properties = cuda.runtime.getDeviceProperties(index)
            self._stream = cuda.Stream(non_blocking=True)
            self._stream.use()
            self._pool = cuda.MemoryPool()
        self._index = index
        self.name: str = properties["name"].decode()
        self.multiprocessors: int = properties["multiProcessorCount"]

    def _try_kernel(self) -> None:
        a, b = np.array([0b1100, 1 << 63], np.uint64), np.array([0b1010, 3 << 62], np.uint64)
        on_card = self.put_all([a, b])
        out = self.empty(2, np.uint64)
        self.launch("allow", "allow_both", {}, (1, 1), 32, [*on_card, np.uint64(2), out])
        self._expect("kernels/allow.cu", self.get(out), a & b)

    def _try_sort(self) -> None:
        keys, ties = np.array([2, 1, 2, 0], np.uint64), np.array([9, 1, 7, 1 << 63], np.uint64)
        self._expect("a sort", self.get(self.order(*self.put_all([keys, ties]))), np.lexsort((ties, keys)))

    def _expect(self, what: str, found: NDArray[Any], right: NDArray[Any]) -> None:
        if not np.array_equal(found, right):
            raise DeviceError(
                f"{what} on {self.name}: expected {right.tolist()}, got {found.tolist()}; update driver and CuPy, or "
                "use the cpu backend"
            )

    @property
    def stream(self) -> tuple[int, int]:
        """Number of the card, and address of the CUDA stream of all its work."""
        return self._index, self._stream.ptr

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes, after freeing the memory that the pool keeps for reuse."""
        self.trim()
        with self._errors():
            free, total = self._device.mem_info
        return free, total

    def trim(self) -> None:
        """Free the memory that the pool keeps for reuse."""
        with self._errors():
            self._pool.free_all_blocks()

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

    def put_all(self, arrays: Sequence[NDArray[Any]]) -> list[Any]:
        """Copy some small arrays to the device in one transfer."""
        starts = np.cumsum([0, *(-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays)])
        packed = np.zeros(int(starts[-1]), np.uint8)
        for array, start in zip(arrays, starts.tolist(), strict=False):
            packed[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        whole = self.put(packed)
        return [
            whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            for array, start in zip(arrays, starts.tolist(), strict=False)
        ]

    def upload(self, array: NDArray[Any], out: Any) -> None:
        """Copy through two pinned buffers: while one is sent, the threads fill the other."""
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
        cuda = self._cupy.cuda
        try:
            if key not in self._modules:
                self._modules[key] = self._cupy.RawModule(code=source(file, constants), options=_OPTIONS)
            return self._modules[key].get_function(entry)
        except (cuda.memory.OutOfMemoryError, cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError):
            raise
        except cuda.compiler.CompileException as error:
            if "source file" not in str(error):
                raise KernelCompileError(
                    f"kernels/{file}.cu with {dict(constants)} does not compile: {error}"
                ) from error
            raise KernelCompileError(f"kernels/{file}.cu lacks CUDA's headers ({_line(error)}): {_INSTALL}") from error
        except Exception as error:  # without NVRTC CuPy raises different errors, depending on where it searched
            raise KernelCompileError(f"CuPy cannot compile kernels ({_line(error)}): {_INSTALL}") from error

    def order(self, keys: Any, ties: Any) -> Any:
        """Return the indices that sort by keys, then by ties: two stable sorts."""
        with self._errors(16 * len(keys)), self._cupy.cuda.using_allocator(self._pool.malloc):
            by_ties = self._cupy.argsort(ties)
            return by_ties[self._cupy.argsort(keys[by_ties])]

    def row_norms(self, rows: Any, mean: Any) -> tuple[Any, float, float]:
        """Return |x - mean| of rows, (n, D) float16, as (n,) float32, and their minimum and maximum; n >= 1."""
        out = self.empty(len(rows), np.float32)
        with self._errors(8 * _NORM_ROWS * len(mean)), self._cupy.cuda.using_allocator(self._pool.malloc):
            for start in range(0, len(rows), _NORM_ROWS):
                away = rows[start : start + _NORM_ROWS].astype(np.float32) - mean
                out[start : start + _NORM_ROWS] = self._cupy.sqrt((away * away).sum(axis=1))
            return out, float(out.min()), float(out.max())

    def synchronize(self) -> None:
        """Wait until all work is done."""
        with self._errors():
            self._stream.synchronize()

    def close(self) -> None:
        """Free all memory."""
        if self._pool is None:
            return
        with suppress(DeviceError):
            self.synchronize()
        self._functions.clear()
        self._modules.clear()
        self._stages.clear()
        if self._copiers is not None:
            self._copiers.shutdown()
            self._copiers = None
        with suppress(DeviceError):  # a lost device raises here, too, and hides why it was lost
            with self._errors():
                self._cupy.cuda.Stream.null.use()
            self.trim()

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
        """Convert the exceptions of CuPy and CUDA into errors of this package."""
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
            raise DeviceError(
                f"the CUDA device failed: {error}; open the catalog again, or use the cpu backend"
            ) from error

    def _lack(self, asked: int, error: Exception) -> DeviceMemoryError:
        free, total = self.memory()
        return DeviceMemoryError(
            f"expected {asked:,} bytes of free device memory, got {free:,} of {total:,} free; close what else uses "
            f"the card, request fewer results, or use the cpu backend ({error})"
        )


def _copy(copiers: ThreadPoolExecutor, part: NDArray[np.uint8], stage: NDArray[np.uint8]) -> None:
    """Copy part to the front of stage with several threads."""
    share = -(-len(part) // _COPIERS)
    work: Callable[[int], None] = lambda at: np.copyto(stage[at : min(at + share, len(part))], part[at : at + share])  # noqa: E731
    list(copiers.map(work, range(0, len(part), share)))


def _failed(stage: str, error: Exception) -> DeviceError:
    return DeviceError(f"the card cannot be used, CuPy fails in the stage {stage} ({_line(error)}): {_INSTALL}")


def _line(error: Exception) -> str:
    """Return the message of an error as one short line."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if len(message) <= _SHOWN else f"{message[:_SHOWN]} .."
