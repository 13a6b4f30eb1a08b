"""Files of one array, memory-mapped: codes or embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.row_source import Kind
from gpubranches.core.arrays import open_npy
from gpubranches.errors import CatalogFormatError

if TYPE_CHECKING:
    import pyarrow as pa


class ArrayFile:
    """One array of rows: .npy (uint8 codes, float16 or float32 embeddings), .u8bin (codes) or .fbin (embeddings)."""

    notes: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()

    def __init__(self, path: Path, array: NDArray[Any]):
        if array.ndim != 2:
            raise CatalogFormatError(f"{path}: expected an array of shape (n, dims), got {array.shape}")
        if array.dtype not in (np.uint8, np.float16, np.float32):
            raise CatalogFormatError(
                f"{path}: expected uint8 codes, or float16 or float32 embeddings, got {array.dtype}; convert it first"
            )
        self.path = path
        self.kind: Kind = "codes" if array.dtype == np.uint8 else "embeddings"
        self.n, self.dim = array.shape
        self.roots: dict[str, str] = {}
        self._array = array

    @classmethod
    def open(cls, path: Path) -> ArrayFile:
        """Map a file. Raises CatalogFormatError if its content does not match its ending."""
        if not path.is_file():
            raise CatalogFormatError(f"{path}: expected a file, got something else")
        if path.suffix == ".npy":
            return cls(path, open_npy(path))
        dtype = np.dtype(np.uint8 if path.suffix == ".u8bin" else np.float32)
        try:
            header = np.fromfile(path, np.uint32, 2)
            size = path.stat().st_size
        except OSError as error:
            raise CatalogFormatError(f"{path}: cannot read: {error.strerror}") from error
        if len(header) < 2 or size != 8 + int(header[0]) * int(header[1]) * dtype.itemsize:
            raise CatalogFormatError(
                f"{path}: expected a header of two uint32 (n, dims) and n x dims of {dtype}, got {size:,} bytes"
                + (f" for a header of {header.tolist()}" if len(header) == 2 else "")
            )
        shape = (int(header[0]), int(header[1]))
        empty = 0 in shape
        return cls(path, np.zeros(shape, dtype) if empty else np.memmap(path, dtype, "r", 8, shape))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, (m, dim)."""
        return np.asarray(self._array[rows])

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return None: an array has no metadata."""
        return None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return None: an array records no reasons; invalid rows are found by their values."""
        return None
