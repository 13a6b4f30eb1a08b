"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 1 << 20
"""The least size of a block that `return_large_blocks` concerns."""
_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def return_large_blocks() -> None:
    """Let this process return each block of `LARGE_BYTES` or more to the system as soon as it is freed.

    By default glibc raises this limit up to 32 MB when it frees such a block. Later blocks then come from heaps, one or
    more per thread, which keep nearly all that was ever in use at once. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
