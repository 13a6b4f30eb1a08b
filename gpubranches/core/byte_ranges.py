"""A range of bytes as a file of its own."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any


class ByteRange(io.RawIOBase):
    """A read-only file of `size` bytes; `read_at(start, size)` returns bytes of it, fewer only at its end."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int):
        self._read_at, self._size, self._at = read_at, max(0, size), 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the present position on; return how many bytes it got."""
        wanted = min(len(buffer), max(0, self._size - self._at))
        data = self._read_at(self._at, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set and return the position in the range."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"expected a position of 0 or more, got {base + offset}")
        self._at = base + offset
        return self._at
