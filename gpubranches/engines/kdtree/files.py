"""The index on disk: its manifest, its memory-mapped trees, and whether it matches the catalog. See docs/kdtree.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog
from gpubranches.catalog.storage import require_file
from gpubranches.core.embedding_space import digest
from gpubranches.core.files import checksum, parse_json, read_regular
from gpubranches.errors import CatalogFormatError, CatalogIndexError

FOLDER = "kdtree"
FORMAT = "gpubranches-kdtree"
VERSION = 1
LEAF = 256
"""Rows per leaf: four words of 64 rows per dim, and bounds that take f / 128 bytes per row."""
LANES = 64
"""Bounds are padded to a multiple of this many leaves, so that 64 leaves are tested at once."""
BOUNDS, MARGINALS = "bounds.u8", "marginals.i64"


@dataclass(frozen=True, eq=False)
class Tree:
    """The leaves of one k-d tree, flat and read-only.

    n: rows; features: (f,) int64, the code dims; blocks: (leaves * (f + 4) * LEAF,) uint8, for each leaf its codes dim
    by dim, then its positions as uint32; positions: the same memory as uint32.
    """

    n: int
    features: NDArray[np.int64]
    blocks: NDArray[np.uint8]
    positions: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class KdIndex:
    """The trees of one state of a catalog.

    folder: of the files; codes: fingerprint of the codes they were built from; n: rows, including deleted ones;
    size_bytes: of all files; below: (d, 257), how many rows have a code below 0..256 in each dim; members: (d, t), 1
    where a tree has a dim; subsets: (t, 8) int64, the dims of each tree, and sizes: (t,), their number; bounds: uint8,
    for each tree the minima, then the maxima of its leaves, (2, f, padded leaves), beginning at starts, (t,).
    """

    folder: Path
    codes: str
    n: int
    trees: tuple[Tree, ...]
    size_bytes: int
    below: NDArray[np.float64]
    members: NDArray[np.float64]
    subsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    bounds: NDArray[np.uint8]
    starts: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path, catalog: Catalog, remedy: str) -> KdIndex:
        """Map the index in a folder. Raises CatalogIndexError, ending in `remedy`, if it is missing, stale or damaged.

        Every file's size is checked, and the checksums of the small ones; `problems` checks all checksums.
        """
        manifest = read_manifest(folder, remedy)
        codes = fingerprint(catalog)
        if manifest["codes"] != codes:
            raise CatalogIndexError(
                f"{folder}: stale: it was built from generation {manifest['generation']}, and the codes of generation "
                f"{catalog.generation} are others; {remedy}"
            )
        rows, dims = sum(segment.n for segment in catalog.segments), [dim for tree in manifest["trees"] for dim in tree]
        if manifest["n"] != rows or max(dims, default=-1) >= catalog.d:
            raise CatalogIndexError(
                f"{folder / 'manifest.json'}: expected {rows:,} rows and dims below {catalog.d}, got {manifest['n']} "
                f"and {max(dims, default=-1)}; {remedy}"
            )
        named = {BOUNDS, MARGINALS, *map(tree_name, range(len(manifest["trees"])))}
        if manifest["files"].keys() != named:
            raise CatalogIndexError(f"{folder / 'manifest.json'}: expected {len(named)} files, got others; {remedy}")
        try:
            for name, entry in manifest["files"].items():
                require_file(folder / name, entry)
                if name in (BOUNDS, MARGINALS) and checksum(folder / name) != entry["sha256"]:
                    raise CatalogIndexError(f"{folder / name}: damaged: its content has changed; {remedy}")
            n, subsets = manifest["n"], manifest["trees"]
            marginals = np.fromfile(folder / MARGINALS, np.int64).reshape(-1, 256)
            trees = tuple(_tree(folder / tree_name(i), n, subset) for i, subset in enumerate(subsets))
            tables = _tables(folder, marginals, n, subsets)
            size_bytes = sum(entry["bytes"] for entry in manifest["files"].values())
        except CatalogFormatError as error:
            raise CatalogIndexError(f"{folder}: damaged: {error}; {remedy}") from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CatalogIndexError(
                f"{folder / 'manifest.json'}: an entry is missing or wrong: {error}; {remedy}"
            ) from error
        return cls(folder, codes, n, trees, size_bytes, *tables)


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_tree(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_whole, value)) and len(set(value)) == len(value)


def _is_entry(name: str, value: Any) -> bool:
    return (
        re.fullmatch(r"[\w-]+\.\w+", name) is not None
        and isinstance(value, dict)
        and _is_whole(value.get("bytes"))
        and isinstance(value.get("sha256"), str)
    )


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "codes": lambda value: isinstance(value, str),
    "generation": _is_whole,
    "n": _is_whole,
    "trees": lambda value: isinstance(value, list) and bool(value) and all(map(_is_tree, value)),
    "files": lambda value: isinstance(value, dict) and all(_is_entry(*each) for each in value.items()),
}
"""Required entries of the manifest of an index, each with its check."""


def read_manifest(folder: Path, remedy: str) -> dict[str, Any]:
    """Return the manifest of an index. Raises CatalogIndexError if there is none, or of another format."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = parse_json(read_regular(path))
        known = (manifest["format"], manifest["version"], manifest["leaf"]) == (FORMAT, VERSION, LEAF)
        for name, fits in _ENTRIES.items():
            if known and not fits(manifest[name]):
                raise ValueError(f"{name} is {str(manifest[name])[:80]}")
    except OSError as error:
        raise CatalogIndexError(f"{folder}: expected an index, found none ({error.strerror}); {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogIndexError(
            f"{path}: damaged: expected the JSON of an index's manifest: {error}; {remedy}"
        ) from error
    if not known:
        raise CatalogIndexError(f"{path}: expected {FORMAT} version {VERSION}, got another; {remedy}")
    return manifest


def problems(folder: Path) -> list[str]:
    """Check every checksum of the index in a folder; return one line for each problem, none if there is no index."""
    if not folder.exists():
        return []
    remedy = "build it again with `gpubranches index`"
    try:
        files = read_manifest(folder, remedy)["files"]
        for name, entry in files.items():
            require_file(folder / name, entry)
    except CatalogIndexError as error:
        return [str(error)]
    except CatalogFormatError as error:
        return [f"{error}; {remedy}"]
    return [
        f"{folder / name}: its content has changed (SHA-256 differs); {remedy}"
        for name, entry in files.items()
        if checksum(folder / name) != entry["sha256"]
    ]


def fingerprint(catalog: Catalog) -> str:
    """Return a digest of the codes of a catalog and of their positions; deleting rows does not change it."""
    parts = [f"{segment.start} {segment.n} {segment.files['codes.u8']['sha256']}" for segment in catalog.segments]
    return digest(f"{catalog.d} {TILE}", *parts)


def tree_name(number: int) -> str:
    """Return the file name of a tree."""
    return f"tree-{number:03d}.u8"


def padded_leaves(n: int) -> int:
    """Return the leaves that n rows fill, rounded up to LANES."""
    return -(-n // (LEAF * LANES)) * LANES


def _tree(path: Path, n: int, subset: Sequence[int]) -> Tree:
    size = -(-n // LEAF) * (len(subset) + 4) * LEAF
    mapped = np.memmap(path, np.uint8, "r", shape=(size,)) if size else np.zeros(0, np.uint8)
    blocks = mapped.view(np.ndarray)
    blocks.flags.writeable = False
    return Tree(n, np.array(subset, np.int64), blocks, blocks.view(np.uint32))


def _tables(folder: Path, marginals: NDArray[np.int64], n: int, subsets: Sequence[Sequence[int]]) -> tuple[Any, ...]:
    """Return below, members, subsets, sizes, bounds and starts of a KdIndex."""
    below = np.zeros((len(marginals), 257))
    np.cumsum(marginals, axis=1, out=below[:, 1:])
    members = np.zeros((len(marginals), len(subsets)))
    table = np.zeros((len(subsets), max(map(len, subsets), default=1)), np.int64)
    for number, subset in enumerate(subsets):
        members[list(subset), number] = 1
        table[number, : len(subset)] = subset
    sizes = np.array([len(subset) for subset in subsets], np.int64)
    ends = np.cumsum(2 * padded_leaves(n) * sizes)
    bounds = np.fromfile(folder / BOUNDS, np.uint8)
    if len(bounds) != ends[-1]:
        raise ValueError(f"{BOUNDS}: expected {ends[-1]:,} bytes, got {len(bounds):,}")
    bounds.flags.writeable = False
    return below, members, table, sizes, bounds, ends - 2 * padded_leaves(n) * sizes
