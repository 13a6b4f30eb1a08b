"""Files of one array, memory-mapped: codes or embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.pictures.formats import ending_of
from gpubranches.catalog.row_source import Kind
from gpubranches.core.arrays import open_npy
from gpubranches.errors import CatalogFormatError

if TYPE_CHECKING:
    import pyarrow as pa


_BFLOAT16 = np.dtype("V2")


class ArrayFile:
    """A file with one array of rows: .npy (uint8 codes, or embeddings), .u8bin (codes) or .fbin (embeddings).

    Embeddings of float64 and of bfloat16, which NumPy saves as two-byte values without a type, are converted to
    float32. The order of bytes and of rows and columns does not matter.
    """

    moves: tuple[tuple[str, str], ...] = ()

    def __init__(self, path: Path, array: NDArray[Any]):
        if array.ndim != 2 or not array.shape[1]:
            raise CatalogFormatError(f"{path}: expected an array of shape (n, dims), got {array.shape}")
        dtype = array.dtype.newbyteorder("=")
        if dtype not in (np.uint8, np.float16, np.float32, np.float64, _BFLOAT16):
            raise CatalogFormatError(
                f"{path}: expected uint8 codes, or embeddings of float16, bfloat16, float32 or float64, got "
                f"{array.dtype}; convert it first"
            )
        converted = "float64" if dtype == np.float64 else "bfloat16" if dtype == _BFLOAT16 else ""
        self.notes = (f"{path}: embeddings of {converted} are converted to float32",) if converted else ()
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
        ending = ending_of(path.name)
        if ending == ".npy":
            return cls(path, open_npy(path))
        dtype = np.dtype(np.uint8 if ending == ".u8bin" else np.float32)
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
        taken = np.asarray(self._array[rows])
        if taken.dtype == _BFLOAT16:  # the upper half of a float32
            return (taken.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        dtype = taken.dtype.newbyteorder("=")
        return taken.astype(np.float32 if dtype == np.float64 else dtype, copy=False)

    def items(self, start: int, stop: int) -> pa.Table | None:
        """Return None, because an array has no metadata."""
        return None

    def reasons(self, start: int, stop: int) -> Sequence[str | None] | None:
        """Return None, because an array stores no reasons. Invalid rows are recognised by their values."""
        return None
