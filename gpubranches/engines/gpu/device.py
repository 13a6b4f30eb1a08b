"""The interface of a device to the gpu backend: memory, copies, launches, and one sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

DeviceArray = Any
"""An array in device memory with shape, dtype and nbytes; a slice along its first axis is such an array, too."""


class Device(Protocol):
    """One GPU, used from one thread. It works in the order of the calls, and every failure is a DeviceError."""

    @property
    def name(self) -> str:
        """Name of the card."""
        ...

    @property
    def multiprocessors(self) -> int:
        """Number of multiprocessors."""
        ...

    @property
    def stream(self) -> tuple[int, int]:
        """Number of the card, and address of the CUDA stream of all its work."""
        ...

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes."""
        ...

    def trim(self) -> None:
        """Free the memory that is kept for reuse."""
        ...

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """Allocate an array without initialising it. Raises DeviceMemoryError."""
        ...

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """Copy a small array to the device."""
        ...

    def put_all(self, arrays: Sequence[NDArray[Any]]) -> list[DeviceArray]:
        """Copy some small arrays to the device in one transfer."""
        ...

    def upload(self, array: NDArray[Any], out: DeviceArray) -> None:
        """Copy a large array, mapped or not, into out, of the same size in bytes."""
        ...

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """Copy an array to the host."""
        ...

    def zero(self, array: DeviceArray) -> None:
        """Set every byte to zero."""
        ...

    def address(self, array: DeviceArray) -> int:
        """Return the address of an array's first byte on the device."""
        ...

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
        """Run an entry point of a kernel file; args are device arrays and NumPy scalars. Raises KernelCompileError.

        shared_bytes: dynamic shared memory of a block, at most 48 KiB.
        """
        ...

    def order(self, keys: DeviceArray, ties: DeviceArray) -> DeviceArray:
        """Return the indices, int64, that sort by keys, then by ties, ascending."""
        ...

    def row_norms(self, rows: DeviceArray, mean: DeviceArray) -> tuple[DeviceArray, float, float]:
        """Return |x - mean| of rows, (n, D) float16, as (n,) float32, and their minimum and maximum; n >= 1."""
        ...

    def synchronize(self) -> None:
        """Wait until all work is done, and raise its failures."""
        ...

    def close(self) -> None:
        """Free all memory."""
        ...
