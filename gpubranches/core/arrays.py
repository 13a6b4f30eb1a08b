"""Array checks, .npy files and three shared conventions: tie order, best-first order, bitmaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpubranches.errors import ArrayError, CatalogFormatError

_NEARLY = 16
"""Where fewer than one of so many rows are out of order, sorting them by merging what is in order is fastest."""
_PLACES = 16
"""Places in a table for each number that is in it."""
_NPY = b"\x93NUMPY"
"""The first bytes of a .npy file; archives of arrays, and files that run code when read, have others."""
Bitmap = NDArray[np.uint8]
"""Little-endian bitmap over row positions: position p is bit p % 8 of byte p // 8."""


def check_array(
    array: object, name: str, *, dtype: DTypeLike, shape: Sequence[int | None], finite: bool = False
) -> NDArray[Any]:
    """Return `array` if it is an ndarray of `dtype` and `shape` (None: any length), else raise ArrayError.

    With `finite`, NaN and infinities are refused too. Nothing is converted or copied.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype or not _fits(array.shape, shape):
        wanted = f"{np.dtype(dtype)} of shape ({', '.join('any' if s is None else str(s) for s in shape)})"
        if not isinstance(array, np.ndarray):
            raise ArrayError(f"{name}: expected a NumPy array of {wanted}, got {type(array).__name__}")
        raise ArrayError(f"{name}: expected {wanted}, got {array.dtype} of shape {array.shape}; convert it first")
    if finite and not np.isfinite(array).all():
        raise ArrayError(f"{name}: expected finite numbers, got NaN or infinity; remove or repair those rows")
    return array


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(s is None or s == t for s, t in zip(wanted, shape, strict=True))


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


def open_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file. Raises CatalogFormatError unless it is one complete array."""
    try:
        if not path.is_file():
            raise CatalogFormatError(f"{path}: expected a .npy file with one array, found no file")
        with path.open("rb") as file:
            begins = file.read(len(_NPY))
        if begins != _NPY:
            what = "an empty file" if not begins else "an archive" if begins.startswith(b"PK") else "something else"
            raise CatalogFormatError(f"{path}: expected a .npy file with one array, got {what}; write it by numpy.save")
        array = _mapped(path)
    except CatalogFormatError:
        raise
    except Exception as error:  # NumPy parses the header as Python; a broken one raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CatalogFormatError(f"{path}: expected a .npy file with one array, got a problem: {reason}") from error
    return array


def _mapped(path: Path) -> NDArray[Any]:
    """Map a .npy file; try again where Python fails to parse a valid header.

    Before 3.11.8 and 3.12.2 parsing raises SystemError if garbage is collected, or another thread parses, meanwhile
    (github.com/python/cpython/issues/106905).
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except SystemError:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def as_ids(ids: ArrayLike, name: str = "ids") -> NDArray[np.int64]:
    """Return item ids as a one-dimensional int64 array; floats, negative and nested input raise ArrayError."""
    array = np.asarray(ids)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ArrayError(f"{name}: expected a flat list of whole numbers, got {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise ArrayError(f"{name}: expected ids of 0 and more, got {array.min()}")
    if array.max() > np.iinfo(np.int64).max:
        raise ArrayError(f"{name}: expected ids below 2^63, got {array.max()}")
    return array.astype(np.int64)


def splitmix64(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Mix ids into tie-breaking keys, uint64, same shape; a bijection, so keys of different ids differ.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), as in
    Vigna's splitmix64.c: the state is id + the golden gamma.
    """
    z = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def best_first(keys: NDArray[Any], ids: NDArray[np.int64], limit: int | None = None) -> NDArray[np.intp]:
    """Order rows by key descending, ties by splitmix64(id) ascending; return their indices, at most `limit`.

    keys: (m,) any real dtype without NaN; ids: (m,) int64, distinct.
    """
    m = len(keys)
    if limit is not None and limit < m:
        if limit <= 0:
            return np.zeros(0, np.intp)
        border = np.partition(keys, m - limit)[m - limit]
        above = np.flatnonzero(keys > border)
        tied = np.flatnonzero(keys == border)
        tied = tied[np.argsort(splitmix64(ids[tied]), kind="stable")[: limit - len(above)]]
        chosen = np.concatenate([above, tied])
        return chosen[best_first(keys[chosen], ids[chosen])]
    mixed = splitmix64(ids)
    if keys.dtype.itemsize > 4:
        order = np.argsort(mixed)
        rising = keys[order]
        return order[np.argsort(-rising if keys.dtype.kind == "f" else ~rising, kind="stable")]
    # Most of splitmix64 fits beside a key into one word, whose order differs at most among rows of the same word.
    words = _falling(keys)
    words <<= np.uint64(32)
    words |= mixed >> np.uint64(32)
    in_order = np.count_nonzero(words[1:] >= words[:-1]) * _NEARLY > m * (_NEARLY - 1)
    order = np.argsort(words, kind="stable" if in_order else None)
    words = words[order]
    alike = words[1:] == words[:-1]
    if alike.any():
        tied = np.flatnonzero(np.append(alike, False) | np.append(False, alike))
        rows = order[tied]
        order[tied] = rows[np.lexsort((mixed[rows], words[tied]))]
    return order


def _falling(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """Return numbers below 2^32, (m,), that fall as keys of at most 4 bytes rise."""
    if keys.dtype.kind == "f":
        bits = (keys.astype(np.float32) + np.float32(0)).view(np.int32)
        keys = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    highest = np.iinfo(keys.dtype).max
    return (highest - keys.astype(np.int64)).astype(np.uint64)


def among(ids: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ids are among others, (m,) bool: what np.isin does, without sorting or hashing the longer ones.

    A table of the lower bits of the shorter ones leaves few to be looked for.
    """
    if len(others) > len(ids):
        others = others[among(others, ids)]
    if len(others) == 0:
        return np.zeros(len(ids), np.bool_)
    mask = (1 << max(16, (_PLACES * len(others)).bit_length())) - 1
    low = np.zeros(mask + 1, np.bool_)
    low[others & mask] = True
    found: NDArray[np.bool_] = low[ids & mask]
    rows = np.flatnonzero(found)
    ordered, wanted = np.sort(others), ids[rows]
    at = np.searchsorted(ordered, wanted)
    found[rows] = ordered[np.minimum(at, len(ordered) - 1)] == wanted
    return found


def pack_bitmap(flags: NDArray[np.bool_]) -> Bitmap:
    """Pack booleans, (n,) by position, into a bitmap of ceil(n / 8) bytes."""
    return np.packbits(flags, bitorder="little")


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
