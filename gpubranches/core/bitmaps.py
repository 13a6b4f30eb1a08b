"""Bitmaps over row positions: filters and deleted rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array
from gpubranches.errors import ArrayError

Bitmap = NDArray[np.uint8]
"""Little-endian bitmap over row positions: position p is bit p % 8 of byte p // 8."""


class LayoutBitmap(np.ndarray[tuple[Any, ...], np.dtype[np.uint8]]):
    """A bitmap that knows the layout of its rows; layout: names that identify it, None if unknown."""

    layout: tuple[str, ...] | None = None

    def __array_finalize__(self, obj: object) -> None:
        self.layout = getattr(obj, "layout", None)

    @classmethod
    def of(cls, bitmap: Bitmap, layout: tuple[str, ...]) -> LayoutBitmap:
        """Return a view of a bitmap with its layout."""
        viewed = bitmap.view(cls)
        viewed.layout = layout
        return viewed


def check_bitmap(bitmap: object, name: str, n: int, layout: tuple[str, ...] | None = None) -> None:
    """Raise ArrayError unless an array is a bitmap over n positions, and has this layout if both are known."""
    check_array(bitmap, name, dtype=np.uint8, shape=(-(-n // 8),))
    if layout is not None and getattr(bitmap, "layout", None) not in (None, layout):
        raise ArrayError(
            f"{name}: expected a bitmap of the present rows, got one from before a commit that moved them; "
            "make it again, or make all calls within Catalog.pinned"
        )


def pack_bitmap(flags: NDArray[np.bool_]) -> Bitmap:
    """Pack booleans, (n,) by position, into a bitmap of ceil(n / 8) bytes."""
    return np.packbits(flags, bitorder="little")


def has_bits(bitmap: Bitmap, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the bits at some positions are set, (m,) bool."""
    found: NDArray[np.bool_] = (bitmap[positions // 8] >> (positions % 8).astype(np.uint8)) & 1 == 1
    return found


def sample_bitmap(bitmap: Bitmap, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw positions of set bits uniformly without replacement, (at most count,) int64 ascending."""
    inside = np.bitwise_count(bitmap)
    ends = np.cumsum(inside, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    ranks = np.sort(rng.choice(total, min(count, total), replace=False))
    at = np.searchsorted(ends, ranks, "right")
    within = ranks - (ends[at] - inside[at])
    bits = np.cumsum(np.unpackbits(bitmap[at, None], axis=1, bitorder="little"), axis=1)
    return np.asarray(8 * at + (bits > within[:, None]).argmax(axis=1), np.int64)


def unpack_bitmap(bitmap: Bitmap, n: int) -> NDArray[np.bool_]:
    """Unpack the first n positions of a bitmap into booleans, (n,)."""
    return np.unpackbits(bitmap, count=n, bitorder="little").astype(np.bool_)
