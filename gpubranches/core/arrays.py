"""Checks of arrays and ids, .npy files, rows of unit length, and the membership of ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpubranches.errors import ArrayError, CatalogFormatError, first_line

_SLOTS = 16
"""Slots of a look-up table for each number that is in it."""
_NPY = b"\x93NUMPY"
"""The first bytes of a .npy file; archives of arrays, and files that run code when read, have others."""


def check_array(
    array: object, name: str, *, dtype: DTypeLike, shape: Sequence[int | None], finite: bool = False
) -> NDArray[Any]:
    """Return `array` if it is an ndarray of `dtype` and `shape` (None allows any length), else raise ArrayError.

    With `finite`, NaN and infinities are refused, too. The array is neither converted nor copied.
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
        raise CatalogFormatError(
            f"{path}: expected a .npy file with one array, got a problem: {first_line(error)}"
        ) from error
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


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows, (n, D) floats, scaled to unit length, of the same dtype; a row of zeros stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[Any] = rows / np.maximum(lengths, np.float32(1e-12))
    return scaled


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` evenly spaced rows among n, the first and the last included, (m,) int64 ascending."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


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


def among(ids: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ids are among others, (m,) bool, as np.isin does, without sorting or hashing the longer array.

    A table of the lower bits of the shorter array leaves few candidates, which are then searched.
    """
    if len(others) > len(ids):
        others = others[among(others, ids)]
    if len(others) == 0:
        return np.zeros(len(ids), np.bool_)
    mask = (1 << max(16, (_SLOTS * len(others)).bit_length())) - 1
    low = np.zeros(mask + 1, np.bool_)
    low[others & mask] = True
    found: NDArray[np.bool_] = low[ids & mask]
    rows = np.flatnonzero(found)
    ordered, wanted = np.sort(others), ids[rows]
    at = np.searchsorted(ordered, wanted)
    found[rows] = ordered[np.minimum(at, len(ordered) - 1)] == wanted
    return found
