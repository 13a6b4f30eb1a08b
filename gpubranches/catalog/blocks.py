"""Checksums of the blocks of a segment's files; a block of a large file is checked when it is read."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.files import BLOCK_BYTES

SUMS = "sums.u32"
"""The file of checksums of a segment: the CRC-32 of each block of all other files, in the order of their names."""


def count_of(size: int) -> int:
    """Return how many blocks a file of `size` bytes has."""
    return -(-size // BLOCK_BYTES)


class Blocks:
    """The content of a file, (bytes,) uint8, with the checksum of each of its blocks, (blocks,) uint32.

    A block is compared with its checksum when it is first requested, and not again. It can be used by several threads.
    Without checksums nothing is compared. all_sound: whether every block was found undamaged.
    """

    def __init__(self, content: NDArray[np.uint8], sums: NDArray[np.uint32]):
        self.content = content
        self._sums = sums
        self._sound = np.zeros(len(sums), np.bool_)
        self.all_sound = not len(sums)

    def damaged(self, blocks: Iterable[int] | None = None) -> list[int]:
        """Return the damaged blocks among some blocks, or among all for None."""
        if self.all_sound:
            return []
        wanted = np.arange(len(self._sums)) if blocks is None else np.fromiter(blocks, np.int64)
        wrong = []
        for block in wanted[~self._sound[wanted]].tolist():
            if zlib.crc32(self.content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES].data) == self._sums[block]:
                self._sound[block] = True
            else:
                wrong.append(block)
        self.all_sound = bool(self._sound.all())
        return wrong

    def of_rows(self, rows: NDArray[np.int64], row_bytes: int) -> NDArray[np.int64]:
        """Return the blocks that hold some rows, (m,) int64, each once; row_bytes: bytes of a row."""
        first, last = rows * row_bytes // BLOCK_BYTES, ((rows + 1) * row_bytes - 1) // BLOCK_BYTES
        most = int((last - first).max(initial=0))
        return np.unique(np.concatenate([np.minimum(first + i, last) for i in range(most + 1)]))


class Reader(io.RawIOBase):
    """A file over checked content; check: called with the blocks before they are read, raises for damaged ones."""

    def __init__(self, content: NDArray[np.uint8], check: Callable[[Iterable[int]], None]):
        self._content, self._check = content, check
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset in bytes from the beginning, the present position or the end; return the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return the number of bytes read."""
        view = memoryview(buffer).cast("B")
        size = max(0, min(len(view), len(self._content) - self._at))
        if size:
            self._check(range(self._at // BLOCK_BYTES, (self._at + size - 1) // BLOCK_BYTES + 1))
            view[:size] = self._content[self._at : self._at + size].data
            self._at += size
        return size
