"""The manifest: the one file that says what a catalog is made of. See docs/format.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpubranches.catalog.order import TILE
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.storage import replace_file
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError
from gpubranches.quantize import SignQuantizer
from gpubranches.space import Space

FORMAT = "gpubranches-catalog"
VERSION = 1
_TYPES = {
    **dict.fromkeys(("generation", "d", "D", "n_bits", "next_id"), int),
    **dict.fromkeys(("space", "source", "files"), dict),
    "segments": list,
    "embedder": str,
}


def new_manifest(
    *,
    space: Space,
    d: int,
    signs: SignQuantizer | None,
    embedder: str,
    source: dict[str, Any],
    files: dict[str, Any],
) -> dict[str, Any]:
    """Return the manifest of an empty catalog; see Catalog.create."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "generation": 0,
        "space": space.to_json(),
        "d": d,
        "D": 0 if signs is None else len(signs.mean_),
        "n_bits": 0 if signs is None else signs.n_bits,
        "next_id": 0,
        "embedder": embedder,
        "source": source,
        "files": files,
        "segments": [],
        "deleted": None,
    }


def open_segments(folder: Path, manifest: dict[str, Any]) -> Iterator[Segment]:
    """Yield the segments of a manifest, in order of position."""
    start = 0
    for entry in manifest["segments"]:
        segment = Segment(
            folder=folder / entry["name"],
            start=start,
            n=entry["n"],
            d=manifest["d"],
            n_bits=manifest["n_bits"],
            D=manifest["D"],
            first_id=entry["first_id"],
            last_id=entry["last_id"],
            files=entry["files"],
        )
        yield segment
        start += segment.tiles * TILE


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Commit a manifest: what it names is the catalog from now on."""
    replace_file(folder / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a catalog. Raises CatalogNotFoundError or CatalogFormatError."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        known = manifest["format"] == FORMAT and manifest["version"] == VERSION
    except OSError as error:
        raise CatalogNotFoundError(f"{path}: cannot read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogFormatError(f"{path}: expected the JSON of a catalog's manifest: {error}") from error
    if not known:
        raise CatalogFormatError(
            f"{path}: expected {FORMAT} version {VERSION}, got {manifest['format']!r} version {manifest['version']!r}; "
            "open it with the version of gpubranches that wrote it"
        )
    for name, kind in _TYPES.items():
        value = manifest.get(name)
        if not isinstance(value, kind):
            raise CatalogFormatError(f"{path}: {name}: expected {kind.__name__}, got {value!r}; restore it from a copy")
    return manifest
